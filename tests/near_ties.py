"""Which differences the rounding of float32 sums explains.

The last bits of sums depend on the processor and on the shapes of batches, so two right computations may order words or
translations differently whose scores are nearly tied. Nothing else may differ.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from fairseq import checkpoint_utils
from fairseq.tasks.translation import TranslationTask

from nmt_kd.engine.loading import load_checkpoints
from nmt_kd.exporting.faithfulness import ROUNDING
from nmt_kd.exporting.sample import Measurement, Sample
from nmt_kd.exporting.systems import MeasuredSystem, fairseq_system, token_count

A_TOKEN = ROUNDING["float32"]  # in nats


@dataclass(frozen=True)
class Judge:
    """Compares translations, in subwords, by their scores under fairseq's forced decoding, normalised by `lenpen`."""

    system: MeasuredSystem
    lenpen: float

    @classmethod
    def load(cls, checkpoint: Path, task: TranslationTask, subset: str, lenpen: float) -> "Judge":
        """Load a checkpoint to judge translations of the sentences in `subset`."""
        measurement = Measurement(gen_subset=subset, sentences=0, lenpen=lenpen)
        loaded = load_checkpoints([checkpoint], task)
        sample = Sample.choose(task, measurement, loaded.models)
        return cls(fairseq_system("fairseq", loaded, sample, measurement), lenpen)

    def score(self, number: int, text: str) -> float:
        """Return what fairseq's beam search in float32 ranks a translation of sentence `number` by."""
        return self.system.score(numpy.array([number]), [text])[0]

    def as_likely(self, number: int, one: str, other: str) -> bool:
        """Tell whether two translations of sentence `number` are equal, or score the same but for rounding."""
        tokens = max(map(token_count, (one, other))) ** (1 - self.lenpen)
        return one == other or abs(self.score(number, one) - self.score(number, other)) <= A_TOKEN * tokens


def margins(checkpoint: Path, task: TranslationTask, source: torch.Tensor, text: str) -> list[float]:
    """Return by how many nats each token of a translation, and its end, is more probable than any other word.

    `text` is in subwords; each token is predicted from those before it.
    """
    (model,), _, _ = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)], task=task)
    target = task.target_dictionary.encode_line(text, add_if_not_exist=False).long()
    prefix = target.roll(1).unsqueeze(0)
    with torch.no_grad():
        (logits,) = model.eval()(source.unsqueeze(0), torch.tensor([len(source)]), prefix)[0]
    words = target.unsqueeze(-1)
    others = logits.scatter(-1, words, -torch.inf).amax(-1)
    return (logits.gather(-1, words).squeeze(-1) - others).tolist()
