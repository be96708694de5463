"""Measure the time and memory of training steps, with and without distillation, in one run on one machine.

    python scripts/benchmark.py --json benchmark.json

A step is a forward pass, a backward pass and an optimiser step of a fairseq model on a random batch with padding. The
teacher is not trained, which does not affect the cost. "textbook" is the straightforward implementation, which holds
both models' logits for the whole batch, including padding, each time the decoders run. Systems take turns, so that
changes in the machine's speed affect all of them; ratios are medians over the rounds. Memory is measured for a whole
step and for the output projections and losses alone, as the peak that they add: on the CPU to the memory of a separate
process, according to Linux; on a GPU to the memory of torch's tensors.
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
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf
from simulated_gpu.systems import FLAGS, PLAIN, methods
from torch.nn import functional

import nmt_kd  # noqa: F401  (registers the criteria)
from nmt_kd.criterions.base import TeacherConfig
from nmt_kd.engine.chunks import Chunk, Projection, SummedLoss
from nmt_kd.evaluation.tables import Table, as_markdown
from nmt_kd.losses.logits import Logits

TEXTBOOK_WORD_KD = "word_kd, textbook"
TEXTBOOK_TIE_KD = "tie_kd, textbook"
TEXTBOOK_R_DROP = "r_drop, textbook"
METHODS = methods()
CACHED = {
    "word_kd, cached": ["word_kd"],
    "selective_kd, cached": ["selective_kd"],
    "tie_kd once, cached": ["tie_kd", "--kd-iterations", "1"],
}
LOSS_ALONE = (TEXTBOOK_WORD_KD, "word_kd")
SYSTEMS = [PLAIN, TEXTBOOK_WORD_KD, TEXTBOOK_TIE_KD, TEXTBOOK_R_DROP, *METHODS, *CACHED]


def transformer(layers: int, width: int) -> list[str]:
    sizes = {"layers": layers, "embed-dim": width, "ffn-embed-dim": 4 * width, "attention-heads": width // 64 or 1}
    flags = [f"--{half}-{name}={size}" for half in ("encoder", "decoder") for name, size in sizes.items()]
    return ["--arch", "transformer", "--share-all-embeddings", "--dropout", "0.1", *flags]


class TextbookWordKD:
    """Label-smoothed cross-entropy and KL divergence, computed for the whole batch at once."""

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
    """The same with the ranking loss; each iteration runs both models completely, encoders included."""

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


class TextbookRDrop:
    """R-Drop on a batch that has every sentence twice, computed for the whole batch at once."""

    def __init__(self, plain):
        self.plain = plain

    def __call__(self, model, sample):
        twice = {name: torch.cat([tensor, tensor]) for name, tensor in sample["net_input"].items()}
        target = torch.cat([sample["target"], sample["target"]])
        output = model(**twice)
        cross_entropy, _ = self.plain.compute_loss(model, output, {**sample, "net_input": twice, "target": target})
        first, second = model.get_normalized_probs(output, log_probs=True).chunk(2)
        divergences = (
            functional.kl_div(p, q, log_target=True, reduction="none") for p, q in ((first, second), (second, first))
        )
        divergence = sum(divergences).sum(-1).masked_fill(sample["target"].eq(self.plain.padding_idx), 0).sum() / 2
        return cross_entropy + 5 * divergence, sample["ntokens"], {}


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
        # the usual 1e-8 would be rounded to 0 in float16
        self.optimizer = torch.optim.Adam(self.student.parameters(), lr=1e-6, eps=1e-4)
        self.criteria = {}
        for name in (PLAIN, *METHODS):
            method = ["label_smoothed_cross_entropy" if name == PLAIN else name, *FLAGS.get(name, [])]
            if name != PLAIN and issubclass(CRITERION_DATACLASS_REGISTRY[name], TeacherConfig):
                method += ["--teacher-path", folder / "t.pt"]
            shared = ["--label-smoothing", "0.1", "--max-update", "1000000"]
            shared += ["--kd-iterations", str(args.kd_iterations)] if name == "tie_kd" else []
            cfg = self._parse([*self.student_flags, *shared, "--criterion", *method])
            self.criteria[name] = self.task.build_criterion(cfg.criterion).train().to(self.device, self.dtype)
        for name in METHODS:
            if (teacher := self.criteria[name].teacher) is not None:
                teacher.is_trained = False  # skips the check that it beats chance
                for model in teacher.models:
                    model.to(self.device, self.dtype)
        self.teacher = self.criteria["word_kd"].teacher.models[0]
        self.criteria[TEXTBOOK_WORD_KD] = TextbookWordKD(self.criteria[PLAIN], self.teacher)
        self.criteria[TEXTBOOK_R_DROP] = TextbookRDrop(self.criteria[PLAIN])
        self.criteria[TEXTBOOK_TIE_KD] = TextbookTIEKD(self.criteria[PLAIN], self.teacher, args.kd_iterations)

    def _build_cached(self, args, folder: Path) -> None:
        """Cache the teacher's predictions for the batch, and build criteria that use the cache."""
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
        # in a separate process, because a step could reuse the memory that this frees, and would seem to need less
        subprocess.run(
            [str(part) for part in [sys.executable, "-m", "nmt_kd.cli", "cache", folder, *arguments, cache]], check=True
        )
        for name in wanted:
            method = [*CACHED[name], "--label-smoothing", "0.1", "--teacher-cache", cache]
            cfg = self._parse([*self.student_flags, "--disable-validation", "--criterion", *method])
            self.criteria[name] = self.task.build_criterion(cfg.criterion).train().to(self.device, self.dtype)
            self.criteria[name].teacher.is_trained = False

    @staticmethod
    def _parse(flags):
        parser = options.get_training_parser()
        arguments = [str(flag) for flag in flags] + ["--source-lang", "en", "--target-lang", "de"]
        return convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))

    def _batch(self, args) -> dict:
        """Return a batch of sentences with 0.5 to 1 times the longest length, so about a quarter of it is padding."""
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
        """Run one training step; return the seconds it took."""
        started = time.perf_counter()
        self.optimizer.zero_grad()
        loss, *_ = self.criteria[name](self.student, self.sample)
        loss.backward()
        self.optimizer.step()
        self.loss = loss.detach()
        return self._seconds_since(started)

    def teacher_forward(self) -> float:
        """Run the teacher alone, once; return the seconds it took."""
        started = time.perf_counter()
        with torch.no_grad():
            self.teacher(**self.sample["net_input"])
        return self._seconds_since(started)

    def decoders_again(self) -> float:
        """Run both decoders once on encoder outputs, the student's with gradients; return the seconds it took."""
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
    """Call a function that measures memory in a new process, unaffected by what this process has used before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def added_megabytes(work, device: torch.device) -> float:
    """Return what `work` adds to the peak memory of the process on the CPU, or of torch's tensors on a GPU, in MB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # otherwise `work` would reuse memory freed while the models were built
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak so far
    before = _kernel_kilobytes("VmRSS")
    work()
    return (_kernel_kilobytes("VmHWM") - before) / 2**10


def _kernel_kilobytes(name: str) -> int:
    return int(re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)[1])


def step_memory(args, name: str) -> float:
    """Return the peak memory that a training step of one system adds, in MB."""
    bench = Bench(argparse.Namespace(**{**vars(args), "systems": [name]}))
    return added_megabytes(lambda: bench.step(name), bench.device)


def loss_memory(args, name: str) -> float:
    """Return the peak memory that the output projections, losses and their gradients add for one batch, in MB."""
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
        (logits,) = chunk.logits
        cross_entropy, _ = logits.cross_entropy(gold[chunk.rows], 0.1)
        return 0.5 * cross_entropy + 0.5 * logits.kl_divergence_from(Logits.of(teacher.logits(chunk.rows)))

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
    parser.add_argument("--no-memory", action="store_true", help="measure only the time")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()

    bench = Bench(args)
    systems = [name for name in SYSTEMS if name == PLAIN or name in args.systems]  # speeds are relative to plain
    times: dict[str, list[float]] = {name: [] for name in systems}
    teacher_times, again_times = [], []
    for round_number in range(args.rounds + 1):
        for name in systems:
            seconds = bench.step(name)
            if not bench.loss.isfinite():
                sys.exit(
                    f"benchmark.py: error: the loss of {name} is {bench.loss.item()}, so its figures would be "
                    "meaningless; choose other systems with --systems"
                )
            if round_number > 0:  # the first round warms up
                times[name].append(seconds)
        teacher_times.append(bench.teacher_forward())
        again_times.append(bench.decoders_again())
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    once = medians[PLAIN] + statistics.median(teacher_times[1:])
    expected = {"word_kd": once, "tie_kd": once + (args.kd_iterations - 1) * statistics.median(again_times[1:])}
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
    print("\nexpected speed: plain step + teacher forward + both decoders for each further iteration, timed separately")
    for name, seconds in expected.items():
        reached = f"; measured: {medians[PLAIN] / medians[name]:.2f}" if name in medians else ""
        print(f"expected speed of {name}, relative to plain: {medians[PLAIN] / seconds:.2f}{reached}")
    if args.json:
        settings = {name: value for name, value in vars(args).items() if name != "json"}
        figures = {
            "settings": settings,
            "device": str(bench.device),
            "systems": rows,
            "expected_speed_relative_to_plain": {name: medians[PLAIN] / seconds for name, seconds in expected.items()},
        }
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
