"""Decoding through fairseq-generate itself: what it finds, what it survives, what it refuses."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, python_variables, run_command
from fairseq import options
from fairseq.dataclass.configs import GenerationConfig
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import generate
from near_ties import A_TOKEN, Judge, margins
from worker import Worker

from nmt_kd.checkpoints.reading import file_hash
from nmt_kd.decoding import fairseq_backend
from nmt_kd.decoding.fairseq_backend import FairseqBackend
from nmt_kd.decoding.order import in_order
from nmt_kd.decoding.originals import Originals
from nmt_kd.decoding.shards import ShardFolder
from nmt_kd.errors import UserError

BIN = Path(sys.executable).parent
SEARCH = ["--beam", "3", "--nbest", "2", "--lenpen", "0.6", "--max-len-b", "30", "--max-tokens", "500", "--cpu"]


def arguments(data, out, teacher, *flags):
    shared = ["--task", "seq_kd", "--path", teacher, "--gen-subset", "train", "--distill-dir", out]
    return [str(item) for item in [data, *shared, *SEARCH, "--distill-block-sentences", 50, *flags]]


def decode(data, out, teacher, *flags):
    """Run fairseq-generate in this process."""
    args = options.parse_args_and_arch(options.get_generation_parser(), arguments(data, out, teacher, *flags))
    with pytest.raises(SystemExit) as end:
        generate.main(convert_namespace_to_omegaconf(args))
    assert end.value.code == 0


def start(data, out, teacher, *flags) -> Worker:
    """Run fairseq-generate in a process of its own."""
    return Worker(generate.cli_main, arguments(data, out, teacher, *flags), out.parent / "generate.log")


def contents(out) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").glob("*.jsonl"))}


@pytest.fixture(scope="session")
def undisturbed(data, seq_kd_teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "kd"
    decode(data, out, seq_kd_teacher)
    return out


def test_finds_what_fairseq_generate_finds(data, task, seq_kd_teacher, undisturbed):
    stock = run_command(
        *(BIN / "fairseq-generate", data, "--user-dir", ROOT / "nmt_kd", "--path", seq_kd_teacher),
        *("--gen-subset", "train", *SEARCH),
    )
    assert stock.returncode == 0, stock.stderr[-2000:]
    expected: dict[int, list[str]] = {}
    for line in stock.stdout.splitlines():
        if line.startswith("H-"):
            number, _, text = line[2:].split("\t")
            expected.setdefault(int(number), []).append(text)
    ours = {decoded.id: [item.text for item in decoded.hypotheses] for decoded in in_order(ShardFolder(undisturbed))}
    assert len(ours) == len(expected) == 600
    judge = Judge.load(seq_kd_teacher, task, "train", lenpen=0.6)
    same = [
        all(judge.as_likely(number, *texts) for texts in zip(ours[number], expected[number], strict=True))
        for number in expected
    ]
    # batches differ, and a tie in mid-search, which rounding breaks, may end in a translation with another score
    assert sum(same) >= 0.98 * len(expected)


def test_the_manifest_has_the_settings_under_the_names_that_earlier_folders_have(undisturbed, seq_kd_teacher):
    settings = json.loads((undisturbed / "manifest.json").read_text())
    search = set(GenerationConfig.__dataclass_fields__)
    assert {name: value for name, value in settings.items() if name not in search | {"source_lengths"}} == {
        "languages": "en-de",
        "source_dictionary": settings["target_dictionary"],
        "target_dictionary": settings["target_dictionary"],
        "subset": "train",
        "sentences": 600,
        "block_sentences": 50,
        "teacher": file_hash(seq_kd_teacher),
        "backend": "fairseq",
        "precision": "float32",
        "max_tokens": 500,
        "batch_size": None,
        "too_long": "error",
        "longest_source": 1024,
        "first_choices": False,
    }
    assert (settings["beam"], settings["nbest"], settings["lenpen"], settings["max_len_b"]) == (3, 2, 0.6, 30)
    assert "seed" not in settings
    assert "print_step" not in settings


def test_a_second_run_decodes_nothing(data, seq_kd_teacher, undisturbed, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in (undisturbed / "shards").iterdir()}
    monkeypatch.setattr("nmt_kd.decoding.fairseq_backend.FairseqBackend.decode", None)
    decode(data, undisturbed, seq_kd_teacher)
    assert {path: path.stat().st_mtime_ns for path in (undisturbed / "shards").iterdir()} == before


def test_workers_that_are_killed_and_change_in_number_give_the_same_files(data, seq_kd_teacher, undisturbed, tmp_path):
    out = tmp_path / "kd"
    for workers, blocks_before_the_kill in ((1, 2), (2, 5), (3, 9)):
        running = [
            start(data, out, seq_kd_teacher, "--num-shards", str(workers), "--shard-id", str(worker))
            for worker in range(workers)
        ]
        deadline = time.monotonic() + 120
        while len(contents(out)) < blocks_before_the_kill and time.monotonic() < deadline:
            time.sleep(0.01)
        for worker in running:
            worker.kill()
    assert 9 <= len(contents(out)) < len(contents(undisturbed)) or contents(out) == contents(undisturbed)
    decode(data, out, seq_kd_teacher)
    assert contents(out) == contents(undisturbed)


def test_a_damaged_block_is_decoded_again(data, seq_kd_teacher, undisturbed, tmp_path):
    out = tmp_path / "kd"
    decode(data, out, seq_kd_teacher, "--num-shards", "2", "--shard-id", "1")
    path = sorted((out / "shards").iterdir())[0]
    path.write_bytes(path.read_bytes()[:-30])
    decode(data, out, seq_kd_teacher)
    assert contents(out) == contents(undisturbed)


def test_torchruns_variables_choose_the_worker(data, seq_kd_teacher, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    decode(data, tmp_path / "kd", seq_kd_teacher)
    assert sorted(contents(tmp_path / "kd")) == ["0000003.jsonl", "0000007.jsonl", "0000011.jsonl"]


def test_torchrun_starts_workers_that_died_again_and_nothing_is_lost(data, seq_kd_teacher, undisturbed, tmp_path):
    out = tmp_path / "kd"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    torchrun += ["--max-restarts", "2", "--monitor-interval", "0.2", "--no-python", str(BIN / "fairseq-generate")]
    plugin = ["--user-dir", str(ROOT / "nmt_kd")]
    process = subprocess.Popen(
        [*torchrun, *arguments(data, out, seq_kd_teacher, *plugin)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **python_variables()},
    )
    deadline = time.monotonic() + 120
    while len(contents(out)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output[-2000:]
    assert "worker 2 of 2: 6 of 6 blocks to compute" in output
    assert len(re.findall("worker [12] of 2: ", output)) == 4
    assert contents(out) == contents(undisturbed)


@pytest.mark.parametrize("mode", ["skip", "truncate"])
def test_sources_that_are_too_long_are_counted_and_kept_out_or_cut(data, seq_kd_teacher, tmp_path, mode, caplog):
    limit = ["--max-source-positions", "20"]
    flags = [*limit, "--distill-too-long", mode, "--distill-first-choices"]  # also if it has nothing to look at
    decode(data, tmp_path / "kd", seq_kd_teacher, *flags)
    decoded = list(in_order(ShardFolder(tmp_path / "kd")))
    empty = [sentence.id for sentence in decoded if not sentence.hypotheses]
    assert len(decoded) == 600
    assert bool(empty) == (mode == "skip")
    assert "positions" in caplog.text


def test_marks_the_tokens_that_are_the_teachers_first_choice(data, task, seq_kd_teacher, tmp_path):
    decode(data, tmp_path / "kd", seq_kd_teacher, "--distill-first-choices", "--gen-subset", "test", "--beam", "1",
           "--nbest", "1")  # fmt: skip
    task.load_dataset("test")
    for decoded in in_order(ShardFolder(tmp_path / "kd")):
        marks = decoded.notes["first_choices"]
        tokens = len(decoded.hypotheses[0].text.split())
        assert len(marks) == tokens + 1
        # a greedy search takes nothing but first choices, until it is cut off
        source = task.dataset("test")[decoded.id]["source"]
        lead = margins(seq_kd_teacher, task, source, decoded.hypotheses[0].text)
        others = [abs(margin) for mark, margin in zip(marks[:tokens], lead, strict=False) if mark != "1"]
        assert max(others, default=0) <= A_TOKEN  # not marked only where another word is nearly as probable


def test_half_precision_that_breaks_is_decoded_again_in_float32(data, task, seq_kd_teacher, tmp_path, monkeypatch):
    real, searched = FairseqBackend._search, {torch.float16: [], torch.float32: []}

    def search(self, dataset, batch, generator, models):
        dtype = next(models[0].parameters()).dtype
        assert next(generator.model.parameters()).dtype == dtype
        searched[dtype] += batch.tolist()
        return real(self, dataset, batch, generator, models)

    def decoded(name, *flags):
        decode(data, tmp_path / name, seq_kd_teacher, "--gen-subset", "test", *flags)
        return {sentence.id: sentence.hypotheses[0] for sentence in in_order(ShardFolder(tmp_path / name))}

    float32 = decoded("float32")
    every_other = itertools.cycle([True, False])
    monkeypatch.setattr(fairseq_backend, "_is_broken", lambda found: next(every_other))
    monkeypatch.setattr(FairseqBackend, "_search", search)
    ours = decoded("ours", "--fp16")
    assert sorted(searched[torch.float16]) == sorted(float32)
    assert searched[torch.float32] == searched[torch.float16][::2]
    judge = Judge.load(seq_kd_teacher, task, "test", lenpen=0.6)
    again = searched[torch.float32]
    same = [number for number in again if judge.as_likely(number, ours[number].text, float32[number].text)]
    assert len(same) >= len(again) - 1  # weights stay rounded to float16
    # float16 may find other translations, but they belong to their sentences
    assert [found.score for found in ours.values()] == pytest.approx(
        [judge.score(number, found.text) for number, found in ours.items()], abs=0.02
    )


def test_hypotheses_begin_with_the_prefix_that_is_asked_for(data, task, seq_kd_teacher, tmp_path):
    decode(data, tmp_path, seq_kd_teacher, "--gen-subset", "test", "--prefix-size", "2")
    originals = Originals.load(data, "en", "de", "test")
    for sentence in in_order(ShardFolder(tmp_path)):
        _, reference = originals.pair(sentence)
        for hypothesis in sentence.hypotheses:
            assert hypothesis.text.split(" ")[:2] == reference.split(" ")[:2]


@pytest.mark.parametrize("side", ["source", "target"])
def test_data_with_other_dictionaries_than_the_teachers_are_refused(data, seq_kd_teacher, tmp_path, side):
    shutil.copytree(data, tmp_path / "data")
    file = tmp_path / "data" / f"dict.{'en' if side == 'source' else 'de'}.txt"
    first, second, *others = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join([second, first, *others]), encoding="utf-8")
    with pytest.raises(UserError, match=f"was trained with another {side} dictionary, .*; decode the data it was"):
        decode(tmp_path / "data", tmp_path / "kd", seq_kd_teacher)
    assert not (tmp_path / "kd").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--distill-dir", ""], "seq_kd needs a folder to write to; choose one with --distill-dir"),
        (["--num-shards", "2", "--shard-id", "2"], "--shard-id is 2; it must be from 0 to 1, since --num-shards is 2"),
        (["--distill-block-sentences", "0"], "--distill-block-sentences is 0; it must be 1 or more"),
        (["--distill-backend", "magic"], "--distill-backend is magic; it must be fairseq, ctranslate2 or auto"),
        (["--nbest", "4"], "--nbest is 4; it must be at most 3, since --beam is 3"),
        (["--score-reference"], "--score-reference scores references instead of translating; leave it out"),
        (["--constraints"], "seq_kd does not support --constraints; leave it out"),
        (["--max-source-positions", "9"], "positions; choose what to do with --distill-too-long skip or truncate"),
    ],
)
def test_settings_that_make_no_sense_are_named(data, seq_kd_teacher, tmp_path, flags, message):
    args = options.parse_args_and_arch(
        options.get_generation_parser(), arguments(data, tmp_path / "kd", seq_kd_teacher, *flags)
    )
    with pytest.raises(UserError) as error:
        generate.main(convert_namespace_to_omegaconf(args))
    assert message in str(error.value)


def test_all_parts_of_a_training_set_are_decoded_as_they_are_trained_on(data, seq_kd_teacher, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    for file in data.glob("test.en-de.*"):
        shutil.copy(file, tmp_path / "data" / file.name.replace("test", "train1"))
    decode(tmp_path / "data", tmp_path / "kd", seq_kd_teacher)
    decoded = list(in_order(ShardFolder(tmp_path / "kd")))
    assert len(decoded) == 613
    originals = Originals.load(tmp_path / "data", "en", "de", "train")
    assert [originals.pair(sentence)[0] for sentence in decoded[600:]] == [
        Originals.load(data, "en", "de", "test").texts(number)[0] for number in range(13)
    ]


def test_several_data_folders_are_refused(data, seq_kd_teacher, tmp_path):
    with pytest.raises(UserError, match="names several folders, but seq_kd takes one; choose the one to train on"):
        decode(f"{data}:{data}", tmp_path / "kd", seq_kd_teacher)


def test_smaller_batches_resume_what_was_decoded_unless_it_was_sampled(data, seq_kd_teacher, tmp_path):
    flags = ["--gen-subset", "valid"]
    decode(data, tmp_path / "kd", seq_kd_teacher, *flags)
    decode(data, tmp_path / "kd", seq_kd_teacher, *flags, "--max-tokens", "250", "--batch-size", "4")
    sampling = [*flags, "--sampling", "--beam", "1", "--nbest", "1"]
    decode(data, tmp_path / "samples", seq_kd_teacher, *sampling)
    with pytest.raises(UserError, match=r"was made with batches \[500, None\], but this run has \[250, None\]"):
        decode(data, tmp_path / "samples", seq_kd_teacher, *sampling, "--max-tokens", "250")


def test_a_language_with_a_hyphen_is_refused_before_anything_is_decoded(data, seq_kd_teacher, tmp_path):
    renamed = tmp_path / "data-bin"
    renamed.mkdir()
    for file in data.iterdir():
        if file.is_file():
            shutil.copy(file, renamed / re.sub(r"\ben\b", "en-GB", file.name))
    flags = ("--source-lang", "en-GB", "--target-lang", "de")
    args = options.parse_args_and_arch(
        options.get_generation_parser(), arguments(renamed, tmp_path / "kd", seq_kd_teacher, *flags)
    )
    with pytest.raises(UserError, match="--source-lang is en-GB; it must be without a hyphen"):
        generate.main(convert_namespace_to_omegaconf(args))
    assert not (tmp_path / "kd/shards").exists()


def test_sources_and_references_of_different_length_are_refused(data, seq_kd_teacher, tmp_path):
    broken = tmp_path / "data-bin"
    shutil.copytree(data, broken)
    for suffix in ("bin", "idx"):
        shutil.copy(data / f"test.en-de.de.{suffix}", broken / f"train.en-de.de.{suffix}")
    expected = (
        f"train.en and train.de in {broken} have different numbers of sentences; binarise files with the same number"
    )
    args = options.parse_args_and_arch(
        options.get_generation_parser(), arguments(broken, tmp_path / "kd", seq_kd_teacher)
    )
    with pytest.raises(UserError, match=re.escape(expected)):
        generate.main(convert_namespace_to_omegaconf(args))
    with pytest.raises(UserError, match=re.escape(expected)):
        Originals.load(broken, "en", "de", "train")


def test_another_teacher_data_set_or_beam_is_refused(data, teacher_path, seq_kd_teacher, undisturbed):
    for flags, name in (
        (["--beam", "4"], "beam 3, but this run has 4"),
        (["--no-repeat-ngram-size", "3"], "no_repeat_ngram_size 0, but this run has 3"),
        (["--temperature", "0.5"], r"temperature 1\.0, but this run has 0\.5"),
        (["--path", str(teacher_path)], "teacher '"),
        (["--gen-subset", "valid"], "subset 'train', but this run has 'valid'"),
    ):
        args = options.parse_args_and_arch(
            options.get_generation_parser(), arguments(data, undisturbed, seq_kd_teacher, *flags)
        )
        with pytest.raises(UserError, match=f"was made with {name}"):
            generate.main(convert_namespace_to_omegaconf(args))


def test_samples_depend_on_the_seed_and_not_on_the_workers(data, seq_kd_teacher, tmp_path):
    flags = ["--sampling", "--beam", "1", "--nbest", "1", "--gen-subset", "valid", "--distill-block-sentences", "10"]
    for name, seed in (("once", "3"), ("other", "4")):
        decode(data, tmp_path / name, seq_kd_teacher, *flags, "--seed", seed)
    for worker in ("1", "0"):
        shard = ["--num-shards", "2", "--shard-id", worker]
        decode(data, tmp_path / "two", seq_kd_teacher, *flags, "--seed", "3", *shard)
    assert contents(tmp_path / "two") == contents(tmp_path / "once")
    assert contents(tmp_path / "other") != contents(tmp_path / "once")


def test_text_that_is_not_binarised_is_decoded_and_a_restart_goes_on(data, corpus, seq_kd_teacher, tmp_path):
    lines = (corpus / "pieces/test.en").read_text(encoding="utf-8").splitlines(keepends=True)

    def interactive(text, size="5"):
        return run_command(
            *(BIN / "fairseq-interactive", data, "--user-dir", ROOT / "nmt_kd", "--task", "seq_kd"),
            *(
                "--buffer-size",
                size,
                "--source-lang",
                "en",
                "--target-lang",
                "de",
                "--path",
                seq_kd_teacher,
                "--distill-dir",
                tmp_path / "kd",
            ),
            *SEARCH,
            input="".join(text),
        )

    refused = interactive(lines, size="0")  # fairseq's default
    assert "--buffer-size is 0; it must be 1 or more, such as 1000" in refused.stderr
    assert interactive(lines[:3]).returncode == 0  # the input ended too early
    assert interactive(lines[:5]).returncode == 0
    first = (tmp_path / "kd/shards/0000000.jsonl").stat().st_mtime_ns
    assert interactive(lines).returncode == 0
    assert (tmp_path / "kd/shards/0000000.jsonl").stat().st_mtime_ns == first
    decoded = list(in_order(ShardFolder(tmp_path / "kd")))
    assert [sentence.notes["text"] for sentence in decoded] == [line.strip() for line in lines]
    changed = interactive([lines[1], *lines[1:]])
    assert changed.returncode != 0
    assert "line 1 of the input differs from the one decoded into" in changed.stderr + changed.stdout
