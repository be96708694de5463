"""The sentences that all systems translate, and the settings of the measurement."""

from dataclasses import dataclass

import numpy
from fairseq import utils
from fairseq.models import BaseFairseqModel
from fairseq.tasks.translation import TranslationTask

from nmt_kd.decoding.originals import Originals
from nmt_kd.decoding.settings import LONGEST_TRANSLATION
from nmt_kd.errors import UserError
from nmt_kd.options import AT_LEAST_0, AT_LEAST_1, option


@dataclass(frozen=True)
class Measurement:
    """Settings of the measurement, the same for every system."""

    gen_subset: str = option("test", "subset of the data to translate")
    sentences: int = option(200, "number of sentences to translate, spread evenly over the subset; 0: all", AT_LEAST_0)
    beam: int = option(4, "beam size", AT_LEAST_1)
    lenpen: float = option(0.6, "length penalty: scores are divided by length to this power")
    max_tokens: int = option(4000, "maximum number of source tokens in a batch, including padding", AT_LEAST_1)
    threads: int = option(1, "number of CPU threads", AT_LEAST_1)
    rounds: int = option(1, "number of times each system translates; the median speed is reported", AT_LEAST_1)


@dataclass(frozen=True)
class Sample:
    """The sentences of a data set to translate."""

    originals: Originals
    numbers: numpy.ndarray  # of the sentences, longest source first
    too_long: int  # number of sentences left out because some model cannot read them
    longest_translation: int  # tokens, the length limit of every system
    longest_source: int  # tokens without the end, of all sentences of the subset that the models can read

    @classmethod
    def choose(cls, task: TranslationTask, measurement: Measurement, models: list[BaseFairseqModel]) -> "Sample":
        """Choose sentences spread over the whole subset; the choice is deterministic.

        Raises UserError if the subset does not exist, has no references, or has no sentence that all models can read.
        """
        subset, data = measurement.gen_subset, task.cfg.data
        task.load_dataset(subset)
        dataset = task.dataset(subset)
        if dataset.tgt is None:
            raise UserError(f"subset {subset!r} of {data} has no references; give another --gen-subset")
        limits = utils.resolve_max_positions(task.max_positions(), *(model.max_positions() for model in models))
        readable = numpy.flatnonzero(dataset.src_sizes <= limits[0])
        if len(readable) == 0:
            raise UserError(
                f"every sentence of subset {subset!r} of {data} exceeds the models' limit of {limits[0]:,} tokens; "
                "give another --gen-subset"
            )
        wanted = min(measurement.sentences or len(readable), len(readable))
        numbers = readable[numpy.arange(wanted) * len(readable) // wanted]
        longest_first = numbers[numpy.argsort(-dataset.src_sizes[numbers], kind="stable")]
        too_long = len(dataset) - len(readable)
        longest_source = int(dataset.src_sizes[readable].max()) - 1
        longest_translation = min(LONGEST_TRANSLATION, limits[1] - 1)
        return cls(Originals(task, dataset), longest_first, too_long, longest_translation, longest_source)

    @property
    def sources(self) -> list[str]:
        """The sources in subwords."""
        return [self.originals.texts(number)[0] for number in self.numbers]

    @property
    def references(self) -> list[str]:
        """The references in subwords."""
        return [self.originals.texts(number)[1] for number in self.numbers]
