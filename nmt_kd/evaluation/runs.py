"""What a training run left behind: its log, its translations, its agreement with the teacher.

A run is a folder as `scripts/train.sh` and `scripts/evaluate.sh` make it: `train.log` (fairseq-train with
`--log-format json`), and where they are there `translations.txt` (fairseq-generate's output, its messages in
`translations.txt.log`) and `agreement.json` (`nmt-kd agreement --json`).
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
# Settings that say where and how long a machine worked, not what was trained.
INCIDENTAL = {"save_dir", "user_dir", "log_interval", "log_format", "log_file", "restore_file", "seed"}
INCIDENTAL |= {"tensorboard_logdir", "cpu", "no_progress_bar", "num_workers", "keep_interval_updates"}
INCIDENTAL |= {"decoder_input_dim", "decoder_output_dim"}  # which follow the width


@dataclass(frozen=True)
class Point:
    """A place on a learning curve."""

    updates: int
    seconds: float  # of training before it, without validation, over all restarts
    value: float


@dataclass(frozen=True)
class Run:
    """A training run in its folder."""

    folder: Path

    @property
    def name(self) -> str:
        """The system's name."""
        return self.folder.name

    @property
    def data_set(self) -> str:
        """The name of the data set, whose folder holds the run's."""
        return self.folder.absolute().parent.name

    @cached_property
    def log(self) -> str:
        """The training log."""
        try:
            return (self.folder / "train.log").read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{self.folder} has no train.log; give the folder of a run of scripts/train.sh, or keep there what "
                "fairseq-train prints (fairseq-train --log-format json ... | tee FOLDER/train.log)"
            ) from None

    @cached_property
    def settings(self) -> dict[str, object]:
        """All settings of the (last) training by their flags' names, whatever group fairseq keeps them in."""
        found = SETTINGS.findall(self.log)
        if not found:
            raise UserError(f"{self.folder / 'train.log'} does not begin with fairseq-train's settings; is it whole?")
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
        """The settings that decide what was trained, but for the seed; of the data's folder its name alone."""
        settings = {name: value for name, value in self.settings.items() if name not in INCIDENTAL}
        if "data" in settings:
            settings["data"] = Path(str(settings["data"])).name
        return settings

    @cached_property
    def _records(self) -> dict[str, dict[int, dict]]:
        """The log's records by kind and number of updates; after a restart the later one counts."""
        records: dict[str, dict[int, dict]] = {"train_inner": {}, "train": {}, "valid": {}}
        for kind, text in RECORD.findall(self.log):
            prefix = "" if kind == "train_inner" else f"{kind}_"
            record = {name.removeprefix(prefix): value for name, value in json.loads(text).items()}
            records[kind][int(record["num_updates"])] = record
        if not records["train_inner"]:
            raise UserError(
                f"{self.folder / 'train.log'} has no training statistics; train with --log-format json and a "
                "--log-interval shorter than the training"
            )
        return {kind: dict(sorted(found.items())) for kind, found in records.items()}

    @cached_property
    def _seconds(self) -> dict[int, float]:
        """Seconds of training by number of updates."""
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
        """A measure over the training, as validation or training (`train_inner`) logged it; empty where none did."""
        return [
            Point(updates, self._seconds_at(updates), float(record[measure]))
            for updates, record in self._records[kind].items()
            if measure in record
        ]

    @property
    def measures(self) -> set[str]:
        """What validation measured."""
        return {name for record in self._records["valid"].values() for name in record}

    # -- figures ------------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> int:
        """Of the model."""
        found = PARAMETERS.search(self.log)
        if not found:
            raise UserError(f"{self.folder / 'train.log'} does not say how many parameters the model has; is it whole?")
        return int(found[1].replace(",", ""))

    @property
    def updates(self) -> int:
        """So many updates were made."""
        return max(self._records["train_inner"])

    @property
    def training_seconds(self) -> float:
        """Time in training, without validation, over all restarts."""
        return self._seconds[self.updates]

    @property
    def seconds_per_update(self) -> float:
        """The median over the log's intervals, which other work on the machine disturbs less than the mean."""
        speeds = sorted(
            float(record["wpb"]) / float(record["wps"])
            for record in self._records["train_inner"].values()
            if float(record["wps"]) > 0
        )
        return speeds[len(speeds) // 2]

    @property
    def tokens_per_update(self) -> float:
        """Target tokens, the mean."""
        values = [float(record["wpb"]) for record in self._records["train_inner"].values()]
        return sum(values) / len(values)

    @cached_property
    def hypotheses(self) -> list[str] | None:
        """The translations of the test set, or None where there are none yet."""
        path = self.folder / "translations.txt"
        return generated_lines(path, "D") if path.is_file() else None

    @property
    def languages(self) -> tuple[str, str]:
        """Source and target language, given to fairseq or inferred by it."""
        source, target = LANGUAGE.findall(self.log)[:2]
        return source, target

    @property
    def references(self) -> list[str]:
        """The test set's references: the text that was prepared for the data set, or fairseq-generate's lines."""
        return self._test_set(self.languages[1], "T")

    @property
    def sources(self) -> list[str]:
        """The test set's sources, likewise."""
        return self._test_set(self.languages[0], "S")

    def _test_set(self, language: str, letter: str) -> list[str]:
        text = self.folder.absolute().parent / f"text/test.{language}"
        return read_lines(text) if text.is_file() else generated_lines(self.folder / "translations.txt", letter)

    @cached_property
    def agreement(self) -> dict | None:
        """What `nmt-kd agreement --json` found, or None."""
        path = self.folder / "agreement.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    @property
    def decoding_sentences_per_second(self) -> float | None:
        """As fairseq-generate reported it, or None."""
        path = self.folder / "translations.txt.log"
        found = SPEED.search(path.read_text(encoding="utf-8")) if path.is_file() else None
        return float(found[1]) if found else None


class _NamespacesAsDicts(ast.NodeTransformer):
    """`Namespace(a=1)`, which fairseq prints among its settings, as `{'a': 1}`."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node = self.generic_visit(node)
        return ast.Dict([ast.Constant(keyword.arg) for keyword in node.keywords], [k.value for k in node.keywords])


def _literal(text: str) -> dict:
    return ast.literal_eval(_NamespacesAsDicts().visit(ast.parse(text, mode="eval")))


def settings_that_differ(runs: list[Run]) -> dict[str, list[object]]:
    """The settings in which the runs are not all alike, but for the seed; None where a run has no such setting."""
    names = sorted({name for run in runs for name in run.meaningful_settings})
    values = {name: [run.meaningful_settings.get(name) for run in runs] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}
