"""A translation model of Hugging Face, converted once for CTranslate2, as a teacher for plain text."""

import re
from pathlib import Path
from typing import Any

from nmt_kd.decoding.ctranslate2_backend import kept_model
from nmt_kd.decoding.shards import Hypothesis
from nmt_kd.engine.hugging_face import Languages, Pretrained, read_pretrained
from nmt_kd.errors import UserError, in_one_line
from nmt_kd.translators.ctranslate2_search import AT_THE_LIMIT, CTranslate2Search
from nmt_kd.translators.translator import UNKNOWN_LEFT_OUT, TeacherOptions

WHAT = "a Hugging Face model (Marian, M2M100, NLLB or mBART), as a folder or a name on the hub"
USES = ()
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
MOST_OF_A_NORM = 0.001


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
        import transformers  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; pip install 'nmt-kd[huggingface]'") from None
    pretrained = read_pretrained(options.teacher)
    name, tokenizer = options.teacher, pretrained.tokenizer
    languages = Languages.of(tokenizer, name, options.source_lang, options.target_lang)  # before a long conversion

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
            Converter(name, **pretrained.revision).convert(str(folder), force=True)
        except (OSError, RuntimeError, TypeError) as error:  # weights that are missing, damaged or of another model
            raise UserError(f"CTranslate2 cannot convert {name}: {in_one_line(error)}") from None

    model = kept_model(name, pretrained.fingerprint, convert)
    return HuggingFaceTranslator(options, model, pretrained, languages)


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


class HuggingFaceTranslator:
    """CTranslate2 between the tokenizer's encoding and decoding."""

    def __init__(self, options: TeacherOptions, folder: Path, pretrained: Pretrained, languages: Languages):
        tokenizer, positions = pretrained.tokenizer, pretrained.config.max_position_embeddings
        if getattr(tokenizer, "separate_vocabs", False):
            raise UserError(
                f"{options.teacher} has a vocabulary for each side, which CTranslate2 cannot convert; give another "
                "teacher, or translate with it elsewhere and use nmt-kd import"
            )
        self.tokenizer, self.tags = tokenizer, languages
        self.languages = languages.source, languages.target
        self.longest_source = options.longest_source(min(positions, tokenizer.model_max_length))
        self.longest_target = positions - 1 - len(languages.prefix)
        self.search = CTranslate2Search(folder, options.search, options.compute_type, options.max_tokens)
        self.settings = {
            "teacher": pretrained.fingerprint,
            "teacher_kind": "huggingface",
            "precision": self.search.precision,
        }
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
