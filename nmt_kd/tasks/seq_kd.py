"""The task that decodes a data set with the teacher, for sequence-level distillation (Kim & Rush, 2016).

    fairseq-generate data-bin --user-dir nmt_kd --task seq_kd --gen-subset train --path teacher.pt \\
        --beam 4 --lenpen 0.6 --nbest 4 --distill-dir kd
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Optional

from fairseq.data import FairseqDataset
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from omegaconf import II

from nmt_kd.checkpoints.dictionaries import check_dictionaries
from nmt_kd.checkpoints.reading import read_model
from nmt_kd.data import TRAINING_SUBSET, check_one_folder
from nmt_kd.decoding.backends import choose_backend
from nmt_kd.decoding.decoder import Backend, Decoder
from nmt_kd.decoding.fairseq_backend import FairseqBackend
from nmt_kd.decoding.interactive import InteractiveDecoding
from nmt_kd.decoding.loop import decode_subset
from nmt_kd.decoding.settings import decoding_settings, input_settings, subset_settings
from nmt_kd.decoding.shards import ShardFolder
from nmt_kd.decoding.too_long import SourceLimit
from nmt_kd.errors import UserError
from nmt_kd.options import AT_LEAST_1, check_options, one_of, option, require
from nmt_kd.workers import device_of_worker, which_worker

MAX_TOKENS = 12000  # in a batch, if neither --max-tokens nor --batch-size is given


@dataclass
class SeqKDConfig(TranslationConfig):
    distill_dir: Optional[str] = option(None, "folder for the decoded sentences (required); rerun to resume")
    distill_backend: str = option(
        "fairseq",
        "decoder: fairseq, ctranslate2, or auto (ctranslate2 if it is installed and supports the model and settings)",
        one_of("fairseq", "ctranslate2", "auto"),
    )
    distill_compute_type: str = option(
        "default", "precision of ctranslate2: float32, float16, int8, ...; default keeps the model's"
    )
    distill_block_sentences: int = option(
        1000, "sentences decoded and saved together; a worker that is killed loses at most one such block", AT_LEAST_1
    )
    distill_too_long: str = option(
        "error",
        "what to do with sources that are longer than the teacher accepts: error, skip or truncate",
        one_of("error", "skip", "truncate"),
    )
    distill_first_choices: bool = option(
        False,
        "record for each token of the best hypothesis whether it is the teacher's first choice (takes another "
        "forward pass)",
    )
    # the arguments of fairseq-generate or fairseq-interactive
    distill_path: Optional[str] = II("common_eval.path")
    distill_subset: str = II("dataset.gen_subset")
    distill_num_shards: int = II("dataset.num_shards")
    distill_shard_id: int = II("dataset.shard_id")
    distill_max_tokens: Optional[int] = II("dataset.max_tokens")
    distill_batch_size: Optional[int] = II("dataset.batch_size")
    distill_buffer_size: int = II("interactive.buffer_size")
    distill_seed: int = II("common.seed")


@register_task("seq_kd", dataclass=SeqKDConfig)
class SeqKDTask(TranslationTask):
    """Translation, except that fairseq-generate and fairseq-interactive write to --distill-dir, not to the screen."""

    def __init__(self, cfg: SeqKDConfig, src_dict, tgt_dict):
        super().__init__(cfg, src_dict, tgt_dict)
        if not cfg.distill_dir:
            raise UserError("seq_kd needs a folder to write to; choose one with --distill-dir")
        check_options(cfg, SeqKDConfig)
        check_one_folder(cfg.data, "seq_kd")
        cfg.upsample_primary = 1  # each sentence once; fairseq's default fails for several training sets
        self.worker, self.workers = which_worker(cfg.distill_shard_id, cfg.distill_num_shards)
        noted = {"max_tokens": cfg.distill_max_tokens, "batch_size": cfg.distill_batch_size}
        self.folder = ShardFolder(Path(cfg.distill_dir), noted=noted)
        self.interactive = InteractiveDecoding(self.folder, src_dict, cfg.distill_buffer_size)
        self.input: Optional[FairseqDataset] = None
        self.input_decoder: Optional[Decoder] = None
        for path in cfg.distill_path.split(":") if cfg.distill_path else ():
            check_dictionaries(Path(path), read_model(path), self, "decode the data it was trained on")
        device_of_worker()

    def load_dataset(self, split, epoch=1, combine=False, **kwargs):
        """Load a subset; the training set with all its parts (train, train1, ...), as fairseq-train does."""
        super().load_dataset(split, epoch, combine or split == TRAINING_SUBSET, **kwargs)

    def build_dataset_for_inference(self, src_tokens, src_lengths, **kwargs):
        """Build the data set of the sentences that fairseq-interactive has read."""
        self.input = super().build_dataset_for_inference(src_tokens, src_lengths, **kwargs)
        return self.input

    # fairseq-generate first asks for the iterator, then for the generator, and then goes through the iterator.

    def get_batch_iterator(self, dataset, *args, max_positions=None, **kwargs):
        """Return an iterator that yields no batches but decodes `dataset` into the folder when it is started."""
        longest_source = min(max_positions[0], self.max_positions()[0])
        decode = self.decode_input if dataset is self.input else self.decode_subset
        return _DecodingIterator(lambda: decode(dataset, longest_source))

    def build_generator(self, models, args, *rest, **kwargs):
        """Build fairseq's generator, and keep it for decoding; raises UserError for settings that cannot be met."""
        allowed = f"at most {args.beam}, since --beam is {args.beam}"
        require(args.nbest <= args.beam, "--nbest", args.nbest, allowed)
        if args.score_reference:
            raise UserError("--score-reference scores references instead of translating; leave it out")
        if args.constraints is not None:
            raise UserError("seq_kd does not support --constraints; leave it out")
        generator = super().build_generator(models, args, *rest, **kwargs)
        self.models, self.generation, self.generator = models, args, generator
        return generator

    def decode_subset(self, dataset: FairseqDataset, longest_source: int) -> None:
        """Decode this worker's share of a subset, then exit."""
        block_sentences = self.cfg.distill_block_sentences
        data = subset_settings(self.cfg.distill_subset, dataset.src_sizes, block_sentences)
        decoder = self.claim_folder(longest_source, data)
        decode_subset(self.folder, dataset, block_sentences, decoder, self.worker, self.workers)
        raise SystemExit(0)

    def decode_input(self, dataset: FairseqDataset, longest_source: int) -> None:
        """Decode the sentences that fairseq-interactive has read last."""
        size = self.cfg.distill_buffer_size
        require(size > 0, "--buffer-size", size, "1 or more, such as 1000: the sentences decoded and saved together")
        if self.input_decoder is None:
            self.input_decoder = self.claim_folder(longest_source, input_settings(size))
        self.interactive.decode(dataset, self.input_decoder)

    def claim_folder(self, longest_source: int, data: dict) -> Decoder:
        """Store the settings in the folder, and return the decoder; UserError if the folder was made with others."""
        cfg, backend = self.cfg, self.backend
        self.folder.claim(decoding_settings(self, self.generation, backend, longest_source, data))
        return Decoder(
            self,
            self.models,
            backend,
            SourceLimit(longest_source, cfg.distill_too_long),
            seed=cfg.distill_seed if self.generation.sampling else None,
            first_choices=cfg.distill_first_choices,
            max_tokens=cfg.distill_max_tokens or MAX_TOKENS,
        )

    @cached_property
    def backend(self) -> Backend:
        """The backend that --distill-backend names; auto resumes with the one that began the folder."""
        cfg, wanted = self.cfg, self.cfg.distill_backend
        if wanted == "auto" and self.folder.manifest.path.is_file():
            wanted = self.folder.settings().get("backend", wanted)
        max_tokens = cfg.distill_max_tokens or (None if cfg.distill_batch_size else MAX_TOKENS)
        fairseq = FairseqBackend(
            self,
            self.models,
            self.generator,
            self.generation.nbest,
            max_tokens,
            cfg.distill_batch_size,
            self.generation.prefix_size,
        )
        compute_type = fairseq.precision if cfg.distill_compute_type == "default" else cfg.distill_compute_type
        paths = cfg.distill_path.split(":")
        return choose_backend(wanted, fairseq, self.generation, paths, cfg.data, compute_type)


class _DecodingIterator:
    """Takes the place of fairseq's iterator over batches.

    fairseq-generate and fairseq-interactive iterate over whatever the task returns, so that starting this iterator can
    call `decode` and yield no batches. In fairseq-generate, `decode` exits, because fairseq would then divide by
    the time spent on batches, which is 0.
    """

    def __init__(self, decode: Callable[[], None]):
        self.decode = decode

    def next_epoch_itr(self, shuffle=False):
        """Return an iterator, as fairseq's own iterators do."""
        return self

    def __len__(self) -> int:
        return 0

    def __iter__(self):
        self.decode()
        return iter(())
