"""Everything that depends on the version of fairseq or torch, and nothing else."""

import functools
import logging
import os
import shutil
import warnings

import numpy
from fairseq.data import data_utils
from fairseq.file_io import PathManager


def apply() -> None:
    """Make the running fairseq work on the installed torch; to be called once in a process."""
    keep_last_batch()
    copy_whole_or_not_at_all()
    silence_known_warnings()


def keep_last_batch() -> None:
    """Let fairseq use every sentence it is given.

    fairseq-fixed 0.12.3 drops the last batch of any data set where it is no multiple of
    --required-batch-size-multiple (default 8): of 13 test sentences, `fairseq-generate` translates 8 and says nothing.
    Stock fairseq 0.12.2 keeps it.
    """
    batch_by_size = data_utils.batch_by_size

    @functools.wraps(batch_by_size)
    def batch_by_size_and_rest(indices, *args, **kwargs):
        if len(indices) == 0:
            return []
        batches = batch_by_size(indices, *args, **kwargs)
        if kwargs.get("fixed_shapes") is not None:
            return batches
        batched = sum(len(batch) for batch in batches)  # batches follow the order of `indices`
        return batches if batched == len(indices) else [*batches, numpy.asarray(indices[batched:])]

    data_utils.batch_by_size = batch_by_size_and_rest


def copy_whole_or_not_at_all() -> None:
    """Let a checkpoint's copies appear under their names only when they are complete.

    fairseq writes the first of a checkpoint's files that way, but copies it byte by byte onto checkpoint_last.pt.
    Killed in the middle, it leaves a training that cannot go on, for that is the file it would go on from.
    """
    copy = PathManager.copy

    def copy_then_rename(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        if not PathManager.supports_rename(dst_path):
            return copy(src_path, dst_path, overwrite=overwrite)
        partial = f"{dst_path}.tmp"
        shutil.copyfile(src_path, partial)
        os.replace(partial, dst_path)
        return True

    PathManager.copy = staticmethod(copy_then_rename)


def silence_known_warnings() -> None:
    """Hide the messages that fairseq causes on new torch and that its users can do nothing about."""
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
