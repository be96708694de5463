"""The summary of an export: what was exported, how it was measured, and a table of results."""

import json
from dataclasses import asdict, dataclass

from nmt_kd.evaluation.tables import Table, as_markdown, number
from nmt_kd.exporting.sample import Measurement
from nmt_kd.storage.kinds import EXPORT_MARK
from nmt_kd.version import __version__

COLUMNS = {
    "system": "system",
    "computed_in": "computed in",
    "parameters": "parameters",
    "megabytes_on_disk": "on disk, MB",
    "load_seconds": "loading, s",
    "words_per_second": "words/s",
    "tokens_per_second": "tokens/s",
    "sentences_per_second": "sentences/s",
    "milliseconds_alone": "one sentence, ms",
    "bleu": "BLEU",
    "bleu_change": "BLEU change",
    "bleu_change_without_vnni": "BLEU change without VNNI",
    "chrf": "chrF",
    "chrf_change": "chrF change",
    "chrf_change_without_vnni": "chrF change without VNNI",
    "identical_percent": "identical to fairseq, %",
    "as_good_percent": "as good as fairseq, %",
}


@dataclass(frozen=True)
class Result:
    """A row. Speeds are for this machine's CPU; changes and percentages compare with the student in fairseq."""

    system: str
    converted_to: str | None  # the compute type a CTranslate2 model is stored in
    computed_in: str
    parameters: int
    megabytes_on_disk: float
    load_seconds: float
    words_per_second: float  # of the sources
    tokens_per_second: float
    sentences_per_second: float
    milliseconds_alone: float  # for a sentence that is translated alone, median
    bleu: float
    bleu_change: float | None
    bleu_change_without_vnni: float | None  # on a CPU limited to AVX2; of int8 models
    chrf: float
    chrf_change: float | None
    chrf_change_without_vnni: float | None
    identical_percent: float | None
    as_good_percent: float | None  # identical, or different but as good by fairseq's score
    shortlist: bool = False  # whether only likely target words were considered

    @property
    def cells(self) -> list[str]:
        """The row as text. Scores have two digits because small changes matter here, loading has three."""
        texts = {name: value if isinstance(value, str) else number(value) for name, value in asdict(self).items()}
        texts |= {"load_seconds": f"{self.load_seconds:.3f}", "bleu": f"{self.bleu:.2f}", "chrf": f"{self.chrf:.2f}"}
        for name in (name for name in COLUMNS if "_change" in name):
            change = getattr(self, name)
            texts[name] = "" if change is None else f"{change:+.2f}"
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
    signatures: dict[str, str]  # sacrebleu's, by metric
    machine: str
    results: list[Result]
    recommended: str  # the system that translate.py uses by default
    notes: list[str]

    def as_json(self, files: list[str]) -> str:
        """Return one JSON object, with the names of all files of the export."""
        return (
            json.dumps({EXPORT_MARK: __version__, **asdict(self), "files": files}, indent=1, ensure_ascii=False) + "\n"
        )

    @property
    def table(self) -> Table:
        """A row for each system."""
        return Table(list(COLUMNS.values()), [result.cells for result in self.results])

    def as_markdown(self) -> str:
        """Return the summary as a page."""
        table = as_markdown(self.table)
        notes = "\n".join(f"- {note}" for note in self.notes)
        return (
            f"# {self.checkpoint} without fairseq\n\n{table}\n\n{notes}\n- Machine: {self.machine}.\n\n"
            f"To translate (by default with: {self.recommended}), run this in this folder:\n\n"
            "```bash\npip install -r requirements.txt\npython translate.py < source.txt > translation.txt\n```\n"
        )
