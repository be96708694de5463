"""fairseq's commands, run with the plugin as a user would."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import sacrebleu
from conftest import ROOT, STAND_INS, TINY_TRANSFORMER, TRAINING, run_command, train_here

BIN = Path(sys.executable).parent
PLUGIN = ["--user-dir", "nmt_kd"]
TRUST = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}


@pytest.fixture(scope="module")
def student(data, teacher_path, tmp_path_factory) -> Path:
    criterion = ["--criterion", "word_kd", "--teacher-path", teacher_path, "--max-update", "3"]
    return train_here(data, tmp_path_factory.mktemp("student"), *criterion).save_dir / "checkpoint_last.pt"


def generate(data, checkpoint, *arguments, **kwargs):
    return run_command(
        BIN / "fairseq-generate", data, "--path", checkpoint, "--cpu", "--beam", "2", *arguments, **kwargs
    )


def assert_quiet(result):
    assert result.returncode == 0, result.stderr[-3000:]
    noise = [line for line in (result.stdout + result.stderr).splitlines() if "Warning" in line or "deprecat" in line]
    assert noise == []


def translations(output: str) -> list[str]:
    return sorted(re.findall(r"^H-\d+\t.*$", output, re.MULTILINE))


def test_train_works_with_restore_file_and_logs_how_to_reproduce_the_run(data, teacher_path, student, tmp_path):
    result = run_command(
        *(
            BIN / "fairseq-train",
            data,
            *PLUGIN,
            *TINY_TRANSFORMER,
            *TRAINING,
            "--save-dir",
            tmp_path,
            "--max-update",
            "2",
        ),
        *("--criterion", "word_kd", "--teacher-path", teacher_path, "--restore-file", student, "--reset-optimizer"),
        *("--reset-dataloader", "--reset-meters"),
    )
    assert_quiet(result)
    assert f"Loaded checkpoint {student}" in result.stdout
    assert result.stdout.count("to reproduce: method:word_kd|") == 1


def test_generate_translates_every_sentence_without_a_warning(data, student):
    result = generate(data, student, *PLUGIN)
    assert_quiet(result)
    assert [int(line.split("\t")[0][2:]) for line in translations(result.stdout)] == sorted(range(13), key=str)


def test_interactive_translates_a_sentence_from_standard_input(data, student, corpus):
    source = (corpus / "pieces/test.en").read_text().splitlines()[0]
    command = [BIN / "fairseq-interactive", data, *PLUGIN, "--path", student, "--cpu"]
    result = run_command(*command, input=source + "\n")
    assert_quiet(result)
    assert len(translations(result.stdout)) == 1


def test_validate_reports_the_criterions_measures(data, student):
    result = run_command(
        BIN / "fairseq-validate",
        data,
        *PLUGIN,
        "--path",
        student,
        "--cpu",
        "--max-tokens",
        "800",
        "--task",
        "translation",
    )
    assert_quiet(result)
    assert "teacher_agreement" in result.stdout


def test_a_student_translates_in_stock_fairseq_without_this_package_or_the_teacher(
    data, teacher_path, student, tmp_path
):
    """A copy of the checkpoint gives the same translations after the teacher has been moved away."""
    with_plugin = generate(data, student, *PLUGIN, "--required-batch-size-multiple", "1")
    shutil.copy(student, tmp_path / "student.pt")
    hidden = teacher_path.with_name("hidden.pt")
    teacher_path.rename(hidden)

    def generate_without_plugin(**environment):
        flags = ["--required-batch-size-multiple", "1"]
        return generate(data, tmp_path / "student.pt", *flags, environment={"PYTHONPATH": "", **environment})

    try:
        stock = generate_without_plugin(**TRUST)
        refused = generate_without_plugin(PYTHONPATH=str(STAND_INS))
    finally:
        hidden.rename(teacher_path)
    assert refused.returncode == 1  # as the README says
    assert "weights_only" in refused.stderr
    assert stock.returncode == 0, stock.stderr[-3000:]
    assert "nmt_kd" not in re.sub(r"'user_dir': [^,]*|'path': [^,]*|/\S*", "", stock.stderr)
    assert translations(stock.stdout) == translations(with_plugin.stdout) != []
    (variable,) = (f"`{name}={value}`" for name, value in TRUST.items())
    assert variable in (ROOT / "README.md").read_text(encoding="utf-8")


def test_bleu_during_training_is_that_of_the_student(data, teacher_path, tmp_path, corpus):
    """The BLEU in the log matches that of the checkpoint, translated by fairseq-generate and scored by sacrebleu."""
    run = train_here(
        data,
        tmp_path,
        *("--criterion", "word_kd", "--teacher-path", teacher_path, "--max-update", "40"),
        *("--eval-bleu", "--eval-bleu-args", '{"beam": 2}', "--eval-bleu-detok", "space", "--eval-tokenized-bleu"),
        *("--max-tokens-valid", "12000"),  # as fairseq-generate: the same batches give the same last bits
    )
    result = generate(data, tmp_path / "checkpoint_last.pt", *PLUGIN, "--gen-subset", "valid", "--scoring", "sacrebleu")
    pairs: dict[str, dict[str, str]] = {}
    for kind, number, text in re.findall(r"^([HT])-(\d+)\t(?:[^\t\n]*\t)?(.*)$", result.stdout, re.MULTILINE):
        pairs.setdefault(number, {})[kind] = text
    score = sacrebleu.corpus_bleu(
        [pair["H"] for pair in pairs.values()], [[pair["T"] for pair in pairs.values()]], tokenize="none"
    ).score
    assert run.values("valid", "valid_bleu")[-1] == pytest.approx(score, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--teacher-path", "/none.pt"], "checkpoint /none.pt does not exist; give the path of a file written by"),
        (["--kd-alpha", "2"], "--kd-alpha is 2.0; it must be from 0 to 1"),
    ],
)
def test_wrong_input_ends_in_one_line_without_a_traceback(data, teacher_path, tmp_path, arguments, message):
    result = run_command(
        *(
            BIN / "fairseq-train",
            data,
            *PLUGIN,
            *TINY_TRANSFORMER,
            *TRAINING,
            "--save-dir",
            tmp_path,
            "--max-update",
            "2",
        ),
        *("--criterion", "word_kd", "--teacher-path", teacher_path, *arguments),
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"nmt_kd: error: {message}")
    assert "Traceback" not in result.stderr


def test_a_missing_teacher_is_an_error_that_names_the_option(data, tmp_path):
    command = [BIN / "fairseq-train", data, *PLUGIN, *TINY_TRANSFORMER, *TRAINING, "--criterion", "word_kd"]
    result = run_command(*command, "--save-dir", tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "nmt_kd: error: no teacher given; name a fairseq checkpoint with --teacher-path"
    )


HYDRA_SETTINGS = """
common: {{user_dir: {root}/nmt_kd, cpu: true}}
task: {{_name: translation, data: {data}}}
model: {{_name: transformer, encoder: {{embed_dim: 16, ffn_embed_dim: 32, layers: 1, attention_heads: 2}}}}
criterion: {{_name: word_kd, teacher_path: {teacher}, kd_alpha: 0.7}}
optimizer: {{_name: adam, adam_betas: "(0.9, 0.98)"}}
optimization: {{lr: [0.001], max_update: 2}}
lr_scheduler: {{_name: fixed}}
dataset: {{max_tokens: 800, num_workers: 0}}
checkpoint: {{save_dir: {out}}}
"""


def test_training_works_through_hydra(data, teacher_path, tmp_path):
    settings = HYDRA_SETTINGS.format(root=ROOT, data=data, teacher=teacher_path, out=tmp_path / "out")
    (tmp_path / "student.yaml").write_text(settings)
    result = run_command(
        *(BIN / "fairseq-hydra-train", "--config-dir", tmp_path, "--config-name", "student"),
        *("hydra.job.chdir=false", f"hydra.run.dir={tmp_path}"),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "method:word_kd" in result.stdout + result.stderr + (tmp_path / "hydra_train.log").read_text()
    assert (tmp_path / "out/checkpoint_last.pt").is_file()
