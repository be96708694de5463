"""Translate standard input line by line: pip install -r requirements.txt; python translate.py < source > translation

`nmt-kd export` copies this file into the folder of an exported student. It needs neither nmt-kd nor torch nor fairseq.
From Python, with this folder on the path: `from translate import Student; Student().translate(["A sentence."])`.

Blank lines stay blank. A line with more subwords than `longest_source` in settings.json is split at the ends of
sentences or else at commas or spaces, and its translations are joined. Needs Python 3.10 or later.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
SETTINGS = "settings.json"
SHORTLIST = "vmap.txt"  # CTranslate2's name for it
# Where a long line may be split. At the ends of sentences it always is, elsewhere only as often as needed.
SENTENCE_ENDS = re.compile(r"""(?<=[.!?…])["'\u2019”»)\]]*\s+(?![a-zß-ÿ])|(?<=[。\uff01\uff1f])(?![”』」\uff09])""")
CLAUSE_ENDS = re.compile(r"(?<=[,;:\u2013—])\s+|(?<=[\uff0c\uff1b\uff1a、])")
SPACES = re.compile(r"\s+")
MAX_CACHED_WORDS = 1_000_000  # whose BPE subwords are remembered
WITHOUT_SPACES = ("ja", "zh", "th", "lo", "my", "km")  # languages that put no spaces between sentences


class Student:
    """The student of a folder that `nmt-kd export` has written."""

    def __init__(
        self,
        folder: Path = FOLDER,
        model: str | None = None,
        beam: int | None = None,
        threads: int = 1,
        shortlist: bool | None = None,
    ):
        """Load the model stored in the type `model`, by default the one that the export recommends.

        `threads` batches are translated at once. With `shortlist`, only likely target words are considered, if the
        folder has a list of them; the default is what the export recommends.
        """
        import ctranslate2

        self.settings: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        path = folder / (model or self.settings["model"])
        self.translator = ctranslate2.Translator(str(path), device="cpu", inter_threads=threads, intra_threads=1)
        self.split, self.join = _subwords(folder / self.settings["subwords"])
        wanted = self.settings["shortlist"] if shortlist is None else shortlist
        self.search = {
            "beam_size": beam or self.settings["beam"],
            "length_penalty": self.settings["length_penalty"],
            "max_decoding_length": self.settings["longest_translation"],
            "use_vmap": wanted and (path / SHORTLIST).is_file(),
        }

    def translate(self, lines: list[str]) -> list[str]:
        """Return the translation of each line."""
        parts = [self._parts(line.strip(), [SENTENCE_ENDS, CLAUSE_ENDS, SPACES]) for line in lines]
        found = iter(self.translate_subwords([part for line in parts for part in line]))
        between = "" if self.settings["target_language"] in WITHOUT_SPACES else " "
        return [between.join(map(self.join, islice(found, len(line)))) for line in parts]

    def translate_subwords(self, sentences: list[list[str]]) -> list[list[str]]:
        """Return the translation of each sentence, both in subwords."""
        if not sentences:
            return []
        found = self.translator.translate_batch(
            sentences, **self.search, max_input_length=0, max_batch_size=1024, batch_type="tokens"
        )
        return [result.hypotheses[0] for result in found]

    def _parts(self, text: str, ends: list[re.Pattern]) -> list[list[str]]:
        """Return a text in subwords, in several parts if it is longer than `longest_source`, in none if it is blank."""
        subwords, longest = self.split(text), self.settings["longest_source"]
        if len(subwords) <= longest:
            return [subwords] if subwords else []
        if not ends:
            return [subwords[start : start + longest] for start in range(0, len(subwords), longest)]
        starts = [0, *(match.end() for match in ends[0].finditer(text)), len(text)]
        pieces = [text[start:end] for start, end in pairwise(starts)]
        if ends[0] is not SENTENCE_ENDS:
            pieces = self._packed(pieces, longest)
        return [part for piece in pieces for part in self._parts(piece.strip(), ends[1:])]

    def _packed(self, pieces: list[str], longest: int) -> list[str]:
        """Join neighbouring pieces as far as they fit into `longest` subwords."""
        packed, free = [""], longest
        for piece in pieces:
            length = len(self.split(piece))
            if length > free:
                packed.append("")
                free = longest
            packed[-1] += piece
            free -= length
        return packed


def _subwords(path: Path) -> tuple[Callable[[str], list[str]], Callable[[list[str]], str]]:
    """Return functions that split a text into subwords, and join subwords into a text as fairseq does."""
    if path.suffix == ".model":
        import sentencepiece

        processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        return (lambda text: processor.encode(text, out_type=str)), (
            lambda subwords: "".join(subwords).replace("\u2581", " ").strip()
        )
    from subword_nmt.apply_bpe import BPE

    with path.open(encoding="utf-8") as codes:
        bpe = BPE(codes)

    def split(text: str) -> list[str]:
        if len(bpe.cache) > MAX_CACHED_WORDS:
            bpe.cache.clear()
        return bpe.process_line(" ".join(text.split())).split()

    return split, lambda subwords: (" ".join(subwords) + " ").replace("@@ ", "").rstrip()


def main() -> None:
    """Translate standard input."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0].partition(":")[0] + ".")
    parser.add_argument(
        "--model", help="model to use: a folder here, such as int8 or float32 (default: the recommended one)"
    )
    parser.add_argument("--beam", type=int, help="beam size; 1 is fastest")
    parser.add_argument("--threads", type=int, default=1, help="number of batches to translate at once (default: 1)")
    parser.add_argument(
        "--shortlist",
        action=argparse.BooleanOptionalAction,
        help="consider only the target words in the model's shortlist, if it has one",
    )
    parser.add_argument("--lines", type=int, default=256, help="lines to read before translating them, for each thread")
    parser.add_argument("--subwords", action="store_true", help="input and output are split into subwords already")
    args = parser.parse_args()
    if min(args.threads, args.lines, 1 if args.beam is None else args.beam) < 1:
        parser.error("--threads, --lines and --beam must be 1 or more")
    try:
        student = Student(FOLDER, args.model, args.beam, args.threads, args.shortlist)
    except ImportError as error:
        raise SystemExit(f"translate.py: error: {error}; run: pip install -r {FOLDER / 'requirements.txt'}") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise SystemExit(f"translate.py: error: {error}") from None
    size = 1 if sys.stdin.isatty() else args.lines * args.threads
    lines = (line.decode("utf-8", errors="replace").rstrip("\r\n") for line in sys.stdin.buffer)
    while block := list(islice(lines, size)):
        if args.subwords:
            texts = [" ".join(found) for found in student.translate_subwords([line.split() for line in block])]
        else:
            texts = [" ".join(text.split("\n")) for text in student.translate(block)]
        sys.stdout.buffer.write("".join(f"{text}\n" for text in texts).encode())
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        sys.stderr.close()  # the reader has gone, or the user has stopped it
        sys.exit(1)
