"""A student without fairseq: as CTranslate2 models that are shown to translate as it did, with a page of figures.

The folder has a model for each compute type, with its vocabulary; the subword model; summary.md and summary.json. It
appears under its name whole or not at all.
"""

import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import sentencepiece
import torch
from fairseq import tasks
from fairseq.data.data_utils import post_process
from fairseq.tasks.translation import TranslationTask
from omegaconf import DictConfig
from sacrebleu.metrics import BLEU

from nmt_kd.checkpoints.dictionaries import find_dictionary
from nmt_kd.checkpoints.reading import file_hash, read_checkpoint
from nmt_kd.checkpoints.task import task_on
from nmt_kd.decoding.backends import why_not_ctranslate2
from nmt_kd.engine.teacher import Teacher
from nmt_kd.errors import UserError
from nmt_kd.evaluation.tables import Table, as_markdown, number
from nmt_kd.exporting.systems import (
    Measurement,
    Performance,
    Sample,
    ctranslate2_system,
    fairseq_system,
    generation_settings,
    load_checkpoints,
    measure,
    torch_threads,
)
from nmt_kd.options import check_options, one_of, require
from nmt_kd.version import __version__

logger = logging.getLogger(__name__)

FAITHFUL = ("float32", "float16")  # must find what fairseq finds; the others round more and are only measured
LEAST_IDENTICAL = 95  # percent
LEAST_SPLIT_ALIKE = 95  # percent
SUMMARY = "summary.json"
MARK = "nmt-kd export"  # the name in the summary by which an earlier export is known
COLUMNS = {
    "system": "system",
    "computed_in": "computed in",
    "parameters": "parameters",
    "megabytes_on_disk": "on disk, MB",
    "load_seconds": "loading, s",
    "tokens_per_second": "tokens/s",
    "sentences_per_second": "sentences/s",
    "bleu": "BLEU",
    "bleu_change": "BLEU change",
    "identical_percent": "identical to fairseq, %",
}


def export(
    checkpoint: Path,
    data: str,
    subword_model: Path,
    compute_types: list[str],
    output: Path,
    teacher: str | None = None,
    measurement: Measurement | None = None,
) -> "Summary":
    """Write the student in `checkpoint` to the folder `output` as CTranslate2 models, measured beside fairseq.

    `data` is the folder with the dictionaries and the sentences to measure on, `subword_model` what its text was split
    with (a sentencepiece model, or BPE codes of subword-nmt), `teacher` a checkpoint or several, separated by ":".

    Raises UserError, and leaves `output` as it was, where CTranslate2 is not installed or cannot convert the
    checkpoint, where the files do not belong together, where `output` holds anything but an earlier export of the same
    checkpoint, and where a float32 or float16 model finds fewer than 95 % of fairseq's translations.
    """
    compute_types = list(dict.fromkeys(compute_types))
    measurement, output = measurement or Measurement(), output.resolve()
    check_options(asdict(measurement), Measurement)
    _check_ctranslate2(str(checkpoint), compute_types, measurement)
    state = read_checkpoint(checkpoint)
    fingerprint = file_hash(checkpoint)
    _check_output(output, fingerprint)
    task = _translation_task_on(checkpoint, state["cfg"], data)
    _check_dictionaries(checkpoint, state, task)
    subwords = SubwordModel.read(subword_model)
    if teacher:
        Teacher.load(teacher, task)  # for its checks alone: it is loaded again by the clock
    with torch_threads(measurement.threads), whole_or_not_at_all(output) as folder:
        for compute_type in compute_types:
            _convert(checkpoint, task, compute_type, folder / compute_type)
        shutil.copyfile(subword_model, folder / subwords.file_name)
        student = load_checkpoints([checkpoint], task)
        teachers = [load_checkpoints([Path(path) for path in teacher.split(":") if path], task)] if teacher else []
        sample = Sample.choose(task, measurement, [model for each in (student, *teachers) for model in each.models])
        subwords.check(sample.sources, data)
        parameters = student.parameters
        systems = [
            fairseq_system("student, fairseq", student, sample, measurement),
            *(ctranslate2_system(kind, folder / kind, parameters, sample, measurement) for kind in compute_types),
            *(fairseq_system("teacher, fairseq", each, sample, measurement) for each in teachers),
        ]
        performances = measure(systems, sample, measurement.rounds)
        comparison = Comparison(sample, subwords, performances[0].translations)
        results = [comparison.result(performance) for performance in performances]
        _check_faithful(str(checkpoint), results)
        summary = Summary(
            checkpoint=str(checkpoint),
            checkpoint_sha256=fingerprint,
            teacher=teacher,
            data=data,
            measurement=measurement,
            sentences_measured=len(sample.numbers),
            bleu_signature=comparison.bleu_signature,
            machine=_machine(),
            results=results,
            notes=[*_notes_on_the_figures(measurement, sample, comparison), *_notes_on_the_models(results)],
            usage=_usage(subwords, compute_types[0], measurement, sample),
        )
        (folder / "summary.md").write_text(summary.as_markdown(), encoding="utf-8")
        (folder / SUMMARY).write_text(summary.as_json([*_files(folder), SUMMARY]), encoding="utf-8")
    logger.info(f"wrote {output}")
    return summary


# -- the summary ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """A row. Speeds are of this machine's CPU; the last two figures compare with the student in fairseq."""

    system: str
    converted_to: str | None  # what a CTranslate2 model is stored in
    computed_in: str
    parameters: int
    megabytes_on_disk: float
    load_seconds: float
    tokens_per_second: float
    sentences_per_second: float
    bleu: float
    bleu_change: float | None
    identical_percent: float | None

    @property
    def cells(self) -> list[str]:
        """The row as text. BLEU has two digits, for the question is whether it moves at all, loading three."""
        texts = {name: value if isinstance(value, str) else number(value) for name, value in asdict(self).items()}
        texts["load_seconds"], texts["bleu"] = f"{self.load_seconds:.3f}", f"{self.bleu:.2f}"
        texts["bleu_change"] = "" if self.bleu_change is None else f"{self.bleu_change:+.2f}"
        return [texts[column] for column in COLUMNS]


@dataclass(frozen=True)
class Summary:
    """What was exported, how it was measured and how it compares."""

    checkpoint: str
    checkpoint_sha256: str
    teacher: str | None
    data: str
    measurement: Measurement
    sentences_measured: int
    bleu_signature: str
    machine: str
    results: list[Result]
    notes: list[str]
    usage: str  # Python

    def as_json(self, files: list[str]) -> str:
        """One JSON object, with the names of all files of the export."""
        return json.dumps({MARK: __version__, **asdict(self), "files": files}, indent=1, ensure_ascii=False) + "\n"

    def as_markdown(self) -> str:
        """The page."""
        table = as_markdown(Table(list(COLUMNS.values()), [result.cells for result in self.results]))
        notes = "\n".join(f"- {note}" for note in self.notes)
        return (
            f"# {self.checkpoint} without fairseq\n\n{table}\n\n{notes}\n- Machine: {self.machine}.\n\n"
            f"To translate, in this folder:\n\n```python\n{self.usage}```\n"
        )


class Comparison:
    """The sample's translations, against the references and against those of the student in fairseq."""

    def __init__(self, sample: Sample, subwords: "SubwordModel", of_fairseq: list[str]):
        self.sample, self.subwords, self.of_fairseq = sample, subwords, of_fairseq
        self.metric = BLEU()
        # fairseq ends a translation at the limit and scores its end, CTranslate2 leaves it open
        self.comparable = [
            index for index, text in enumerate(of_fairseq) if len(text.split(" ")) < sample.longest_translation
        ]

    @property
    def bleu_signature(self) -> str:
        """sacrebleu's description of how it counts; it is known once something was scored."""
        return str(self.metric.get_signature())

    def result(self, performance: Performance) -> Result:
        """The row of a system."""
        system, translations = performance.system, performance.translations
        bleu = self._bleu(translations)
        return Result(
            system=system.name,
            converted_to=system.converted_to,
            computed_in=system.computed_in,
            parameters=system.parameters,
            megabytes_on_disk=system.bytes_on_disk / 1e6,
            load_seconds=system.load_seconds,
            tokens_per_second=performance.tokens_per_second,
            sentences_per_second=performance.sentences_per_second,
            bleu=bleu,
            bleu_change=bleu - self._bleu(self.of_fairseq) if system.converted_to else None,
            identical_percent=self._identical_percent(translations) if system.converted_to else None,
        )

    def _bleu(self, translations: list[str]) -> float:
        texts, references = (
            [self.subwords.text(line) for line in lines] for lines in (translations, self.sample.references)
        )
        return self.metric.corpus_score(texts, [references]).score

    def _identical_percent(self, translations: list[str]) -> float | None:
        if not self.comparable:
            return None
        same = sum(translations[index] == self.of_fairseq[index] for index in self.comparable)
        return 100 * same / len(self.comparable)


def _notes_on_the_figures(measurement: Measurement, sample: Sample, comparison: Comparison) -> list[str]:
    dataset, cfg = sample.originals.dataset, sample.originals.task.cfg
    rounds = f" in {measurement.rounds} rounds (speeds are medians)" if measurement.rounds > 1 else ""
    threads = "1 thread" if measurement.threads == 1 else f"{measurement.threads} threads"
    notes = [
        f"{len(sample.numbers):,} of the {len(dataset):,} sentences of {measurement.gen_subset} in {cfg.data}, which "
        f"all systems translate in turn{rounds}: beam {measurement.beam}, length penalty "
        f"{measurement.lenpen}, batches of up to {measurement.max_tokens:,} source tokens, {threads} of the CPU.",
        "Tokens are subwords of the translations with the ends of sentences; the times are without splitting into "
        "subwords. Loading is from the system's file cache, and without the import of libraries.",
        f"BLEU: {comparison.bleu_signature}, on text without its subword marks.",
    ]
    if sample.too_long:
        notes.append(f"{sample.too_long:,} sentences have more tokens than the models can read and were left out.")
    unknown = sum("<unk>" in line.split(" ") for line in sample.references)
    if unknown:
        notes.append(f"{unknown:,} references hold unknown symbols, which lowers every BLEU.")
    endless = len(sample.numbers) - len(comparison.comparable)
    if endless:
        notes.append(
            f"{endless:,} of fairseq's translations did not end within {sample.longest_translation} tokens; they are "
            "left out of what is identical."
        )
    return notes


def _notes_on_the_models(results: list[Result]) -> list[str]:
    import ctranslate2

    alone = ", ".join(
        f"{number(4 * result.parameters / 1e6)} MB ({result.system.partition(',')[0]})"
        for result in results
        if not result.converted_to
    )
    notes = [
        f"A fairseq checkpoint also holds what training goes on from; the parameters alone are {alone} in float32. "
        "CTranslate2's models are counted with their vocabulary."
    ]
    available = ", ".join(sorted(ctranslate2.get_supported_compute_types("cpu")))
    for result in results:
        stored, computed = result.converted_to, result.computed_in
        if stored and not f"{computed}_".startswith(f"{stored}_"):  # int8 is short for int8_float32
            notes.append(
                f"{stored} is stored as {stored} but computed as {computed}, for CTranslate2 has only {available} on "
                f"this CPU: speed and translations here are those of {computed} arithmetic."
            )
    return notes


def _machine() -> str:
    import ctranslate2

    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor() or platform.machine()
    return f"{cpu}, {os.cpu_count()} cores; torch {torch.__version__}, CTranslate2 {ctranslate2.__version__}"


# -- the subword model ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SubwordModel:
    """What splits text into the subwords of the data."""

    path: Path
    kind: str  # as fairseq's --remove-bpe calls it: sentencepiece or subword_nmt

    @classmethod
    def read(cls, path: Path) -> "SubwordModel":
        """Find out what it is; UserError where the file is neither a sentencepiece model nor BPE codes."""
        if not path.is_file():
            raise UserError(f"subword model {path} does not exist; give the file that the data was split with")
        try:
            sentencepiece.SentencePieceProcessor(model_file=str(path))
            return cls(path, "sentencepiece")
        except RuntimeError:
            pass
        if not _are_bpe_codes(path):
            raise UserError(
                f"{path} is neither a sentencepiece model nor BPE codes of subword-nmt; "
                "give the file that the data was split with"
            )
        return cls(path, "subword_nmt")

    @property
    def file_name(self) -> str:
        """Its name in the export."""
        return "subwords.model" if self.kind == "sentencepiece" else "subwords.codes"

    def text(self, subwords: str) -> str:
        """Subwords put together to text, as fairseq-generate's --remove-bpe does it."""
        return post_process(subwords, self.kind)

    def check(self, sources: list[str], data: str) -> None:
        """UserError unless it splits the text of these sources, which are given in subwords, into these subwords."""
        split = self._splitter()
        if split is None:
            logger.warning(f"subword-nmt is not installed, so {self.path} is not tried on the text of {data}")
            return
        known = [source for source in sources if "<unk>" not in source.split(" ")]
        alike = sum(split(self.text(source)) == source for source in known)
        if 100 * alike < LEAST_SPLIT_ALIKE * len(known):
            raise UserError(
                f"{self.path} splits {alike:,} of {len(known):,} sentences into the subwords that they have in {data}; "
                "give the model that this data was split with"
            )

    def _splitter(self) -> Callable[[str], str] | None:
        if self.kind == "sentencepiece":
            processor = sentencepiece.SentencePieceProcessor(model_file=str(self.path))
            return lambda text: " ".join(processor.encode(text, out_type=str))
        try:
            from subword_nmt.apply_bpe import BPE
        except ImportError:
            return None
        with self.path.open(encoding="utf-8") as codes:
            return BPE(codes).process_line


def _are_bpe_codes(path: Path) -> bool:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return False
    merges = [line for line in lines if not line.startswith("#version")]
    return bool(merges) and all(len(line.split(" ")) == 2 for line in merges)


USAGE = {
    "sentencepiece": """\
# pip install ctranslate2 sentencepiece
import ctranslate2
import sentencepiece

subwords = sentencepiece.SentencePieceProcessor(model_file="{file_name}")
translator = ctranslate2.Translator("{compute_type}", device="cpu")


def translate(sentences):
    pieces = subwords.encode(sentences, out_type=str)
    found = translator.translate_batch(pieces, beam_size={beam}, length_penalty={lenpen}, max_decoding_length={longest})
    return [subwords.decode(result.hypotheses[0]) for result in found]


print(*translate([{example!r}]))
""",
    "subword_nmt": """\
# pip install ctranslate2 subword-nmt
import ctranslate2
from subword_nmt.apply_bpe import BPE

with open("{file_name}", encoding="utf-8") as codes:
    subwords = BPE(codes)
translator = ctranslate2.Translator("{compute_type}", device="cpu")


def translate(sentences):  # tokenised as the training data is
    pieces = [subwords.process_line(sentence).split(" ") for sentence in sentences]
    found = translator.translate_batch(pieces, beam_size={beam}, length_penalty={lenpen}, max_decoding_length={longest})
    return [" ".join(result.hypotheses[0]).replace("@@ ", "") for result in found]


print(*translate([{example!r}]))
""",
}


def _usage(subwords: SubwordModel, compute_type: str, measurement: Measurement, sample: Sample) -> str:
    """The program that translates the first sentence of the sample."""
    source, _ = sample.originals.texts(sample.numbers.min())
    return USAGE[subwords.kind].format(
        file_name=subwords.file_name,
        compute_type=compute_type,
        beam=measurement.beam,
        lenpen=measurement.lenpen,
        longest=sample.longest_translation,
        example=subwords.text(source),
    )


# -- what is refused --------------------------------------------------------------------------------------------------


def _check_ctranslate2(checkpoint: str, compute_types: list[str], measurement: Measurement) -> None:
    reason = why_not_ctranslate2(generation_settings(measurement), checkpoint.split(":"))
    if reason:
        raise UserError(f"CTranslate2 cannot be used: {reason}")
    from ctranslate2.specs.model_spec import ACCEPTED_MODEL_TYPES

    allowed = one_of(*ACCEPTED_MODEL_TYPES)
    for compute_type in compute_types:
        require(allowed.holds(compute_type), "--compute-types", compute_type, allowed.words)


def _translation_task_on(checkpoint: Path, configuration: DictConfig, data: str) -> TranslationTask:
    name = getattr(configuration.task, "_name", None)
    kind = tasks.TASK_REGISTRY.get(name)
    if kind is None or not issubclass(kind, TranslationTask):
        raise UserError(f"{checkpoint} is of fairseq's task {name}; give a checkpoint of the task translation")
    return task_on(checkpoint, configuration, data)


def _check_dictionaries(checkpoint: Path, state: dict, task: TranslationTask) -> None:
    for side, half, language in (
        ("source", "encoder", task.cfg.source_lang),
        ("target", "decoder", task.cfg.target_lang),
    ):
        symbols = (task.source_dictionary if side == "source" else task.target_dictionary).symbols
        here, what_to_do = f"dict.{language}.txt in {task.cfg.data}", "give the --data that it was trained on"
        embeddings = state["model"].get(f"{half}.embed_tokens.weight")
        if embeddings is not None and len(embeddings) != len(symbols):
            raise UserError(
                f"{checkpoint} has a {side} vocabulary of {len(embeddings):,} symbols, {here} of {len(symbols):,}; "
                f"{what_to_do}"
            )
        file = find_dictionary(checkpoint, state["cfg"], f"dict.{language}.txt")
        if file is not None and type(task).load_dictionary(str(file)).symbols != symbols:
            raise UserError(f"{checkpoint} was trained with other {side} symbols, {file}, than {here}; {what_to_do}")


def _check_output(output: Path, fingerprint: str) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"{output} is a file; give --output a folder")
    if not any(output.iterdir()):
        return
    elsewhere = "give another --output"
    try:
        summary = json.loads((output / SUMMARY).read_text(encoding="utf-8"))
        earlier, own, _ = summary["checkpoint_sha256"], summary["files"], summary[MARK]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{output} is there and was not made by nmt-kd export; {elsewhere}") from None
    if earlier != fingerprint:
        raise UserError(f"{output} holds the export of another checkpoint, {summary['checkpoint']}; {elsewhere}")
    foreign = sorted(set(_files(output)) - set(own))
    if foreign:
        raise UserError(f"{output} holds {foreign[0]}, which nmt-kd export did not write; move it, or {elsewhere}")


def _check_faithful(checkpoint: str, results: list[Result]) -> None:
    for result in results:
        share = result.identical_percent
        if result.converted_to in FAITHFUL and share is not None and share < LEAST_IDENTICAL:
            raise UserError(
                f"{checkpoint} in CTranslate2 finds fairseq's translation for {share:.1f} % of the sentences in "
                f"{result.converted_to}, less than {LEAST_IDENTICAL} %: something in it is not converted; "
                "nothing is exported, keep it in fairseq"
            )


# -- files ------------------------------------------------------------------------------------------------------------


def _convert(checkpoint: Path, task: TranslationTask, compute_type: str, folder: Path) -> None:
    from ctranslate2.converters import FairseqConverter

    logger.info(f"converting {checkpoint} to {compute_type}")
    converter = FairseqConverter(str(checkpoint), task.cfg.data, task.cfg.source_lang, task.cfg.target_lang)
    try:
        converter.convert(str(folder), quantization=compute_type)
    except (ValueError, KeyError, AttributeError, TypeError, RuntimeError, FileNotFoundError) as error:
        detail = " ".join(str(error).split())[:300]
        raise UserError(f"CTranslate2 cannot convert {checkpoint}: {detail}; keep it in fairseq") from None


@contextmanager
def whole_or_not_at_all(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the name `folder`, and the place of what is there, once all went well.

    Raises UserError where the system refuses to write.
    """
    partial, replaced = (folder.with_name(f"{folder.name}.{what}.{os.getpid()}") for what in ("partial", "replaced"))
    try:
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            folder.rename(replaced)
        partial.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
