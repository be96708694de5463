"""A model that was converted for CTranslate2, with its subword model, as a teacher for plain text."""

import json
from pathlib import Path

from nmt_kd.checkpoints.reading import folder_hash
from nmt_kd.decoding.shards import Hypothesis
from nmt_kd.errors import UserError
from nmt_kd.storage.kinds import is_export
from nmt_kd.translators.ctranslate2_search import AT_THE_LIMIT, CTranslate2Search
from nmt_kd.translators.subwords import Subwords
from nmt_kd.translators.translator import UNKNOWN_LEFT_OUT, TeacherOptions

WHAT = "a folder with a CTranslate2 model, or one that nmt-kd export wrote"
USES = ("subword_model", "target_subword_model")
LONGEST_SOURCE = 1024  # tokens; the folder does not say, and this is what CTranslate2 assumes


def recognises(teacher: str) -> bool:
    """Tell whether a folder has a converted model, or is an export."""
    return (Path(teacher) / "model.bin").is_file() or is_export(Path(teacher))


def open_teacher(options: TeacherOptions) -> "CTranslate2Translator":
    """Load the model of a folder; raises UserError if its subword model is missing."""
    try:
        import ctranslate2  # noqa: F401
    except ImportError:
        raise UserError("CTranslate2 is not installed; pip install 'nmt-kd[ctranslate2]'") from None
    folder = Path(options.teacher)
    if is_export(folder):
        folder = _model_of_export(folder, options.compute_type)
    _check_not_from_hugging_face(folder)
    return CTranslate2Translator(folder, options)


def _model_of_export(folder: Path, compute_type: str) -> Path:
    """Return the model in `compute_type`, if there is one, or else the most exact one."""
    models = sorted(path.parent.name for path in folder.glob("*/model.bin"))
    for name in (compute_type, "float32", "float16", *models):
        if name in models:
            return folder / name
    raise UserError(f"{folder} has no model; export it again")


def _check_not_from_hugging_face(folder: Path) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if not config.get("add_source_eos", True) and config.get("decoder_start_token") == config.get("eos_token"):
        raise UserError(
            f"{folder} was converted from a Hugging Face model and lacks its tokenizer; give that model as --teacher"
        )


class CTranslate2Translator:
    """CTranslate2 between a subword model for each side."""

    def __init__(self, folder: Path, options: TeacherOptions):
        self.languages = options.languages()
        self.longest_source = options.longest_source(LONGEST_SOURCE)
        self.subwords = Subwords(options.subword_model or _beside(folder), options.target_subword_model)
        self.length = self.subwords.length
        self.search = CTranslate2Search(folder, options.search, options.compute_type, options.max_tokens)
        self.settings = {
            "teacher": folder_hash(folder, (path for path in folder.iterdir() if path.is_file())),
            "teacher_kind": "ctranslate2",
            "precision": self.search.precision,
            **self.subwords.settings,
        }

    @property
    def counts(self) -> dict[str, int]:
        """How many unknown symbols were left out, and how many translations were cut."""
        return {UNKNOWN_LEFT_OUT: self.subwords.unknown, AT_THE_LIMIT: self.search.cut}

    def translate(self, sources: list[str], seed: int) -> list[list[Hypothesis]]:
        """Return the n-best lists of these texts."""
        tokens = [self.subwords.of_source(text) for text in sources]
        return [
            [Hypothesis(score, self.subwords.text(symbols)) for score, symbols in found]
            for found in self.search.translate(tokens, seed)
        ]

    def score(self, sources: list[str], translations: list[str]) -> list[float]:
        """Return the log-probabilities of translations per token, including the end."""
        tokens = [self.subwords.of_source(text) for text in sources], [*map(self.subwords.of_target, translations)]
        return self.search.score(*tokens, self.longest_source - 1)


def _beside(folder: Path) -> Path:
    """Return the subword model that nmt-kd export puts beside a model."""
    for name in ("subwords.model", "subwords.codes"):
        if is_export(folder.resolve().parent) and (path := folder.resolve().parent / name).is_file():
            return path
    raise UserError(f"the subword model of {folder} is needed; give it as --subword-model")
