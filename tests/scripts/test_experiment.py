"""scripts/experiment.sh makes stores, notes what systems cost, and runs systems beside each other."""

import fcntl
import json
import shutil
import time
from pathlib import Path

import pytest
from runs import Workplace, workplace

STORES = """
system plain plain
store states datastore --teacher-path "$work/plain/checkpoint_best.pt"
store knn cache --source knn --teacher-path "$work/plain/checkpoint_best.pt" --knn-datastore "$work/stores/states"
STORE=knn system knn_kd word_kd
"""


@pytest.fixture
def place(tmp_path) -> Workplace:
    return workplace(tmp_path)


def experiment(place, text: str, **environment):
    file = place.folder / "own.sh"
    file.write_text(text, encoding="utf-8")
    return place.script("experiment", "multi30k", file, **environment)


def test_a_system_trains_from_a_store_that_is_made_once(place):
    for _ in range(2):
        result = experiment(place, STORES)
        assert result.returncode == 0, result.stderr
    made = [call for call in place.calls if call.startswith(("nmt-kd datastore", "nmt-kd cache"))]
    assert [call.split()[1] for call in made] == ["datastore", "cache"]
    assert made[1].split()[3] == str(place.work / "stores/knn")
    (trained,) = [call for call in place.calls if f"--save-dir {place.work}/knn_kd " in call]
    assert f"--teacher-cache {place.work}/stores/knn" in trained
    assert "--teacher-path" not in trained


def test_a_run_notes_the_costs_of_its_store_and_of_what_the_store_is_made_from(place):
    assert experiment(place, STORES).returncode == 0
    paid = (place.work / "knn_kd/records/paid").read_text().split()
    assert {file.removeprefix(f"{place.work}/") for file in paid} == {
        "stores/knn.cost.json",
        "stores/states.cost.json",
        "plain/records/cost.json",
    }
    assert all("cpu_seconds" in json.loads(Path(file).read_text()) for file in paid)
    assert (place.work / "plain/records/paid").read_text().split() == []


def test_a_store_of_a_corpus_teaches_a_student_of_that_corpus(place):
    text = """
    system teacher teacher
    CORPUS=kd store of_kd cache --teacher-path "$work/teacher/checkpoint_best.pt"
    CORPUS=kd STORE=of_kd system both word_kd
    """
    result = experiment(place, text)
    assert result.returncode == 0, result.stderr
    data = f"{place.work}/data-bin-kd"
    steps = ("--distill-dir", f"nmt-kd cache {data} {place.work}/stores/of_kd ", f"--save-dir {place.work}/both ")
    (decoding, store, training) = (
        next(number for number, call in enumerate(place.calls) if step in call) for step in steps
    )
    assert decoding < store < training
    assert place.calls[training].startswith(f"{data} ")
    assert f"--teacher-cache {place.work}/stores/of_kd" in place.calls[training]
    paid = (place.work / "both/records/paid").read_text().split()
    assert set(paid) == {f"{place.work}/stores/of_kd.cost.json", f"{place.work}/decoded.cost.json"}
    calls = len([call for call in place.calls if call.startswith("nmt-kd cache")])
    assert experiment(place, text).returncode == 0
    assert len([call for call in place.calls if call.startswith("nmt-kd cache")]) == calls
    (Path(data) / "train.en-de.de.bin").write_text("another corpus")
    result = experiment(place, text)
    assert result.returncode == 1
    assert f"{place.work}/stores/of_kd was made with other settings or data" in result.stderr


def test_a_teacher_that_is_given_makes_the_corpus_and_its_store_and_is_not_paid_for(place):
    teacher = place.work / "other/checkpoint_best.pt"
    teacher.parent.mkdir()
    teacher.touch()
    text = """
    system teacher teacher
    CORPUS=kd store of_kd cache --teacher-path "$(teacher_checkpoint)"
    CORPUS=kd STORE=of_kd system both word_kd
    """
    result = experiment(place, text, TEACHER=str(teacher))
    assert result.returncode == 0, result.stderr
    assert all("--save-dir" in call or str(teacher) in call for call in place.calls if "--distill-dir" in call)
    assert any(f"--teacher-path {teacher}" in call for call in place.calls if call.startswith("nmt-kd cache"))
    paid = (place.work / "both/records/paid").read_text().split()
    assert set(paid) == {f"{place.work}/stores/of_kd.cost.json", f"{place.work}/decoded.cost.json"}


def test_teachers_of_an_ensemble_are_not_paid_for_but_students_are(place):
    text = """
    system teacher teacher
    system teacher_2 teacher --seed 2
    system plain plain
    best=checkpoint_best.pt
    store both cache --teacher-path "$(teacher_checkpoint):$work/teacher_2/$best:$work/plain/$best"
    STORE=both system taught word_kd
    """
    result = experiment(place, text)
    assert result.returncode == 0, result.stderr
    paid = (place.work / "taught/records/paid").read_text().split()
    assert paid == [f"{place.work}/stores/both.cost.json", f"{place.work}/plain/records/cost.json"]


def test_a_store_made_otherwise_is_refused(place):
    assert experiment(place, STORES).returncode == 0
    result = experiment(place, STORES.replace("--source knn", "--source knn --knn-k 4"))
    assert result.returncode == 1
    assert result.stderr == (
        f"experiment.sh: error: {place.work}/stores/knn was made with other settings or data (--knn-k: not set -> 4); "
        "remove it, or restore the earlier settings\n"
    )


def test_a_store_that_fails_ends_in_one_line(place):
    result = experiment(place, STORES, FAIL="yes")
    assert result.returncode == 1
    assert result.stderr == (
        f"experiment.sh: error: nmt-kd datastore failed; see {place.work}/stores/states.log, then rerun to resume\n"
    )


def test_students_run_beside_each_other_and_stores_wait_for_them(place):
    place.run_first("fairseq-generate", "sleep 2")
    began = time.monotonic()
    result = experiment(place, STORES.partition("store")[0] + "store late datastore\n", SEEDS="1 2 3", JOBS="3")
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - began < 3 * 2 * 2  # two test sets, three seeds
    assert place.calls[-2] == f"nmt-kd datastore {place.work}/data-bin {place.work}/stores/late"
    assert all((place.work / name / "translations.txt").exists() for name in ("plain", "plain.seed2", "plain.seed3"))


def test_a_student_that_fails_beside_others_ends_the_experiment(place):
    result = experiment(place, "system plain plain --max-update x\nsystem again plain\n", JOBS="2")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("experiment.sh: error: plain failed: train.sh: error: training failed; see ")
    assert last.endswith("; rerun to resume")


def test_students_wait_for_a_teacher_that_is_a_student(place):
    place.run_first("fairseq-train", "sleep 1")
    text = "default_teacher=plain\nsystem plain plain\nsystem of_plain word_kd\n"
    result = experiment(place, text, JOBS="2", SEEDS="1 2")
    assert result.returncode == 0, result.stderr
    folders = [
        call.split("--save-dir ")[1].split()[0].rpartition("/")[2] for call in place.calls if "--save-dir" in call
    ]
    assert set(folders[:2]) == {"plain", "plain.seed2"}
    assert set(folders[2:]) == {"of_plain", "of_plain.seed2"}


def test_an_interrupted_experiment_leaves_no_training_behind(place):
    started, process = place.folder / "started", place.folder / "experiment"
    place.run_first(
        "fairseq-train",
        f'echo $$ >>"{started}"; [ $(wc -l <"{started}") = 1 ] || kill $(cat "{process}"); exec sleep 100',
    )
    result = experiment(place, f'echo $$ >"{process}"\nsystem one plain\nsystem two plain\n', JOBS="2")
    assert result.returncode == 130
    trainings = [Path("/proc", number) for number in started.read_text().split()]
    assert len(trainings) == 2
    deadline = time.monotonic() + 10
    while any(training.exists() for training in trainings):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_folder_is_trained_by_one_process(place):
    lock, held = place.work / "plain/.lock", place.folder / "held"
    place.run_first("fairseq-train", f'flock --nonblock "{lock}" true || touch "{held}"')
    place.done("train", "multi30k", "plain")
    assert held.exists()
    message = f"{lock.parent} is being trained by another process; wait for it, or stop it and rerun"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "is already trained" in place.done("train", "multi30k", "plain")  # needs no lock
        assert place.refused("train", "multi30k", "plain", "--restart").endswith(message)
        for name in ("finished", "checkpoint_best.pt", "checkpoint_last.pt"):
            (lock.parent / name).unlink()
        assert place.refused("train", "multi30k", "plain", "--", "--lr", "1").endswith(message)
    assert (lock.parent / "train.log").is_file()
    inode = lock.stat().st_ino
    place.done("train", "multi30k", "plain", "--restart")
    assert lock.stat().st_ino == inode  # or a process that waits would hold the lock of a removed file


def test_a_store_that_is_made_again_costs_what_the_last_time_costs(place):
    assert experiment(place, STORES).returncode == 0
    costs = place.work / "stores/states.cost.json"
    costs.write_text(json.dumps({"seconds": 1, "cpu_seconds": 1e6, "peak_mb": 1}))
    shutil.rmtree(place.work / "stores/states")
    assert experiment(place, STORES).returncode == 0
    assert json.loads(costs.read_text())["cpu_seconds"] < 1e6


def test_an_unknown_store_is_refused(place):
    result = experiment(place, "STORE=typo system student word_kd")
    assert result.returncode == 1
    assert "error: unknown STORE=typo of student; make it before, with: store typo ..." in result.stderr


@pytest.mark.parametrize("jobs", ["0", "two"])
def test_a_wrong_number_of_jobs_is_refused(place, jobs):
    result = experiment(place, "system plain plain", JOBS=jobs)
    assert result.returncode == 1
    assert result.stderr == f"experiment.sh: error: JOBS={jobs} must be a number of 1 or more\n"
