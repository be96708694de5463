"""Time and memory of a training step, distilled and plain, in one run on one machine.

    python scripts/benchmark.py --json benchmark.json

Whole steps (forward, backward, optimiser) of fairseq models on random batches with padding, without a trained teacher,
which changes nothing about the cost. "textbook" is a method as research code has it: both models' logits for the whole
batch, padding included, once for each time that the decoders run. Systems take turns, so that a change of the machine's
speed meets all of them; ratios are medians over the rounds. Memory is what a step adds at its peak, and the projections
and losses alone: on the CPU to a process of its own, as Linux counts it; on a GPU as torch counts it.
"""

import argparse
import ctypes
import gc
import json
import multiprocessing
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from fairseq import options, tasks
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf
from torch.nn import functional

import nmt_kd  # noqa: F401  (registers the criteria)
from nmt_kd.criterions.base import DistillationCriterion
from nmt_kd.engine.chance import ChanceCheck
from nmt_kd.engine.chunks import Chunk, Projection, SummedLoss
from nmt_kd.evaluation.tables import Table, as_markdown
from nmt_kd.losses.cross_entropy import label_smoothed_cross_entropy
from nmt_kd.losses.divergence import kl_divergence
from nmt_kd.losses.precision import log_probabilities

PLAIN = "plain"
TEXTBOOK_WORD_KD = "word_kd, textbook"
TEXTBOOK_TIE_KD = "tie_kd, textbook"
METHODS = sorted(name for name, kind in CRITERION_REGISTRY.items() if issubclass(kind, DistillationCriterion))
CACHED = {
    "word_kd, cached": ["word_kd"],
    "selective_kd, cached": ["selective_kd"],
    "tie_kd once, cached": ["tie_kd", "--kd-iterations", "1"],
}
LOSS_ALONE = (TEXTBOOK_WORD_KD, "word_kd")
SYSTEMS = [PLAIN, TEXTBOOK_WORD_KD, TEXTBOOK_TIE_KD, *METHODS, *CACHED]


def transformer(layers: int, width: int) -> list[str]:
    sizes = {"layers": layers, "embed-dim": width, "ffn-embed-dim": 4 * width, "attention-heads": width // 64 or 1}
    flags = [f"--{half}-{name}={size}" for half in ("encoder", "decoder") for name, size in sizes.items()]
    return ["--arch", "transformer", "--share-all-embeddings", "--dropout", "0.1", *flags]


class TextbookWordKD:
    """Label-smoothed cross-entropy and KL divergence with whole tensors."""

    def __init__(self, plain, teacher):
        self.plain, self.teacher = plain, teacher

    def __call__(self, model, sample):
        target = sample["target"]
        output = model(**sample["net_input"])
        with torch.no_grad():
            teacher_output = self.teacher(**sample["net_input"])
            q = self.teacher.get_normalized_probs(teacher_output, log_probs=False)
        cross_entropy, _ = self.plain.compute_loss(model, output, sample)
        log_p = model.get_normalized_probs(output, log_probs=True)
        divergence = functional.kl_div(log_p, q, reduction="none").sum(-1)
        divergence = divergence.masked_fill(target.eq(self.plain.padding_idx), 0).sum()
        return 0.5 * cross_entropy + 0.5 * divergence, sample["ntokens"], {}


class TextbookTIEKD(TextbookWordKD):
    """The same, with the ranking loss, and both models run from the start in each iteration."""

    TOP_K = 5

    def __init__(self, plain, teacher, iterations: int):
        super().__init__(plain, teacher)
        self.iterations = iterations

    def __call__(self, model, sample):
        padding = sample["target"].eq(self.plain.padding_idx)
        net_input = dict(sample["net_input"])
        loss = 0
        for iteration in range(self.iterations):
            output = model(**net_input)
            if iteration == 0:
                loss, _ = self.plain.compute_loss(model, output, sample)
                loss = 0.5 * loss
            with torch.no_grad():
                q = self.teacher.get_normalized_probs(self.teacher(**net_input), log_probs=False)
            log_p = model.get_normalized_probs(output, log_probs=True)
            terms = functional.kl_div(log_p, q, reduction="none").sum(-1) + self.ranking(log_p.exp(), q)
            loss = loss + 0.5 / self.iterations * terms.masked_fill(padding, 0).sum()
            predicted = output[0].argmax(-1)
            previous = net_input["prev_output_tokens"].clone()
            previous[:, 1:] = predicted[:, :-1].masked_fill(padding[:, 1:], self.plain.padding_idx)
            net_input["prev_output_tokens"] = previous
        return loss, sample["ntokens"], {}

    def ranking(self, p, q):
        top_q, t = q.topk(self.TOP_K)
        top_p, s = p.topk(self.TOP_K)
        p_t = p.gather(-1, t)
        prefers_t = top_q.unsqueeze(-1) > q.gather(-1, s).unsqueeze(-2)
        order = (top_p.unsqueeze(-2) - p_t.unsqueeze(-1)).relu() * prefers_t
        return order.sum((-1, -2)) + (p_t - p_t[..., :1]).relu().sum(-1)


class Bench:
    """The student, the teacher and one batch of the given sizes."""

    def __init__(self, args):
        torch.manual_seed(1)
        torch.set_num_threads(args.threads)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.folder = tempfile.TemporaryDirectory()
        self._build(args, Path(self.folder.name))
        self.sample = self._batch(args)
        self._build_cached(args, Path(self.folder.name))

    def _build(self, args, folder: Path) -> None:
        dictionary = Dictionary()
        for number in range(args.vocabulary - len(dictionary)):
            dictionary.add_symbol(f"w{number}")
        for language in ("en", "de"):
            dictionary.save(str(folder / f"dict.{language}.txt"))
        self.teacher_flags = [folder, *transformer(args.teacher_layers, args.teacher_width)]
        teacher_cfg = self._parse(self.teacher_flags)
        self.task = tasks.setup_task(teacher_cfg.task)
        torch.save(
            {
                "model": self.task.build_model(teacher_cfg.model).state_dict(),
                "cfg": OmegaConf.to_container(teacher_cfg, resolve=True, enum_to_str=True),
            },
            folder / "t.pt",
        )
        self.student_flags = [folder, *transformer(args.student_layers, args.student_width)]
        student_cfg = self._parse(self.student_flags)
        self.student = self.task.build_model(student_cfg.model).to(self.device, self.dtype).train()
        # the usual 1e-8 is nothing in float16
        self.optimizer = torch.optim.Adam(self.student.parameters(), lr=1e-6, eps=1e-4)
        self.criteria = {}
        for name in (PLAIN, *METHODS):
            method = ["label_smoothed_cross_entropy"] if name == PLAIN else [name, "--teacher-path", folder / "t.pt"]
            shared = ["--label-smoothing", "0.1", "--max-update", "1000000"]
            shared += ["--kd-iterations", str(args.kd_iterations)] if name == "tie_kd" else []
            cfg = self._parse([*self.student_flags, *shared, "--criterion", *method])
            self.criteria[name] = self.task.build_criterion(cfg.criterion).train().to(self.device, self.dtype)
        for name in METHODS:
            self.criteria[name].chance_check.tokens = ChanceCheck.TOKENS  # the teacher is random
            self.criteria[name].teacher.follow(next(self.student.parameters()))
        self.teacher = self.criteria["word_kd"].teacher.models[0]
        self.criteria[TEXTBOOK_WORD_KD] = TextbookWordKD(self.criteria[PLAIN], self.teacher)
        self.criteria[TEXTBOOK_TIE_KD] = TextbookTIEKD(self.criteria[PLAIN], self.teacher, args.kd_iterations)

    def _build_cached(self, args, folder: Path) -> None:
        """Put what the teacher predicts for the batch on disk, and build criteria that read it from there."""
        wanted = [name for name in CACHED if name in args.systems]
        if not wanted:
            return
        padding = self.task.target_dictionary.pad()
        for language, rows in (("en", self.sample["net_input"]["src_tokens"]), ("de", self.sample["target"])):
            prefix = folder / f"train.en-de.{language}"
            builder = MMapIndexedDatasetBuilder(f"{prefix}.bin")
            for row in rows.cpu():
                builder.add_item(row[row != padding])
            builder.finalize(f"{prefix}.idx")
        cache = folder / "cache"
        arguments = ["--teacher-path", folder / "t.pt", "--gen-subset", "train", "--top-k", "8"]
        # in a process of its own, for what it leaves free would count as memory that a step need not add
        subprocess.run(
            [str(part) for part in [sys.executable, "-m", "nmt_kd.cli", "cache", folder, *arguments, cache]], check=True
        )
        for name in wanted:
            method = [*CACHED[name], "--label-smoothing", "0.1", "--teacher-cache", cache]
            cfg = self._parse([*self.student_flags, "--disable-validation", "--criterion", *method])
            self.criteria[name] = self.task.build_criterion(cfg.criterion).train().to(self.device, self.dtype)
            self.criteria[name].chance_check.tokens = ChanceCheck.TOKENS  # the teacher is random

    @staticmethod
    def _parse(flags):
        parser = options.get_training_parser()
        arguments = [str(flag) for flag in flags] + ["--source-lang", "en", "--target-lang", "de"]
        return convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))

    def _batch(self, args) -> dict:
        """Sentences of 0.5 to 1 times the longest length: a fifth of the batch or so is padding."""
        longest = args.length
        lengths = torch.linspace(longest // 2, longest, max(1, args.tokens // longest)).long()
        padding, end = self.task.target_dictionary.pad(), self.task.target_dictionary.eos()
        target = torch.randint(4, args.vocabulary, (len(lengths), longest))
        for row, length in zip(target, lengths, strict=True):
            row[length - 1] = end
            row[length:] = padding
        previous = target.roll(1, 1)
        previous[:, 0] = end
        net_input = {"src_tokens": target.flip(1), "src_lengths": lengths, "prev_output_tokens": previous}
        return {
            "net_input": {name: tensor.to(self.device) for name, tensor in net_input.items()},
            "target": target.to(self.device),
            "ntokens": int(lengths.sum()),
            "id": torch.arange(len(lengths), device=self.device),
        }

    def step(self, name: str) -> float:
        """Run one training step; returns its seconds."""
        started = time.perf_counter()
        self.optimizer.zero_grad()
        loss, *_ = self.criteria[name](self.student, self.sample)
        loss.backward()
        self.optimizer.step()
        self.loss = loss.detach()
        return self._seconds_since(started)

    def teacher_forward(self) -> float:
        """Run the teacher alone, once; returns its seconds."""
        started = time.perf_counter()
        with torch.no_grad():
            self.teacher(**self.sample["net_input"])
        return self._seconds_since(started)

    def decoders_again(self) -> float:
        """Run both decoders once on what the encoders have said, the student's with gradients; returns the seconds."""
        net_input = self.sample["net_input"]
        previous, source = net_input["prev_output_tokens"], (net_input["src_tokens"], net_input["src_lengths"])
        with torch.no_grad():
            of_student, of_teacher = self.student.encoder(*source), self.teacher.encoder(*source)
        started = time.perf_counter()
        output = self.student.decoder(previous, encoder_out=of_student)
        loss, _ = self.criteria[PLAIN].compute_loss(self.student, output, self.sample)
        loss.backward()
        with torch.no_grad():
            self.teacher.decoder(previous, encoder_out=of_teacher)
        return self._seconds_since(started)

    def _seconds_since(self, started: float) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started


def in_own_process(function, *arguments) -> float:
    """The result of a measurement of memory, undisturbed by what this process has used before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def added_megabytes(work, device: torch.device) -> float:
    """What `work` adds to the peak memory: of the process on the CPU, of torch's tensors on a GPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what building the models left free would count as memory that is not added
    Path("/proc/self/clear_refs").write_text("5")  # the kernel's way to forget the peak so far
    before = _kernel_kilobytes("VmRSS")
    work()
    return (_kernel_kilobytes("VmHWM") - before) / 2**10


def _kernel_kilobytes(name: str) -> int:
    return int(re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)[1])


def step_memory(args, name: str) -> float:
    """Peak memory of a training step of one system, in MB."""
    bench = Bench(argparse.Namespace(**{**vars(args), "systems": [name]}))
    return added_megabytes(lambda: bench.step(name), bench.device)


def loss_memory(args, name: str) -> float:
    """Peak memory of the projections, the losses and their gradients alone, of `tokens` tokens, in MB."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float16 if device.type == "cuda" else torch.float32

    def projection(width: int, trained: bool) -> Projection:
        shapes = (args.tokens, width), (args.vocabulary, width)
        return Projection(*(torch.randn(shape, device=device, dtype=dtype).requires_grad_(trained) for shape in shapes))

    student, teacher = projection(args.student_width, True), projection(args.teacher_width, False)
    gold = torch.randint(args.vocabulary, (args.tokens,), device=device)

    class Tokens:
        projections = (student,)

        @staticmethod
        def chunk(rows, logits):
            return Chunk(rows, logits)

    def chunked() -> None:
        total = SummedLoss()
        for chunk in total.chunks(Tokens):
            total.add(chunk, losses(chunk), {})
        total.result()[0].backward()

    def losses(chunk: Chunk) -> torch.Tensor:
        log_p = log_probabilities(chunk.logits[0])
        cross_entropy, _ = label_smoothed_cross_entropy(log_p, gold[chunk.rows], 0.1)
        return 0.5 * cross_entropy + 0.5 * kl_divergence(log_p, log_probabilities(teacher.logits(chunk.rows)))

    def textbook() -> None:
        everything = slice(None)
        q = teacher.logits(everything).float().softmax(-1)
        student_logits = student.logits(everything).float()
        loss, _ = label_smoothed_nll_loss(student_logits.log_softmax(-1), gold, 0.1)
        divergence = functional.kl_div(student_logits.log_softmax(-1), q, reduction="none").sum()
        (0.5 * loss + 0.5 * divergence).backward()

    return added_megabytes(textbook if name == TEXTBOOK_WORD_KD else chunked, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    number = {"type": int, "help": "(default: %(default)s)"}
    parser.add_argument("--vocabulary", default=7800, **number)
    parser.add_argument("--tokens", default=2048, **number)
    parser.add_argument("--length", default=32, **number)
    parser.add_argument("--student-layers", default=2, **number)
    parser.add_argument("--student-width", default=128, **number)
    parser.add_argument("--teacher-layers", default=3, **number)
    parser.add_argument("--teacher-width", default=256, **number)
    parser.add_argument("--kd-iterations", default=3, type=int, help="of tie_kd (default: %(default)s)")
    parser.add_argument("--threads", default=torch.get_num_threads(), **number)
    parser.add_argument("--rounds", default=7, **number)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS, help="what to time (default: all)")
    parser.add_argument("--no-memory", action="store_true", help="measure time alone")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()

    bench = Bench(args)
    systems = [name for name in SYSTEMS if name == PLAIN or name in args.systems]  # all is relative to plain
    times: dict[str, list[float]] = {name: [] for name in systems}
    teacher_times, again_times = [], []
    for round_number in range(args.rounds + 1):
        for name in systems:
            seconds = bench.step(name)
            if not bench.loss.isfinite():
                sys.exit(f"the loss of {name} is {bench.loss.item()}; the figures would be of no use")
            if round_number > 0:  # the first round warms up
                times[name].append(seconds)
        teacher_times.append(bench.teacher_forward())
        again_times.append(bench.decoders_again())
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    once = medians[PLAIN] + statistics.median(teacher_times[1:])
    floors = {"word_kd": once, "tie_kd": once + (args.kd_iterations - 1) * statistics.median(again_times[1:])}
    rows = []
    for name in systems:
        ratios = [ours / theirs for ours, theirs in zip(times[PLAIN], times[name], strict=True)]
        rows.append(
            {
                "system": name,
                "tokens_per_second": bench.sample["ntokens"] / medians[name],
                "speed_relative_to_plain": statistics.median(ratios),
                "step_megabytes": None if args.no_memory else in_own_process(step_memory, args, name),
                "loss_megabytes": None
                if args.no_memory or name not in LOSS_ALONE
                else in_own_process(loss_memory, args, name),
            }
        )
    header = ["system", "target tokens/s", "relative to plain", "a step adds, MB", "projections and losses alone, MB"]
    cells = [
        [
            row["system"],
            f"{row['tokens_per_second']:,.0f}",
            f"{row['speed_relative_to_plain']:.2f}",
            *("" if row[name] is None else f"{row[name]:,.0f}" for name in ("step_megabytes", "loss_megabytes")),
        ]
        for row in rows
    ]
    print(as_markdown(Table(header, cells)))
    print("\nfloor: plain step + teacher forward + both decoders for each further iteration, all timed apart")
    for name, seconds in floors.items():
        reached = f"; it runs at {seconds / medians[name]:.2f} times that" if name in medians else ""
        print(f"floor of {name}: {medians[PLAIN] / seconds:.2f} relative to plain{reached}")
    if args.json:
        settings = {name: value for name, value in vars(args).items() if name != "json"}
        floors = {name: medians[PLAIN] / seconds for name, seconds in floors.items()}
        figures = {"settings": settings, "device": str(bench.device), "systems": rows, "floors": floors}
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
