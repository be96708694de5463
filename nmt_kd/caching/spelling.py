"""What subwords spell, in one form for all ways of marking the boundaries of words.

The text of a sentence starts each word with `▁`, and ends in `▁` and a symbol for its end: `▁A▁man▁` + END. The
subwords of a sentence spell consecutive parts of it:

    sentencepiece  ▁A  ▁ma  n   </s>     spell  `▁A`  `▁ma`  `n`   `▁END`
    subword-nmt    A   ma@@ n   </s>     spell  `A▁`  `ma`   `n▁`  `END`, after the first `▁`
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

WORD = "\u2581"  # starts a word
END = "\0"  # of the sentence
UNREADABLE = "\ue000"  # in place of an unknown symbol; a private character, which no subword model should know
BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def marks_word_starts(marks: str) -> bool:
    """Return whether subwords show where a word starts (sentencepiece), or else where it ends."""
    return marks == "sentencepiece"


def end_text(marks: str) -> str:
    """Return what the end-of-sentence symbol spells."""
    return WORD + END if marks_word_starts(marks) else END


def unknown_text(marks: str) -> str:
    """Return what the unknown symbol is taken to spell."""
    return UNREADABLE if marks_word_starts(marks) else UNREADABLE + WORD


def text_of(symbol: str, marks: str) -> str:
    """Return what a subword spells; `marks` are as in `nmt_kd.subword_model.marks_of`."""
    if marks_word_starts(marks):
        return symbol
    return symbol[:-2] if marks == "subword_nmt" and symbol.endswith("@@") else symbol + WORD


def vocabulary_texts(symbols: Sequence[str], marks: str, end: int, unknown: int, others: set[int]) -> list[str | None]:
    """Return what each symbol of a vocabulary spells; None for bytes, and for the `others`, which spell nothing."""
    texts = [text_of(symbol, marks) if symbol and not BYTE.fullmatch(symbol) else None for symbol in symbols]
    texts[end], texts[unknown] = end_text(marks), unknown_text(marks)
    for number in others:
        texts[number] = None
    return texts


def sentence_texts(symbols: Sequence[str], marks: str) -> list[str]:
    """Return what the subwords of a sentence spell, its end included; of several bytes, the last spells them all."""
    texts, encoded = [], b""
    for number, symbol in enumerate(symbols):
        byte = BYTE.fullmatch(symbol)
        if byte is None:
            texts.append(text_of(symbol, marks))
            continue
        encoded += bytes.fromhex(byte.group(1))
        is_last = number + 1 == len(symbols) or BYTE.fullmatch(symbols[number + 1]) is None
        texts.append(encoded.decode(errors="replace") if is_last else "")
        encoded = b"" if is_last else encoded
    return [*texts, end_text(marks)]


@dataclass(frozen=True)
class Spelled:
    """The subwords of a sentence, its end included: their indices in the vocabulary, and what each spells."""

    tokens: list[int]
    texts: list[str]

    @cached_property
    def text(self) -> str:
        """The text of the sentence."""
        joined = "".join(self.texts)
        return joined if joined.startswith(WORD) else WORD + joined

    @cached_property
    def boundaries(self) -> list[int]:
        """Where in the text each subword starts, and where the last one ends, [tokens + 1]."""
        offsets = [len(self.text) - sum(map(len, self.texts))]
        for text in self.texts:
            offsets.append(offsets[-1] + len(text))
        return offsets

    @property
    def shows_ends(self) -> bool:
        """Whether each subword shows if a word ends with it, instead of if one starts."""
        return self.texts[-1] == END

    @property
    def plain(self) -> str:
        """The sentence as people write it, with spaces between words."""
        return self.text.replace(END, "").replace(WORD, " ").strip()
