import re
import shutil
from itertools import pairwise

import pytest
from recorded_runs import with_setting, without_records

from nmt_kd.errors import UserError
from nmt_kd.evaluation import training_log
from nmt_kd.evaluation.runs import Run, settings_that_differ

pytest_plugins = ["recorded_runs"]


def test_a_real_run_is_read_from_its_files(real_run):
    run = Run(real_run)
    assert (run.name, run.data_set) == ("word_kd", "tiny")
    assert run.updates == 20
    assert run.parameters > 1000
    assert run.settings["criterion"] == "word_kd"
    assert run.settings["kd_alpha"] == 0.5
    assert run.settings["encoder_embed_dim"] == 16
    assert run.languages == ("en", "de")
    assert "seed" not in run.meaningful_settings
    assert run.hypotheses is not None
    assert len(run.hypotheses) == len(run.references) == len(run.evaluations["test"].sources) == 13
    assert run.agreement == {"teacher_agreement": 41.5}
    assert run.decoding_sentences_per_second is not None
    assert run.decoding_sentences_per_second > 0


def test_curves_match_the_log(real_run):
    run = Run(real_run)
    logged = re.findall(r'"kd_loss": "([\d.]+)".*"num_updates": "(\d+)"', run.log)
    curve = run.curve("kd_loss", "train_inner")
    assert [(point.updates, point.value) for point in curve] == [
        (int(updates), float(value)) for value, updates in logged if int(updates) % 2 == 0
    ][: len(curve)]
    assert [point.updates for point in curve] == list(range(2, 21, 2))
    assert all(before.seconds < after.seconds for before, after in pairwise(curve))
    assert curve[-1].seconds == pytest.approx(run.training_seconds)
    assert len(run.curve("nll_loss")) == len(run.curve("teacher_agreement")) > 0
    assert run.curve("bleu") == []


def inner(updates, loss, wps="100"):
    return (
        f'2026-01-01 10:00:00 | INFO | train_inner | {{"loss": "{loss}", "wps": "{wps}", "wpb": "50", '
        f'"num_updates": "{updates}"}}'
    )


def written(tmp_path, *lines):
    folder = tmp_path / "set/run"
    folder.mkdir(parents=True)
    (folder / "train.log").write_text("\n".join(lines) + "\n")
    return Run(folder)


def test_time_is_tokens_divided_by_speed_and_updates_repeated_after_a_restart_count_once(tmp_path):
    log = [inner(10, 9), inner(20, 8), inner(30, 7.5), inner(20, 7, wps="50"), inner(30, 6)]
    run = written(tmp_path, *log)
    # 10 updates of 50 tokens at 100 a second, then at 50, then at 100
    assert [(p.updates, p.seconds, p.value) for p in run.curve("loss", "train_inner")] == [
        (10, 5.0, 9.0),
        (20, 15.0, 7.0),
        (30, 20.0, 6.0),
    ]
    assert run.updates == 30
    assert run.seconds_per_update == 0.5


def test_the_time_of_a_validation_between_two_records_is_interpolated(tmp_path):
    valid = '2026-01-01 10:00:00 | INFO | valid | {"valid_bleu": "3.5", "valid_num_updates": "15"}'
    run = written(tmp_path, inner(10, 9), valid, inner(20, 8))
    (point,) = run.curve("bleu")
    assert (point.updates, point.seconds, point.value) == (15, 7.5, 3.5)


def test_validation_takes_no_time_of_training(tmp_path):
    valid = '2026-01-01 10:00:00 | INFO | valid | {"valid_bleu": "3.5", "valid_num_updates": "20"}'
    run = written(tmp_path, inner(10, 9), inner(20, 8), valid, inner(30, 7, wps="10"), inner(40, 6))
    assert [point.seconds for point in run.curve("loss", "train_inner")] == [5, 10, 15, 20]


def test_updates_after_the_last_interval_count(tmp_path):
    valid = '2026-01-01 10:00:00 | INFO | valid | {"valid_bleu": "3.5", "valid_num_updates": "12"}'
    run = written(tmp_path, inner(10, 9), valid)
    assert (run.updates, run.training_seconds) == (12, 6.0)


def test_a_validation_before_the_first_interval_has_a_time(tmp_path):
    valid = '2026-01-01 10:00:00 | INFO | valid | {"valid_bleu": "3.5", "valid_num_updates": "4"}'
    (point,) = written(tmp_path, valid, inner(10, 9)).curve("bleu")
    assert (point.updates, point.seconds) == (4, 2.0)


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"max_tokens": 50, "update_freq": [4], "distributed_world_size": 2, "max_tokens_valid": 50}, True),
        ({"max_tokens": 200, "update_freq": [2], "ddp_backend": "legacy_ddp", "keep_last_epochs": 5}, True),
        ({"max_tokens": 200, "update_freq": [1]}, False),
        ({"max_tokens": 400, "update_freq": [1], "fp16": True}, False),
    ],
)
def test_the_number_of_workers_that_share_an_update_does_not_make_another_system(settings, same):
    one = {"max_tokens": 400, "update_freq": [1], "distributed_world_size": 1, "fp16": False, "max_tokens_valid": 400}
    kept = training_log.without_incidental({**one, **settings})
    assert (kept == training_log.without_incidental(one)) == same


def test_settings_that_differ_exclude_seeds_and_folders(variation):
    runs = [
        Run(variation("a")),
        Run(variation("b", log=with_setting("seed", "9"))),
        Run(variation("c", log=with_setting("kd_alpha", "0.7"))),
    ]
    assert settings_that_differ(runs[:2]) == {}
    assert settings_that_differ(runs) == {"kd_alpha": [0.5, 0.5, 0.7]}


def test_references_come_from_the_prepared_text_if_there_is_any(variation):
    run = Run(variation("a"))
    generated = run.references
    text = run.folder.parent / "text"
    text.mkdir()
    (text / "test.de").write_text("ein Satz\n" * 13)
    assert run.references == ["ein Satz"] * 13 != generated


def test_a_run_shorter_than_the_log_interval_has_the_times_of_its_epochs(variation):
    whole = Run(variation("whole"))
    short = Run(variation("short", log=without_records("train_inner")))
    assert short.updates == whole.updates
    assert short.tokens_per_update == pytest.approx(whole.tokens_per_update, rel=0.2)
    assert 0 < short.training_seconds < 10 * whole.training_seconds


def test_the_other_test_sets_have_files_with_their_names(variation):
    folder = variation("a")
    shutil.copy(folder / "translations.txt", folder / "translations.web.txt")
    shutil.copy(folder / "translations.txt.log", folder / "translations.web.txt.log")
    (folder / "agreement.web.json").write_text('{"teacher_agreement": 12.5}')
    (folder / "agreement.news.2014.json").write_text('{"teacher_agreement": 13.5}')
    (folder.parent / "text").mkdir()
    (folder.parent / "text/web.de").write_text("ein Satz\n" * 13)
    run = Run(folder)
    assert list(run.evaluations) == ["test", "news.2014", "web"]
    web = run.evaluations["web"]
    assert (web.hypotheses, web.references) == (run.hypotheses, ["ein Satz"] * 13)
    assert (web.teacher_agreement, web.sentences_per_second) == (12.5, run.decoding_sentences_per_second)
    assert run.evaluations["news.2014"].hypotheses is None
    assert run.evaluations["news.2014"].teacher_agreement == 13.5


def test_translations_that_do_not_match_the_references_are_refused(variation):
    folder = variation("a")
    (folder.parent / "text").mkdir()
    (folder.parent / "text/test.de").write_text("ein Satz\n" * 14)
    message = r"translations\.txt has 13 translations of 14 test sentences; delete it and rerun: bash .* tiny a$"
    with pytest.raises(UserError, match=message):
        Run(folder).hypotheses  # noqa: B018


def test_a_damaged_measurement_of_agreement_is_refused(variation):
    folder = variation("a")
    (folder / "agreement.json").write_text('{"teacher_agr')
    with pytest.raises(UserError, match=r"agreement\.json is not the output of nmt-kd agreement --json; delete it"):
        Run(folder).agreement  # noqa: B018


@pytest.mark.parametrize(
    ("lines", "measure", "message"),
    [
        (["nothing"], "updates", "has no training statistics; train with --log-format json"),
        (
            ["nothing"],
            "settings",
            "does not contain fairseq-train's settings; save the complete output of fairseq-train there",
        ),
        (
            ["nothing"],
            "parameters",
            "does not contain the number of parameters; save the complete output",
        ),
    ],
)
def test_an_incomplete_log_is_refused(tmp_path, lines, measure, message):
    with pytest.raises(UserError, match=message):
        getattr(written(tmp_path, *lines), measure)


def test_a_folder_without_a_log_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no train\.log; give a folder written by scripts/train\.sh"):
        Run(tmp_path).updates  # noqa: B018
