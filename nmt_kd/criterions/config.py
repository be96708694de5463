"""Options that methods share; the dataclass of a method inherits from one of these."""

from dataclasses import dataclass

from fairseq.dataclass import FairseqDataclass
from omegaconf import II, OmegaConf

from nmt_kd.errors import UserError
from nmt_kd.losses.divergence_kinds import DIVERGENCES, Divergence, divergence_named
from nmt_kd.options import AT_LEAST_0, SHARE, Allowed, one_of, option


@dataclass
class DistillationConfig(FairseqDataclass):
    """The options of every method."""

    label_smoothing: float = option(
        0.0,
        "epsilon of the cross-entropy's label smoothing, from 0 to below 1; 0 means none",
        Allowed("from 0 to below 1", lambda value: 0 <= value < 1),
    )
    report_accuracy: bool = option(False, "log how many gold tokens are the student's first choice, in percent")
    ignore_prefix_size: int = option(
        0, "leave the first N target tokens out of every loss, such as language tags", AT_LEAST_0
    )
    kd_chunk_tokens: int = option(
        0,
        "number of target tokens whose logits are in memory at a time; 0 chooses by vocabulary size and device",
        AT_LEAST_0,
    )
    sentence_avg: bool = II("optimization.sentence_avg")


def require_targets_padded_on_the_right(cfg: DistillationConfig) -> None:
    """Raise UserError under --left-pad-target, for methods that count target positions from the left."""
    if OmegaConf.select(cfg._get_root(), "task.left_pad_target"):
        raise UserError(f"{cfg._name} counts target positions from the left; remove --left-pad-target")


@dataclass
class DivergenceConfig(DistillationConfig):
    """The options of every method that compares the student's distribution with a teacher's."""

    kd_divergence: str = option(
        "kl",
        "divergence of the student from the teacher: " + ", ".join(DIVERGENCES),
        one_of(*DIVERGENCES),
    )
    kd_skew: float = option(
        0.1,
        "share of the other distribution in the mixture of --kd-divergence skew-kl and skew-reverse-kl, from 0 to "
        "below 1; 0 is kl and reverse-kl",
        Allowed("from 0 to below 1", lambda value: 0 <= value < 1),
    )


def divergence_of(cfg: DivergenceConfig) -> Divergence:
    """Return the divergence that the options choose."""
    return divergence_named(cfg.kd_divergence, cfg.kd_skew)


@dataclass
class TeacherConfig(DistillationConfig):
    """The options of every method with a teacher."""

    teacher_path: str = option(
        "", "checkpoint of the teacher; several, separated by ':', form an ensemble (required, or --teacher-cache)"
    )
    teacher_cache: str = option(
        "", "folder written by nmt-kd cache; replaces --teacher-path if the method needs only the teacher's top words"
    )
    train_subset: str = II("dataset.train_subset")
    valid_subset: str = II("dataset.valid_subset")
    disable_validation: bool = II("dataset.disable_validation")


@dataclass
class InterpolationConfig(TeacherConfig):
    """The options of every method whose loss is `(1 - alpha) CE + alpha KD`."""

    kd_alpha: float = option(
        0.5, "share of the distillation terms: loss = (1 - alpha) CE + alpha KD; from 0 to 1", SHARE
    )
