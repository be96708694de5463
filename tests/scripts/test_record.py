"""What a run, a decoding, a corpus and a result are made of, and what happens when it changes."""

import fcntl
import json
import os
import re
import shutil

import pytest
import record
import runs
from fairseq import options

from nmt_kd.evaluation import training_log


@pytest.fixture
def place(tmp_path):
    return runs.workplace(tmp_path)


TRAIN = ("train", "multi30k", "word_kd")
OTHER = "choose another folder with SYSTEM=NAME, or add --restart to remove it and train again"


def test_the_same_run_is_resumed_until_it_has_finished(place):
    place.script(*TRAIN, KILLED="yes")
    assert "training word_kd on 1 cpu" in place.done(*TRAIN)
    calls = place.calls
    assert len(calls) == 2
    assert "multi30k: word_kd is already trained" in place.done(*TRAIN)
    assert place.calls == calls


@pytest.mark.parametrize(
    ("flags", "environment", "change"),
    [
        (["--", "--lr", "0.5"], {}, "--lr: 0.004 -> 0.5"),
        (["--", "--kd-alpha", "0.7", "--seed=2"], {}, "--seed: 1 -> 2; --kd-alpha: 0.5 -> 0.7"),
        (["--", "--share-decoder-input-output-embed"], {}, "--share-decoder-input-output-embed: not set -> set"),
        ([], {"CORPUS": "base+kd"}, "corpus: none -> base+kd"),
        ([], {"TEACHER": "other.pt"}, "teacher: checkpoint_best.pt (SHA-256 "),
    ],
)
@pytest.mark.parametrize("killed", ["", "yes"])
def test_a_run_that_differs_is_refused_by_what_differs(place, flags, environment, change, killed):
    place.script(*TRAIN, KILLED=killed)
    shutil.copytree(place.work / "data-bin", place.work / "data-bin-base+kd")
    if "TEACHER" in environment:
        environment = {"TEACHER": str(place.folder / "other.pt")}
        (place.folder / "other.pt").write_text("another teacher")
    line = place.refused(*TRAIN, *flags, **environment)
    assert f"this run differs from the one in {place.work}/word_kd ({change}" in line
    assert line.endswith(OTHER)


def test_another_initial_model_of_the_same_name_is_another_run(place):
    for name in ("a", "b"):
        (place.folder / name).mkdir()
        (place.folder / name / "checkpoint_best.pt").write_text(name)
    flag = "--finetune-from-model"
    place.done(*TRAIN, "--", flag, place.folder / "a/checkpoint_best.pt")
    line = place.refused(*TRAIN, "--", flag, place.folder / "b/checkpoint_best.pt")
    assert "(initial model: checkpoint_best.pt (SHA-256 " in line


def test_changed_settings_data_and_method_are_named(place):
    place.done(*TRAIN, SYSTEM="mine")
    assert "(method: word_kd -> plain; teacher: " in place.refused("train", "multi30k", "plain", SYSTEM="mine")
    (place.work / "data-bin/train.en-de.en.bin").write_text("other text")
    assert "(data: train.en-de.en.bin (SHA-256 " in place.refused(*TRAIN, SYSTEM="mine")


def test_a_changed_vocabulary_is_refused_by_every_script(place):
    (place.work / "subwords/settings").write_text("500 subwords\n")
    message = (
        "has 500 subwords, but the settings say 4000 subwords; restore the setting, or prepare the data again with: "
    )
    for name, *arguments in (TRAIN, ("distill", "multi30k", "kd")):
        assert message in place.refused(name, *arguments)
    place.script(*TRAIN)
    (place.work / "word_kd").mkdir()
    (place.work / "word_kd/finished").touch()
    assert message in place.refused(*TRAIN)


def test_restart_removes_the_run_and_trains_again(place):
    place.done(*TRAIN)
    (place.work / "word_kd/translations.txt").write_text("of the old checkpoint")
    place.done(*TRAIN, "--restart", "--", "--lr", "0.5")
    assert not (place.work / "word_kd/translations.txt").exists()
    assert place.calls[-1].endswith("--lr 0.5")
    assert "is already trained" in place.done(*TRAIN, "--", "--lr", "0.5")


def test_restart_removes_nothing_but_runs(place):
    assert "is not a training run; remove it yourself" in place.refused(*TRAIN, "--restart", SYSTEM="data-bin")
    assert "unknown option --restart" in place.refused("evaluate", "multi30k", "plain", "--restart")


def test_a_requeued_job_resumes_although_it_was_started_with_restart(place):
    place.script(*TRAIN, "--restart", KILLED="yes")
    place.done(*TRAIN, "--restart", SLURM_RESTART_COUNT="1")
    assert "-delete" not in place.done(*TRAIN)
    assert "finished" in os.listdir(place.work / "word_kd")


def test_several_machines_do_not_remove_each_others_run(place):
    place.done(*TRAIN)
    environment = {"NNODES": "2", "MASTER": "node1:23456"}
    assert "--restart is for one machine; remove " in place.refused(*TRAIN, "--restart", **environment)


@pytest.mark.parametrize("updates", ["x", "0"])
def test_a_run_without_a_checkpoint_locks_nothing_and_leaves_no_log(place, updates):
    failed = place.script(*TRAIN, "--", "--max-update", updates)
    assert "training failed; see " in failed.stderr
    (place.work / "word_kd/train.log").write_text("of other settings\n")
    place.done(*TRAIN, "--", "--max-update", "5")
    assert "of other settings" not in (place.work / "word_kd/train.log").read_text()


def test_another_machine_and_another_folder_may_resume(place):
    place.script(*TRAIN, KILLED="yes")
    moved = runs.Workplace(place.folder.with_name("moved"), place.programs)
    shutil.copytree(place.folder, moved.folder, copy_function=shutil.copyfile)  # the times differ
    shutil.rmtree(place.folder)
    environment = {"MAX_TOKENS": "500", "NPROC": "4"}
    result = moved.script(*TRAIN, "--", "--num-workers", "3", "--log-interval", "7", **environment)
    assert "training word_kd on 4 cpu" in result.stdout
    assert "differs" not in result.stderr


def test_a_finished_run_needs_neither_data_nor_teacher_unless_they_are_named(place):
    (place.work / "data-bin").rename(place.work / "data-bin-kd")
    shutil.copytree(place.work / "data-bin-kd", place.work / "data-bin")
    place.done("train", "multi30k", "seq_kd_word_kd")
    for name in ("data-bin", "data-bin-kd", "teacher"):
        shutil.rmtree(place.work / name)
    assert "is already trained" in place.done("train", "multi30k", "seq_kd_word_kd")
    assert "data-bin-not_there is missing" in place.refused("train", "multi30k", "seq_kd_word_kd", CORPUS="not_there")
    assert "data-bin is missing" in place.refused("train", "multi30k", "seq_kd_word_kd", "--restart")
    line = place.refused("train", "multi30k", "seq_kd_word_kd", TEACHER="not_there.pt")
    assert "the teacher's checkpoint not_there.pt is missing" in line


@pytest.mark.parametrize(
    ("missing", "arguments", "message"),
    [
        ("data-bin", TRAIN, "data-bin is missing; prepare the data with: bash scripts/prepare.sh multi30k"),
        ("data-bin", ("distill", "multi30k", "kd"), "data-bin is missing; prepare the data with: "),
        ("teacher", TRAIN, "is missing; train it with: bash scripts/train.sh multi30k teacher, or give another with"),
        ("teacher", ("distill", "multi30k", "kd"), "is missing; train it with: bash scripts/train.sh multi30k teacher"),
        (
            "nothing",
            ("evaluate", "multi30k", "plain"),
            "has no checkpoint; train it first with: bash scripts/train.sh ",
        ),
        ("nothing", ("translate", "multi30k", "plain"), "has no checkpoint; train it first with: bash scripts/train"),
        ("nothing", ("distill", "multi30k", "base+kd+bt"), "train.sh multi30k reverse_teacher, or give another with"),
    ],
)
def test_what_is_missing_is_an_error_that_says_how_to_make_it(place, missing, arguments, message):
    shutil.rmtree(place.work / missing, ignore_errors=True)
    assert message in place.refused(*arguments)


def test_a_teacher_that_is_no_checkpoint_is_for_methods_that_train_on_its_translations(place):
    line = place.refused(*TRAIN, TEACHER=str(place.work / "teacher"))
    assert "word_kd needs a fairseq checkpoint as the teacher, but " in line
    assert "TEACHER_CACHE=nowhere has no manifest.json; give a folder written by nmt-kd cache" in place.refused(
        *TRAIN, TEACHER_CACHE="nowhere"
    )


def test_a_run_of_an_earlier_version_is_compared_by_flags_and_log(place):
    folder = place.work / "word_kd"
    folder.mkdir()
    (folder / "flags").write_text("word_kd --kd-alpha 0.7\n")
    (folder / "finished").touch()
    assert "is already trained" in place.done(*TRAIN, "--", "--kd-alpha", "0.7")
    line = place.refused(*TRAIN, "--", "--kd-alpha", "0.9")
    assert "(method and flags: word_kd --kd-alpha 0.7 -> word_kd --kd-alpha 0.9)" in line
    settings = {
        "_name": None,
        "optimization": {"_name": None, "lr": [0.004], "max_update": 2000},
        "optimizer": {"_name": "adam", "adam_betas": "(0.9, 0.98)", "lr": [0.004]},
        "model": {"_name": "transformer", "share_all_embeddings": True, "dropout": 0.1, "kd_alpha": 0.7},
        "task": {"_name": "translation", "data": "/elsewhere/multi30k/data-bin"},
    }
    (folder / "train.log").write_text(f"2026-01-01 10:00:00 | INFO | fairseq_cli.train | {settings}\n")
    assert "is already trained" in place.done(*TRAIN, "--", "--kd-alpha", "0.7")
    settings["optimization"]["lr"] = settings["optimizer"]["lr"] = [0.5]
    (folder / "train.log").write_text(f"2026-01-01 10:00:00 | INFO | fairseq_cli.train | {settings}\n")
    assert "(--lr: [0.5] -> 0.004)" in place.refused(*TRAIN, "--", "--kd-alpha", "0.7")
    shutil.copytree(place.work / "data-bin", place.work / "data-bin-kd")
    assert "(data: data-bin -> data-bin-kd)" in place.refused(*TRAIN, "--", "--kd-alpha", "0.7", CORPUS="kd")


# -- decoding and corpora ---------------------------------------------------------------------------------------------

DISTILL = ("distill", "multi30k", "kd")


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ("nonsense", "unknown corpus part 'nonsense'; choose from base, kd, best-2 (or another number), inter, "),
        (
            "qe",
            "'qe' needs a COMET model, which this script does not take; choose another corpus here, then run: nmt-kd",
        ),
        ("bt", "a corpus cannot consist of 'bt' alone; add a part, such as base+bt"),
        ("mbr --nbest=1", "'mbr' compares several translations of each sentence; choose kd, or a larger --nbest"),
        ("base+", "name the parts of the corpus, such as base+kd, not 'base+'"),
        ("kd+kd", "the corpus kd+kd has the part 'kd' twice"),
        (
            "best-9",
            "'best-9' needs 9 translations of each sentence, but there are 4; choose kd, or best-2 to best-4, or add -",
        ),
    ],
)
def test_a_corpus_that_cannot_be_made_is_refused_before_decoding(place, corpus, message):
    corpus, *flags = corpus.split()
    assert message in place.refused("distill", "multi30k", corpus, "--", *flags)


def test_more_translations_serve_a_larger_best_n(place):
    place.done("distill", "multi30k", "best-9", "--", "--nbest", "9")
    assert "/decoded=best-9 " in place.calls[-1]


def test_back_translations_are_a_part_of_their_own_folder(place):
    reverse = place.work / "reverse_teacher"
    reverse.mkdir()
    (reverse / "checkpoint_best.pt").write_text("a teacher of the reverse direction")
    place.done("distill", "multi30k", "base+bt+kd")
    assert f"assemble {place.work}/decoded=base+kd {place.work}/decoded-reverse=bt " in place.calls[-1]


def test_a_decoding_by_another_teacher_or_search_is_refused_and_restart_decodes_again(place):
    place.done(*DISTILL)
    calls = place.calls
    assert "data-bin-kd already exists" in place.done(*DISTILL)
    assert place.calls == calls
    other = place.folder / "other.pt"
    other.write_text("another teacher")
    line = place.refused(*DISTILL, TEACHER=str(other))
    assert "decoded (teacher: checkpoint_best.pt (SHA-256 " in line
    assert line.endswith("restore the earlier settings, or add --restart to decode again")
    assert "(--lenpen: 0.6 -> 2)" in place.refused(*DISTILL, "--", "--lenpen", "2")
    assert "(--lenpen: 0.6 -> 2)" in place.refused("distill", "multi30k", "base+kd", "--", "--lenpen", "2")
    place.done(*DISTILL, "--restart", TEACHER=str(other))
    assert str(other) in (place.work / "data-bin-kd/train.en-de.de.bin").read_text()


def test_a_corpus_is_assembled_again_when_its_translations_have_changed_and_its_run_is_then_refused(place):
    place.done(*DISTILL)
    place.done("train", "multi30k", "seq_kd")
    (place.work / "decoded/shards/0000000.jsonl").write_text("other translations")
    printed = place.done(*DISTILL)
    assert "assembling kd again (translations: 0000000.jsonl (SHA-256 " in printed
    assert (place.work / "data-bin-kd/train.en-de.de.bin").read_text() == "other translations"
    calls = place.calls
    place.done(*DISTILL)
    assert place.calls == calls
    assert "(data: " in place.refused("train", "multi30k", "seq_kd")


def test_a_decoding_that_failed_before_its_first_block_locks_nothing(place):
    failed = place.script(*DISTILL, "--", "--lenpen", "2", FAIL="yes")
    assert "decoding failed; see " in failed.stderr
    (place.work / "decoded/mark").touch()
    place.done(*DISTILL)
    assert not (place.work / "decoded/mark").exists()


def test_shards_are_decoded_side_by_side_and_assembled_at_the_end(place):
    with (place.work / "decoded.lock").open("w") as other_shard:
        fcntl.flock(other_shard, fcntl.LOCK_SH)
        printed = place.done(*DISTILL, SHARD="2/8", WORKERS="2")
        assert "decoded is in use by another distill.sh" in place.refused(*DISTILL)
    assert "shard 2/8 is decoded; when all shards are, rerun this command without SHARD" in printed
    assert sorted(re.findall(r"--num-shards \d+ --shard-id \d+", " ".join(place.calls))) == [
        "--num-shards 16 --shard-id 4",
        "--num-shards 16 --shard-id 5",
    ]
    assert not (place.work / "data-bin-kd").exists()
    assert not (place.work / "decoded.json").exists()
    place.done(*DISTILL)
    assert place.calls[-1].startswith("nmt-kd assemble ")


def test_a_shard_keeps_a_folder_in_which_another_has_not_written_yet(place):
    place.script(*DISTILL, SHARD="0/2", FAIL="yes")
    (place.work / "decoded/mark").touch()
    place.done(*DISTILL, SHARD="1/2")
    assert (place.work / "decoded/mark").exists()


@pytest.mark.parametrize("shard", ["1", "2/2", "-1/2", "0/0", "a/b", "01/2"])
def test_what_is_no_shard_is_refused(place, shard):
    assert f"SHARD={shard} must be K/N, with K from 0 to N-1" in place.refused(*DISTILL, SHARD=shard)


def test_a_shard_neither_imports_nor_removes_what_belongs_to_all(place, tmp_path):
    (tmp_path / "train.de").touch()
    assert "leave out SHARD" in place.refused(*DISTILL, SHARD="0/2", TRANSLATIONS=str(tmp_path / "train.de"))
    assert "--restart would remove what other shards have decoded" in place.refused(*DISTILL, "--restart", SHARD="0/2")


def test_a_corpus_of_an_earlier_version_or_of_nmt_kd_assemble_is_kept(place):
    (place.work / "data-bin-kd").mkdir()
    assert "data-bin-kd already exists" in place.done(*DISTILL)
    assert place.calls == []


def test_any_translator_decodes_the_text_and_the_students_subwords_split_it(place):
    place.done("distill", "multi30k", "base+kd", "--", "--source-lang", "eng_Latn", TEACHER="some/model")
    decode, assemble = place.calls
    assert decode.startswith(f"nmt-kd decode --teacher some/model --sources {place.work}/text/train.en --output ")
    assert "--nbest 4 --beam 4 --lenpen 0.6 --source-lang eng_Latn --num-shards 1" in decode
    assert f"--subword-model {place.work}/subwords/subwords.model --source-lang en --target-lang de" in assemble
    assert f"--references {place.work}/text/train.de" in assemble
    assert "(teacher: some/model -> another/other; --source-lang: eng_Latn -> not set)" in place.refused(
        *DISTILL, TEACHER="another/other"
    )


def test_translations_are_imported_instead_of_decoded(place, tmp_path):
    file = tmp_path / "train.de"
    assert f"TRANSLATIONS={file} is not a file" in place.refused(*DISTILL, TRANSLATIONS=str(file))
    file.write_text("Zeile\n")
    place.done(*DISTILL, TRANSLATIONS=str(file))
    imported, assemble = place.calls
    assert imported.startswith(f"nmt-kd import {file} --sources {place.work}/text/train.en --source-lang en ")
    assert "--references" not in assemble
    file.write_text("Andere\n")
    assert "(translations: train.de (SHA-256 " in place.refused(*DISTILL, TRANSLATIONS=str(file))
    (tmp_path / "train.tsv").write_text("line\tZeile\n")
    place.done(*DISTILL, "--restart", TRANSLATIONS=str(tmp_path / "train.tsv"))
    assert "--sources" not in place.calls[-2]
    place.done("distill", "multi30k", "base+kd", "--restart", TRANSLATIONS=str(tmp_path / "train.tsv"))
    assert (
        f"--sources {place.work}/text/train.en" in place.calls[-2]
    )  # so that the references are of the same sentences


def test_imported_lists_may_be_longer_than_decoded_ones(place, tmp_path):
    (tmp_path / "train.jsonl").write_text("{}\n")
    place.done("distill", "multi30k", "best-8", TRANSLATIONS=str(tmp_path / "train.jsonl"))
    assert "/decoded=best-8 " in place.calls[-1]


def test_a_changed_folder_with_a_translator_is_another_teacher(place, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "float32").mkdir(parents=True)
        (tmp_path / name / "float32/model.bin").write_text(name)
    place.done(*DISTILL, TEACHER=str(tmp_path / "a/float32/"))
    assert "data-bin-kd already exists" in place.done(*DISTILL, TEACHER=str(tmp_path / "a/float32"))
    assert "(teacher: model.bin (SHA-256 " in place.refused(*DISTILL, TEACHER=str(tmp_path / "b/float32"))


def test_what_is_decoded_survives_in_a_folder_whose_name_is_a_pattern(place):
    folder = place.folder / "runs[1]"
    shutil.copytree(place.work, folder / "multi30k")
    place.done(*DISTILL, NMT_KD_RUNS=str(folder))
    shutil.rmtree(folder / "multi30k/data-bin-kd")
    marked = folder / "multi30k/decoded/shards/0000001.jsonl"
    marked.write_text("decoded earlier\n")
    place.done(*DISTILL, NMT_KD_RUNS=str(folder))
    assert marked.is_file()


def test_translations_are_decoded_and_assembled_by_one_process_at_a_time(place):
    place.done(*DISTILL)
    corpus = place.work / "data-bin-kd"
    with (place.work / "decoded.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "data-bin-kd already exists" in place.done(*DISTILL)  # needs no lock
        assert f"{place.work}/decoded is in use by another distill.sh" in place.refused(*DISTILL, "--restart")
        assert (place.work / "decoded/shards/0000000.jsonl").is_file()
        shutil.rmtree(corpus)
        assert "is in use by another distill.sh; wait for it, or stop it and rerun" in place.refused(*DISTILL)
    place.done(*DISTILL)
    assert corpus.is_dir()


def test_what_is_made_again_costs_what_the_last_time_costs(place):
    def pay(file):
        file.write_text(json.dumps({"seconds": 1, "cpu_seconds": 1e6, "peak_mb": 1}))

    place.done(*DISTILL)
    pay(costs := place.work / "decoded.cost.json")
    place.done(*DISTILL, "--restart")
    assert json.loads(costs.read_text())["cpu_seconds"] < 1e6
    place.script(*TRAIN, "--", "--max-update", "0")  # ends without a checkpoint
    pay(costs := place.work / "word_kd/records/cost.json")
    place.done(*TRAIN)
    assert json.loads(costs.read_text())["cpu_seconds"] < 1e6


def test_tokenised_data_is_not_for_other_translators(place):
    place.work.rename(place.folder / "iwslt14_de_en")
    (place.folder / "iwslt14_de_en/subwords/settings").unlink()
    line = place.refused("distill", "iwslt14_de_en", "kd", TEACHER="some/model")
    assert "iwslt14_de_en is tokenised, but other teachers than fairseq checkpoints translate plain text" in line


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--translations", "not_there.de"], "--translations not_there.de is not a file"),
        (["--corpus", "not_there"], "data-bin-not_there is missing; make it with nmt-kd assemble"),
        (
            ["--teacher", "some/model", "--methods", "word_kd"],
            "word_kd needs a fairseq checkpoint, which some",
        ),
    ],
)
def test_a_given_teacher_that_does_not_serve_is_refused_before_anything_else(place, option, message):
    assert message in place.refused("quickstart", "--data", "multi30k", *option)


@pytest.mark.parametrize(
    ("option", "trained"),
    [
        (["--teacher", "some/model"], ["plain", "seq_kd"]),
        (["--translations", __file__], ["plain", "seq_kd"]),
        (["--teacher", "some/model", "--methods", "plain r_drop"], ["plain", "r_drop"]),
        (["--teacher", __file__, "--methods", "word_kd seq_kd"], ["word_kd", "seq_kd"]),
        (["--corpus", "mine", "--methods", "seq_kd word_kd"], ["teacher", "seq_kd", "word_kd"]),
        ([], ["teacher", "plain", "word_kd"]),
    ],
)
def test_a_teacher_is_trained_only_if_none_is_given_that_serves(place, option, trained):
    (place.work / "data-bin-mine").mkdir()
    printed = place.done("quickstart", "--data", "multi30k", *option, "--dry-run")
    commands = [line for line in printed.splitlines() if line.startswith("+ fairseq-train")]
    assert [re.search(r"--save-dir \S+/(\w+)", line)[1] for line in commands] == trained
    assert ["data-bin-mine" in line for line in commands] == ["--corpus" in option and n == "seq_kd" for n in trained]


# -- evaluation -------------------------------------------------------------------------------------------------------

EVALUATE = ("evaluate", "multi30k", "plain")


def test_a_system_is_evaluated_without_a_teacher_and_compared_once_there_is_one(place):
    (place.work / "teacher").rename(place.work / "later")
    place.done("train", "multi30k", "plain")
    assert "not measuring the agreement with a teacher, because there is no checkpoint " in place.done(*EVALUATE)
    assert sorted(path.name for path in (place.work / "plain").glob("*.json")) == []
    assert "the teacher's checkpoint missing.pt is missing" in place.script(*EVALUATE, TEACHER="missing.pt").stderr
    (place.work / "later").rename(place.work / "teacher")
    place.done(*EVALUATE)
    assert json.loads((place.work / "plain/agreement.json").read_text()) == {"teacher_agreement": 50.0}
    assert [call.split()[0] for call in place.calls[1:]] == [*[f"{place.work}/data-bin"] * 2, *["nmt-kd"] * 2]


def test_results_of_another_checkpoint_search_or_teacher_are_not_reused(place):
    place.done("train", "multi30k", "plain")
    place.done(*EVALUATE)
    calls = place.calls
    place.done(*EVALUATE)
    assert place.calls == calls
    (place.work / "teacher/checkpoint_best.pt").write_text("trained again")
    assert "recomputing agreement.json (teacher: checkpoint_best.pt (SHA-256 " in place.done(*EVALUATE)
    assert len(place.calls) == len(calls) + 2  # for both test sets
    (place.work / "plain/checkpoint_best.pt").write_text("trained further")
    printed = place.done(*EVALUATE)
    assert "recomputing translations.txt (checkpoint: checkpoint_best.pt (SHA-256 " in printed
    assert "recomputing agreement.json (checkpoint: " in printed


def test_results_of_an_earlier_version_are_kept_unless_the_checkpoint_is_newer(place):
    place.done("train", "multi30k", "plain")
    checkpoint, translations = (place.work / f"plain/{name}" for name in ("checkpoint_best.pt", "translations.txt"))
    translations.write_text("of an earlier version")
    os.utime(checkpoint, (1, 1))
    place.done(*EVALUATE)
    assert translations.read_text() == "of an earlier version"
    os.utime(translations, (0, 0))
    assert "recomputing translations.txt (the checkpoint is newer)" in place.done(*EVALUATE)


# -- devices and translation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train", "evaluate", "translate"])
@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "NMT_KD_DEVICE=gpu, but torch sees no GPU; set it to cpu, or leave it out"),
        ("nonsense", "NMT_KD_DEVICE=nonsense is unknown; choose cpu or gpu"),
    ],
)
def test_a_device_that_does_not_exist_is_refused(place, name, device, message):
    python = place.programs / "python"  # stands for a torch that sees no GPU
    python.write_text("#!/bin/sh\necho 0\n")
    python.chmod(0o755)
    assert message in place.refused(name, "multi30k", "plain", NMT_KD_DEVICE=device)


@pytest.mark.parametrize("text", ["", "\n", "One\n", "\nOne\n \t\n\nTwo\n\n", "One\nTwo"])
def test_blank_lines_are_answered_with_blank_lines(place, text):
    place.done("train", "multi30k", "plain")
    printed = place.done("translate", "multi30k", "plain", stdin=text)
    assert printed == "".join(f"translation of {line}\n" if line.strip() else "\n" for line in text.splitlines())


def test_a_wide_space_keeps_the_lines_in_step(place):
    place.done("train", "multi30k", "plain")
    printed = place.done("translate", "multi30k", "plain", stdin="a\n\u3000\nb\n", LC_ALL="C.UTF-8").splitlines()
    assert (len(printed), printed[0], printed[2]) == (3, "translation of a", "translation of b")


def test_a_result_whose_record_cannot_be_read_is_not_taken_for_fresh(place):
    place.done("train", "multi30k", "plain")
    place.done(*EVALUATE)
    (place.work / "plain/records/translations.txt.json").write_text("{")
    result = place.script(*EVALUATE)
    assert result.returncode == 1
    assert "evaluate.sh: error: cannot read the record " in result.stderr


def test_reports_and_reruns_ignore_the_same_flags_apart_from_the_precision():
    ignored = {"report": set(), "rerun": set()}
    for action in options.get_training_parser()._actions:
        for flag in action.option_strings:
            if training_log.INCIDENTAL.fullmatch(action.dest):
                ignored["report"].add(flag)
            if record.INCIDENTAL.fullmatch(flag):
                ignored["rerun"].add(flag)
    precision = {"--tpu", "--amp", "--fp16-no-flatten-grads"}
    precision |= {f"--{prefix}{kind}" for prefix in ("", "memory-efficient-") for kind in ("fp16", "bf16")}
    assert ignored["rerun"] - ignored["report"] == {
        *precision,
        "--num-shards",
        "--shard-id",
    }  # the last two: of decoding
    # the initial model is compared by content, another seed is another run, and validation does not change the training
    of_reports = {"--restore-file", "--seed", "--max-tokens-valid", "--batch-size-valid", "--max-sentences-valid"}
    assert ignored["report"] - ignored["rerun"] == {*of_reports, "--local_rank"}
