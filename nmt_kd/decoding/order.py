"""Sort decoded sentences into the order of the data they were decoded from."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from nmt_kd.decoding.scores import ScoreFolder, read_with_scores
from nmt_kd.decoding.shards import Decoded, ShardFolder
from nmt_kd.errors import UserError
from nmt_kd.storage.atomic import writing

BUCKET_SENTENCES = 100_000  # sorted in memory at a time


def block_sizes(folder: ShardFolder) -> list[int]:
    """Return the number of sentences in each block of a decoding."""
    settings = folder.settings()
    sentences, block_sentences = settings["sentences"], settings["block_sentences"]
    if sentences is None:  # read by fairseq-interactive
        sentences = folder.sentences_so_far(block_sentences)
    return [min(block_sentences, sentences - first) for first in range(0, sentences, block_sentences)]


def check_finished(folder: ShardFolder) -> None:
    """Raise UserError if blocks of a decoding are missing or damaged."""
    blocks = range(len(block_sizes(folder)))
    missing = folder.missing(blocks)
    if missing:
        shown = ", ".join(str(block) for block in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise UserError(
            f"{folder.distill_dir} lacks {len(missing)} of {len(blocks)} blocks (numbers {shown}); "
            "rerun the decoding with the same settings to decode them"
        )


def in_order(folder: ShardFolder, scores: Sequence[ScoreFolder] = ()) -> Iterator[Decoded]:
    """Yield all sentences of a finished decoding in the order of their numbers, with one bucket in memory at a time.

    They have these `scores` in their notes. Raises UserError if blocks are missing or do not belong together.
    """
    check_finished(folder)
    sizes = block_sizes(folder)
    sentences = sum(sizes)
    with ExitStack() as files:
        with writing(folder.distill_dir):
            scratch = files.enter_context(tempfile.TemporaryDirectory(dir=folder.distill_dir))
            paths = [Path(scratch) / str(number) for number in range(-(-sentences // BUCKET_SENTENCES))]
            buckets = [files.enter_context(open(path, "w+", encoding="utf-8")) for path in paths]
            for block in range(len(sizes)):
                for decoded in read_with_scores(folder, block, scores):
                    buckets[decoded.id // BUCKET_SENTENCES].write(decoded.as_line())
            for bucket in buckets:
                bucket.seek(0)
        expected = 0
        for bucket in buckets:
            for decoded in sorted(map(Decoded.from_line, bucket), key=lambda decoded: decoded.id):
                if decoded.id != expected:
                    raise UserError(
                        f"{folder.distill_dir} has sentence {decoded.id} instead of {expected}: its blocks do not "
                        "belong together; decode again into another folder"
                    )
                expected += 1
                yield decoded
    if expected != sentences:
        raise UserError(
            f"{folder.distill_dir} has {expected} of {sentences} sentences; decode again into another folder"
        )
