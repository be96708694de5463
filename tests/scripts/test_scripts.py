"""The shell scripts: help, dry runs, errors, and that fairseq takes what the settings compose."""

import gzip
import os
import re
import shlex
import sys

import pytest
import sentencepiece
import subwords
from conftest import METHODS as CRITERIA
from conftest import ROOT, parse_training, parse_training_flags, run_command

SOURCED = {"common", "decoding", "own_text", "steps"}  # by other scripts
SCRIPTS = sorted({path.stem for path in (ROOT / "scripts").glob("*.sh")} - SOURCED)
DATA = sorted(path.stem for path in (ROOT / "configs/data").glob("*.sh"))
METHODS = sorted(path.stem for path in (ROOT / "configs/methods").glob("*.sh"))


def script(name, *arguments, **environment):
    return run_command(
        "bash", ROOT / f"scripts/{name}.sh", *arguments, environment={"NMT_KD_DEVICE": "cpu", **environment}
    )


@pytest.mark.parametrize(
    ("name", "arguments", "variable"),
    [
        ("train", ["multi30k", "plain"], "MAX_TOKENS"),
        ("train", ["multi30k", "plain"], "NPROC"),
        ("train", ["multi30k", "plain"], "NNODES"),
        ("distill", ["multi30k", "kd"], "WORKERS"),
        ("prepare", ["multi30k"], "WORKERS"),
        ("experiment", ["multi30k", "methods"], "JOBS"),
    ],
)
@pytest.mark.parametrize("value", ["0", "2x", "-1"])
def test_variables_that_are_no_numbers_are_refused(name, arguments, variable, value):
    result = script(name, *arguments, "--dry-run", **{variable: value})
    assert (result.returncode, result.stderr) == (
        1,
        f"{name}.sh: error: {variable}={value} must be a number of 1 or more\n",
    )


def test_a_flag_that_names_the_teacher_replaces_the_data_sets():
    printed = script("train", "multi30k", "word_kd", "--dry-run", "--", "--teacher-cache", "stored").stdout
    assert "--teacher-cache stored" in printed
    assert "--teacher-path" not in printed


@pytest.mark.parametrize(
    ("tasks", "first", "last", "message"),
    [("2", "3", "7", "the array must be 0-1, without gaps"), ("16", "1", "16", "the array must be 0-15, without gaps")],
)
def test_a_slurm_array_with_gaps_is_refused(tasks, first, last, message):
    variables = {"COUNT": tasks, "MIN": first, "MAX": last, "ID": first}
    result = run_command(
        *("bash", ROOT / "scripts/distill.slurm", "multi30k", "kd"),
        environment={f"SLURM_ARRAY_TASK_{name}": value for name, value in variables.items()},
    )
    assert (result.returncode, result.stderr) == (1, f"distill.slurm: error: {message}\n")


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_says_how_to_call_it(name):
    result = script(name, "--help")
    assert result.returncode == 0
    assert f"scripts/{name}.sh" in result.stdout


@pytest.mark.parametrize(
    "name", ["quickstart", "prepare", "train", "evaluate", "distill", "translate", "setup", "experiment", "benchmark"]
)
def test_an_unknown_option_is_an_error_in_one_line(name):
    result = script(name, "--unknown")
    assert result.returncode == 1
    assert result.stderr == f"{name}.sh: error: unknown option --unknown; see --help\n"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("prepare", ["wmt99"], "unknown data set 'wmt99'; choose from:"),
        ("train", ["multi30k", "magic"], "unknown method 'magic'; choose from:"),
        ("train", ["multi30k"], "name a data set"),
        ("distill", ["multi30k"], "name a data set"),
        ("quickstart", ["--data"], "--data needs a value"),
        ("quickstart", ["--methods", "magic"], "unknown method 'magic'"),
        ("evaluate", ["multi30k", "plain", "--", "--beam", "1"], "no flags can follow --; see --help"),
        (
            "translate",
            ["multi30k", "reverse_teacher"],
            "cannot translate with reverse_teacher, because it",
        ),
    ],
)
def test_wrong_names_are_errors_that_say_what_there_is(name, arguments, message):
    result = script(name, *arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def parsed(line, parse=parse_training):
    """What fairseq's own parser makes of a line with a training command."""
    words = shlex.split(line)
    words = words[words.index("fairseq-train") + 1 :]
    del words[words.index("--user-dir") : words.index("--user-dir") + 2]  # imported in this process already
    return parse(words)


def parsed_experiment(*arguments, **environment):
    """The output of a dry run of an experiment, and the flags of its trainings."""
    result = script("experiment", *arguments, **environment)
    assert result.returncode == 0, result.stderr
    trainings = [line for line in result.stdout.splitlines() if "+ fairseq-train" in line]
    return result.stdout, [parsed(line, parse_training_flags) for line in trainings]


def dry_run(data, method, *flags, parse=parse_training, **environment):
    """The settings of the training that would be run, or its flags alone."""
    result = script("train", data, method, "--dry-run", *flags, **environment)
    assert result.returncode == 0, result.stderr
    (line,) = (line for line in result.stdout.splitlines() if "fairseq-train" in line)
    return parsed(line, parse)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", DATA)
def test_fairseq_takes_every_combination_of_data_set_and_method(data, method):
    flags = dry_run(data, method, parse=parse_training_flags)
    assert flags.save_dir.endswith(f"{data}/{method}")
    # the papers' teacher for Romanian is the exception
    assert flags.label_smoothing == (0.3 if data == "wmt16_en_ro" and "teacher" in method else 0.1)
    plain = ("teacher", "plain", "seq_kd", "seq_kd_base", "reverse_teacher")
    expected = "label_smoothed_cross_entropy" if method in plain else method.removeprefix("seq_kd_")
    others = {"masked_teacher": "nat_loss", "recommended": "word_kd"}
    assert flags.criterion == others.get(method, expected)
    if method == "recommended":
        assert flags.dropout == flags.attention_dropout == flags.activation_dropout == 0
    assert flags.max_update or flags.max_epoch


@pytest.mark.parametrize("data", DATA)
def test_a_masked_teacher_is_a_masked_model_that_is_chosen_by_its_loss(data):
    cfg, plain = dry_run(data, "masked_teacher"), dry_run(data, "teacher")
    assert cfg.model.arch == "cmlm_transformer"
    assert (cfg.task._name, cfg.task.noise, cfg.task.eval_bleu) == ("translation_lev", "random_mask", False)
    assert (cfg.checkpoint.best_checkpoint_metric, cfg.checkpoint.maximize_best_checkpoint_metric) == ("loss", False)
    assert (cfg.model.share_all_embeddings, cfg.model.dropout) == (True, plain.model.dropout)
    assert cfg.optimization == plain.optimization


@pytest.mark.parametrize("data", DATA)
def test_students_differ_in_the_criterion_alone(data):
    plain, distilled = dry_run(data, "plain"), dry_run(data, "word_kd")
    ours, theirs = vars(distilled.model), vars(plain.model)  # fairseq keeps every flag there
    assert {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]} == {"criterion", "save_dir"}
    assert all(name.startswith(("kd_", "teacher_", "ignore_")) for name in ours.keys() ^ theirs.keys())


def test_every_criterion_has_its_settings():
    assert set(CRITERIA) <= set(METHODS)


def test_a_method_for_a_decoded_corpus_trains_on_it_and_says_how_to_make_it(tmp_path):
    assert dry_run("multi30k", "seq_kd_base").task.data.endswith("multi30k/data-bin-base+kd")
    (tmp_path / "multi30k/data-bin").mkdir(parents=True)
    result = script("train", "multi30k", "seq_kd", NMT_KD_RUNS=str(tmp_path))
    assert result.returncode == 1
    assert "data-bin-kd is missing; make it with: bash scripts/distill.sh multi30k kd" in result.stderr


def test_distilling_a_corpus_decodes_with_the_task_and_assembles():
    result = script("distill", "multi30k", "base+kd", "--dry-run", "--", "--distill-backend", "auto")
    assert result.returncode == 0
    commands = [line for line in result.stdout.splitlines() if line.startswith("+")]
    decode, assemble = (line for line in commands if "fairseq-generate" in line or "nmt-kd" in line)
    assert "--task seq_kd" in decode
    assert decode.endswith("--distill-backend auto")
    assert "/decoded=base+kd " in assemble
    assert re.search(r"mv \S+/data-bin-base\+kd.partial \S+/data-bin-base\+kd$", commands[-1])  # only when it is whole


def test_decoding_that_fails_leaves_no_corpus_behind(tmp_path):
    (tmp_path / "multi30k/data-bin").mkdir(parents=True)
    (tmp_path / "multi30k/teacher").mkdir()
    (tmp_path / "multi30k/teacher/checkpoint_best.pt").write_text("no checkpoint")
    result = script("distill", "multi30k", "kd", NMT_KD_RUNS=str(tmp_path), WORKERS="2")
    assert result.returncode == 1
    assert f"decoding failed; see {tmp_path}/multi30k/decoded.log, then rerun to resume" in result.stderr
    assert "assembling" not in result.stdout
    assert not list(tmp_path.glob("multi30k/data-bin-kd*"))
    (tmp_path / "multi30k/data-bin-kd").mkdir()
    assert "data-bin-kd already exists" in script("distill", "multi30k", "kd", NMT_KD_RUNS=str(tmp_path)).stdout


def test_a_folder_is_one_training_and_a_finished_one_says_so(tmp_path):
    folder = tmp_path / "multi30k/word_kd"
    folder.mkdir(parents=True)
    (folder / "flags").write_text("word_kd --kd-alpha 0.7\n")
    (folder / "finished").touch()
    again = script("train", "multi30k", "word_kd", "--", "--kd-alpha", "0.7", NMT_KD_RUNS=str(tmp_path))
    assert again.returncode == 0
    assert "multi30k: word_kd is already trained" in again.stdout
    other = script("train", "multi30k", "word_kd", "--", "--kd-alpha", "0.9", NMT_KD_RUNS=str(tmp_path))
    assert other.returncode == 1
    assert "(method and flags: word_kd --kd-alpha 0.7 -> word_kd --kd-alpha 0.9)" in other.stderr


def test_gpus_that_torch_does_not_see_are_no_reason_to_train_on_the_cpu(tmp_path):
    listing = tmp_path / "nvidia-smi"
    listing.write_text("#!/bin/sh\necho GPU 0: some\n")
    listing.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NMT_KD_DEVICE": ""}
    result = script("train", "multi30k", "plain", "--dry-run", **environment)
    assert result.returncode == 1
    assert "nvidia-smi lists GPUs, but torch sees none" in result.stderr
    hidden = script("train", "multi30k", "plain", "--dry-run", CUDA_VISIBLE_DEVICES="", **environment)
    assert hidden.returncode == 0
    assert " --cpu" in hidden.stdout


@pytest.mark.parametrize("prefix", ["", "[rank0]: "])
def test_progress_shows_errors_of_any_worker_and_the_training_statistics(prefix):
    log = (
        f"{prefix}torch.OutOfMemoryError: CUDA out of memory\nany other line\n"
        '2026-01-01 10:00:00 | INFO | train_inner | {"num_updates": "25", "loss": "7.5", "wps": "99.4"}\n'
    )
    result = run_command(sys.executable, ROOT / "scripts/progress.py", input=log)
    assert result.stderr == f"{prefix}torch.OutOfMemoryError: CUDA out of memory\n"
    assert result.stdout.startswith("  update 25, loss 7.5, 99 tokens/s, ")


def test_all_methods_are_one_command():
    result = script("quickstart", "--data", "multi30k", "--methods", "all", "--dry-run")
    assert result.returncode == 0
    trained = {line.split("--save-dir ")[1].split()[0].rpartition("/")[2] for line in result.stdout.splitlines()
               if "+ fairseq-train" in line}  # fmt: skip
    assert trained == set(METHODS) - {"reverse_teacher", "masked_teacher"}


def test_a_dry_run_needs_no_set_up(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")  # as before torch is installed
    python.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "VIRTUAL_ENV": str(tmp_path), "NMT_KD_DEVICE": ""}
    result = script("quickstart", "--dry-run", CUDA_VISIBLE_DEVICES="", **environment)
    assert result.returncode == 0, result.stderr
    assert "+ fairseq-train" in result.stdout


def test_flags_after_the_dashes_override_every_setting():
    cfg = dry_run("multi30k", "word_kd", "--", "--kd-alpha", "0.9", "--max-update", "7")
    assert (cfg.criterion.kd_alpha, cfg.optimization.max_update) == (0.9, 7)


def test_multi30k_is_prepared_from_a_folder_and_a_second_run_does_nothing(tmp_path):
    source = tmp_path / "multi30k"
    source.mkdir()
    texts = {"train": 400, "val": 5, "test_2016_flickr": 3, "test_2017_flickr": 2}
    for split, size in texts.items():
        for language in ("en", "de"):
            with gzip.open(source / f"{split}.{language}.gz", "wt") as file:
                file.writelines(
                    f"{language} sentence number {n * n} {chr(97 + n % 26) * (n % 7 + 1)}\n" for n in range(size)
                )
    environment = {"MULTI30K_DIR": str(source), "NMT_KD_RUNS": str(tmp_path / "runs")}
    too_many = script("prepare", "multi30k", **environment)
    assert too_many.returncode != 0  # so few sentences have no 4000 subwords
    text = tmp_path / "runs/multi30k/text"
    assert len((text / "train.en").read_text().splitlines()) == 400
    assert len((text / "test.de").read_text().splitlines()) == 3
    assert len((text / "test_2017_flickr.de").read_text().splitlines()) == 2
    assert not (tmp_path / "runs/multi30k/subwords").exists()


@pytest.mark.parametrize(("name", "expected"), [("multi30k", "4000 bpe"), ("multi30k_unigram", "7800 unigram")])
def test_multi30k_has_subwords_of_two_kinds(name, expected):
    commands = (
        f'. scripts/common.sh; load_data_config {name}; echo "$vocabulary_size $subword_algorithm ${{test_sets[*]}}"'
    )
    result = run_command("bash", "-c", commands)
    assert result.stdout == f"{expected} test_2016_flickr test_2017_flickr\n", result.stderr


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_subwords_are_those_of_the_algorithm_that_is_asked_for(algorithm, corpus, tmp_path):
    words = [corpus / "text", tmp_path, "--languages", "en", "de", "--vocabulary-size", "150", "--algorithm", algorithm]
    subwords.main([str(word) for word in words])
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "subwords.model"))
    scores = [model.get_score(number) for number in range(3, len(model))]  # the ranks of merges, or log-probabilities
    assert all(score == int(score) for score in scores) == (algorithm == "bpe")
    assert len(model) == 150
    text = (corpus / "text/test.en").read_text(encoding="utf-8").splitlines()
    assert [model.decode(line.split(" ")) for line in (tmp_path / "test.en").read_text().splitlines()] == text


def test_a_missing_file_of_multi30k_is_named_with_where_to_get_it(tmp_path):
    result = script("prepare", "multi30k", MULTI30K_DIR=str(tmp_path), NMT_KD_RUNS=str(tmp_path / "runs"))
    assert result.returncode == 1
    assert f"{tmp_path}/train.en.gz is missing; get it from https://" in result.stderr
