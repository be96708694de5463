"""Compare the systems' translations with the references and with those of the student in fairseq."""

import numpy
import torch
from sacrebleu.metrics import BLEU, CHRF

from nmt_kd.engine.loading import LoadedCheckpoints
from nmt_kd.exporting.faithfulness import as_good
from nmt_kd.exporting.sample import Measurement, Sample
from nmt_kd.exporting.speed import Performance
from nmt_kd.exporting.summary import Result
from nmt_kd.exporting.systems import fairseq_system
from nmt_kd.subword_model import SubwordModel


class TranslationComparison:
    """Compares the sample's translations with the references and with those of the student in fairseq."""

    def __init__(
        self,
        sample: Sample,
        measurement: Measurement,
        subwords: SubwordModel,
        student: LoadedCheckpoints,
        of_student: Performance,
    ):
        self.sample, self.measurement, self.subwords, self.student = sample, measurement, subwords, student
        self.fairseq, self.of_fairseq = of_student.system, of_student.translations
        self.metrics = {"bleu": BLEU(), "chrf": CHRF()}
        self.references = [subwords.text(line) for line in sample.references]
        self.sources = [subwords.text(line) for line in sample.sources]
        # at the length limit, fairseq ends a translation and scores its end; CTranslate2 does not
        self.comparable = [
            index for index, text in enumerate(self.of_fairseq) if len(text.split(" ")) < sample.longest_translation
        ]

    @property
    def signatures(self) -> dict[str, str]:
        """sacrebleu's signature of each metric; available once something has been scored."""
        return {name: str(metric.get_signature()) for name, metric in self.metrics.items()}

    def texts(self, translations: list[str]) -> list[str]:
        """Return translations with their subwords joined."""
        return [self.subwords.text(line) for line in translations]

    def result(self, performance: Performance, seconds_alone: float, without_vnni: list[str] | None) -> Result:
        """Return the row of a system.

        `seconds_alone` is the time that a single sentence takes, `without_vnni` what an int8 model finds on a CPU
        without VNNI.
        """
        system, translations = performance.system, performance.translations
        scores, changes = self._scores(translations), self._changes(translations if system.converted_to else None)
        changes_without_vnni = self._changes(without_vnni)
        different = [index for index in self.comparable if translations[index] != self.of_fairseq[index]]
        return Result(
            system=system.name,
            converted_to=system.converted_to,
            computed_in=system.computed_in,
            parameters=system.parameters,
            megabytes_on_disk=system.bytes_on_disk / 1e6,
            load_seconds=system.load_seconds,
            words_per_second=sum(len(text.split()) for text in self.sources) / performance.seconds,
            tokens_per_second=performance.tokens_per_second,
            sentences_per_second=performance.sentences_per_second,
            milliseconds_alone=1000 * seconds_alone,
            bleu=scores["bleu"],
            bleu_change=changes["bleu"],
            bleu_change_without_vnni=changes_without_vnni["bleu"],
            chrf=scores["chrf"],
            chrf_change=changes["chrf"],
            chrf_change_without_vnni=changes_without_vnni["chrf"],
            identical_percent=self._percent_without(len(different)) if system.converted_to else None,
            as_good_percent=self._percent_without(self._worse(performance, different)) if system.converted_to else None,
            shortlist=system.shortlist,
        )

    def _scores(self, translations: list[str]) -> dict[str, float]:
        texts = self.texts(translations)
        return {name: metric.corpus_score(texts, [self.references]).score for name, metric in self.metrics.items()}

    def _changes(self, translations: list[str] | None) -> dict[str, float | None]:
        """Return the scores of these translations minus those of the student in fairseq, or None for each."""
        if translations is None:
            return dict.fromkeys(self.metrics)
        scores, own = self._scores(translations), self._scores(self.of_fairseq)
        return {name: scores[name] - own[name] for name in self.metrics}

    def _percent_without(self, count: int) -> float | None:
        if not self.comparable:
            return None
        return 100 * (len(self.comparable) - count) / len(self.comparable)

    def _worse(self, performance: Performance, different: list[int]) -> int:
        """Return how many of the `different` translations are not as good as fairseq's."""
        if not different:
            return 0

        def rounded(dtype: torch.dtype):
            return fairseq_system(f"rounded to {dtype}", self.student.rounded(dtype), self.sample, self.measurement)

        verdicts = as_good(
            performance.system,
            self.fairseq,
            rounded,
            self.sample.numbers[numpy.array(different)],
            [performance.translations[index] for index in different],
            [self.of_fairseq[index] for index in different],
            self.measurement.lenpen,
        )
        return verdicts.count(False)
