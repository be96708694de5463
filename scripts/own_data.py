"""Write the settings of a data set made from the user's own text, and copy the text; used by scripts/prepare.sh --text.

    python scripts/own_data.py settings captions FOLDER --languages en fr > settings.sh
    python scripts/own_data.py text FOLDER OUT_DIR --languages en fr [--clean]

The first command checks the text and chooses settings by its size, as described in docs/own-data.md. Two files can
take the place of FOLDER; see scripts/check_text.py. The second writes OUT_DIR/SPLIT.LANGUAGE with white space
normalised and, with --clean, without the pairs that cannot be used; the first test set becomes OUT_DIR/test.LANGUAGE.
"""

import argparse
import json
import shlex
import sys
from collections import Counter
from pathlib import Path

from check_text import Report, add_arguments, add_text_arguments, checked, positive, text_of
from parallel_text import ParallelText, TextError

ROOT = Path(__file__).parents[1]
SCALES = sorted(path.stem for path in (ROOT / "configs/own").glob("*.sh"))
MARK = "# Add your own settings below this line; scripts/prepare.sh keeps them."


# -- the settings for a text of a given size; docs/own-data.md describes them ------------------------------------------


def scale_for(pairs: int) -> str:
    """Return the name of the file in configs/own for this number of training pairs."""
    limits = {"tiny": 5_000, "small": 100_000, "medium": 1_000_000}
    return next((name for name, limit in limits.items() if pairs < limit), "large")


def updates_for(scale: str, pairs: int) -> int:
    """Return the number of updates of teacher and student."""
    return {"tiny": 2_000, "small": max(2_000, pairs // 15), "medium": 50_000, "large": 200_000}[scale]


def vocabulary_for(scale: str, report: Report) -> int:
    """Return a vocabulary size: from the scale, at least twice the characters, at most what the text supports."""
    by_pairs = min(max(report.pairs // 5, 400), 6_000) // 100 * 100
    size = {"medium": 10_000, "large": 32_000}.get(scale, by_pairs)
    return min(max(size, 2 * report.least_vocabulary), report.largest_vocabulary)


# -- the settings file ------------------------------------------------------------------------------------------------


def settings(args: argparse.Namespace, text: ParallelText, report: Report) -> str:
    """Return the text of the settings file, with what the user has added to the present one."""
    scale = args.scale or scale_for(report.pairs)
    updates = args.updates or updates_for(scale, report.pairs)
    present = args.keep.read_text(encoding="utf-8") if args.keep and args.keep.is_file() else ""
    lines = [
        f"# {args.name}: {report.pairs:,} training pairs. scripts/prepare.sh {args.name} --text writes these lines.",
        f"own_text=({' '.join(shlex.quote(str(place.resolve())) for place in args.text)})",
        f"clean={'yes' if args.clean else ''}",
        f"source_lang={text.source}",
        f"target_lang={text.target}",
        f"test_sets=({' '.join(text.test_sets)})",
        f"held_out=({' '.join(f'--{split}-size {size}' for split, size in text.held_out_sizes)})",
        f"vocabulary_size={args.vocabulary_size or vocabulary_for(scale, report)}",
        f"updates={updates}",
        f'. "$root/configs/own/{scale}.sh"',
        "",
        MARK,
    ]
    return "\n".join(lines) + (present.partition(MARK)[2] or "\n")


def write_text(text: ParallelText, out: Path, clean: bool) -> None:
    """Write all splits to the folder `out`, with the numbers of pairs and of those dropped in counts.json."""
    counts: dict[str, Counter] = {}
    for split in ("train", "valid", *text.test_sets):
        counts[split] = Counter()
        name = "test" if split == text.test_sets[0] else split
        source_file, target_file = (out / f"{name}.{language}" for language in text.languages)
        with (
            source_file.open("w", encoding="utf-8", newline="\n") as sources,
            target_file.open("w", encoding="utf-8", newline="\n") as targets,
        ):
            for _, source, target in text.pairs(split):
                counts[split]["pairs"] += 1
                if clean and (fault := text.fault(split, source, target)):
                    counts[split][fault] += 1
                    continue
                sources.write(f"{source}\n")
                targets.write(f"{target}\n")
    (out / "counts.json").write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, because the user has called scripts/prepare.sh."""

    def error(self, message: str):
        raise SystemExit(f"{Path(sys.argv[0]).name}: error: {message}")


def main() -> None:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    of_settings = commands.add_parser("settings")
    of_settings.add_argument("name")
    add_arguments(of_settings)
    of_settings.add_argument("--scale", choices=SCALES, help="file in configs/own (default: by the size of the text)")
    of_settings.add_argument("--updates", type=positive, help="updates of teacher and student")
    of_settings.add_argument("--keep", type=Path, help="settings file whose additions are kept")
    of_text = commands.add_parser("text")
    add_text_arguments(of_text)
    of_text.add_argument("out", type=Path)
    of_text.add_argument("--clean", action="store_true", help="drop pairs that cannot be used")
    args = parser.parse_args()
    if args.command == "settings":
        print(settings(args, *checked(args)), end="")
        return
    try:
        write_text(text_of(args), args.out, args.clean)
    except TextError as error:
        raise SystemExit(f"{Path(sys.argv[0]).name}: error: {error}") from None


if __name__ == "__main__":
    main()
