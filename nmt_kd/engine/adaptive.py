"""An ensemble of teachers with a weight for each sentence, by how well each predicts the reference."""

from functools import cached_property

import torch
from fairseq.models import BaseFairseqModel
from torch import Tensor

from nmt_kd.engine.chunks import gold_nll
from nmt_kd.engine.predictions import UndeclaredNeedError
from nmt_kd.engine.teacher import ModelPredictions, Teacher
from nmt_kd.losses.precision import log_probabilities


class AdaptiveTeacher(Teacher):
    """Teachers whose probabilities are averaged with weights `softmax_i(mean log q_i(y) / temperature)` per sentence.

    The mean is over the sentence's tokens, so that it does not depend on the length (Saleh et al., COLING 2020,
    "Collective Wisdom"; the temperature is ours). A high temperature makes it the ensemble `Teacher`; a low one chooses
    the best teacher for each sentence.
    """

    def __init__(self, models: list[BaseFairseqModel], fingerprint: str, temperature: float):
        super().__init__(models, f"{fingerprint}, weighted by sentence at temperature {temperature:g}")
        self.members, self.temperature = fingerprint, temperature
        self.sums = torch.zeros(len(models), dtype=torch.float64)  # of the weights of all sentences so far
        self.sentences = 0

    def on_subset(self, subset: str) -> "AdaptiveTeacher":
        """Return the same teachers, with a fresh mean of their weights."""
        return AdaptiveTeacher(self.models, self.members, self.temperature)

    def read(self, sample: dict, token_index: Tensor, like: Tensor) -> ModelPredictions:
        """Return the predictions for fairseq's `sample`, see `TeacherSource`; UserError if a sentence is too long."""
        target = sample["target"]
        sentence = token_index // target.size(1)
        gold = target.flatten()[token_index]
        return AdaptivePredictions(self, super().read(sample, token_index, like), gold, sentence, target.size(0))

    def observe(self, log_weights: Tensor) -> None:
        """Add the weights of some sentences, given as logarithms [models, sentences], to their mean."""
        self.sums += log_weights.double().exp().sum(1).cpu()
        self.sentences += log_weights.size(1)

    def summary(self) -> str:
        """Return the mean weight of each teacher in words; nothing if it has not predicted any sentence."""
        if self.sentences == 0:
            return ""
        means = ", ".join(f"{mean:.3f}" for mean in (self.sums / self.sentences).tolist())
        return f"mean weights of the {len(self.models)} teachers over {self.sentences} sentences: {means}"


class AdaptivePredictions(ModelPredictions):
    """The predictions of an `AdaptiveTeacher`: a first pass over the chunks weighs its models, a second mixes them."""

    def __init__(
        self, teacher: AdaptiveTeacher, members: ModelPredictions, gold: Tensor, sentence: Tensor, sentences: int
    ):
        """Predict the `gold` tokens [tokens], each of which belongs to a `sentence` [tokens], from 0 to `sentences`."""
        super().__init__(lambda: members.outputs)
        self._teacher, self._gold = teacher, gold
        self._sentence, self._sentences = sentence, sentences

    @cached_property
    def log_weights(self) -> Tensor:
        """The logarithm of each teacher's weight for each sentence, [models, sentences], float64."""
        tokens = self._sentence.bincount(minlength=self._sentences)
        means = []
        for projection in self.projections:
            of_tokens = gold_nll(projection, self._gold).double()
            total = of_tokens.new_zeros(self._sentences).index_add(0, self._sentence, of_tokens)
            means.append(total / tokens.clamp(min=1))
        log_weights = (-torch.stack(means) / self._teacher.temperature).log_softmax(0)
        self._teacher.observe(log_weights)
        return log_weights

    def logits(self, rows: slice) -> Tensor:
        """Return the log-probabilities of some tokens, [rows, V]."""
        with torch.no_grad():
            members = torch.stack([log_probabilities(part.logits(rows)) for part in self.projections])
            weights = self.log_weights[:, self._sentence[rows]].to(members.dtype)
            return (members + weights.unsqueeze(-1)).logsumexp(0)

    def decode(self, prev_output_tokens: Tensor) -> ModelPredictions:
        """Raise UndeclaredNeedError: the weights are those of the references."""
        raise UndeclaredNeedError("teachers that are weighted by sentence cannot predict at new prefixes")
