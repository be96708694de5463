"""Methods for the tests that show hooks which no method of the package shows; the contract test covers them, too."""

from hooks import language_teachers  # noqa: F401  (registers it)
