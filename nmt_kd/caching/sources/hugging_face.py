"""A translation model of Hugging Face (Marian, M2M100, NLLB or mBART), as a folder or a name on the hub.

Its predictions are mapped to the student's subwords wherever both start one at the same character.
"""

from dataclasses import dataclass
from typing import Any

import torch
from fairseq.tasks import FairseqTask
from torch import Tensor

from nmt_kd.caching.other_vocabulary import ForeignTeacher, RespellingSource, StudentVocabulary
from nmt_kd.caching.respelling import TopWords
from nmt_kd.caching.spelling import UNREADABLE, Spelled, sentence_texts, vocabulary_texts
from nmt_kd.checkpoints.task import task_of_data
from nmt_kd.engine.chunks import chunk_slices, default_chunk_tokens
from nmt_kd.engine.distribution import WholeDistribution
from nmt_kd.engine.hugging_face import Languages, Pretrained, read_pretrained
from nmt_kd.errors import UserError, in_one_line
from nmt_kd.options import AT_LEAST_1, option

MARKS = "sentencepiece"
FLAGS = "--hugging-face-source-lang", "--hugging-face-target-lang"


@dataclass
class Options:
    """The options of a teacher of Hugging Face."""

    hugging_face_source_lang: str = option("", "source language, as the model names it, if not as the data does")
    hugging_face_target_lang: str = option("", "target language, as the model names it, if not as the data does")
    hugging_face_student_subwords: str = option(
        "", "sentencepiece model or BPE codes that split the student's target text"
    )
    hugging_face_words: int = option(16, "words of the teacher to map at each position", AT_LEAST_1)


def open_source(data: str, teacher_path: str, options: Options) -> tuple[FairseqTask, RespellingSource]:
    """Return the translation task on `data`, and the teacher; UserError if something is missing or does not fit."""
    task = task_of_data(data)
    student = StudentVocabulary(task, options.hugging_face_student_subwords, "--hugging-face-student-subwords")
    pretrained = read_pretrained(teacher_path, "--teacher-path")
    given = options.hugging_face_source_lang, options.hugging_face_target_lang
    source, target = given[0] or task.cfg.source_lang, given[1] or task.cfg.target_lang
    languages = Languages.of(pretrained.tokenizer, teacher_path, source, target, FLAGS)
    return task, RespellingSource(HuggingFaceTeacher(pretrained, languages), student, options.hugging_face_words)


class HuggingFaceTeacher(ForeignTeacher):
    """A model of Hugging Face that reads references."""

    def __init__(self, pretrained: Pretrained, languages: Languages):
        from transformers import AutoModelForSeq2SeqLM

        self.config, self.tokenizer = pretrained.config, pretrained.tokenizer
        if getattr(self.tokenizer, "separate_vocabs", False):
            raise UserError(f"{pretrained.name} has a vocabulary for each side, which nmt-kd cannot read; give another")
        try:
            self.model: Any = AutoModelForSeq2SeqLM.from_pretrained(pretrained.name, **pretrained.revision)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"{pretrained.name} cannot be loaded: {in_one_line(error)}") from None
        self.model.eval().requires_grad_(False)
        self.languages, self.marks = languages, MARKS
        self.fingerprint = f"{pretrained.fingerprint} {languages.source}-{languages.target}"
        self.end, self.unknown = self.tokenizer.eos_token_id, self.tokenizer.unk_token_id
        self.special = {*self.tokenizer.all_special_ids, *self.tokenizer.convert_tokens_to_ids(list(languages.prefix))}
        symbols = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
        symbols = [symbol or "" for symbol in symbols] + [""] * (self.config.vocab_size - len(symbols))
        self.texts = vocabulary_texts(symbols, MARKS, self.end, self.unknown, self.special - {self.end, self.unknown})

    def max_positions(self) -> tuple[int, int]:
        longest = self.config.max_position_embeddings
        return min(longest, self.tokenizer.model_max_length), longest - 1 - len(self.languages.prefix)

    def read_source(self, text: str) -> list[int]:
        return self.tokenizer([self.languages.first_words + text], verbose=False)["input_ids"][0]

    def read_target(self, text: str) -> Spelled:
        tokens = [token for token in self._labels_of(text) if token not in self.special or token == self.unknown]
        symbols = self.tokenizer.convert_ids_to_tokens(tokens)
        known = [UNREADABLE if token == self.unknown else s for token, s in zip(tokens, symbols, strict=True)]
        return Spelled([*tokens, self.end], sentence_texts(known, MARKS))

    def _labels_of(self, text: str) -> list[int]:
        return self.tokenizer(text_target=[text], verbose=False)["input_ids"][0]

    def top(self, sources: list[list[int]], targets: list[Spelled], words: int, like: Tensor) -> TopWords:
        self.model.to(like.device, like.dtype)
        padding = self.tokenizer.pad_token_id
        added = self._labels_of("")  # the language, and the end
        before = added[: added.index(self.end)]
        after = added[len(before) + 1 :]  # mBART's language comes last
        start = [*after, self.config.decoder_start_token_id, self.end]
        first = next(token for token in start if token is not None)
        inputs = [[first, *before, *target.tokens[:-1]] for target in targets]
        written = _padded(inputs, padding).to(like.device)
        read = _padded(sources, padding).to(like.device)
        hidden = self.model.model(
            input_ids=read,
            attention_mask=read.ne(padding),
            decoder_input_ids=written,
        ).last_hidden_state
        columns = torch.arange(written.size(1), device=like.device)
        lengths = torch.tensor([len(target.tokens) for target in targets], device=like.device)
        counts = (columns >= len(before)) & (columns < len(before) + lengths.unsqueeze(1))
        features = hidden[counts]
        bias = getattr(self.model, "final_logits_bias", torch.zeros(1)).to(like.device)
        found = []
        for rows in chunk_slices(len(features), default_chunk_tokens(self.config.vocab_size, like.device)):
            logits = self.model.lm_head(features[rows]) + bias
            logits[:, padding] = -torch.inf  # Marian's first decoder input, which it never predicts
            found.append(WholeDistribution(logits).coarse(min(words, logits.size(-1))))
        return TopWords.of(found)


def _padded(rows: list[list[int]], padding: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [padding] * (longest - len(row)) for row in rows])
