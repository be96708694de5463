"""A masked model, which sees the target on both sides of a word: fairseq's cmlm_transformer, or an ensemble of several.

As in BERT-KD (Chen et al., ACL 2020), each target word is masked once, and a prediction has only the --top-k words with
the highest logits. The end of the sentence, which these models never mask, has no prediction. See docs/masked.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from fairseq.data import Dictionary
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from torch import Tensor

from nmt_kd.checkpoints.reading import read_model
from nmt_kd.checkpoints.task import task_of_data
from nmt_kd.engine.chunks import Projection
from nmt_kd.engine.distribution import TopDistribution, WholeDistribution
from nmt_kd.engine.models import ModelOutput
from nmt_kd.engine.predictions import PredictionSource
from nmt_kd.engine.teacher import ModelPredictions, Teacher
from nmt_kd.errors import UserError
from nmt_kd.options import ABOVE_0, AT_LEAST_1, option

NOISE = "random_mask"  # fairseq's name for the training of masked models


@dataclass
class Options:
    """How targets are masked, and how flat the predictions are; the defaults are those of BERT-KD's published code."""

    masked_passes: int = option(
        7, "number N of passes over a sentence, in each of which every N-th word is masked", AT_LEAST_1
    )
    masked_temperature: float = option(10.0, "temperature of the softmax over the words of a prediction", ABOVE_0)


def open_source(data: str, teacher_path: str, options: Options) -> tuple[FairseqTask, "MaskedTeacher"]:
    """Return the student's translation task on `data` and the masked teacher; UserError if it does not fit."""
    paths = teacher_path.split(":")
    settings = [read_model(path)["cfg"].task for path in paths]
    # not the teacher's task, which adds a symbol at the beginning of each sentence
    source_lang, target_lang = (getattr(settings[0], name, None) for name in ("source_lang", "target_lang"))
    task = task_of_data(data, source_lang, target_lang)
    models = Teacher.load(teacher_path, task, masked=True)
    for path, setting in zip(paths, settings, strict=True):
        if (noise := getattr(setting, "noise", None)) != NOISE:
            raise UserError(f"teacher {path} was trained with --noise {noise}; train it with --noise {NOISE}")
    return task, MaskedTeacher(models, task, options)


class MaskedTeacher(PredictionSource):
    """One masked model, or an ensemble whose probabilities are averaged.

    Of N passes, the n-th masks the words n, n + N, n + 2 N ... of each sentence, so each is masked exactly once. (A
    random offset for each sentence would change only the order of the passes.) Unmasked words are the reference's.
    """

    def __init__(self, teacher: Teacher, task: FairseqTask, options: Options):
        self.teacher, self.models = teacher, teacher.models
        self.padding = task.source_dictionary.pad(), task.target_dictionary.pad()
        self.first = task.source_dictionary.bos(), task.target_dictionary.bos()
        self.symbols: Dictionary = task.target_dictionary
        self.passes, self.temperature = options.masked_passes, options.masked_temperature
        self.fingerprint = f"{teacher.fingerprint} masked, {self.passes} passes, temperature {self.temperature:g}"

    def max_positions(self) -> tuple[int, int]:
        source, target = self.teacher.max_positions()
        return source - 1, target - 1  # the symbol at the beginning takes one

    def read(self, sample: dict, token_index: Tensor, like: Tensor) -> "MaskedPredictions":
        def run() -> list[ModelOutput]:
            self.teacher.follow(like)
            return [self._run(model, sample, token_index) for model in self.teacher.models]

        symbols = self.symbols
        never = torch.tensor([symbols.bos(), symbols.pad(), symbols.eos()], device=token_index.device)
        known = ~torch.isin(sample["target"].flatten()[token_index], never)
        return MaskedPredictions(run, never, known, self.temperature)

    def _run(self, model: BaseFairseqModel, sample: dict, token_index: Tensor) -> ModelOutput:
        """Return a model's output for each token, from the pass in which it is masked."""
        net_input = sample["net_input"]
        source = with_first(net_input["src_tokens"], self.first[0], self.padding[0])
        target = with_first(sample["target"], self.first[1], self.padding[1])
        encoder_output = model.encoder(source, src_lengths=net_input["src_lengths"] + 1)
        number = target.ne(self.padding[1]).cumsum(1) - 2  # of each word of its sentence, from 0
        for symbol in (self.symbols.bos(), self.symbols.eos(), self.symbols.pad()):
            number[target.eq(symbol)] = -self.passes  # never masked
        features = None
        for turn in range(min(self.passes, max(1, int(number.max()) + 1))):
            masked = number.ge(0) & number.remainder(self.passes).eq(turn)
            found, _ = model.decoder.extract_features(
                target.masked_fill(masked, self.symbols.unk()), encoder_out=encoder_output
            )
            features = found if features is None else found.where(masked.unsqueeze(-1), features)
        assert features is not None
        layer = model.decoder.output_projection
        of_tokens = features[:, 1:].flatten(0, 1)[token_index]
        projection = Projection(of_tokens, layer.weight, layer.bias)
        return ModelOutput(model, net_input, token_index, projection, encoder_output, None)


def with_first(tokens: Tensor, symbol: int, padding: int) -> Tensor:
    """Return `tokens` with `symbol` before each sentence, [batch, length + 1]; padding may be on either side."""
    longer = torch.nn.functional.pad(tokens, (1, 0), value=padding)
    before = tokens.ne(padding).int().argmax(1, keepdim=True)
    return longer.scatter(1, before, symbol)


class MaskedPredictions(ModelPredictions):
    """The predictions of masked models, which run when these are first used."""

    def __init__(self, run: Callable[[], list[ModelOutput]], never: Tensor, known: Tensor, temperature: float):
        super().__init__(run)
        self.never, self.known, self.temperature = never, known, temperature

    def predict(self, rows: slice) -> "TopOfMaskedModel":
        logits = self.logits(rows).index_fill(-1, self.never, -torch.inf)
        return TopOfMaskedModel(logits / self.temperature, self.known[rows])


@dataclass(frozen=True)
class TopOfMaskedModel(WholeDistribution):
    """A distribution whose top words take all of the mass."""

    known_tokens: Tensor

    @property
    def known(self) -> Tensor:
        return self.known_tokens

    def coarse(self, top_k: int) -> TopDistribution:
        """Return the softmax of the `top_k` highest logits alone, without a rest, as BERT-KD does."""
        top = super().coarse(top_k)
        nothing = torch.full_like(top.log_rest, -torch.inf)
        return replace(top, log_q=top.log_q.log_softmax(-1), log_rest=nothing, known_tokens=self.known_tokens)
