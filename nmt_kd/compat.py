"""Fixes for the supported versions of fairseq, and for running them on new versions of torch."""

import functools
import importlib.util
import logging
import shutil
import warnings
from pathlib import Path

import numpy
import torch
from fairseq import checkpoint_utils
from fairseq.data import data_utils
from fairseq.data.iterators import EpochBatchIterator
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.models.nat import NATransformerDecoder
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer

from nmt_kd.storage.atomic import atomic_file

logger = logging.getLogger(__name__)

COPIED_AT_ONCE = 2**24  # bytes


def apply() -> None:
    """Apply all fixes to the imported fairseq; call this once per process."""
    keep_last_batch()
    copy_atomically()
    stop_finished_training()
    keep_batches_after_restart()
    keep_place_with_other_workers()
    tell_repeated_batches()
    tell_new_trainings()
    validate_beside_training()
    train_in_bf16_without_tpus()
    start_masked_models_from_translators()
    silence_known_warnings()


def keep_last_batch() -> None:
    """Make fairseq keep the last batch of a data set.

    fairseq-fixed 0.12.3 silently drops the last batch if its size is not a multiple of --required-batch-size-multiple
    (default 8): given 13 test sentences, `fairseq-generate` translates 8. Stock fairseq 0.12.2 keeps it.
    """
    batch_by_size = data_utils.batch_by_size

    @functools.wraps(batch_by_size)
    def batch_by_size_with_rest(indices, *args, **kwargs):
        if len(indices) == 0:
            return []
        batches = batch_by_size(indices, *args, **kwargs)
        if kwargs.get("fixed_shapes") is not None:
            return batches
        batched = sum(len(batch) for batch in batches)  # batches follow the order of `indices`
        return batches if batched == len(indices) else [*batches, numpy.asarray(indices[batched:])]

    data_utils.batch_by_size = batch_by_size_with_rest


def copy_atomically() -> None:
    """Make fairseq copy checkpoints to a temporary file, which is renamed when it is complete.

    fairseq 0.12 writes the first file of a checkpoint this way, but then copies it in place onto checkpoint_last.pt. If
    it is killed while copying, training cannot resume, because that is the file it resumes from.
    """
    copy = PathManager.copy

    def copy_then_rename(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        if not PathManager.supports_rename(dst_path):
            return copy(src_path, dst_path, overwrite=overwrite)
        with open(src_path, "rb") as source, atomic_file(Path(dst_path)) as destination:
            shutil.copyfileobj(source, destination, COPIED_AT_ONCE)
        return True

    PathManager.copy = staticmethod(copy_then_rename)


def stop_finished_training() -> None:
    """Make fairseq-train stop at once if the checkpoint that it resumes from has all updates.

    fairseq compares --max-update only after an update, so that it would make another one each time it is started.
    """
    load_checkpoint = checkpoint_utils.load_checkpoint

    @functools.wraps(load_checkpoint)
    def load_checkpoint_and_compare(cfg, trainer, **kwargs):
        extra_state, epoch_itr = load_checkpoint(cfg, trainer, **kwargs)
        updates, optimization = trainer.get_num_updates(), trainer.cfg.optimization
        if extra_state is not None and 0 < optimization.max_update <= updates:
            logger.info(f"nothing left to train: the checkpoint has {updates} of {optimization.max_update} updates")
            optimization.max_epoch = -1  # fairseq reads it next; 0 would mean no limit
        return extra_state, epoch_itr

    checkpoint_utils.load_checkpoint = load_checkpoint_and_compare


def keep_batches_after_restart() -> None:
    """Make fairseq divide the training set into the same batches after a restart.

    Unless it makes new batches for every epoch, fairseq-fixed 0.12.3 divides the set once, in the epoch in which the
    process starts, with a seed that depends on that epoch: training that is interrupted in its third epoch would resume
    with different batches.
    """
    get_batch_iterator = FairseqTask.get_batch_iterator

    @functools.wraps(get_batch_iterator)
    def get_iterator_with_batches_of_first_epoch(self, dataset, *args, seed=1, epoch=1, **kwargs):
        divided_in_every_epoch = (
            getattr(self.cfg, "rebuild_batches", False)
            or kwargs.get("update_epoch_batch_itr")
            or not self.can_reuse_epoch_itr(dataset)
        )
        if divided_in_every_epoch:
            return get_batch_iterator(self, dataset, *args, seed=seed, epoch=epoch, **kwargs)
        iterator = get_batch_iterator(self, dataset, *args, seed=seed + 1 - epoch, epoch=epoch, **kwargs)
        iterator.seed = seed  # of the order of the batches in each epoch
        return iterator

    FairseqTask.get_batch_iterator = get_iterator_with_batches_of_first_epoch


def keep_place_with_other_workers() -> None:
    """Make fairseq resume at the same place in an epoch if the number of workers or the size of batches has changed.

    fairseq saves how many batches each worker has had, and skips as many when it resumes. With twice as many workers,
    it would skip twice as much of the training set, or fail with "dataloader mismatch". The place is rounded down to a
    whole update; otherwise fairseq would stop short of the epoch's end and train on the whole epoch again.
    """
    state_dict, load_state_dict = EpochBatchIterator.state_dict, EpochBatchIterator.load_state_dict
    get_train_iterator = Trainer.get_train_iterator

    @functools.wraps(state_dict)
    def state_with_sizes(self):
        return {**state_dict(self), "batches": len(self.frozen_batches), "workers": self.num_shards}

    @functools.wraps(load_state_dict)
    def load_state_of_other_workers(self, state):
        before = state.get("iterations_in_epoch", 0)
        if before and "workers" in state:
            place = before * state["workers"] * len(self.frozen_batches) // (state["batches"] * self.num_shards)
            place -= place % getattr(self, "update_freq", 1)
            if place != before:
                changed = "workers, batches or --update-freq have changed"
                logger.info(f"resuming after {place:,} of {len(self):,} batches, because {changed}")
            state = {**state, "iterations_in_epoch": place}
        return load_state_dict(self, state)

    @functools.wraps(get_train_iterator)
    def get_iterator_with_update_freq(self, epoch, *args, **kwargs):
        iterator = get_train_iterator(self, epoch, *args, **kwargs)
        frequencies = self.cfg.optimization.update_freq
        iterator.update_freq = frequencies[min(epoch, len(frequencies)) - 1]
        return iterator

    EpochBatchIterator.state_dict = state_with_sizes
    EpochBatchIterator.load_state_dict = load_state_of_other_workers
    Trainer.get_train_iterator = get_iterator_with_update_freq


def tell_repeated_batches() -> None:
    """Make fairseq record on the task, as `repeats_batches`, whether a step repeats the batches of the previous one.

    Under --amp, fairseq repeats batches whose gradients have overflowed.
    """
    train_step = Trainer.train_step

    @functools.wraps(train_step)
    def train_step_and_tell(self, samples, *args, **kwargs):
        self.task.repeats_batches = samples is getattr(self, "latest_samples", None)
        self.latest_samples = samples
        return train_step(self, samples, *args, **kwargs)

    Trainer.train_step = train_step_and_tell


def tell_new_trainings() -> None:
    """Make fairseq record on the task, as `begins_anew`, whether a training takes only weights from a checkpoint.

    Under --reset-optimizer and --finetune-from-model, fairseq loads the criterion's state, too.
    """
    load_checkpoint = Trainer.load_checkpoint

    @functools.wraps(load_checkpoint)
    def load_checkpoint_and_tell(self, filename, reset_optimizer=False, *args, **kwargs):
        self.task.begins_anew = reset_optimizer
        return load_checkpoint(self, filename, reset_optimizer, *args, **kwargs)

    Trainer.load_checkpoint = load_checkpoint_and_tell


def validate_beside_training() -> None:
    """Make fairseq validate on the training set with other batches than those it trains on.

    fairseq keeps one iterator for each data set: with `--valid-subset train`, a validation would use up the training's
    batches: the first epoch would be skipped, and a resumed training would skip another.
    """
    get_valid_iterator = Trainer.get_valid_iterator

    @functools.wraps(get_valid_iterator)
    def get_own_iterator(self, subset, disable_iterator_cache=False):
        is_training_set = subset == self.cfg.dataset.train_subset
        return get_valid_iterator(self, subset, disable_iterator_cache or is_training_set)

    Trainer.get_valid_iterator = get_own_iterator


def train_in_bf16_without_tpus() -> None:
    """Make --bf16 train on GPUs and CPUs.

    fairseq takes --bf16 to mean a TPU and fails on machines without torch_xla. On a CPU, torch's fused attention is
    switched off, because its backward pass takes three times as long in bfloat16 as that of the plain form.
    """
    call_main = distributed_utils.call_main

    @functools.wraps(call_main)
    def call_main_without_tpu(cfg, main, **kwargs):
        if cfg.common.bf16 and importlib.util.find_spec("torch_xla") is None:
            cfg.common.tpu = False
            if cfg.common.cpu:
                torch.backends.cuda.enable_flash_sdp(False)  # of CPUs too, in spite of its name
        return call_main(cfg, main, **kwargs)

    distributed_utils.call_main = call_main_without_tpu


def start_masked_models_from_translators() -> None:
    """Make `--finetune-from-model` start fairseq's masked models from ordinary translation models of the same shape.

    The weights have the same names, but the embeddings of target lengths are missing, so fairseq would refuse the
    checkpoint. They keep their initial values.
    """
    upgrade = NATransformerDecoder.upgrade_state_dict_named

    @functools.wraps(upgrade)
    def upgrade_and_add_lengths(self, state_dict, name):
        upgrade(self, state_dict, name)
        weight = f"{name}.embed_length.weight"
        if weight not in state_dict:
            logger.info("this checkpoint is a translation model's, so the length embeddings start untrained")
            state_dict[weight] = self.embed_length.weight.detach().clone()
        return state_dict

    NATransformerDecoder.upgrade_state_dict_named = upgrade_and_add_lengths


def silence_known_warnings() -> None:
    """Hide warnings that fairseq triggers on new versions of torch and that users cannot act on."""
    logging.getLogger("hydra").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"fairseq(\.|_cli|$)")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"fairseq(\.|_cli|$)")
    warnings.filterwarnings("ignore", category=UserWarning, module=r"hydra\.")
    for message in (
        r"Support for mismatched key_padding_mask and (attn_mask|src_mask|mask) is deprecated",
        r"The torch\.cuda\.\w+(DtypeTensor|Tensor)\S* constructors are no longer recommended",
        r"An output with one or more elements was resized",
        r"pkg_resources is deprecated",
        r"\s*'config' is validated against ConfigStore",
        r".pin_memory. argument is set as true but no accelerator is found",
    ):
        warnings.filterwarnings("ignore", message=message)
