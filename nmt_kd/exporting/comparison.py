"""Compare the systems' translations with the references and with those of the student in fairseq."""

import numpy
import torch
from sacrebleu.metrics import BLEU

from nmt_kd.engine.loading import LoadedCheckpoints
from nmt_kd.exporting.faithfulness import as_good
from nmt_kd.exporting.sample import Measurement, Sample
from nmt_kd.exporting.speed import Performance
from nmt_kd.exporting.summary import Result
from nmt_kd.exporting.systems import fairseq_system
from nmt_kd.subword_model import SubwordModel


class Comparison:
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
        self.metric = BLEU()
        # at the length limit, fairseq ends a translation and scores its end; CTranslate2 does not
        self.comparable = [
            index for index, text in enumerate(self.of_fairseq) if len(text.split(" ")) < sample.longest_translation
        ]

    @property
    def bleu_signature(self) -> str:
        """sacrebleu's signature; available once something has been scored."""
        return str(self.metric.get_signature())

    def result(self, performance: Performance) -> Result:
        """Return the row of a system."""
        system, translations = performance.system, performance.translations
        bleu = self._bleu(translations)
        different = [index for index in self.comparable if translations[index] != self.of_fairseq[index]]
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
            identical_percent=self._percent_without(len(different)) if system.converted_to else None,
            as_good_percent=self._percent_without(self._worse(performance, different)) if system.converted_to else None,
        )

    def _bleu(self, translations: list[str]) -> float:
        texts, references = (
            [self.subwords.text(line) for line in lines] for lines in (translations, self.sample.references)
        )
        return self.metric.corpus_score(texts, [references]).score

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
