"""Decode with fairseq's own beam search."""

import copy
import math

import numpy
import torch
from fairseq import utils
from fairseq.data import FairseqDataset

from nmt_kd.data import batches_by_tokens, subwords
from nmt_kd.decoding.repetition import has_loop
from nmt_kd.decoding.shards import Hypothesis
from nmt_kd.errors import UserError


class FairseqBackend:
    """fairseq's beam search; sentences whose float16 output is broken are decoded again in float32."""

    name = "fairseq"

    def __init__(
        self,
        task,
        models: list,
        generator,
        nbest: int,
        max_tokens: int | None,
        max_sentences: int | None,
        prefix_size: int = 0,
    ):
        """`prefix_size` is the number of tokens of the reference with which every hypothesis begins."""
        self.task, self.models, self.generator, self.nbest = task, models, generator, nbest
        self.max_tokens, self.max_sentences, self.prefix_size = max_tokens, max_sentences, prefix_size
        self.parameter = next(models[0].parameters())
        self.in_float32: tuple | None = None
        self.counts = {"sentences decoded again in float32": 0}

    @property
    def precision(self) -> str:
        """The precision of the model's parameters, as torch names it."""
        return str(self.parameter.dtype).removeprefix("torch.")

    def decode(self, dataset: FairseqDataset, numbers: numpy.ndarray) -> list[list[Hypothesis]]:
        """Return the n-best lists of these sentences."""
        lists = []
        for batch in batches_by_tokens(dataset.src_sizes, numbers, self.max_tokens, self.max_sentences):
            found = self._search(dataset, batch, self.generator, self.models)
            if self.parameter.dtype == torch.float16:
                self._decode_broken_again(dataset, batch, found)
            lists += found
        return lists

    def _search(self, dataset, batch, generator, models) -> list[list[Hypothesis]]:
        sample = dataset.collater([dataset[number] for number in batch])
        if self.parameter.is_cuda:
            sample = utils.move_to_cuda(sample)
        row = {number: index for index, number in enumerate(sample["id"].tolist())}
        with torch.no_grad():
            found = generator.generate(models, sample, prefix_tokens=self._prefix(sample))
        return [
            [self._hypothesis(item) for item in found[row[int(number)]][: self.nbest]] for number in batch
        ]  # the collater sorts by length again

    def _prefix(self, sample: dict) -> torch.Tensor | None:
        if not self.prefix_size:
            return None
        if sample.get("target") is None:
            raise UserError(f"--prefix-size {self.prefix_size} needs references, but the input has none; omit it")
        return sample["target"][:, : self.prefix_size]

    def _hypothesis(self, item: dict) -> Hypothesis:
        tokens = item["tokens"].int().cpu()
        return Hypothesis(float(item["score"]), subwords(self.task.target_dictionary, tokens))

    def _decode_broken_again(self, dataset, batch, found: list[list[Hypothesis]]) -> None:
        broken = [index for index, hypotheses in enumerate(found) if _is_broken(hypotheses)]
        if not broken:
            return
        if self.in_float32 is None:
            models = [copy.deepcopy(model).float() for model in self.models]
            generator = copy.copy(self.generator)
            generator._modules = dict(self.generator._modules)  # or both would share the model that is set next
            generator.model = type(self.generator.model)(models)
            self.in_float32 = generator, models
        self.counts["sentences decoded again in float32"] += len(broken)
        again = self._search(dataset, batch[broken], *self.in_float32)
        for index, hypotheses in zip(broken, again, strict=True):
            found[index] = hypotheses


def _is_broken(hypotheses: list[Hypothesis]) -> bool:
    return any(not math.isfinite(item.score) or has_loop(item.text.split(" ")) for item in hypotheses)
