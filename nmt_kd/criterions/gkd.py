"""On-policy distillation (GKD, Agarwal et al., 2024): the student learns from the teacher on its own samples."""

from dataclasses import dataclass, replace

import torch
from fairseq.criterions import register_criterion
from omegaconf import II

from nmt_kd.criterions.base import Batch, Chunk, DistillationCriterion, TeacherConfig
from nmt_kd.criterions.config import DivergenceConfig, divergence_of, require_targets_padded_on_the_right
from nmt_kd.engine.predictions import TopWords
from nmt_kd.engine.sampling import with_sampled_targets
from nmt_kd.losses.divergence import kl_divergence
from nmt_kd.losses.divergence_kinds import DIVERGENCES
from nmt_kd.losses.selection import uniform_hash
from nmt_kd.options import AT_LEAST_0, SHARE, one_of, option


@dataclass
class GKDConfig(DivergenceConfig, TeacherConfig):
    kd_divergence: str = option(
        "js", "divergence of the student from the teacher: " + ", ".join(DIVERGENCES), one_of(*DIVERGENCES)
    )
    kd_alpha: float = option(
        1.0, "share of the divergence on the references: (1 - alpha) CE + alpha KD; samples have no CE", SHARE
    )
    gkd_lambda: float = option(
        0.5, "probability that the targets of an update are sampled from the student, from 0 to 1", SHARE
    )
    gkd_warmup_updates: int = option(
        0,
        "number of updates before the first samples, with --kd-divergence kl on the references; 0 suits a student that "
        "can translate already (--finetune-from-model)",
        AT_LEAST_0,
    )
    seed: int = II("common.seed")


@register_criterion("gkd", dataclass=GKDConfig)
class GKD(DistillationCriterion):
    """`D(teacher, student)` on targets sampled from the student, and `(1 - alpha) CE + alpha D` on the references.

    No gradient flows through the sampling. All batches of an update have the same kind of targets, on all workers. The
    default divergence is the best of f-distill's (Wen et al., ACL 2023) for translation, which samples after a warm
    start, too; lambda is from the GKD paper. The log's `nll_loss` and `ce_loss` are those of updates on the references.
    """

    needs = TopWords(1, at_new_prefixes=True)

    @property
    def warms_up(self) -> bool:
        """Whether the student does not learn from its samples yet."""
        return self.progress.updates < self.cfg.gkd_warmup_updates

    @property
    def samples(self) -> bool:
        """Whether the targets of the current update are sampled; a pure function of its number."""
        seed, update = torch.tensor([self.cfg.seed]), torch.tensor([self.progress.updates])
        return not self.warms_up and uniform_hash(seed, update).item() < self.cfg.gkd_lambda

    def check_settings(self):
        super().check_settings()
        require_targets_padded_on_the_right(self.cfg)

    def prepare(self, model, sample):
        if not self.samples:
            return sample
        seed = 2**20 * self.cfg.seed + self.progress.updates
        end, prefix = self.task.target_dictionary.eos(), self.cfg.ignore_prefix_size
        return with_sampled_targets(model, sample, self.padding_idx, end, seed, prefix)

    def passes(self, batch: Batch):
        yield replace(batch, auxiliary=not batch.is_reference)

    def token_losses(self, chunk: Chunk):
        kind = kl_divergence if self.training and self.warms_up else divergence_of(self.cfg)
        return {"kd_loss": chunk.teacher.divergence(chunk.student, kind=kind)}

    def loss_weights(self, batch: Batch):
        if not batch.is_reference:
            return {"kd_loss": 1.0}
        return {"ce_loss": 1 - self.cfg.kd_alpha, "kd_loss": self.cfg.kd_alpha}
