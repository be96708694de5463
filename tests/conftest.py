"""A small corpus, a trained teacher, and fairseq's commands as functions."""

import argparse
import copy
import functools
import json
import logging
import os
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import composition  # noqa: F401  (fairseq composes its configurations with it)
import fork_server
import pytest
import torch
from fairseq import options, tasks, utils
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, CRITERION_REGISTRY
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import preprocess, train

import nmt_kd  # noqa: F401  (registers the criteria)
from nmt_kd.checkpoints.reading import read_checkpoint_file
from nmt_kd.criterions.base import DistillationCriterion, TeacherConfig

ROOT = Path(__file__).parents[1]
STAND_INS = ROOT / "tests/stand_ins"  # of a library that slows the start of processes
sys.path.insert(0, str(ROOT / "scripts"))
import phrasebook  # noqa: E402
import subwords  # noqa: E402


def registered_methods() -> list[str]:
    """The names of all criterions of this package's kind."""
    return sorted(name for name, kind in CRITERION_REGISTRY.items() if issubclass(kind, DistillationCriterion))


torch.set_num_threads(1)  # the models are tiny, and the last bits of results depend on it
for user_dir in os.environ.get("NMT_KD_USER_DIR", "").split(":"):  # methods to test that are not in the package
    utils.import_user_module(argparse.Namespace(user_dir=user_dir or None))
METHODS = registered_methods()
import hooks  # noqa: E402, F401  (registers a method for each hook)

EVERY_METHOD = registered_methods()
TINY_TRANSFORMER = [
    *("--arch", "transformer_iwslt_de_en", "--share-all-embeddings", "--dropout", "0.1"),
    *("--encoder-layers", "1", "--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "32"),
    *("--decoder-layers", "1", "--decoder-embed-dim", "16", "--decoder-ffn-embed-dim", "32"),
    *("--encoder-attention-heads", "2", "--decoder-attention-heads", "2"),
]
TRAINING = [
    *("--optimizer", "adam", "--lr", "0.005", "--max-tokens", "800", "--seed", "3", "--cpu"),
    *("--no-epoch-checkpoints", "--log-format", "json", "--log-interval", "1", "--num-workers", "0"),
]


@dataclass
class Run:
    """What a training left behind."""

    save_dir: Path
    statistics: dict[str, list[dict]] = field(default_factory=dict)  # of train_inner, train and valid

    def checkpoint(self, name: str = "checkpoint_last.pt") -> dict:
        return read_checkpoint_file(self.save_dir / name)

    def values(self, logger: str, name: str) -> list[float]:
        return [float(record[name]) for record in self.statistics[logger]]


class _Statistics(logging.Handler):
    def __init__(self, run: Run):
        super().__init__()
        self.run = run

    def emit(self, record):
        text = record.getMessage()
        if record.name in ("train_inner", "train", "valid") and text.startswith("{"):
            self.run.statistics.setdefault(record.name, []).append(json.loads(text))


def parse_training(arguments) -> object:
    """fairseq's configuration of a fairseq-train command line."""
    return convert_namespace_to_omegaconf(parse_training_flags(arguments))


@functools.cache
def _kept_configuration(*arguments: str) -> object:
    return parse_training(arguments)


def parse_training_flags(arguments) -> argparse.Namespace:
    """The flags of a fairseq-train command line, which takes a tenth of the time of the whole configuration."""
    return options.parse_args_and_arch(options.get_training_parser(), [str(item) for item in arguments])


def train_here(data: Path, save_dir: Path, *arguments, architecture=TINY_TRANSFORMER, common=None) -> Run:
    """Run fairseq-train in this process; later arguments override earlier ones, `common` fairseq's common settings."""
    cfg = parse_training([data, *architecture, *TRAINING, "--save-dir", save_dir, *arguments])
    cfg.common.update(common or {})
    run = Run(save_dir)
    handler = _Statistics(run)
    root_logger = logging.getLogger()
    level = root_logger.level
    root_logger.addHandler(handler)
    root_logger.setLevel(logging.INFO)
    try:
        train.main(cfg)
    finally:
        root_logger.removeHandler(handler)
        root_logger.setLevel(level)
    return run


def method_flags(method: str, teacher_path, *flags) -> list[str]:
    """The flags that make `method` the criterion, with the teacher if it has one."""
    has_teacher = issubclass(CRITERION_DATACLASS_REGISTRY[method], TeacherConfig)
    return ["--criterion", method, *(["--teacher-path", str(teacher_path)] if has_teacher else []), *flags]


def python_variables() -> dict[str, str]:
    """The environment variables of Python commands that tests start."""
    start = fork_server.variables(STAND_INS)
    return {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{STAND_INS}", **start}


def run_command(*command, environment=None, cwd=ROOT, **kwargs) -> subprocess.CompletedProcess:
    """Run a command as a user would, with everything it prints captured."""
    variables = {**python_variables(), **(environment or {})}
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=cwd,
        env={**os.environ, **variables},
        **kwargs,
    )


def binarise(text: Path, out: Path, *arguments) -> None:
    parser = options.get_preprocessing_parser()
    prefixes = [item for split in ("train", "valid", "test") for item in (f"--{split}pref", str(text / split))]
    common = ["--source-lang", "en", "--target-lang", "de", *prefixes, "--destdir", str(out)]
    preprocess.main(parser.parse_args([*common, *map(str, arguments)]))


@pytest.fixture(autouse=True)
def one_thread():
    """What a test leaves in torch's number of threads would slow all later ones, whose threads wait for each other."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """A folder with text/, pieces/ and data-bin/ of a small phrasebook; 13 test sentences, an awkward number."""
    folder = tmp_path_factory.mktemp("corpus")
    for name, pairs in (splits := phrasebook.corpus({"test": 13, "valid": 20, "train": 600}, seed=5)).items():
        (folder / "text").mkdir(exist_ok=True)
        for column, language in enumerate(("en", "de")):
            lines = "".join(pair[column] + "\n" for pair in pairs)
            (folder / f"text/{name}.{language}").write_text(lines, encoding="utf-8")
    arguments = [folder / "text", folder / "pieces", "--languages", "en", "de", "--vocabulary-size", "200"]
    subwords.main([str(item) for item in arguments])
    assert len(splits) == 3
    binarise(folder / "pieces", folder / "data-bin", "--joined-dictionary")
    return folder


@pytest.fixture(scope="session")
def data(corpus) -> Path:
    return corpus / "data-bin"


@pytest.fixture(scope="session")
def task(data):
    return tasks.setup_task(parse_training([data, *TINY_TRANSFORMER]).task)


@pytest.fixture(scope="session")
def teacher_run(data, tmp_path_factory) -> Run:
    """A teacher trained just long enough to know more than nothing."""
    return train_here(
        data,
        tmp_path_factory.mktemp("teacher"),
        *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1", "--max-update", "40"),
        *("--encoder-embed-dim", "24", "--decoder-embed-dim", "24"),
    )


@pytest.fixture(scope="session")
def teacher_path(teacher_run) -> Path:
    return teacher_run.save_dir / "checkpoint_last.pt"


@pytest.fixture(scope="session")
def seq_kd_teacher(data, tmp_path_factory):
    """A teacher that knows enough to end its sentences."""
    folder = tmp_path_factory.mktemp("seq_kd_teacher")
    criterion = ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1", "--disable-validation"]
    train_here(data, folder, *criterion, "--max-update", "150", "--lr", "0.01", "--max-tokens", "1500")
    return folder / "checkpoint_last.pt"


@pytest.fixture
def sample(task):
    """The first batch of the test set, with padding on both sides."""
    task.load_dataset("test")
    dataset = task.dataset("test")
    return dataset.collater([dataset[index] for index in range(6)])


@pytest.fixture
def build(data, task, teacher_path):
    """A criterion and a student without dropout, the same ones for the same arguments."""

    def build(method, *flags, architecture=TINY_TRANSFORMER):
        arguments = [*method_flags(method, teacher_path), "--label-smoothing", "0.1", "--max-update", 100, *flags]
        cfg = copy.deepcopy(_kept_configuration(*map(str, [data, *architecture, "--dropout", "0", *arguments])))
        torch.manual_seed(7)
        student = task.build_model(cfg.model).train()
        return task.build_criterion(cfg.criterion).train(), student

    return build


@pytest.fixture(scope="session")
def trained_marian(corpus, tmp_path_factory):
    """The folder of a Marian model that has learned the shortest training sentences."""
    from translators.teachers import marian, save, shortest_pairs  # imports transformers, which takes long

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("marian")
    model, tokenizer = marian(folder, corpus / "pieces/subwords.model", source_lang="en", target_lang="de")
    pairs = shortest_pairs(corpus)
    optimizer, draw = torch.optim.Adam(model.parameters(), lr=0.005), random.Random(1)
    for _ in range(250):
        sources, targets = zip(*draw.sample(pairs, 25), strict=True)
        batch = tokenizer(list(sources), text_target=list(targets), padding=True, return_tensors="pt")
        batch["labels"][batch["labels"] == tokenizer.pad_token_id] = -100
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        model.model.shared.weight.data[tokenizer.pad_token_id] = 0  # as Marian's own training leaves it
    return save(folder, model, tokenizer)
