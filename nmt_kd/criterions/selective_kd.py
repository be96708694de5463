"""Selective distillation (Wang et al., ACL 2021): only tokens that are hard for the student learn from the teacher.

`--selection threshold` is the second stage of CBBGCA (Zhou et al., ACL 2022), whose teacher is a masked model.
"""

from dataclasses import dataclass
from typing import Optional

import torch
from fairseq.criterions import register_criterion
from fairseq.distributed import utils as distributed_utils
from torch import Tensor, nn

from nmt_kd.criterions.base import Batch, Chunk, DistillationCriterion, TeacherConfig
from nmt_kd.criterions.config import DivergenceConfig, divergence_of
from nmt_kd.engine.predictions import TopWords
from nmt_kd.errors import UserError
from nmt_kd.losses.selection import ScoreQueue, largest, unlikely
from nmt_kd.options import ABOVE_0_TO_1, AT_LEAST_0, AT_LEAST_1, Allowed, one_of, option


@dataclass
class SelectiveKDConfig(DivergenceConfig, TeacherConfig):
    kd_alpha: float = option(
        1.0, "weight of the distillation term on the selected tokens: loss = CE + alpha KD; 0 or more", AT_LEAST_0
    )
    selection: str = option(
        "global",
        "what a token is compared with: the tokens of its batch ('batch'), the latest tokens of all workers "
        "('global'), or --selection-threshold ('threshold')",
        one_of("batch", "global", "threshold"),
    )
    selection_threshold: Optional[float] = option(
        None,
        "for --selection threshold: select gold tokens to which the student gives at most this probability, 0 to 1",
        Allowed("from 0 to 1", lambda value: value is None or 0 <= value <= 1),
    )
    selection_rate: float = option(
        0.5,
        "share of the tokens to select, above 0 and at most 1",
        ABOVE_0_TO_1,
    )
    selection_queue_size: int = option(30000, "number of scores kept for --selection global", AT_LEAST_1)
    selection_interpolate: bool = option(
        False, "use (1 - alpha) CE + alpha KD on selected tokens, with alpha from 0 to 1, instead of CE + alpha KD"
    )


@register_criterion("selective_kd", dataclass=SelectiveKDConfig)
class SelectiveKD(DistillationCriterion):
    """`CE + alpha KL` on the tokens with the largest negative log-likelihood of the gold token, CE on the others.

    With `--selection global`, every worker has the same queue, because each pushes the scores of all workers, in order
    of rank. So every checkpoint contains the whole queue, and training can resume with more or fewer workers.
    """

    tokens_are_independent = False
    needs = TopWords(1)

    def __init__(self, cfg: SelectiveKDConfig, task):
        super().__init__(cfg, task)
        self.gathered_scores = 0  # of each worker, at most, in one exchange; all workers have the same number
        self.tokens_are_independent = cfg.selection == "threshold"
        self.queue = ScoreQueue(cfg.selection_queue_size) if cfg.selection == "global" else None

    def check_settings(self):
        super().check_settings()
        if self.cfg.selection_interpolate and self.cfg.kd_alpha > 1:
            raise UserError(f"--kd-alpha is {self.cfg.kd_alpha}; with --selection-interpolate it must be from 0 to 1")
        if self.cfg.selection == "threshold" and self.cfg.selection_threshold is None:
            raise UserError("--selection threshold needs --selection-threshold, a probability from 0 to 1")
        if self.cfg.selection != "threshold" and self.cfg.selection_threshold is not None:
            raise UserError(
                f"--selection-threshold is an option of --selection threshold, not of --selection {self.cfg.selection}"
            )

    def token_losses(self, chunk: Chunk):
        return {"kd_loss": chunk.teacher.divergence(chunk.student, kind=divergence_of(self.cfg))}

    def update_state(self, batch: Batch):
        if self.queue:
            self.queue.push(self.from_all_workers(batch.student_nll))

    def loss_weights(self, batch: Batch):
        kd_weight = self.cfg.kd_alpha * self.select(batch.student_nll)
        return {"ce_loss": 1 - kd_weight if self.cfg.selection_interpolate else 1.0, "kd_loss": kd_weight}

    def select(self, scores: Tensor) -> Tensor:
        """Return a mask of the tokens to distil, given their scores, both [tokens]."""
        if self.cfg.selection_threshold is not None:
            return unlikely(scores, self.cfg.selection_threshold)
        if self.queue is None:
            return largest(scores, self.cfg.selection_rate)
        return scores.float() >= self.queue.threshold(self.cfg.selection_rate)  # as the queue's scores are

    def from_all_workers(self, scores: Tensor) -> Tensor:
        """Return the scores of all workers, in order of rank; every worker must call this.

        Each worker sends the number of its scores and, in the same collective, as many scores as the largest batch so
        far had. If a batch is larger, all workers see that and repeat the exchange with more room.
        """
        workers = distributed_utils.get_data_parallel_world_size() if torch.distributed.is_initialized() else 1
        if workers == 1:
            return scores
        group = distributed_utils.get_data_parallel_group()
        while True:
            room = self.gathered_scores
            padded = nn.functional.pad(scores[:room], (1, max(0, room - scores.numel())), value=scores.numel())
            gathered = torch.stack(distributed_utils.all_gather(padded, group))
            sizes = [round(size) for size in gathered[:, 0].tolist()]
            if max(sizes) <= room:
                return torch.cat([part[1 : size + 1] for part, size in zip(gathered, sizes, strict=True)])
            self.gathered_scores = max(sizes)

    def get_extra_state(self):
        return {"size": self.queue.size, "values": self.queue.values.cpu()} if self.queue else {}

    def set_extra_state(self, state):
        if not self.queue or not state:
            return
        if state["size"] != self.queue.size:
            raise UserError(
                f"--selection-queue-size is {self.queue.size}, but the checkpoint has a queue of {state['size']}; "
                f"resume with --selection-queue-size {state['size']}, or train in another --save-dir"
            )
        self.queue.values = state["values"]
