"""Read what evaluating a run on a test set left behind: translations, agreement with the teacher, decoding speed.

The files of the first test set are `translations.txt` (the output of fairseq-generate, with its messages in
`translations.txt.log`) and `agreement.json` (the output of `nmt-kd agreement --json`). Those of any other test set NAME
are `translations.NAME.txt`, `translations.NAME.txt.log` and `agreement.NAME.json`.
"""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nmt_kd.errors import UserError
from nmt_kd.evaluation.texts import generated_lines, read_lines

FIRST = "test"  # the name of the first test set
SPEED = re.compile(r"\(([\d.]+) sentences/s")


@dataclass(frozen=True)
class Evaluation:
    """The results of the run in `folder` on one test set."""

    folder: Path
    test_set: str
    languages: tuple[str, str]  # source and target

    def _file(self, stem: str, suffix: str) -> Path:
        return self.folder / (f"{stem}{suffix}" if self.test_set == FIRST else f"{stem}.{self.test_set}{suffix}")

    @cached_property
    def hypotheses(self) -> list[str] | None:
        """The translations, or None if the test set has not been translated yet.

        Raises UserError if there are more or fewer of them than references.
        """
        path = self._file("translations", ".txt")
        if not path.is_file():
            return None
        found = generated_lines(path, "D")
        if len(found) != len(self.references):
            raise UserError(
                f"{path} has {len(found)} translations of {len(self.references)} test sentences; delete it and rerun: "
                f"bash scripts/evaluate.sh {self.folder.absolute().parent.name} {self.folder.name}"
            )
        return found

    @property
    def references(self) -> list[str]:
        """The references, from the data set's prepared text or else from fairseq-generate's output."""
        return self._text(self.languages[1], "T")

    @property
    def sources(self) -> list[str]:
        """The sources, from the same places as the references."""
        return self._text(self.languages[0], "S")

    def _text(self, language: str, letter: str) -> list[str]:
        text = self.folder.absolute().parent / f"text/{self.test_set}.{language}"
        return read_lines(text) if text.is_file() else generated_lines(self._file("translations", ".txt"), letter)

    @cached_property
    def agreement(self) -> dict | None:
        """The output of `nmt-kd agreement --json`, or None if the agreement has not been measured."""
        path = self._file("agreement", ".json")
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise UserError(
                f"{path} is not the output of nmt-kd agreement --json; delete it and measure again"
            ) from None

    @property
    def teacher_agreement(self) -> float | None:
        """The share of tokens, in %, for which student and teacher have the same first choice, or None."""
        return self.agreement["teacher_agreement"] if self.agreement else None

    @property
    def sentences_per_second(self) -> float | None:
        """The decoding speed that fairseq-generate reported, or None."""
        path = self._file("translations", ".txt.log")
        found = SPEED.search(path.read_text(encoding="utf-8")) if path.is_file() else None
        return float(found[1]) if found else None


def evaluated_test_sets(folder: Path) -> list[str]:
    """Return the names of the test sets with results in a run's folder: the first one, then the others by name."""
    found = {
        path.name.removeprefix(f"{stem}.").removesuffix(suffix)
        for stem, suffix in (("translations", ".txt"), ("agreement", ".json"))
        for path in folder.glob(f"{stem}.*{suffix}")
        if path.name != f"{stem}{suffix}"
    }
    return [FIRST, *sorted(found - {FIRST})]
