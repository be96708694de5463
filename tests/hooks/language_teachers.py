"""A teacher for each language (Tan et al., ICLR 2019), chosen by the tag that begins the source sentence."""

from dataclasses import dataclass

import torch
from fairseq.criterions import register_criterion

from nmt_kd.criterions.base import DistillationCriterion, InterpolationConfig
from nmt_kd.engine.distribution import WholeDistribution
from nmt_kd.engine.predictions import Predictions, TeacherSource, TopWords
from nmt_kd.engine.teacher import Teacher
from nmt_kd.options import option


@dataclass
class LanguageTeachersConfig(InterpolationConfig):
    language_teachers: str = option(
        "", "'de=a.pt fr=b.pt': teachers by the tag that begins a source; --teacher-path teaches all other sentences"
    )


@register_criterion("language_teachers", dataclass=LanguageTeachersConfig)
class LanguageTeachers(DistillationCriterion):
    """`(1 - alpha) CE + alpha KL(teacher of the language || student)`."""

    needs = TopWords(1)

    def open_teacher(self, task):
        named = dict(pair.split("=") for pair in self.cfg.language_teachers.split())
        tagged = {task.source_dictionary.index(tag): Teacher.load(path, task) for tag, path in named.items()}
        return OneForEach(tagged, Teacher.load(self.cfg.teacher_path, task), task.source_dictionary.pad())

    def token_losses(self, chunk):
        return {"kd_loss": chunk.teacher.divergence(chunk.student)}

    def loss_weights(self, batch):
        return {"ce_loss": 1 - self.cfg.kd_alpha, "kd_loss": self.cfg.kd_alpha}


class OneForEach(TeacherSource):
    """The teachers of all languages as one source; a teacher runs where a batch has sentences of its language."""

    def __init__(self, tagged, default, padding):
        self.tagged, self.default, self.padding = tagged, default, padding
        self.models = [model for teacher in (default, *tagged.values()) for model in teacher.models]
        self.fingerprint = "+".join(teacher.fingerprint for teacher in (default, *tagged.values()))

    def read(self, sample, token_index, like):
        source = sample["net_input"]["src_tokens"]
        tags = source.gather(1, source.ne(self.padding).int().argmax(1, keepdim=True))  # behind padding on the left
        tag = tags.expand_as(sample["target"]).flatten()[token_index]
        tagged = {t: teacher.read(sample, token_index, like) for t, teacher in self.tagged.items() if (tag == t).any()}
        return OfEachToken(tag, tagged, self.default.read(sample, token_index, like))


class OfEachToken(Predictions):
    def __init__(self, tag, tagged, default):
        self.tag, self.tagged, self.default = tag, tagged, default

    def predict(self, rows):
        logits = self.default.logits(rows)
        for tag, predictions in self.tagged.items():
            logits = torch.where((self.tag[rows] == tag).unsqueeze(1), predictions.logits(rows), logits)
        return WholeDistribution(logits)
