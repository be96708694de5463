"""Schedules: quantities that change during training, as pure functions."""


def linear(start: float, end: float, update: int, updates: int) -> float:
    """Interpolate from `start` at update 0 to `end` at the last of `updates`; return `end` from then on."""
    if update >= updates - 1:
        return end
    return start + (end - start) * update / (updates - 1)


def annealing_scale(temperature: float, highest_temperature: float) -> float:
    """Return `Phi(T) = 1 - (T - 1) / tau_max` (annealing KD, Jafari et al., 2021, eq. 6), at most 1."""
    return min(1.0, 1 - (temperature - 1) / highest_temperature)


def lead_factor(lead: float, margin: float, gradually: bool) -> float:
    """Return the factor of a teacher's weight when the student is `lead` points ahead of it, from 0 to 1.

    It is 1 up to a lead of `margin`. From there it is 0, or, `gradually`, halved with each point: `0.5^(lead - margin)`
    (multilingual distillation, Tan et al., 2019; the authors' code has margins of 1 and -2 BLEU).
    """
    if lead < margin:
        return 1.0
    return 0.5 ** (lead - margin) if gradually else 0.0
