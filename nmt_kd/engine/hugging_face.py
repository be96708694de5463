"""Read translation models of Hugging Face: their configuration, tokenizer and languages."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt_kd.checkpoints.reading import folder_hash
from nmt_kd.errors import UserError, in_one_line

MODEL_TYPES = ("marian", "m2m_100", "mbart")  # NLLB's is m2m_100
REGIONAL_CODE = re.compile(r"[a-z]{2,3}_[A-Z]\w+")  # NLLB's and mBART's: deu_Latn, de_DE
WEIGHTS_OF_OTHERS = {".h5", ".msgpack", ".ot", ".onnx", ".md"}
INSTALL = "pip install 'nmt-kd[huggingface]'"


@dataclass(frozen=True)
class Pretrained:
    """A model before its weights are loaded."""

    name: str  # a folder, or a name on the hub
    config: Any
    tokenizer: Any
    fingerprint: str
    revision: dict[str, str]  # for from_pretrained; of the hub, so that later steps do not get a newer version


def read_pretrained(name: str, flag: str = "--teacher") -> Pretrained:
    """Read a model's configuration and tokenizer; UserError if they cannot be read. `flag` names the model."""
    try:
        import transformers
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; {INSTALL}") from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    revision = {}
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        if commit := getattr(config, "_commit_hash", None):
            revision = {"revision": commit}
        if config.model_type not in MODEL_TYPES:
            raise UserError(f"{name} is a model of type {config.model_type}; {flag} takes {', '.join(MODEL_TYPES)}")
        tokenizer = _tokenizer(name, **revision)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, ImportError) as error:
        raise UserError(f"{name} cannot be read as a Hugging Face model: {in_one_line(error)}") from None
    fingerprint = revision["revision"][:12] if revision else folder_hash(Path(name), _files(Path(name)))
    return Pretrained(name, config, tokenizer, fingerprint, revision)


def _tokenizer(name: str, **revision) -> Any:
    """Load a tokenizer, the fast one if there is one that can be loaded."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, **revision)
    except (ValueError, ImportError):  # making a fast one needs packages that may be missing or too old
        return AutoTokenizer.from_pretrained(name, use_fast=False, **revision)


def _files(folder: Path) -> list[Path]:
    """Return the files of a model's folder that determine its translations."""
    return [path for path in folder.iterdir() if path.is_file() and path.suffix not in WEIGHTS_OF_OTHERS]


@dataclass(frozen=True)
class Languages:
    """The languages of a translation, and how the model is told."""

    source: str
    target: str
    first_words: str = ""  # before the source text
    prefix: tuple[str, ...] = ()  # the tokens that each translation starts with

    @classmethod
    def of(
        cls,
        tokenizer: Any,
        teacher: str,
        source: str | None,
        target: str | None,
        flags: tuple[str, str] = ("--source-lang", "--target-lang"),
    ) -> "Languages":
        """Set the languages of `teacher`'s tokenizer and return them.

        A language that is None is taken from the model if it has only one on that side. Raises UserError, which names
        the `flags`, if the model does not have a language, or has several and none is chosen.
        """
        codes = {code: code for code in tokenizer.additional_special_tokens if REGIONAL_CODE.fullmatch(code)}
        codes = getattr(tokenizer, "lang_code_to_token", None) or codes  # M2M100: de is __de__
        unknown = UserError(f"the languages of {teacher} are unknown; give {flags[0]} and {flags[1]}")
        if codes:
            if not source or not target:
                raise unknown
            _check(source, codes, flags[0], teacher)
            _check(target, codes, flags[1], teacher)
            tokenizer.src_lang, tokenizer.tgt_lang = source, target
            return cls(source, target, prefix=(codes[target],))
        own = getattr(tokenizer, "source_lang", None), getattr(tokenizer, "target_lang", None)
        choosable = [code[2:-2] for code in getattr(tokenizer, "supported_language_codes", [])]  # Marian: >>deu<<
        source, target = source or own[0], target or (None if choosable else own[1])
        if not source or not target:
            raise unknown
        _check_own(source, own[0], flags[0], teacher)
        if choosable:
            _check(target, choosable, flags[1], teacher)
            return cls(source, target, first_words=f">>{target}<< ")
        _check_own(target, own[1], flags[1], teacher)
        return cls(source, target)


def _check(code: str, codes, flag: str, teacher: str) -> None:
    if code not in codes:
        similar = difflib.get_close_matches(code, codes, n=3, cutoff=0.5)
        near = list(dict.fromkeys([*sorted(each for each in codes if each.startswith(code[:2])), *similar]))[:5]
        hint = f"similar ones are {', '.join(near)}" if near else f"it has {', '.join(sorted(codes)[:5])}, ..."
        raise UserError(f"{flag} is {code}, which {teacher} does not have; {hint}")


def _check_own(code: str, own: str | None, flag: str, teacher: str) -> None:
    """Raise UserError if a model of one direction has another language; `en` and `eng` may be the same."""
    if own and code != own and len(code) == len(own):
        raise UserError(f"{flag} is {code}, but {teacher} has only {own} there; give {own} or another teacher")
