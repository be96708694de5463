"""The recipes compose the papers' settings, whatever the machine, and every experiment's commands are fairseq's."""

import json
import re

import pytest
from conftest import ROOT
from test_scripts import DATA, dry_run, parsed_experiment, script

EXPERIMENTS = sorted(path.stem for path in (ROOT / "configs/experiments").glob("*.sh"))

# TIE-KD paper (Zhang et al., 2023), tables 9 and 10, and its appendix: data set, role, and what differs between them.
PAPER = {
    ("wmt14_en_de", "plain"): {"max_update": 200_000, "max_epoch": 0, "smoothing": 0.1, "beam": 4, "lenpen": 0.6},
    ("wmt14_en_de", "teacher"): {"max_update": 300_000, "max_epoch": 0, "smoothing": 0.1, "beam": 4, "lenpen": 0.6},
    ("wmt14_en_fr", "plain"): {"max_update": 200_000, "max_epoch": 0, "smoothing": 0.1, "beam": 4, "lenpen": 0.6},
    ("wmt14_en_fr", "teacher"): {"max_update": 300_000, "max_epoch": 0, "smoothing": 0.1, "beam": 4, "lenpen": 0.6},
    ("wmt16_en_ro", "plain"): {"max_update": 0, "max_epoch": 20, "smoothing": 0.1, "beam": 5, "lenpen": 1.2},
    ("wmt16_en_ro", "teacher"): {"max_update": 0, "max_epoch": 30, "smoothing": 0.3, "beam": 5, "lenpen": 1.2},
}
SIZES = {  # layers of encoder and decoder, width, feed-forward width, heads, dropout, learning rate
    "plain": (6, 6, 512, 2048, 8, 0.1, 7e-4),
    "teacher": (6, 6, 1024, 4096, 16, 0.3, 5e-4),
}


@pytest.mark.parametrize(("data", "role"), PAPER)
def test_training_is_the_papers_field_by_field(data, role):
    cfg, paper = dry_run(data, role, NPROC="4"), PAPER[data, role]
    model = cfg.model
    assert (
        *(model.encoder_layers, model.decoder_layers, model.encoder_embed_dim, model.encoder_ffn_embed_dim),
        *(model.encoder_attention_heads, model.dropout, cfg.optimization.lr[0]),
    ) == SIZES[role]
    assert (model.decoder_embed_dim, model.decoder_ffn_embed_dim, model.decoder_attention_heads) == SIZES[role][2:5]
    assert (model.share_all_embeddings, model.encoder_normalize_before, model.decoder_normalize_before) == (1, 0, 0)
    assert (model.attention_dropout, model.activation_dropout) == (0.1, 0.1)
    assert (cfg.optimizer._name, eval(str(cfg.optimizer.adam_betas))) == ("adam", (0.9, 0.98))
    assert (cfg.lr_scheduler._name, cfg.lr_scheduler.warmup_updates) == ("inverse_sqrt", 4000)
    assert (cfg.dataset.max_tokens, cfg.optimization.update_freq) == (4096, [2])
    assert cfg.distributed_training.distributed_world_size == 4
    assert cfg.criterion.label_smoothing == paper["smoothing"]
    assert (cfg.optimization.max_update, cfg.optimization.max_epoch) == (paper["max_update"], paper["max_epoch"])
    if role == "teacher":  # the best by BLEU in validation
        assert (cfg.checkpoint.best_checkpoint_metric, cfg.checkpoint.maximize_best_checkpoint_metric) == ("bleu", True)
        assert json.loads(cfg.task.eval_bleu_args) == {"beam": paper["beam"], "lenpen": paper["lenpen"]}
    else:  # the mean of the last five
        assert cfg.checkpoint.keep_last_epochs == 5
        assert cfg.checkpoint.keep_interval_updates == (5 if data == "wmt14_en_fr" else 1)
    assert not cfg.checkpoint.no_epoch_checkpoints


@pytest.mark.parametrize("data", sorted({data for data, _ in PAPER}))
def test_evaluation_is_the_papers(data):
    result = script("evaluate", data, "word_kd", "--dry-run")
    paper = PAPER[data, "plain"]
    assert "nmt-kd average --inputs" in result.stdout
    # 200,000 updates are but few epochs of English-French
    assert f"--last-{'updates' if data == 'wmt14_en_fr' else 'epochs'} 5" in result.stdout
    assert f"--beam {paper['beam']} --lenpen {paper['lenpen']} " in result.stdout
    assert "--metrics multi-bleu" in result.stdout
    assert "--last-" not in script("evaluate", data, "teacher", "--dry-run").stdout


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_batch_of_an_update_does_not_depend_on_the_number_of_workers(data, workers):
    one, several = dry_run(data, "plain"), dry_run(data, "plain", NPROC=str(workers))
    tokens = [cfg.dataset.max_tokens * cfg.optimization.update_freq[0] for cfg in (one, several)]
    assert tokens[1] * workers == tokens[0]


def test_several_machines_meet_and_share_the_batch():
    environment = {"NPROC": "4", "NNODES": "2", "MASTER": "node1:23456"}
    result = script("train", "wmt14_en_de", "tie_kd", "--dry-run", **environment)
    assert "--rdzv-endpoint node1:23456 --nnodes 2 --nproc-per-node 4" in result.stdout
    cfg = dry_run("wmt14_en_de", "tie_kd", **environment)
    assert (cfg.distributed_training.distributed_world_size, cfg.optimization.update_freq) == (8, [1])
    assert dry_run("wmt14_en_de", "tie_kd", MAX_TOKENS="2048", **environment).optimization.update_freq == [2]


@pytest.mark.parametrize("data", DATA)
def test_the_seers_dropout_is_that_of_the_paper(data):
    assert dry_run(data, "seer_forcing").criterion.seer_dropout == (0.2 if data == "wmt16_en_ro" else 0.1)


def test_workers_that_do_not_divide_the_batch_are_refused():
    result = script("train", "wmt14_en_de", "tie_kd", "--dry-run", NPROC="3")
    assert result.returncode == 1
    assert "32768 tokens per update are not divisible by 3 workers with 4096 tokens" in result.stderr


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_command_of_an_experiment_is_fairseqs(experiment):
    data = "wmt14_en_de" if experiment == "stronger_teacher" else "multi30k"  # whose models are named
    output, trainings = parsed_experiment(data, experiment, "--dry-run", "--", "--max-update", "9")
    folders = [flags.save_dir for flags in trainings]
    assert len(set(folders)) == len(folders) >= 3
    assert {flags.max_update for flags in trainings} == {9}
    (report,) = re.findall(r"^\+ nmt-kd report (.*) --output (.*)$", output, re.MULTILINE)
    assert report[1].endswith(f"/reports/{experiment}")
    not_evaluated = ("reverse_teacher", "masked_teacher", "multi30k_unigram/teacher")
    evaluated = [folder for folder in folders if not folder.endswith(not_evaluated)]
    assert report[0].split() == evaluated


def test_mixes_are_also_trained_for_as_many_epochs_as_plain():
    _, trainings = parsed_experiment("multi30k", "dropout", "--dry-run")
    limits = {flags.save_dir.rpartition("/")[2]: flags.max_update for flags in trainings}
    assert limits["plain"] == limits["seq_kd_base"] == 2000
    assert limits["seq_kd_base_twice"] == 4000
    assert limits["seq_kd_base_bt_thrice_no_dropout"] == 6000
    # when the learning rate has fallen to its end
    assert [int(flags.total_num_update) for flags in trainings] == list(limits.values())


@pytest.mark.parametrize(
    ("data", "experiment", "message"),
    [
        ("wmt16_en_ro", "dropout", "compares equal numbers of updates, but wmt16_en_ro trains for a number of epochs"),
        ("wmt16_en_ro", "longer", "trains for more updates, but wmt16_en_ro trains for a number of epochs"),
        ("wmt14_en_de", "comparison", "is for multi30k, for which there is a teacher with other subwords"),
    ],
)
def test_experiments_refuse_data_that_they_do_not_fit(data, experiment, message):
    result = script("experiment", data, experiment, "--dry-run")
    assert result.returncode == 1
    assert f"the experiment {experiment} {message}" in result.stderr


def test_a_given_teacher_is_not_replaced_by_the_teachers_of_an_experiment():
    output, trainings = parsed_experiment("multi30k", "after", "--dry-run", TEACHER="given.pt")
    assert "teacher_r_drop" not in output
    assert {flags.teacher_path for flags in trainings if flags.criterion == "word_kd"} == {"given.pt"}


def test_the_teacher_of_ckd_is_deeper_than_its_students():
    _, trainings = parsed_experiment("multi30k", "ckd", "--dry-run")
    layers = {flags.save_dir.rpartition("/")[2]: (flags.encoder_layers, flags.decoder_layers) for flags in trainings}
    assert layers.pop("teacher_6_layers") == (6, 6)
    assert set(layers.values()) == {(2, 2)}


def test_an_experiment_trains_every_student_for_every_seed_and_the_teacher_once():
    result = script("experiment", "multi30k", "methods", "--dry-run", SEEDS="1 2 3")
    names = [line.split("--save-dir ")[1].split()[0].rpartition("/")[2] for line in result.stdout.splitlines()
             if "+ fairseq-train" in line]  # fmt: skip
    assert names[:4] == ["teacher", "plain", "plain.seed2", "plain.seed3"]
    assert len(names) == 1 + 3 * 6


def test_systems_of_an_experiment_learn_from_the_teacher_it_names():
    result = script("experiment", "multi30k", "weaker_teacher", "--dry-run")
    teachers = set(re.findall(r"--teacher-path (\S+)", result.stdout))
    assert {teacher.split("/")[-2] for teacher in teachers} == {"plain"}
    compared = set(re.findall(r"nmt-kd agreement \S+ (\S+)", result.stdout))
    assert {teacher.split("/")[-2] for teacher in compared} == {"plain"}


def test_a_teacher_that_is_given_is_not_trained_and_teaches_all():
    result = script("experiment", "multi30k", "combinations", "--dry-run", TEACHER="/published/model.pt")
    assert result.returncode == 0, result.stderr
    assert "multi30k: not training teacher, because TEACHER=/published/model.pt replaces it" in result.stdout
    trained = re.findall(r"--save-dir \S+/(\S+)", result.stdout)
    assert "teacher" not in trained
    assert "tie_kd" in trained
    assert set(re.findall(r"--teacher-path (\S+)", result.stdout)) == {"/published/model.pt"}
    assert set(re.findall(r"nmt-kd agreement \S+ (\S+)", result.stdout)) == {"/published/model.pt"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["multi30k"], "name a data set"),
        (["multi30k", "magic"], "unknown experiment 'magic'; choose from ablation after ckd"),
    ],
)
def test_wrong_names_are_errors_that_say_what_there_is(arguments, message):
    result = script("experiment", *arguments)
    assert result.returncode == 1
    assert message in result.stderr


def test_one_and_two_workers_learn_the_same(tmp_path):
    """The same batches, in as many pieces: what is left of a difference is rounding."""
    environment = {"NMT_KD_RUNS": str(tmp_path), "MAX_TOKENS": "750"}
    assert script("prepare", "phrasebook", **environment).returncode == 0
    losses = {}
    for workers in (1, 2):
        system = f"plain_{workers}"
        flags = ["--max-update", "3", "--log-interval", "1", "--disable-validation", "--no-save"]
        result = script(
            *("train", "phrasebook", "plain", "--", *flags), NPROC=str(workers), SYSTEM=system, **environment
        )
        assert result.returncode == 0, result.stderr
        log = (tmp_path / f"phrasebook/{system}/train.log").read_text(encoding="utf-8")
        losses[workers] = [float(loss) for loss in re.findall(r'train_inner \| .*?"loss": "([\d.]+)"', log)]
    assert len(losses[1]) == 3
    assert losses[2] == pytest.approx(losses[1], abs=2e-3)


@pytest.mark.parametrize("student", sorted(path.stem for path in (ROOT / "configs/students").glob("*.sh")))
@pytest.mark.parametrize("data", ["multi30k", "wmt14_en_de"])
def test_recipes_train_a_student_to_ship_on_any_data_set(data, student):
    assert dry_run(data, "word_kd", STUDENT=student).model.arch == f"transformer_student_{student}"
    assert dry_run(data, "teacher", STUDENT=student).model.arch != f"transformer_student_{student}"


def test_an_unknown_student_is_an_error_that_says_what_there_is():
    result = script("train", "multi30k", "plain", "--dry-run", STUDENT="huge")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "train.sh: error: unknown STUDENT=huge; choose from: base base_memory tiny\n"
