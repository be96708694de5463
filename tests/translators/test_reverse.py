"""--drop-worst by the command, with reverse models of every kind."""

import re
import shutil
import time

import pytest
from conftest import train_here
from exporting.exports import export_student
from tasks.test_seq_kd import undisturbed  # noqa: F401  (a fixture)
from worker import Worker

from nmt_kd import cli
from nmt_kd.decoding.order import in_order
from nmt_kd.decoding.shards import ShardFolder
from nmt_kd.errors import UserError
from nmt_kd.translators.fairseq_checkpoint import FairseqTranslator
from nmt_kd.translators.opening import open_translator
from nmt_kd.translators.translator import TeacherOptions
from translators.teachers import lines, marian, save


@pytest.fixture(scope="module")
def reverse_teacher(data, tmp_path_factory):
    """A model from German to English that has learned a little."""
    folder = tmp_path_factory.mktemp("reverse")
    direction = ["--source-lang", "de", "--target-lang", "en", "--disable-validation"]
    train_here(data, folder, *direction, "--criterion", "cross_entropy", "--max-update", "40", "--max-tokens", "1500")
    return folder / "checkpoint_last.pt"


def joined(text):
    return text.replace(" ", "").replace("\u2581", " ").strip()


@pytest.fixture
def command(data, tmp_path):
    def command(*words):
        return [str(word) for word in ["assemble", *words, "--data", data, "--output", tmp_path / "out"]]

    return command


@pytest.fixture
def decoded(undisturbed, tmp_path):  # noqa: F811
    """The decoded training set, in a folder that tests may write to."""
    shutil.copytree(undisturbed, tmp_path / "decoded")
    return tmp_path / "decoded"


@pytest.fixture
def of_fairseq(reverse_teacher, data, corpus):
    model = corpus / "pieces/subwords.model"
    return ["--reverse-model", reverse_teacher, "--reverse-data", data, "--reverse-subword-model", model]


def test_the_pairs_with_the_least_probable_sources_are_dropped(
    command, decoded, of_fairseq, reverse_teacher, data, corpus, tmp_path, capsys
):
    cli.main(command(f"{decoded}=base+kd", "--drop-worst", "5%", *map(str, of_fairseq)))
    assert "left out, worst for the reverse model: 30" in capsys.readouterr().out
    model = open_translator(
        TeacherOptions(str(reverse_teacher), data=str(data), subword_model=corpus / "pieces/subwords.model")
    )
    sources = lines(corpus / "text/train.en")
    best = [each.hypotheses[0].text for each in in_order(ShardFolder(decoded))]
    scores = model.score([*map(joined, best)], sources)
    worst = sorted(range(600), key=lambda number: (round(scores[number], 4), -number))[:30]
    targets = lines(tmp_path / "out/text/train.de")
    assert targets[:600] == lines(corpus / "pieces/train.de")
    kept = [text for number, text in enumerate(best) if number not in worst]
    assert len(targets[600:]) == len(kept)
    assert sum(one != other for one, other in zip(sorted(targets[600:]), sorted(kept), strict=True)) <= 2  # near ties


def test_a_killed_command_resumes_and_changes_nothing(command, decoded, of_fairseq, tmp_path, monkeypatch):
    flags = ["--corpus", "best-2", "--drop-worst", "0.1", *map(str, of_fairseq)]
    cli.main(command(decoded, *flags))
    expected = (tmp_path / "out/text/train.de").read_bytes()
    stored = {path.name: path.read_bytes() for path in (decoded / "scores").rglob("*.jsonl")}
    for path in (decoded / "scores").rglob("*.jsonl"):
        path.unlink()
    score = FairseqTranslator.score

    def slowly(self, *texts):
        time.sleep(0.2)
        return score(self, *texts)

    monkeypatch.setattr(FairseqTranslator, "score", slowly)
    worker = Worker(lambda: cli.main(command(decoded, *flags)), [], tmp_path / "log")
    deadline = time.monotonic() + 60
    while len(list((decoded / "scores").rglob("*.jsonl"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    worker.kill()
    assert 4 <= len(list((decoded / "scores").rglob("*.jsonl"))) < len(stored)
    cli.main(command(decoded, *flags))
    assert (tmp_path / "out/text/train.de").read_bytes() == expected
    assert {path.name: path.read_bytes() for path in (decoded / "scores").rglob("*.jsonl")} == stored


def test_an_export_and_a_hugging_face_model_can_be_reverse_models(
    command, decoded, reverse_teacher, corpus, tmp_path, capsys
):
    export_student(corpus, reverse_teacher, tmp_path / "exported")
    cli.main(command(decoded, "--drop-worst", "5%", "--reverse-model", str(tmp_path / "exported")))
    assert "left out, worst for the reverse model: 30" in capsys.readouterr().out
    exported = lines(tmp_path / "out/text/train.de")
    folder = save(
        tmp_path / "hf", *marian(tmp_path / "hf", corpus / "pieces/subwords.model", source_lang="de", target_lang="en")
    )
    cli.main(command(decoded, "--drop-worst", "5%", "--reverse-model", str(folder)))
    assert len(lines(tmp_path / "out/text/train.de")) == 570 == len(exported)
    assert lines(tmp_path / "out/text/train.de") != exported


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "dictionaries of .* are needed; give the folder that has them as --reverse-data"),
        (["--reverse-data", "DATA"], "the subword model of .* is needed; give it as --reverse-subword-model"),
        (
            ["--reverse-data", "DATA", "--reverse-subword-model", "MODEL", "--reverse-model", "FORWARD"],
            r"translates en-de, not de-en; name the languages as the teacher does, with --reverse-source-lang en",
        ),
    ],
)
def test_errors_about_the_reverse_model_name_its_flags(
    command, decoded, reverse_teacher, seq_kd_teacher, data, corpus, flags, message
):
    places = {"DATA": data, "MODEL": corpus / "pieces/subwords.model", "FORWARD": seq_kd_teacher}
    flags = [str(places.get(flag, flag)) for flag in flags]
    with pytest.raises(UserError, match=re.compile(message)):
        cli.main(command(decoded, "--drop-worst", "5%", "--reverse-model", str(reverse_teacher), *flags))
