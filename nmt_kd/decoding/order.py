"""Sort decoded sentences into the order of the data they were decoded from."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from nmt_kd.decoding.shards import Decoded, ShardFolder
from nmt_kd.errors import UserError

BUCKET_SENTENCES = 100_000  # sorted in memory at a time


def in_order(folder: ShardFolder) -> Iterator[Decoded]:
    """Yield all sentences of a finished decoding in the order of their numbers, with one bucket in memory at a time.

    Raises UserError if blocks are missing or do not belong together.
    """
    settings = folder.settings()
    sentences, block_sentences = settings["sentences"], settings["block_sentences"]
    if sentences is None:  # read by fairseq-interactive
        sentences = folder.sentences_so_far(block_sentences)
    blocks = range(-(-sentences // block_sentences))
    missing = folder.missing(blocks)
    if missing:
        shown = ", ".join(str(block) for block in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise UserError(
            f"{folder.distill_dir} lacks {len(missing)} of {len(blocks)} blocks (numbers {shown}); "
            "rerun the decoding with the same settings to decode them"
        )
    with tempfile.TemporaryDirectory(dir=folder.distill_dir) as scratch, ExitStack() as files:
        paths = [Path(scratch) / str(number) for number in range(-(-sentences // BUCKET_SENTENCES))]
        buckets = [files.enter_context(open(path, "w+", encoding="utf-8")) for path in paths]
        for block in blocks:
            for decoded in folder.read(block):
                buckets[decoded.id // BUCKET_SENTENCES].write(decoded.as_line())
        expected = 0
        for bucket in buckets:
            bucket.seek(0)
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
