"""A fairseq checkpoint, or an ensemble, as a teacher for plain text."""

import math
from pathlib import Path

import numpy
import torch
from fairseq import utils
from fairseq.data import Dictionary
from fairseq.sequence_scorer import SequenceScorer
from omegaconf import DictConfig

from nmt_kd.checkpoints.dictionaries import check_dictionaries
from nmt_kd.checkpoints.reading import file_hash, read_model
from nmt_kd.checkpoints.task import translation_task_on
from nmt_kd.data import batches_by_tokens, dictionary_checksum
from nmt_kd.decoding.fairseq_backend import FairseqBackend
from nmt_kd.decoding.settings import beam_search
from nmt_kd.decoding.shards import Hypothesis
from nmt_kd.engine.loading import load_checkpoints
from nmt_kd.errors import UserError
from nmt_kd.options import one_of
from nmt_kd.translators.search import Search
from nmt_kd.translators.subwords import Subwords
from nmt_kd.translators.translator import UNKNOWN_LEFT_OUT, TeacherOptions
from nmt_kd.workers import device_of_worker

WHAT = "a fairseq checkpoint (several, separated by ':', form an ensemble)"
USES = ("data", "subword_model", "target_subword_model")
PRECISIONS = one_of("default", "float32", "float16")
SCORED_TOKENS = 2000  # in a batch of translations, whose logits are in memory at once


def recognises(teacher: str) -> bool:
    """Tell whether all parts of a name separated by ":" are files, or are called *.pt like a checkpoint."""
    return all(Path(path).is_file() or path.endswith(".pt") for path in teacher.split(":"))


def open_teacher(options: TeacherOptions) -> "FairseqTranslator":
    """Load the checkpoints; raises UserError if they do not fit the dictionaries, or an option is missing."""
    if options.data is None:
        raise UserError(f"the dictionaries of {options.teacher} are needed; give the folder that has them as --data")
    if options.subword_model is None:
        raise UserError(f"the subword model of {options.teacher} is needed; give it as --subword-model")
    PRECISIONS.check("--compute-type", options.compute_type)
    return FairseqTranslator(options, options.data, options.subword_model)


class FairseqTranslator:
    """fairseq's beam search between a subword model for each side."""

    def __init__(self, options: TeacherOptions, data: str, subword_model: Path):
        paths = [Path(path) for path in options.teacher.split(":")]
        states = [read_model(path) for path in paths]
        self.task = translation_task_on(paths[0], states[0]["cfg"], data)
        for path, state in zip(paths, states, strict=True):
            check_dictionaries(path, state, self.task)
        del states
        self.languages = self.task.cfg.source_lang, self.task.cfg.target_lang
        given = options.source_lang or self.languages[0], options.target_lang or self.languages[1]
        if given != self.languages:
            raise UserError(
                f"{options.teacher} translates {'-'.join(self.languages)}, not {'-'.join(given)}; name "
                f"the languages as the teacher does, with --source-lang {self.languages[0]} --target-lang "
                f"{self.languages[1]}, or give another teacher"
            )
        self.subwords = Subwords(subword_model, options.target_subword_model)
        self.length = self.subwords.length
        self.models = models = _prepared(load_checkpoints(paths, self.task).models, options)
        self.longest_source = options.longest_source(min(model.max_positions()[0] for model in models))
        generator = self.task.build_generator(models, _generation(options.search))
        self.backend = FairseqBackend(self.task, models, generator, options.search.nbest, options.max_tokens, None)
        self.scorer = SequenceScorer(self.task.target_dictionary)
        self.settings = {
            "teacher": "+".join(file_hash(path) for path in paths),
            "teacher_kind": "fairseq",
            "precision": self.backend.precision,
            "source_dictionary": dictionary_checksum(self.task.source_dictionary),
            "target_dictionary": dictionary_checksum(self.task.target_dictionary),
            **self.subwords.settings,
        }

    @property
    def counts(self) -> dict[str, int]:
        """How many unknown symbols were left out, and what fairseq's search counts."""
        return {UNKNOWN_LEFT_OUT: self.subwords.unknown, **self.backend.counts}

    def translate(self, sources: list[str], seed: int) -> list[list[Hypothesis]]:
        """Return the n-best lists of these texts."""
        utils.set_torch_seed(seed)
        tokens = [_encoded(self.subwords.of_source(text), self.task.source_dictionary) for text in sources]
        lengths = [len(each) for each in tokens]
        dataset = self.task.build_dataset_for_inference(tokens, lengths)
        longest_first = numpy.argsort(-numpy.array(lengths, dtype=numpy.int64), kind="stable")
        lists: dict[int, list[Hypothesis]] = {}
        for number, found in zip(longest_first, self.backend.decode(dataset, longest_first), strict=True):
            lists[int(number)] = [Hypothesis(item.score, self.subwords.text(item.text.split(" "))) for item in found]
        return [lists[number] for number in range(len(sources))]

    def score(self, sources: list[str], translations: list[str]) -> list[float]:
        """Return the log-probabilities of translations per token, including the end."""
        longest = self.longest_source, min(model.max_positions()[1] for model in self.models)
        source = [_encoded(self.subwords.of_source(text), self.task.source_dictionary) for text in sources]
        target = [_encoded(self.subwords.of_target(text), self.task.target_dictionary) for text in translations]
        lengths = numpy.array([(len(one), len(other)) for one, other in zip(source, target, strict=True)]).reshape(
            -1, 2
        )
        (readable,) = (lengths <= longest).all(axis=1).nonzero()
        dataset = self.task.build_dataset_for_inference(source, lengths[:, 0])
        longer = lengths.max(axis=1, initial=0)
        longest_first = readable[numpy.argsort(-longer[readable], kind="stable")]
        scores = numpy.full(len(source), -math.inf)
        for batch in batches_by_tokens(longer, longest_first, SCORED_TOKENS, None):
            sample = dataset.collater([{"id": n, "source": source[n], "target": target[n]} for n in batch.tolist()])
            if device_of_worker().type == "cuda":
                sample = utils.move_to_cuda(sample)
            for number, (scored,) in zip(sample["id"].tolist(), self.scorer.generate(self.models, sample), strict=True):
                scores[number] = float(scored["positional_scores"].float().mean())
        return scores.tolist()


def _encoded(subwords: list[str], dictionary: Dictionary) -> torch.Tensor:
    return dictionary.encode_line(" ".join(subwords), add_if_not_exist=False).long()


def _prepared(models: list, options: TeacherOptions) -> list:
    device = device_of_worker()
    if options.compute_type == "float16" and device.type == "cpu":
        raise UserError("--compute-type float16 needs a GPU with a fairseq checkpoint; use float32")
    for model in models:
        model.eval().to(device, torch.float16 if options.compute_type == "float16" else torch.float32)
        model.make_generation_fast_(beamable_mm_beam_size=options.search.width, need_attn=False)
    return models


def _generation(search: Search) -> DictConfig:
    settings = beam_search(search.width, search.lenpen, search.max_len, search.nbest)
    if search.sampling_topk is not None:
        settings.update({"sampling": True, "temperature": search.sampling_temperature})
        settings.update({"sampling_topk": search.sampling_topk or -1})
    return settings
