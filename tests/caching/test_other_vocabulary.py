"""Teachers with other subwords and other dictionaries than the student's."""

import logging
import re

import pytest
import sentencepiece
import torch
from conftest import binarise, train_here

from nmt_kd.caching.building import build_cache
from nmt_kd.caching.sources import checkpoint, other_vocabulary
from nmt_kd.caching.store import read_store, sentences, task_of_data
from nmt_kd.cli import main
from nmt_kd.errors import UserError


@pytest.fixture(scope="session")
def foreign(corpus, tmp_path_factory):
    """A folder with another subword model of the same text, its data and a teacher trained on it."""
    folder = tmp_path_factory.mktemp("foreign")
    texts = sorted((corpus / "text").glob("train.*"))
    sentencepiece.SentencePieceTrainer.train(
        input=[str(path) for path in texts],
        model_prefix=str(folder / "other"),
        vocab_size=110,
        model_type="unigram",
        character_coverage=1.0,
        minloglevel=3,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "other.model"))
    (folder / "pieces").mkdir()
    for path in (corpus / "text").iterdir():
        lines = path.read_text(encoding="utf-8").splitlines()
        split = "".join(" ".join(processor.encode(line, out_type=str)) + "\n" for line in lines)
        (folder / "pieces" / path.name).write_text(split, encoding="utf-8")
    binarise(folder / "pieces", folder / "data-bin", "--joined-dictionary")
    train_here(
        folder / "data-bin",
        folder / "teacher",
        *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1", "--max-update", "150"),
        *("--lr", "0.01", "--max-tokens", "1500", "--disable-validation"),
    )
    return folder


@pytest.fixture(scope="session")
def flags(corpus, foreign):
    return [
        *("--source", "other-vocabulary", "--teacher-path", str(foreign / "teacher/checkpoint_last.pt")),
        *("--other-vocabulary-data", str(foreign / "data-bin")),
        *("--other-vocabulary-subwords", str(foreign / "other.model")),
        *("--other-vocabulary-student-subwords", str(corpus / "pieces/subwords.model")),
    ]


@pytest.fixture(scope="session")
def built(data, flags, tmp_path_factory):
    """A cache of the teacher's predictions, in blocks of 64 sentences."""
    return build(tmp_path_factory.mktemp("respelled") / "out", data, flags)


def build(out, data, flags, subsets=("train", "valid"), **arguments):
    values = {
        flag.removeprefix("--").replace("-", "_"): value for flag, value in zip(flags[::2], flags[1::2], strict=True)
    }
    assert values.pop("source") == "other-vocabulary"
    task, source = other_vocabulary.open_source(
        str(data), values.pop("teacher_path"), other_vocabulary.Options(**values)
    )
    build_cache(task, source, out, 6, list(subsets), block_sentences=64, **arguments)
    return out


def contents(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.safetensors"))}


def changed(flags, **values):
    """The flags with other values; None leaves a flag out."""
    pairs = dict(zip(flags[::2], flags[1::2], strict=True))
    pairs |= {"--" + name.replace("_", "-"): value for name, value in values.items()}
    return [str(part) for pair in pairs.items() if pair[1] is not None for part in pair]


def test_a_student_is_trained(built, data, tmp_path):
    run = train_here(
        data,
        tmp_path,
        *("--user-dir", "nmt_kd", "--criterion", "word_kd", "--teacher-cache", built, "--max-update", "30"),
    )
    divergence = run.values("train_inner", "kd_loss")
    assert divergence[-1] < 0.8 * divergence[0]


def test_the_same_vocabulary_gives_what_the_checkpoint_gives(corpus, data, teacher_path, tmp_path):
    model = str(corpus / "pieces/subwords.model")
    options = other_vocabulary.Options(str(data), model, "", model)
    found = {}
    for name, (task, source) in {
        "same": checkpoint.open_source(str(data), str(teacher_path), checkpoint.Options()),
        "other": other_vocabulary.open_source(str(data), str(teacher_path), options),
    }.items():
        build_cache(task, source, tmp_path / name, 8, ["valid"])
        found[name] = list(read_store(tmp_path / name, task_of_data(str(data)), "valid"))
    for ours, theirs in zip(found["other"], found["same"], strict=True):
        known = ours[0].ge(0).all(-1)
        assert known.all()
        assert ours[0].equal(theirs[0])
        assert ours[1].equal(theirs[1])
        torch.testing.assert_close(ours[2], theirs[2], rtol=0, atol=1e-4)


def test_two_workers_give_the_same_bytes_and_a_damaged_block_is_computed_again(built, data, flags, tmp_path):
    for worker in (1, 0):
        build(tmp_path / "out", data, flags, worker=worker, workers=2)
    assert contents(tmp_path / "out") == contents(built)
    (tmp_path / "out/train/0000003.safetensors").unlink()
    build(tmp_path / "out", data, flags)
    assert contents(tmp_path / "out") == contents(built)


def test_the_teacher_is_believed_where_both_have_a_boundary(built, data, foreign):
    """The mapped teacher predicts the student's references far better than chance, and not everywhere."""
    task, task_of_teacher = task_of_data(str(data)), task_of_data(str(foreign / "data-bin"))
    known = positions = 0
    likelihoods = []
    pairs = zip(sentences(task, "valid"), sentences(task_of_teacher, "valid"), strict=True)
    for ((_, target), (_, theirs)), (words, log_q, log_rest) in zip(
        pairs, read_store(built, task, "valid"), strict=True
    ):
        boundaries = ends(task, target) & ends(task_of_teacher, theirs)
        starts = [sum(map(len, symbols(task, target)[:number])) for number in range(len(target))]
        has_prediction = words.ge(0).all(-1)
        assert has_prediction.tolist() == [start in boundaries for start in starts]
        total = log_q.exp().sum(-1) + log_rest.exp()
        assert total[has_prediction].tolist() == pytest.approx([1.0] * int(has_prediction.sum()), abs=2e-3)
        known, positions = known + int(has_prediction.sum()), positions + len(target)
        found = words.eq(target.unsqueeze(1)) & has_prediction.unsqueeze(1)
        likelihoods += (log_q.exp() * found).sum(-1)[has_prediction].tolist()
    assert 0.5 < known / positions < 1
    assert sum(likelihoods) / len(likelihoods) > 10 / len(task.target_dictionary)


def symbols(task, target):
    return [task.target_dictionary[token] for token in target.tolist()[:-1]]


def ends(task, target):
    """Where the subwords of a target start, and where its text ends."""
    pieces = symbols(task, target)
    return {sum(map(len, pieces[:number])) for number in range(len(pieces) + 1)}


def test_the_log_says_how_much_was_mapped(data, flags, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    build(tmp_path, data, flags, ["valid"])
    build(tmp_path, data, flags, ["valid"])
    (line,) = (message for message in caplog.messages if "positions" in message)
    known, positions, share, mass = re.fullmatch(
        r"valid: ([\d,]+) of ([\d,]+) positions \(([\d.]+)%\) have a prediction, where ([\d.]+)% of the teacher's "
        r"mass is mapped to the student's subwords",
        line,
    ).groups()
    known, positions = (int(number.replace(",", "")) for number in (known, positions))
    assert float(share) == pytest.approx(100 * known / positions, abs=0.06)
    assert 50 < float(mass) < 100


def test_a_sentence_that_is_too_long_for_the_teacher_has_no_predictions(
    data, foreign, flags, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    lengths = sorted(len(target) for _, target in sentences(task_of_data(str(foreign / "data-bin")), "valid"))
    limits = 1024, lengths[len(lengths) // 2]
    monkeypatch.setattr(other_vocabulary.CheckpointTeacher, "max_positions", lambda self: limits)
    build(tmp_path, data, flags, ["valid"])
    found = list(read_store(tmp_path, task_of_data(str(data)), "valid"))
    without = [number for number, (words, _, _) in enumerate(found) if words.eq(-1).all()]
    assert 0 < len(without) < len(found)
    assert f"{len(without)} sentences are too long for the teacher" in caplog.text


def test_unknown_symbols_do_not_stop_it(corpus, data, flags, tmp_path, monkeypatch):
    task = task_of_data(str(data))
    monkeypatch.setattr(other_vocabulary, "task_of_data", lambda data: task)
    load = task.load_dataset

    def load_dataset(subset, **kwargs):
        load(subset, **kwargs)
        task.datasets[subset].tgt = [target.clone() for target in task.datasets[subset].tgt]
        task.datasets[subset].tgt[2][1] = task.target_dictionary.unk()

    monkeypatch.setattr(task, "load_dataset", load_dataset)
    build(tmp_path, data, flags, ["valid"])
    words, log_q, _ = list(read_store(tmp_path, task, "valid"))[2]
    assert words[0].ge(0).all()
    assert words[-1].ge(0).all()
    assert log_q[-1].isfinite().all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"other_vocabulary_data": None},
            r"^the folder with the teacher's dictionaries is needed; give it as --other-vo",
        ),
        (
            {"other_vocabulary_subwords": None},
            r"^the subword model of the teacher is needed; give it as --other-vocabula",
        ),
        (
            {"other_vocabulary_student_subwords": None},
            r"^the subword model of the student's target text is needed; give ",
        ),
        ({"other_vocabulary_words": 0}, r"^--other-vocabulary-words is 0; it must be 1 or more$"),
        (
            {"other_vocabulary_words": 5},
            r"^--top-k is 6; it must be 5 or less, the number of words that this teacher predicts$",
        ),
        (
            {"other_vocabulary_student_subwords": "{other}"},
            r"other.model splits only .* sentences as in .*; give the mo",
        ),
        (
            {"other_vocabulary_subwords": "{own}"},
            r"% of the subwords of the target text are not in the teacher's dicti",
        ),
        (
            {"other_vocabulary_data": "{data}"},
            r"was trained with another source dictionary, .*; give --other-vocabulary-",
        ),
        (
            {"source": "checkpoint"},
            r"^--other-vocabulary-data is an option of --source other-vocabulary, not of --sourc",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(values, message, corpus, data, foreign, flags, tmp_path):
    files = {"other": foreign / "other.model", "own": corpus / "pieces/subwords.model", "data": data}
    values = {name: value.format(**files) if isinstance(value, str) else value for name, value in values.items()}
    with pytest.raises(UserError, match=message) as error:
        main(["cache", str(data), str(tmp_path), *changed(flags, **values), "--top-k", "6", "--gen-subset", "valid"])
    assert "\n" not in str(error.value)


def test_a_teacher_of_the_other_direction_is_refused(corpus, foreign, data, flags, tmp_path, monkeypatch):
    monkeypatch.setattr(
        other_vocabulary, "task_of_data", lambda data: task_of_data(data, source_lang="de", target_lang="en")
    )
    with pytest.raises(
        UserError, match=r"translates en-de, but the student is trained on de-en; give a teacher of the"
    ):
        build(tmp_path, data, flags, ["valid"])
