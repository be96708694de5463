"""Methods for the tests, one for each hook of `DistillationCriterion`; the contract test covers them as all others."""

from hooks import language_teachers, on_policy, r_drop, second_decoder  # noqa: F401  (registers them)
