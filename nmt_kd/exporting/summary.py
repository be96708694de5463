"""The summary of an export: what was exported, how it was measured, and a table of results."""

import json
from dataclasses import asdict, dataclass

from nmt_kd.evaluation.tables import Table, as_markdown, number
from nmt_kd.exporting.sample import Measurement
from nmt_kd.version import __version__

SUMMARY = "summary.json"
MARK = "nmt-kd export"  # the key that marks a summary.json as written by this command
COLUMNS = {
    "system": "system",
    "computed_in": "computed in",
    "parameters": "parameters",
    "megabytes_on_disk": "on disk, MB",
    "load_seconds": "loading, s",
    "tokens_per_second": "tokens/s",
    "sentences_per_second": "sentences/s",
    "bleu": "BLEU",
    "bleu_change": "BLEU change",
    "identical_percent": "identical to fairseq, %",
    "as_good_percent": "as good as fairseq, %",
}


@dataclass(frozen=True)
class Result:
    """A row. Speeds are for this machine's CPU; the last three figures compare with the student in fairseq."""

    system: str
    converted_to: str | None  # the compute type a CTranslate2 model is stored in
    computed_in: str
    parameters: int
    megabytes_on_disk: float
    load_seconds: float
    tokens_per_second: float
    sentences_per_second: float
    bleu: float
    bleu_change: float | None
    identical_percent: float | None
    as_good_percent: float | None  # identical, or different but as good by fairseq's score

    @property
    def cells(self) -> list[str]:
        """The row as text. BLEU has two digits because small changes matter here, loading has three."""
        texts = {name: value if isinstance(value, str) else number(value) for name, value in asdict(self).items()}
        texts["load_seconds"], texts["bleu"] = f"{self.load_seconds:.3f}", f"{self.bleu:.2f}"
        texts["bleu_change"] = "" if self.bleu_change is None else f"{self.bleu_change:+.2f}"
        return [texts[column] for column in COLUMNS]


@dataclass(frozen=True)
class Summary:
    """What was exported, how it was measured and how it compares."""

    checkpoint: str
    checkpoint_sha256: str
    teacher: str | None
    data: str
    measurement: Measurement
    sentences_measured: int
    bleu_signature: str
    machine: str
    results: list[Result]
    notes: list[str]
    usage: str  # Python

    def as_json(self, files: list[str]) -> str:
        """Return one JSON object, with the names of all files of the export."""
        return json.dumps({MARK: __version__, **asdict(self), "files": files}, indent=1, ensure_ascii=False) + "\n"

    def as_markdown(self) -> str:
        """Return the summary as a page."""
        table = as_markdown(Table(list(COLUMNS.values()), [result.cells for result in self.results]))
        notes = "\n".join(f"- {note}" for note in self.notes)
        return (
            f"# {self.checkpoint} without fairseq\n\n{table}\n\n{notes}\n- Machine: {self.machine}.\n\n"
            f"To translate, run this in this folder:\n\n```python\n{self.usage}```\n"
        )
