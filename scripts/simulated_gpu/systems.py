"""Every method, with the flags that make a step do the method's work, and those that can learn from a cache."""

from dataclasses import dataclass

from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, CRITERION_REGISTRY

from nmt_kd.criterions.base import DistillationCriterion, TeacherConfig

PLAIN = "plain"

# A newcomer needs no entry here, unless a step with its default settings leaves its work out.
FLAGS = {
    "gkd": ["--gkd-lambda", "1"],
    "online_kd": ["--online-patience", "0"],
}
VARIANTS = {
    "word_kd temperature 2": ["word_kd", "--kd-temperature", "2"],
    "word_kd js": ["word_kd", "--kd-divergence", "js"],
    "tie_kd once": ["tie_kd", "--kd-iterations", "1"],
    "selective_kd batch": ["selective_kd", "--selection", "batch"],
    "annealing_kd mse": ["annealing_kd", "--annealing-loss", "mse"],
    "ckd attention decoder": "ckd --ckd-attention 1 --ckd-decoder-layers rc --ckd-fusion teacher-down".split(),
    "probing_kd no-top-1": ["probing_kd", "--probing-loss", "no-top-1", "--probing-up-to", "0.4"],
    "probing_kd targets": ["probing_kd", "--probing-targets", "share-of-top-1"],
}


@dataclass(frozen=True)
class System:
    """A method with its settings, and where its teacher's predictions come from."""

    name: str
    criterion: str
    flags: tuple[str, ...] = ()
    from_cache: bool = False

    @property
    def has_teacher(self) -> bool:
        """Whether the method has a teacher to be named."""
        return issubclass(CRITERION_DATACLASS_REGISTRY[self.criterion], TeacherConfig)


def methods() -> list[str]:
    """Return the names of all registered methods of ours."""
    return sorted(name for name, kind in CRITERION_REGISTRY.items() if issubclass(kind, DistillationCriterion))


def systems() -> dict[str, System]:
    """Return plain training, every method, the variants, and every method with a teacher that may be cached."""
    live = [System(name, name, tuple(FLAGS.get(name, []))) for name in methods()]
    variants = [System(name, method, tuple(flags)) for name, (method, *flags) in VARIANTS.items()]
    cached = [
        System(f"{name} cached", name, tuple(CRITERION_REGISTRY[name].settings_for_a_cache.split()), from_cache=True)
        for name in methods()
        if issubclass(CRITERION_DATACLASS_REGISTRY[name], TeacherConfig)
    ]
    plain = System(PLAIN, "label_smoothed_cross_entropy")
    return {system.name: system for system in (plain, *live, *variants, *cached)}
