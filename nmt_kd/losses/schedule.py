"""Quantities that change in the course of training: pure functions of the update number."""


def linear(start: float, end: float, update: int, updates: int) -> float:
    """From `start` at update 0 to `end` at the last of `updates`, in equal steps; `end` from then on."""
    if update >= updates - 1:
        return end
    return start + (end - start) * update / (updates - 1)


def annealing_scale(temperature: float, highest_temperature: float) -> float:
    """`Phi(T) = 1 - (T - 1) / tau_max` (annealing KD, Jafari et al., 2021, eq. 6), never above 1."""
    return min(1.0, 1 - (temperature - 1) / highest_temperature)
