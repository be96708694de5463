"""Measure how time and memory of a training step grow with vocabulary, batch, TIE-KD's iterations and teacher size.

    python scripts/benchmark_sweep.py --output benchmark

Runs scripts/benchmark.py once for each point, with the default for all other sizes. Prints a table, and writes all
figures to OUTPUT/sweep.json and two plots, OUTPUT/time.png and OUTPUT/memory.png. Existing points are not measured
again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from nmt_kd.evaluation.drawing import as_png, compact, legend_beside, logarithmic, pyplot, styles
from nmt_kd.evaluation.tables import Table, as_markdown

SWEEPS = {
    "vocabulary": ("words in the vocabulary", [1000, 4000, 16000, 64000]),
    "tokens": ("tokens in a batch", [512, 1024, 2048, 4096]),
    "kd-iterations": ("iterations of TIE-KD", [1, 2, 3, 4]),
    "teacher-width": ("width of the teacher", [128, 256, 512, 1024]),
}
SYSTEMS = ["word_kd, textbook", "word_kd", "word_kd, cached", "tie_kd, textbook", "tie_kd"]


def measure(name: str, value: int, file: Path, rounds: int) -> dict:
    """Return the figures of one point; measure them unless `file` exists."""
    if not file.is_file():
        command = [sys.executable, str(Path(__file__).with_name("benchmark.py")), f"--{name}", str(value)]
        command += ["--rounds", str(rounds), "--systems", *SYSTEMS, "--json", str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(file.read_text(encoding="utf-8"))


def figures_of(row: dict) -> tuple[str, str]:
    """Format time and memory."""
    return f"{1e6 / row['tokens_per_second']:.0f}", f"{row['step_megabytes']:.0f}"


def draw(points: dict[str, dict[int, dict]], label: str, figure_of, file: Path) -> None:
    """Draw one panel for each sweep, with one line for each system."""
    pyplot_ = pyplot()
    figure, axes = pyplot_.subplots(1, len(points), figsize=(3 * len(points), 3), sharey=True, squeeze=False)
    panels = axes[0]
    for panel, (name, measured) in zip(panels, points.items(), strict=True):
        looks = styles()
        for system in ["plain", *SYSTEMS]:
            figures = [
                figure_of(row) for result in measured.values() for row in result["systems"] if row["system"] == system
            ]
            panel.plot(list(measured), figures, label=system, markersize=4, **next(looks))
        panel.set_xscale("log", base=2)
        logarithmic(panel, "y")
        panel.set_xticks(list(measured), [compact(value) for value in measured])
        panel.minorticks_off()
        panel.set_xlabel(SWEEPS[name][0])
    panels[0].set_ylabel(label)
    lines = sorted(panels[-1].get_lines(), key=lambda line: -line.get_ydata()[-1])
    legend_beside(panels[-1], lines, [line.get_label() for line in lines])
    file.write_bytes(as_png(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS), help="(default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    points: dict[str, dict[int, dict]] = {}
    for name in args.sweeps:
        for value in SWEEPS[name][1]:
            print(f"  {name} {value}", file=sys.stderr, flush=True)
            file = args.output / f"{name}-{value}.json"
            points.setdefault(name, {})[value] = measure(name, value, file, args.rounds)
    (args.output / "sweep.json").write_text(json.dumps(points, indent=1) + "\n", encoding="utf-8")
    header = ["point", *(f"{system}, {unit}" for system in ["plain", *SYSTEMS] for unit in ("us/token", "MB"))]
    cells = []
    for name, measured in points.items():
        for value, result in measured.items():
            by_system = {row["system"]: row for row in result["systems"]}
            figures = [text for system in ["plain", *SYSTEMS] for text in figures_of(by_system[system])]
            cells.append([f"{name} {value}", *figures])
    print(as_markdown(Table(header, cells)))
    tokens = "tokens_per_second"
    draw(points, "microseconds per target token", lambda row: 1e6 / row[tokens], args.output / "time.png")
    draw(points, "MB added by a step", lambda row: row["step_megabytes"], args.output / "memory.png")


if __name__ == "__main__":
    main()
