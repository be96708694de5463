"""Statistics of a subset's neighbours, for choosing k and the temperature."""

from dataclasses import dataclass, field

from torch import Tensor

UNIFORM = 0.01  # the share of a uniform distribution, so that the log-probability of any token is finite


@dataclass
class Statistics:
    """Sums over the positions that have been predicted."""

    positions: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, **values: Tensor) -> None:
        """Add named values [positions] for each of some positions."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.double().sum().item()

    def add_neighbours(self, distances: Tensor, words: Tensor, log_q: Tensor, gold: Tensor, vocabulary: int) -> None:
        """Add neighbours' distances and distributions [positions, k], given the `gold` tokens [positions]."""
        self.positions += len(gold)
        q = log_q.double().exp()
        mass = q.where(words == gold.unsqueeze(-1), 0.0).sum(-1)
        self.add(
            nearest=distances[:, 0],
            farthest=distances[:, -1],
            mass=mass,
            entropy=-(q * log_q).sum(-1),
            log=((1 - UNIFORM) * mass + UNIFORM / vocabulary).log(),
        )

    def summary(self) -> str:
        """Return a line for the log, or "" if there are no positions."""
        if not self.positions:
            return ""
        mean = {name: value / self.positions for name, value in self.sums.items()}
        line = (
            f"squared distance {mean['nearest']:.4g} of the nearest and {mean['farthest']:.4g} of the farthest "
            f"neighbour; gold tokens have {mean['mass']:.4f} of the mass and log-probability {mean['log']:.4f} (with "
            f"{UNIFORM:.0%} uniform); entropy {mean['entropy']:.4f} nats"
        )
        if "mixed" in mean:
            line += f"; with the base model, gold tokens have log-probability {mean['mixed']:.4f}"
        return f"means of {self.positions:,} positions: {line}"
