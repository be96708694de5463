"""Systems that translate the same sentences in turn, on the CPU: fairseq checkpoints and CTranslate2 models."""

import logging
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from fairseq import checkpoint_utils, utils
from fairseq.dataclass.configs import GenerationConfig
from fairseq.models import BaseFairseqModel
from fairseq.tasks.translation import TranslationTask
from omegaconf import DictConfig, OmegaConf

from nmt_kd.data import opening_subset
from nmt_kd.decoding.backends import FairseqBackend
from nmt_kd.decoding.corpus import Originals
from nmt_kd.errors import UserError
from nmt_kd.options import AT_LEAST_0, AT_LEAST_1, option

logger = logging.getLogger(__name__)

LONGEST_TRANSLATION = 200  # tokens, as fairseq-generate has it
WARM_UP_SENTENCES = 4  # what comes first pays for memory that later sentences find ready


@dataclass(frozen=True)
class Measurement:
    """Which sentences are translated, and how; the same for every system."""

    gen_subset: str = option("test", "subset of the data to translate")
    sentences: int = option(200, "how many of its sentences, spread evenly over the subset; 0 for all", AT_LEAST_0)
    beam: int = option(4, "hypotheses in the beam", AT_LEAST_1)
    lenpen: float = option(0.6, "exponent of the length that scores are divided by")
    max_tokens: int = option(4000, "source tokens in a batch, with padding", AT_LEAST_1)
    threads: int = option(1, "threads of the CPU", AT_LEAST_1)
    rounds: int = option(1, "how often all systems translate in turn; a speed is the median", AT_LEAST_1)


@dataclass(frozen=True)
class LoadedCheckpoints:
    """The model of a fairseq checkpoint, or an ensemble."""

    paths: list[Path]
    models: list[BaseFairseqModel]
    load_seconds: float

    @property
    def parameters(self) -> int:
        """The number of parameters, shared ones counted once."""
        return sum(parameter.numel() for model in self.models for parameter in model.parameters())


@dataclass(frozen=True)
class Sample:
    """The sentences of a data set that are translated."""

    originals: Originals
    numbers: numpy.ndarray  # of the sentences, the longest source first
    too_long: int  # sentences that were left out, for some model cannot read them
    longest_translation: int  # where every system ends a translation, in tokens

    @classmethod
    def choose(cls, task: TranslationTask, measurement: Measurement, models: list[BaseFairseqModel]) -> "Sample":
        """Take sentences from the whole subset, always the same ones.

        Raises UserError where the subset is not there, has no references, or holds nothing that all models can read.
        """
        subset, data = measurement.gen_subset, task.cfg.data
        with opening_subset(data, subset, task.cfg.source_lang, task.cfg.target_lang):
            task.load_dataset(subset)
        dataset = task.dataset(subset)
        if dataset.tgt is None:
            raise UserError(f"subset {subset!r} of {data} has no references; give --gen-subset one that has")
        limits = utils.resolve_max_positions(task.max_positions(), *(model.max_positions() for model in models))
        readable = numpy.flatnonzero(dataset.src_sizes <= limits[0])
        if len(readable) == 0:
            raise UserError(f"subset {subset!r} of {data} has no sentence that the models can read")
        wanted = min(measurement.sentences or len(readable), len(readable))
        numbers = readable[numpy.arange(wanted) * len(readable) // wanted]
        longest_first = numbers[numpy.argsort(-dataset.src_sizes[numbers], kind="stable")]
        too_long = len(dataset) - len(readable)
        return cls(Originals(task, dataset), longest_first, too_long, min(LONGEST_TRANSLATION, limits[1] - 1))

    @property
    def sources(self) -> list[str]:
        """The sources in subwords."""
        return [self.originals.texts(number)[0] for number in self.numbers]

    @property
    def references(self) -> list[str]:
        """The references in subwords."""
        return [self.originals.texts(number)[1] for number in self.numbers]


@dataclass(frozen=True)
class System:
    """Something that translates: `translate` gets numbers of sentences, longest first, and returns subwords."""

    name: str
    converted_to: str | None  # the compute type that a CTranslate2 model is stored in; None for fairseq
    computed_in: str  # the precision of the arithmetic
    parameters: int
    bytes_on_disk: int
    load_seconds: float
    translate: Callable[[numpy.ndarray], list[str]]


@dataclass(frozen=True)
class Performance:
    """What a system made of the sample: translations in subwords, in the sample's order, and in how many seconds."""

    system: System
    translations: list[str]
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Subwords of the translations, the end of each sentence included."""
        return sum(len(text.split(" ")) + 1 if text else 1 for text in self.translations) / self.seconds

    @property
    def sentences_per_second(self) -> float:
        return len(self.translations) / self.seconds


def load_checkpoints(paths: list[Path], task: TranslationTask) -> LoadedCheckpoints:
    """Load checkpoints as fairseq-generate does, by the clock."""
    started = time.perf_counter()
    models, _ = checkpoint_utils.load_model_ensemble([str(path) for path in paths], task=task)
    return LoadedCheckpoints(paths, models, time.perf_counter() - started)


def generation_settings(measurement: Measurement, longest_translation: int = LONGEST_TRANSLATION) -> DictConfig:
    """fairseq's settings of the beam search."""
    search = {"beam": measurement.beam, "lenpen": measurement.lenpen, "nbest": 1, "max_len_b": longest_translation}
    return OmegaConf.merge(OmegaConf.structured(GenerationConfig), search)


def fairseq_system(name: str, loaded: LoadedCheckpoints, sample: Sample, measurement: Measurement) -> System:
    """fairseq's own beam search, its models prepared as fairseq-generate prepares them."""
    parameters = loaded.parameters
    for model in loaded.models:
        model.make_generation_fast_(beamable_mm_beam_size=measurement.beam, need_attn=False)
    task, dataset = sample.originals.task, sample.originals.dataset
    generator = task.build_generator(loaded.models, generation_settings(measurement, sample.longest_translation))
    backend = FairseqBackend(task, loaded.models, generator, 1, measurement.max_tokens, None)

    def translate(numbers: numpy.ndarray) -> list[str]:
        return [hypotheses[0].text for hypotheses in backend.decode(dataset, numbers)]

    bytes_on_disk = sum(path.stat().st_size for path in loaded.paths)
    return System(name, None, "float32", parameters, bytes_on_disk, loaded.load_seconds, translate)


def ctranslate2_system(
    compute_type: str, folder: Path, parameters: int, sample: Sample, measurement: Measurement
) -> System:
    """CTranslate2 alone, on the model in `folder`, which is stored in `compute_type` and has so many `parameters`.

    It computes in that type where this CPU has it, else in the one that CTranslate2 chooses.
    """
    import ctranslate2

    started = time.perf_counter()
    translator = ctranslate2.Translator(str(folder), device="cpu", inter_threads=1, intra_threads=measurement.threads)
    load_seconds = time.perf_counter() - started
    dataset, symbols = sample.originals.dataset, sample.originals.task.source_dictionary.symbols

    def translate(numbers: numpy.ndarray) -> list[str]:
        found = translator.translate_batch(
            [[symbols[token] for token in dataset[number]["source"].tolist()[:-1]] for number in numbers],
            beam_size=measurement.beam,
            length_penalty=measurement.lenpen,
            max_decoding_length=sample.longest_translation,
            max_input_length=0,
            max_batch_size=measurement.max_tokens,
            batch_type="tokens",
        )
        return [" ".join(result.hypotheses[0]) for result in found]

    bytes_on_disk = sum(path.stat().st_size for path in folder.iterdir())
    name = f"student, CTranslate2 {compute_type}"
    return System(name, compute_type, translator.compute_type, parameters, bytes_on_disk, load_seconds, translate)


def measure(systems: list[System], sample: Sample, rounds: int) -> list[Performance]:
    """Let the systems translate the sample in turn, `rounds` times; the seconds are the median of the rounds'."""
    for system in systems:
        system.translate(sample.numbers[-WARM_UP_SENTENCES:])
    seconds: dict[str, list[float]] = {system.name: [] for system in systems}
    translations = {}
    for _ in range(rounds):
        for system in systems:
            logger.info(f"translating {len(sample.numbers):,} sentences: {system.name}")
            started = time.perf_counter()
            translations[system.name] = system.translate(sample.numbers)
            seconds[system.name].append(time.perf_counter() - started)
    return [Performance(item, translations[item.name], statistics.median(seconds[item.name])) for item in systems]


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch compute with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
