"""Methods for the tests, one for each hook of `DistillationCriterion`; the contract test covers them as all others."""

from hooks import language_teachers  # noqa: F401  (registers it)
