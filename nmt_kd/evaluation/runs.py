"""Read the results of a training run: its log, its translations, its agreement with the teacher.

A run is a folder written by `scripts/train.sh` and `scripts/evaluate.sh`. It contains `train.log` (the output of
fairseq-train with `--log-format json`) and, optionally, `translations.txt` (the output of fairseq-generate, with its
messages in `translations.txt.log`) and `agreement.json` (the output of `nmt-kd agreement --json`).
"""

import ast
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nmt_kd.errors import UserError
from nmt_kd.evaluation.texts import generated_lines, read_lines

RECORD = re.compile(r"\| INFO \| (train_inner|train|valid) \| (\{.*\})$", re.MULTILINE)
SETTINGS = re.compile(r"\| INFO \| fairseq_cli\.train \| (\{'_name': None, .*\})$", re.MULTILINE)
PARAMETERS = re.compile(r"num\. shared model params: ([\d,]+)")
LANGUAGE = re.compile(r"\| \[(.+?)\] dictionary: \d+ types")
SPEED = re.compile(r"\(([\d.]+) sentences/s")
# Settings that do not affect what is trained.
INCIDENTAL = {"save_dir", "user_dir", "log_interval", "log_format", "log_file", "restore_file", "seed"}
INCIDENTAL |= {"tensorboard_logdir", "cpu", "no_progress_bar", "num_workers", "keep_interval_updates"}
INCIDENTAL |= {"decoder_input_dim", "decoder_output_dim"}  # they follow from the width


@dataclass(frozen=True)
class Point:
    """A point on a learning curve."""

    updates: int
    seconds: float  # of training up to here, without validation, over all restarts
    value: float


@dataclass(frozen=True)
class Run:
    """A training run in its folder."""

    folder: Path

    @property
    def name(self) -> str:
        """The name of the run's folder, which is that of the system."""
        return self.folder.name

    @property
    def data_set(self) -> str:
        """The name of the data set, which is that of the parent folder."""
        return self.folder.absolute().parent.name

    @cached_property
    def log(self) -> str:
        """The text of the training log."""
        try:
            return (self.folder / "train.log").read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{self.folder} has no train.log; give a folder written by scripts/train.sh, or save the output of "
                "fairseq-train there (fairseq-train --log-format json ... | tee FOLDER/train.log)"
            ) from None

    @cached_property
    def settings(self) -> dict[str, object]:
        """The settings of the last training in the log, by flag name, with fairseq's groups merged."""
        found = SETTINGS.findall(self.log)
        if not found:
            raise UserError(
                f"{self.folder / 'train.log'} does not contain fairseq-train's settings; save its complete output there"
            )
        groups = _literal(found[-1])
        return {
            name: value
            for group in groups.values()
            if isinstance(group, dict)
            for name, value in group.items()
            if name != "_name"
        } | {
            group: groups[group]["_name"]
            for group in ("model", "criterion", "optimizer", "lr_scheduler")
            if isinstance(groups.get(group), dict)
        }

    @property
    def meaningful_settings(self) -> dict[str, object]:
        """The settings that affect what is trained, without the seed; `data` is the folder's name without its path."""
        settings = {name: value for name, value in self.settings.items() if name not in INCIDENTAL}
        if "data" in settings:
            settings["data"] = Path(str(settings["data"])).name
        return settings

    @cached_property
    def _records(self) -> dict[str, dict[int, dict]]:
        """The log's records by kind and number of updates; a record repeated after a restart replaces the first."""
        records: dict[str, dict[int, dict]] = {"train_inner": {}, "train": {}, "valid": {}}
        for kind, text in RECORD.findall(self.log):
            prefix = "" if kind == "train_inner" else f"{kind}_"
            record = {name.removeprefix(prefix): value for name, value in json.loads(text).items()}
            records[kind][int(record["num_updates"])] = record
        if not records["train_inner"]:
            raise UserError(
                f"{self.folder / 'train.log'} has no training statistics; train with --log-format json and a "
                "--log-interval below the number of updates"
            )
        return {kind: dict(sorted(found.items())) for kind, found in records.items()}

    @cached_property
    def _seconds(self) -> dict[int, float]:
        """The seconds of training up to each logged number of updates."""
        seconds, before, total = {}, 0, 0.0
        for updates, record in self._records["train_inner"].items():
            if float(record["wps"]) > 0:
                total += (updates - before) * float(record["wpb"]) / float(record["wps"])
            seconds[updates], before = total, updates
        return seconds

    def _seconds_at(self, updates: int) -> float:
        known = self._seconds
        last = max((known_updates for known_updates in known if known_updates <= updates), default=None)
        if last is None:
            return 0.0
        return known[last] * updates / last

    def curve(self, measure: str, kind: str = "valid") -> list[Point]:
        """Return a measure over the course of training, as logged by validation or, with `train_inner`, by training.

        The curve is empty if the measure was not logged.
        """
        return [
            Point(updates, self._seconds_at(updates), float(record[measure]))
            for updates, record in self._records[kind].items()
            if measure in record
        ]

    @property
    def measures(self) -> set[str]:
        """The names of all measures that validation logged."""
        return {name for record in self._records["valid"].values() for name in record}

    # -- figures ------------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> int:
        """The number of parameters of the model."""
        found = PARAMETERS.search(self.log)
        if not found:
            raise UserError(
                f"{self.folder / 'train.log'} does not contain the number of parameters; save the complete output of "
                "fairseq-train there"
            )
        return int(found[1].replace(",", ""))

    @property
    def updates(self) -> int:
        """The number of updates made."""
        return max(self._records["train_inner"])

    @property
    def training_seconds(self) -> float:
        """The seconds of training, without validation, over all restarts."""
        return self._seconds[self.updates]

    @property
    def seconds_per_update(self) -> float:
        """The median over the log's intervals; other load on the machine affects it less than it affects the mean."""
        speeds = sorted(
            float(record["wpb"]) / float(record["wps"])
            for record in self._records["train_inner"].values()
            if float(record["wps"]) > 0
        )
        return speeds[len(speeds) // 2]

    @property
    def tokens_per_update(self) -> float:
        """The mean number of target tokens per update."""
        values = [float(record["wpb"]) for record in self._records["train_inner"].values()]
        return sum(values) / len(values)

    @cached_property
    def hypotheses(self) -> list[str] | None:
        """The translations of the test set, or None if it has not been translated yet."""
        path = self.folder / "translations.txt"
        return generated_lines(path, "D") if path.is_file() else None

    @property
    def languages(self) -> tuple[str, str]:
        """The source and target language, as given to fairseq or inferred by it."""
        source, target = LANGUAGE.findall(self.log)[:2]
        return source, target

    @property
    def references(self) -> list[str]:
        """The references of the test set, from the data set's prepared text or else from fairseq-generate's output."""
        return self._test_set(self.languages[1], "T")

    @property
    def sources(self) -> list[str]:
        """The sources of the test set, from the same places as the references."""
        return self._test_set(self.languages[0], "S")

    def _test_set(self, language: str, letter: str) -> list[str]:
        text = self.folder.absolute().parent / f"text/test.{language}"
        return read_lines(text) if text.is_file() else generated_lines(self.folder / "translations.txt", letter)

    @cached_property
    def agreement(self) -> dict | None:
        """The output of `nmt-kd agreement --json`, or None if there is none."""
        path = self.folder / "agreement.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    @property
    def decoding_sentences_per_second(self) -> float | None:
        """The speed that fairseq-generate reported, or None."""
        path = self.folder / "translations.txt.log"
        found = SPEED.search(path.read_text(encoding="utf-8")) if path.is_file() else None
        return float(found[1]) if found else None


class _NamespacesAsDicts(ast.NodeTransformer):
    """Turn `Namespace(a=1)`, which fairseq prints among its settings, into `{'a': 1}`."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        return ast.Dict([ast.Constant(keyword.arg) for keyword in node.keywords], [k.value for k in node.keywords])


def _literal(text: str) -> dict:
    return ast.literal_eval(_NamespacesAsDicts().visit(ast.parse(text, mode="eval")))


def settings_that_differ(runs: list[Run]) -> dict[str, list[object]]:
    """Return the settings in which the runs differ, apart from the seed; None stands for a setting a run lacks."""
    names = sorted({name for run in runs for name in run.meaningful_settings})
    values = {name: [run.meaningful_settings.get(name) for run in runs] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}
