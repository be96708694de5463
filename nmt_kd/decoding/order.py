"""Sort decoded sentences into the order of the data they were decoded from."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from nmt_kd.decoding.scores import ScoreFolder, read_with_scores
from nmt_kd.decoding.shards import Decoded, ShardFolder
from nmt_kd.errors import UserError
from nmt_kd.storage.atomic import writing

BUCKET_SENTENCES = 20_000  # sorted in memory at a time, unless there would be too many buckets
MOST_BUCKETS = 200  # open files, of which a process may have about a thousand


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

    They have these `scores` in their notes. Raises UserError if blocks do not belong together.
    """
    sizes = block_sizes(folder)
    sentences = sum(sizes)
    bucket_sentences = max(BUCKET_SENTENCES, -(-sentences // MOST_BUCKETS))
    with ExitStack() as files:
        with writing(folder.distill_dir):
            # Files without a name, which vanish with a killed process. Each line starts with its sentence's number, so
            # that only one n-best list at a time is parsed.
            buckets = [
                files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder.distill_dir))
                for _ in range(0, sentences, bucket_sentences)
            ]
            for block in range(len(sizes)):
                for decoded in read_with_scores(folder, block, scores):
                    bucket = buckets[min(decoded.id // bucket_sentences, len(buckets) - 1)]
                    bucket.write(f"{decoded.id}\t{decoded.as_line()}")
            for bucket in buckets:
                bucket.seek(0)
        expected = 0
        for bucket in buckets:
            for _, line in sorted((int(number), line) for number, _, line in (row.partition("\t") for row in bucket)):
                decoded = Decoded.from_line(line)
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
