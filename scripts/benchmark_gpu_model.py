"""Predict what a training step costs on a GPU, on a machine without one: memory, FLOPs, memory traffic, kernels, time.

    python scripts/benchmark_gpu_model.py                            the TIE-KD paper's sizes with --fp16
    python scripts/benchmark_gpu_model.py --tokens 8192 --systems tie_kd --gpu H100
    python scripts/benchmark_gpu_model.py --json now.json --compare before.json

Student and teacher run on CUDA tensors without values, so nothing of their size is needed here; g++ is, once. Figures
follow from the shapes of all tensors of all operations. "resident" is what a training keeps: weights, gradients and
Adam's moments as fairseq keeps them, and the teacher; "peak" is the most that is alive at once in a step, with what is
resident. The allocator, CUDA itself and cuBLAS need one or two GB more. The time assumes that each kernel reaches 60 %
of the peak of matrix products or 80 % of the memory's bandwidth, whichever takes longer. Where launching all kernels
takes longer still (6 microseconds each), that is in parentheses. See docs/gpu.md.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from simulated_gpu import guard

# fairseq keeps a copy of the weights and their gradients in float32 for --fp16, and Adam's two moments in float32
OPTIMISER_BYTES = {"fp16": 16, "amp": 8}
FAIRSEQ_STUDENT = "transformer"
FAIRSEQ_TEACHER = "transformer_vaswani_wmt_en_de_big"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shown = {"help": "(default: %(default)s)"}
    parser.add_argument("--vocabulary", type=int, default=37184, **shown)
    parser.add_argument("--tokens", type=int, default=4096, help="target tokens of a batch (default: %(default)s)")
    parser.add_argument("--length", type=int, default=32, help="tokens of a sentence (default: %(default)s)")
    parser.add_argument("--student-arch", default=FAIRSEQ_STUDENT, help="fairseq's --arch (default: %(default)s)")
    parser.add_argument("--teacher-arch", default=FAIRSEQ_TEACHER, help="fairseq's --arch (default: %(default)s)")
    parser.add_argument("--systems", nargs="+", help="what to predict, such as word_kd 'word_kd cached' (default: all)")
    parser.add_argument("--amp", action="store_true", help="train with --amp instead of --fp16")
    parser.add_argument("--gpu", default="A100", help="the GPU of the time, A100 or H100 (default: %(default)s)")
    parser.add_argument("--operations", type=int, default=0, help="also list this many operations that move most bytes")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--compare", type=Path, help="also show the changes from the figures of an earlier --json")
    return parser.parse_args()


args = arguments()
guard.load()
from simulated_gpu import patches  # noqa: E402

patches.apply()

import logging  # noqa: E402
import warnings  # noqa: E402

from simulated_gpu.costs import GPUS, LAUNCH  # noqa: E402
from simulated_gpu.places import LOSSES  # noqa: E402
from simulated_gpu.steps import Memory, Steps, measure_steps  # noqa: E402
from simulated_gpu.systems import PLAIN, systems  # noqa: E402
from simulated_gpu.workplace import Workplace, write_data  # noqa: E402

import nmt_kd  # noqa: E402, F401  (registers the criteria)
from nmt_kd.errors import UserError  # noqa: E402
from nmt_kd.evaluation.tables import Table, as_markdown  # noqa: E402

GB = 1e9


def figures(steps: Steps, memory: Memory, precision: str) -> dict:
    """Return what the table shows and --json writes."""
    record = steps.train.record
    resident = memory.resident + steps.trained * OPTIMISER_BYTES[precision]
    peak = memory.peak + steps.trained * OPTIMISER_BYTES[precision]
    ours = {f"{wait.reason}: {wait.place}": count for wait, count in record.waits.items() if wait.place.is_ours}
    return {
        "trained_parameters": steps.trained,
        "resident_bytes": resident,
        "peak_bytes": max(peak, resident),
        "peak_at": memory.peak_place,
        "flops": record.flops.total(),
        "bytes": record.bytes.total(),
        "parts": {
            part: {"bytes": moved, "flops": record.flops[part], "kernels": record.kernels[part]}
            for part, moved in record.bytes.items()
        },
        "kernels": record.kernels.total(),
        "waits": record.waits.total(),
        "waits_of_ours": ours,
        "milliseconds": {name: 1e3 * seconds for name, seconds in record.seconds.items()},
        "launch_milliseconds": 1e3 * LAUNCH * record.kernels.total(),
    }


def row(name: str, found: dict) -> list[str]:
    milliseconds, launch = found["milliseconds"][args.gpu], found["launch_milliseconds"]
    of_losses = found["parts"].get(LOSSES, {}).get("bytes", 0) / GB
    return [
        name,
        f"{found['trained_parameters'] / 1e6:.1f}",
        f"{found['resident_bytes'] / GB:.2f}",
        f"{found['peak_bytes'] / GB:.2f}",
        f"{found['flops'] / 1e12:.2f}",
        f"{found['bytes'] / GB:.1f}",
        "" if name == PLAIN else f"{of_losses:.1f}",
        f"{found['kernels']:,}",
        f"{found['waits']} ({sum(found['waits_of_ours'].values())})",
        f"{milliseconds:.1f}" + (f" ({launch:.1f})" if launch > milliseconds else ""),
    ]


HEADER = [
    "system",
    "M trained",
    "resident, GB",
    "peak, GB",
    "TFLOP",
    "GB moved",
    "of losses",
    "kernels",
    "waits (ours)",
    f"ms, {args.gpu}",
]
CHANGES = ["system", "GB moved", "of losses", "kernels", "peak, GB", "waits of ours", f"ms, {args.gpu}"]


def change(name: str, before: dict, now: dict) -> list[str]:
    def pair(values: list[float], form: str) -> str:
        return " to ".join(format(value, form) for value in values)

    both = before, now
    return [
        name,
        pair([found["bytes"] / GB for found in both], ".1f"),
        pair([found["parts"].get(LOSSES, {}).get("bytes", 0) / GB for found in both], ".1f"),
        pair([found["kernels"] for found in both], ",d"),
        pair([found["peak_bytes"] / GB for found in both], ".2f"),
        pair([sum(found["waits_of_ours"].values()) for found in both], "d"),
        pair([found["milliseconds"][args.gpu] for found in both], ".1f"),
    ]


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    all_systems = systems()
    unknown = [name for name in args.systems or [] if name not in all_systems]
    if unknown:
        sys.exit(f"benchmark_gpu_model.py: error: unknown system {unknown[0]}; choose from {', '.join(all_systems)}")
    if args.gpu not in GPUS:
        sys.exit(f"benchmark_gpu_model.py: error: unknown GPU {args.gpu}; choose from {', '.join(GPUS)}")
    precision = "amp" if args.amp else "fp16"
    shared = ["--share-all-embeddings", "--attention-dropout", "0.1", "--activation-dropout", "0.1"]
    student = ["--arch", args.student_arch, "--dropout", "0.1", *shared]
    teacher = ["--arch", args.teacher_arch, "--dropout", "0.3", *shared]
    found: dict[str, dict] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        lengths = [args.length] * max(1, args.tokens // args.length)
        lengths[-1] = max(1, lengths[-1] - 1)  # a batch has padding
        write_data(Path(folder), args.vocabulary, lengths)
        workplace = Workplace(Path(folder), student, teacher)
        for name in args.systems or all_systems:
            print(f"{name} ...", end="\r", file=sys.stderr, flush=True)
            try:
                steps, memory = measure_steps(workplace, all_systems[name], precision)
            except UserError as error:  # the method cannot learn from a cache, or from a teacher of this architecture
                if args.systems:
                    failed[name] = str(error)
                continue
            except Exception as error:  # the others are predicted all the same
                failed[name] = f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"
                continue
            found[name] = figures(steps, memory, precision)
            most = steps.train.record.bytes_by_place.most_common(args.operations)
            for (operation, place), moved in most:
                print(f"{name}: {moved / GB:6.2f} GB {operation} {place}")
    settings = {name: value for name, value in vars(args).items() if name not in ("json", "compare", "operations")}
    print(as_markdown(Table(HEADER, [row(name, values) for name, values in found.items()])))
    if args.compare:
        before = json.loads(args.compare.read_text())["systems"]
        rows = [change(name, before[name], values) for name, values in found.items() if name in before]
        print("\n" + as_markdown(Table(CHANGES, rows)))
    if args.json:
        args.json.write_text(json.dumps({"settings": settings, "systems": found}, indent=1) + "\n")
    for name, error in failed.items():
        print(f"benchmark_gpu_model.py: error: {name}: {error}", file=sys.stderr)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
