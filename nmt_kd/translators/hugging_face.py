"""A translation model of Hugging Face, converted once for CTranslate2, as a teacher for plain text."""

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nmt_kd.decoding.ctranslate2_backend import kept_model
from nmt_kd.decoding.shards import Hypothesis
from nmt_kd.errors import UserError, in_one_line
from nmt_kd.translators.ctranslate2_search import AT_THE_LIMIT, CTranslate2Search
from nmt_kd.translators.translator import UNKNOWN_LEFT_OUT, TeacherOptions, folder_hash

WHAT = "a Hugging Face model (Marian, M2M100, NLLB or mBART), as a folder or a name on the hub"
USES = ()
MODEL_TYPES = ("marian", "m2m_100", "mbart")  # NLLB's is m2m_100
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
REGIONAL_CODE = re.compile(r"[a-z]{2,3}_[A-Z]\w+")  # NLLB's and mBART's: deu_Latn, de_DE
MOST_OF_A_NORM = 0.001
WEIGHTS_OF_OTHERS = {".h5", ".msgpack", ".ot", ".onnx", ".md"}


def recognises(teacher: str) -> bool:
    """Tell whether a folder has a model's configuration, or a name that does not exist here looks like the hub's."""
    path = Path(teacher)
    if path.exists():
        return (path / "config.json").is_file() and not (path / "model.bin").is_file()
    return HUB_NAME.fullmatch(teacher) is not None and not teacher.endswith(".pt")


def open_teacher(options: TeacherOptions) -> "HuggingFaceTranslator":
    """Convert and load the model; raises UserError if it cannot be read, or the languages are not its own."""
    try:
        import ctranslate2  # noqa: F401
        import transformers
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; pip install 'nmt-kd[huggingface]'") from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    name, revision = options.teacher, {}
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        if commit := getattr(config, "_commit_hash", None):  # of the hub; later steps must not get a newer version
            revision = {"revision": commit}
        if config.model_type not in MODEL_TYPES:
            raise UserError(f"{name} is a model of type {config.model_type}; --teacher takes {', '.join(MODEL_TYPES)}")
        tokenizer = _tokenizer(name, **revision)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, ImportError) as error:
        raise UserError(f"{name} cannot be read as a Hugging Face model: {in_one_line(error)}") from None
    languages = Languages.of(tokenizer, options)  # before a conversion, which takes long
    fingerprint = revision["revision"][:12] if revision else folder_hash(Path(name), _files(Path(name)))

    def convert(folder: Path) -> None:
        from ctranslate2.converters import TransformersConverter

        class Converter(TransformersConverter):
            def load_model(self, *args, **kwargs):
                model = super().load_model(*args, **kwargs)
                _check_start(model, name)
                return model

            def load_tokenizer(self, *args, **kwargs):
                return tokenizer

        try:
            Converter(name, **revision).convert(str(folder), force=True)
        except (OSError, RuntimeError, TypeError) as error:  # weights that are missing, damaged or of another model
            raise UserError(f"CTranslate2 cannot convert {name}: {in_one_line(error)}") from None

    model = kept_model(name, fingerprint, convert)
    return HuggingFaceTranslator(options, model, fingerprint, tokenizer, languages, config.max_position_embeddings)


def _tokenizer(name: str, **revision) -> Any:
    """Load a tokenizer, the fast one if there is one that can be loaded."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, **revision)
    except (ValueError, ImportError):  # making a fast one needs packages that may be missing or too old
        return AutoTokenizer.from_pretrained(name, use_fast=False, **revision)


def _check_start(model: Any, name: str) -> None:
    """Raise UserError if a Marian model does not start its translations as CTranslate2 assumes, from zeros.

    Translations start with <pad>, whose embedding Marian's own training keeps at zero; fine-tuning in Hugging Face
    changes it through the shared output layer, and then the converted model would translate into nonsense.
    """
    if model.config.model_type != "marian":
        return
    weight = model.get_input_embeddings().weight
    if weight[model.config.decoder_start_token_id].norm() > MOST_OF_A_NORM * weight.norm(dim=1).mean():
        raise UserError(
            f"CTranslate2 cannot convert {name}: its <pad> embedding is not zero, as after fine-tuning in Hugging "
            "Face; give the model that it was fine-tuned from, or translate with it elsewhere and use nmt-kd import"
        )


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
    def of(cls, tokenizer: Any, options: TeacherOptions) -> "Languages":
        """Set the tokenizer to the languages of `options`; raises UserError if it does not have them."""
        codes = {code: code for code in tokenizer.additional_special_tokens if REGIONAL_CODE.fullmatch(code)}
        codes = getattr(tokenizer, "lang_code_to_token", None) or codes  # M2M100: de is __de__
        if codes:
            source, target = options.languages()
            _check(source, codes, "--source-lang", options.teacher)
            _check(target, codes, "--target-lang", options.teacher)
            tokenizer.src_lang, tokenizer.tgt_lang = source, target
            return cls(source, target, prefix=(codes[target],))
        own = getattr(tokenizer, "source_lang", None), getattr(tokenizer, "target_lang", None)
        choosable = [code[2:-2] for code in getattr(tokenizer, "supported_language_codes", [])]  # Marian: >>deu<<
        given = replace(
            options,
            source_lang=options.source_lang or own[0],
            target_lang=options.target_lang or (None if choosable else own[1]),
        )
        source, target = given.languages()
        _check_own(source, own[0], "--source-lang", options.teacher)
        if choosable:
            _check(target, choosable, "--target-lang", options.teacher)
            return cls(source, target, first_words=f">>{target}<< ")
        _check_own(target, own[1], "--target-lang", options.teacher)
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


class HuggingFaceTranslator:
    """CTranslate2 between the tokenizer's encoding and decoding."""

    def __init__(
        self,
        options: TeacherOptions,
        folder: Path,
        fingerprint: str,
        tokenizer: Any,
        languages: Languages,
        positions: int,
    ):
        if getattr(tokenizer, "separate_vocabs", False):
            raise UserError(f"{options.teacher} has a vocabulary for each side, which CTranslate2 cannot convert")
        self.tokenizer, self.tags = tokenizer, languages
        self.languages = languages.source, languages.target
        self.longest_source = options.longest_source(min(positions, tokenizer.model_max_length))
        self.longest_target = positions - 1 - len(languages.prefix)
        self.search = CTranslate2Search(folder, options.search, options.compute_type, options.max_tokens)
        self.settings = {"teacher": fingerprint, "teacher_kind": "huggingface", "precision": self.search.precision}
        self.unknown = 0

    @property
    def counts(self) -> dict[str, int]:
        """How many unknown symbols were left out, and how many translations were cut."""
        return {UNKNOWN_LEFT_OUT: self.unknown, AT_THE_LIMIT: self.search.cut}

    def length(self, source: str) -> int:
        """Return the number of tokens of a source, with the language tag and the end."""
        return len(self._encode([source])[0])

    def translate(self, sources: list[str], seed: int) -> list[list[Hypothesis]]:
        """Return the n-best lists of these texts."""
        prefix = list(self.tags.prefix)
        tokens = [self.tokenizer.convert_ids_to_tokens(ids) for ids in self._encode(sources)]
        return [
            [Hypothesis(score, self._text(symbols)) for score, symbols in found]
            for found in self.search.translate(tokens, seed, prefix, self.longest_target)
        ]

    def score(self, sources: list[str], translations: list[str]) -> list[float]:
        """Return the log-probabilities of translations per token, including the end."""
        tokenize, prefix = self.tokenizer.convert_ids_to_tokens, list(self.tags.prefix)
        source = [tokenize(ids) for ids in self._encode(sources)]
        target = [tokenize(ids) for ids in self._encode_targets(translations)]
        return self.search.score(source, target, min(self.longest_source, self.longest_target), prefix)

    def _encode_targets(self, translations: list[str]) -> list[list[int]]:
        """Return the tokens of translations without those that the model adds: the language and the end."""
        added = {self.tokenizer.eos_token_id, *self.tokenizer.convert_tokens_to_ids(list(self.tags.prefix))}
        lists = self.tokenizer(text_target=translations, verbose=False)["input_ids"]
        return [[token for token in ids if token not in added] for ids in lists]

    def _encode(self, sources: list[str]) -> list[list[int]]:
        texts = [self.tags.first_words + source for source in sources]
        return self.tokenizer(texts, verbose=False)["input_ids"]

    def _text(self, symbols: list[str]) -> str:
        self.unknown += symbols.count(self.tokenizer.unk_token)
        ids = self.tokenizer.convert_tokens_to_ids(symbols)
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()
