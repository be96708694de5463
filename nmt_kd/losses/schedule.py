"""Schedules: quantities that change during training, as pure functions of the update number."""


def linear(start: float, end: float, update: int, updates: int) -> float:
    """Interpolate from `start` at update 0 to `end` at the last of `updates`; return `end` from then on."""
    if update >= updates - 1:
        return end
    return start + (end - start) * update / (updates - 1)


def annealing_scale(temperature: float, highest_temperature: float) -> float:
    """Return `Phi(T) = 1 - (T - 1) / tau_max` (annealing KD, Jafari et al., 2021, eq. 6), at most 1."""
    return min(1.0, 1 - (temperature - 1) / highest_temperature)
