"""From decoded sentences to a training corpus, in the order of the data they were decoded from."""

import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from fairseq import options, tasks
from fairseq.data import FairseqDataset
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from fairseq_cli import preprocess
from omegaconf import OmegaConf
from sacrebleu.metrics import BLEU, CHRF

from nmt_kd.data import dictionary_checksum, opening_subset, source_checksum, subwords
from nmt_kd.decoding.loops import has_loop
from nmt_kd.decoding.shards import Decoded, Hypothesis, ShardFolder
from nmt_kd.errors import UserError

logger = logging.getLogger(__name__)

BUCKET_SENTENCES = 100_000  # what is in memory at a time while the sentences are put back in order
Pair = tuple[str, str]  # source and target, in subwords


def in_order(folder: ShardFolder) -> Iterator[Decoded]:
    """All sentences of a finished decoding by their numbers, in memory that does not grow with them.

    Raises UserError where sentences are missing, with the numbers of the first blocks that are.
    """
    settings = folder.settings()
    sentences, block_sentences = settings["sentences"], settings["block_sentences"]
    if sentences is None:  # text that fairseq-interactive read: it ends with its last block
        sentences = folder.typed_sentences(block_sentences)
    blocks = range(-(-sentences // block_sentences))
    missing = [block for block in blocks if not folder.is_complete(block)]
    if missing:
        shown = ", ".join(str(block) for block in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise UserError(
            f"{folder.folder} lacks {len(missing)} of {len(blocks)} blocks (numbers {shown}); "
            "run the decoding again with the same settings, it decodes what is missing"
        )
    with tempfile.TemporaryDirectory(dir=folder.folder) as scratch, ExitStack() as files:
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
                        f"{folder.folder} has sentence {decoded.id} where {expected} is due; its blocks do not belong "
                        "together, decode again into another folder"
                    )
                expected += 1
                yield decoded
    if expected != sentences:
        raise UserError(f"{folder.folder} has {expected} sentences of {sentences}; decode again into another folder")


# -- the data that was decoded ----------------------------------------------------------------------------------------


@dataclass
class Originals:
    """The binarised data that was decoded, as subwords."""

    task: TranslationTask
    dataset: FairseqDataset

    @classmethod
    def load(cls, data: Path, source_lang: str, target_lang: str, subset: str) -> "Originals":
        """Open a subset of a binarised data folder; UserError where it is not there."""
        cfg = OmegaConf.structured(TranslationConfig)
        cfg = OmegaConf.create(
            {**OmegaConf.to_container(cfg, resolve=False), "data": str(data), "source_lang": source_lang}
            | {"target_lang": target_lang, "train_subset": subset, "dataset_impl": None}
            | {"required_seq_len_multiple": 1, "_name": "translation"}
        )
        with opening_subset(str(data), subset, source_lang, target_lang):
            task = tasks.setup_task(cfg)
            task.load_dataset(subset)
        return cls(task, task.dataset(subset))

    def check(self, settings: dict, folder: Path) -> None:
        """UserError unless the decoding in `folder` is of this many sentences, with these dictionaries."""
        own = {
            "sentences": len(self.dataset),
            "source_dictionary": dictionary_checksum(self.task.source_dictionary),
            "target_dictionary": dictionary_checksum(self.task.target_dictionary),
        }
        for name, value in own.items():
            if settings[name] != value:
                raise UserError(
                    f"{folder} was decoded with {name} {settings[name]}, the data to join it with has {value}; "
                    "give the data folder and the subset that were decoded"
                )

    def pair(self, decoded: Decoded) -> Pair:
        """Source and reference of a decoded sentence; UserError where the source is not the one that was decoded."""
        if source_checksum(self.dataset[decoded.id]["source"]) != decoded.source:
            raise UserError(
                f"sentence {decoded.id} of the data is not the one that was decoded: the data has changed since, "
                "decode it again"
            )
        return self.texts(decoded.id)

    def texts(self, number: int) -> Pair:
        """Source and reference of a sentence."""
        item = self.dataset[number]
        return (
            subwords(self.task.source_dictionary, item["source"]),
            subwords(self.task.target_dictionary, item["target"]),
        )


class TypedOriginals:
    """The text that fairseq-interactive read, which the decoded sentences hold themselves."""

    def pair(self, decoded: Decoded) -> Pair:
        """The source, and no reference."""
        return decoded.notes["text"], ""


# -- which hypotheses -------------------------------------------------------------------------------------------------


def sentence_bleu(hypothesis: str, reference: str) -> float:
    """Smoothed BLEU of one sentence, on its subwords."""
    return _SENTENCE_BLEU.sentence_score(hypothesis, [reference]).score


def sentence_chrf(hypothesis: str, reference: str) -> float:
    """chrF of one sentence, on its subwords; spaces do not count."""
    return _SENTENCE_CHRF.sentence_score(hypothesis, [reference]).score


_SENTENCE_BLEU = BLEU(tokenize="none", smooth_method="add-k", smooth_value=1, effective_order=True)
_SENTENCE_CHRF = CHRF()
SIMILARITIES = {"bleu": sentence_bleu, "chrf": sentence_chrf}


def closest_to_reference(hypotheses: list[Hypothesis], reference: str, similarity: str) -> Hypothesis:
    """The hypothesis most like the reference; the better-ranked of equals (`inter`)."""
    return max(hypotheses, key=lambda hypothesis: SIMILARITIES[similarity](hypothesis.text, reference))


WITHOUT_REFERENCE = ("kd", "best-2")
Choice = Callable[[list[Hypothesis], str], list[Hypothesis]]


def choices(similarity: str) -> dict[str, Choice]:
    """What each kind of corpus takes of an n-best list, given the reference."""
    return {
        "kd": lambda hypotheses, reference: hypotheses[:1],
        "best-2": lambda hypotheses, reference: hypotheses[:2],
        "inter": lambda hypotheses, reference: [closest_to_reference(hypotheses, reference, similarity)],
    }


# -- what is left out -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filters:
    """Which decoded pairs are left out; nothing is, unless asked for, but empty ones."""

    longest_ratio: float | None = None  # of the longer side's tokens to the shorter's
    loops: bool = False
    copies: bool = False

    def reason(self, source: str, target: str) -> str | None:
        """Why a pair is left out, or None."""
        lengths = len(source.split()), len(target.split())
        if not min(lengths):
            return "empty"
        if self.longest_ratio and max(lengths) > self.longest_ratio * min(lengths):
            return "length ratio"
        if self.loops and has_loop(target.split()):
            return "repetition loop"
        if self.copies and source == target:
            return "copy of the source"
        return None


# -- the corpus -------------------------------------------------------------------------------------------------------


@dataclass
class Assembly:
    """What an assembled corpus was made of."""

    pairs: Counter = field(default_factory=Counter)  # by part: base, kd, ...
    dropped: Counter = field(default_factory=Counter)  # by reason


def assemble(
    folder: Path,
    data: Path,
    parts: list[str],
    filters: Filters,
    similarity: str = "bleu",
    reverse_folder: Path | None = None,
) -> tuple[Iterator[Pair], Assembly]:
    """The pairs of a corpus made of `parts`, one part after the other, and what will have been counted of them.

    Parts are `base` (the original pairs), `kd`, `best-2`, `inter` (see `choices`) and `bt` (the originals' targets with
    the sources that a reverse teacher, in `reverse_folder`, decoded from them). Raises UserError, at once or while the
    pairs are gone through, for decodings that are not complete or not of this data.
    """
    decoded = ShardFolder(folder)
    settings = decoded.settings()
    source_lang, target_lang = settings["languages"].split("-")
    unknown = [part for part in parts if part not in ("base", "bt", *choices(similarity))]
    if unknown:
        raise UserError(f"{unknown[0]!r} is no part of a corpus; there are base, bt, {', '.join(choices(similarity))}")
    if settings["sentences"] is None:
        originals = TypedOriginals()
        if set(parts) - set(WITHOUT_REFERENCE):
            raise UserError(f"{folder} was decoded from text without references; {'+'.join(parts)!r} needs some")
    else:
        originals = Originals.load(data, source_lang, target_lang, settings["subset"])
        originals.check(settings, folder)
    report = Assembly()
    if "bt" in parts:
        reverse, reversed_originals = _open_reverse(reverse_folder, data, settings, originals)

    def kept(part: str, pairs: Iterator[Pair]) -> Iterator[Pair]:
        for source, target in pairs:
            reason = filters.reason(source, target)
            if reason:
                report.dropped[reason] += 1
            else:
                report.pairs[part] += 1
                yield source, target

    def distilled(choose: Choice) -> Iterator[Pair]:
        for sentence in in_order(decoded):
            source, reference = originals.pair(sentence)
            if not sentence.hypotheses:
                report.dropped["not decoded"] += 1
                continue
            for hypothesis in choose(sentence.hypotheses, reference):
                yield source, hypothesis.text

    def back_translated() -> Iterator[Pair]:
        for sentence in in_order(reverse):
            target, _ = reversed_originals.pair(sentence)
            if sentence.hypotheses:
                yield sentence.hypotheses[0].text, target

    def base() -> Iterator[Pair]:
        for number in range(len(originals.dataset)):
            report.pairs["base"] += 1
            yield originals.texts(number)

    def everything() -> Iterator[Pair]:
        for part in parts:
            if part == "base":
                yield from base()
            elif part == "bt":
                yield from kept(part, back_translated())
            else:
                yield from kept(part, distilled(choices(similarity)[part]))

    return everything(), report


def _open_reverse(folder: Path | None, data: Path, settings: dict, originals: Originals):
    if folder is None:
        raise UserError("'bt' needs what a reverse teacher has decoded; name its folder with --reverse")
    reverse = ShardFolder(folder)
    reverse_settings = reverse.settings()
    languages = "-".join(reversed(settings["languages"].split("-")))
    if reverse_settings["languages"] != languages:
        raise UserError(
            f"{folder} was decoded from {reverse_settings['languages']}; a reverse teacher for this data is {languages}"
        )
    reversed_originals = Originals.load(data, *languages.split("-"), reverse_settings["subset"])
    reversed_originals.check(reverse_settings, folder)
    return reverse, reversed_originals


def write_corpus(pairs: Iterator[Pair], out: Path, source_lang: str, target_lang: str) -> int:
    """Write train.SOURCE and train.TARGET into `out`, whole or not at all; returns the number of pairs."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"train.{language}" for language in (source_lang, target_lang)]
    partial = [path.with_name(path.name + ".partial") for path in paths]
    count = 0
    with open(partial[0], "w", encoding="utf-8") as sources, open(partial[1], "w", encoding="utf-8") as targets:
        for source, target in pairs:
            sources.write(source + "\n")
            targets.write(target + "\n")
            count += 1
    for before, after in zip(partial, paths, strict=True):
        before.replace(after)
    return count


def binarise(text: Path, data: Path, out: Path, source_lang: str, target_lang: str, workers: int = 1) -> None:
    """Binarise train.* of `text` with the dictionaries of `data` into `out`; valid and test sets are copied."""
    out.mkdir(parents=True, exist_ok=True)
    arguments = ["--source-lang", source_lang, "--target-lang", target_lang, "--trainpref", str(text / "train")]
    arguments += [
        "--srcdict",
        str(data / f"dict.{source_lang}.txt"),
        "--tgtdict",
        str(data / f"dict.{target_lang}.txt"),
    ]
    arguments += ["--destdir", str(out), "--workers", str(workers)]
    preprocess.main(options.get_preprocessing_parser().parse_args(arguments))
    for split in ("valid", "test"):
        for file in data.glob(f"{split}*.{source_lang}-{target_lang}.*"):
            shutil.copy2(file, out / file.name)
