"""Exported models translate as the student does in fairseq, and the summary's figures are those that were measured."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import ctranslate2
import numpy
import pytest
from exports import SEARCH, export_student
from sacrebleu.metrics import BLEU, CHRF
from tasks.test_seq_kd import decode

from nmt_kd.checkpoints.reading import read_checkpoint_file
from nmt_kd.cli import main
from nmt_kd.decoding.corpus import in_order
from nmt_kd.decoding.shards import ShardFolder
from nmt_kd.evaluation.tables import number
from nmt_kd.exporting import export as module
from nmt_kd.exporting import sample as export_sample
from nmt_kd.exporting.faithfulness import ROUNDING
from nmt_kd.exporting.portability import cpu_flags
from nmt_kd.exporting.speed import Performance
from nmt_kd.exporting.summary import Summary
from nmt_kd.exporting.systems import MeasuredSystem, token_count

TYPES = ["float32", "float16", "int8"]
FILE_ORDER = numpy.arange(13)


@dataclass
class Exported:
    """An export, and what was measured for it."""

    folder: Path
    summary: Summary
    performances: list[Performance]
    numbers: list[int]  # of the sentences, in the order of the performances' translations

    def translations(self, row: int) -> list[str]:
        """The translations of a row of the summary, in the order of the file."""
        by_number = dict(zip(self.numbers, self.performances[row].translations, strict=True))
        return [by_number[number] for number in range(len(by_number))]


@pytest.fixture(scope="module")
def exported(corpus, seq_kd_teacher, teacher_path, tmp_path_factory):
    """An export with everything."""
    folder, measured = tmp_path_factory.mktemp("exported") / "student", []
    real = module.measure

    def recorded(systems, sample, rounds):
        measured[:] = [real(systems, sample, rounds), sample.numbers.tolist()]
        return measured[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "measure", recorded)
        summary = export_student(corpus, seq_kd_teacher, folder, compute_types=TYPES, teacher=str(teacher_path))
    return Exported(folder, summary, *measured)


@pytest.fixture
def write(corpus, seq_kd_teacher, tmp_path):
    """An export to tmp_path/student, with some arguments changed."""
    output, measurement = tmp_path / "student", replace(SEARCH, sentences=3)
    return partial(export_student, corpus=corpus, checkpoint=seq_kd_teacher, output=output, measurement=measurement)


@pytest.fixture(scope="module")
def of_fairseq(data, seq_kd_teacher, tmp_path_factory) -> list[str]:
    """What fairseq-generate finds, in subwords."""
    folder = tmp_path_factory.mktemp("of_fairseq")
    decode(data, folder, seq_kd_teacher, "--gen-subset", "test", "--max-len-b", "200")
    return [decoded.hypotheses[0].text for decoded in in_order(ShardFolder(folder))]


def text(pieces: str) -> str:
    return pieces.replace(" ", "").replace("\u2581", " ").strip()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same_but_for_ties(found: list[str], expected: list[str], fairseq: MeasuredSystem):
    """Where texts differ, because batches do, fairseq must score them alike."""
    scores = [fairseq.score(FILE_ORDER, texts) for texts in (found, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    assert sum(one == other for one, other in zip(found, expected, strict=True)) > len(expected) / 2


# -- the models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compute_type", TYPES)
def test_a_model_translates_with_its_vocabulary_alone(exported, corpus, of_fairseq, compute_type):
    sources = [line.split(" ") for line in (corpus / "pieces/test.en").read_text(encoding="utf-8").splitlines()]
    translator = ctranslate2.Translator(str(exported.folder / compute_type), device="cpu", intra_threads=1)
    found = translator.translate_batch(sources, beam_size=3, length_penalty=0.6, max_decoding_length=200)
    assert all(item.hypotheses[0] for item in found)
    fairseq = exported.performances[0].system
    if compute_type in ROUNDING:  # a model as small as this suffers from int8
        scored = translator.score_batch(sources, [line.split(" ") for line in of_fairseq])
        sums, tokens = zip(*((sum(item.log_probs), len(item.log_probs)) for item in scored), strict=True)
        assert list(tokens) == [token_count(line) for line in of_fairseq]
        scores = numpy.array(sums) / numpy.array(tokens) ** 0.6
        allowed = ROUNDING[compute_type] * numpy.array(tokens) ** 0.4
        assert (abs(scores - fairseq.score(FILE_ORDER, of_fairseq)) <= allowed).all()
        measured = exported.translations(1 + TYPES.index(compute_type))
        assert_same_but_for_ties([" ".join(item.hypotheses[0]) for item in found], measured, fairseq)


def test_models_are_stored_in_their_compute_type(exported):
    sizes = [(exported.folder / compute_type / "model.bin").stat().st_size for compute_type in TYPES]
    assert max(sizes[1:]) < sizes[0]
    configurations = [json.loads((exported.folder / kind / "config.json").read_text()) for kind in TYPES]
    assert all(configuration["add_source_eos"] for configuration in configurations)


def test_the_folder_translates_without_fairseq_and_torch(exported, corpus):
    program = "import runpy, sys\nfor name in ('fairseq', 'torch', 'nmt_kd'):\n    sys.modules[name] = None\n"
    program += "sys.argv[1:] = ['--model', 'float32']\nrunpy.run_path('translate.py', run_name='__main__')"
    sources = (corpus / "text/test.en").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=exported.folder,
        input=f"\n{sources}",
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    blank, *found = done.stdout.splitlines()
    assert blank == ""
    expected = [text(line) for line in exported.translations(1)]
    assert sum(one == other for one, other in zip(found, expected, strict=True)) >= 12  # ties, because batches differ
    assert "python translate.py" in (exported.folder / "summary.md").read_text(encoding="utf-8")


def test_int8_is_measured_as_on_a_cpu_without_vnni(exported):
    _, float32, float16, int8, _ = exported.summary.results
    assert (float32.bleu_change_without_vnni, float16.chrf_change_without_vnni) == (None, None)
    if "avx2" in cpu_flags():
        # nothing overflows, so only sums of floats differ
        assert int8.bleu_change_without_vnni == pytest.approx(int8.bleu_change, abs=1)
        assert int8.chrf_change_without_vnni == pytest.approx(int8.chrf_change, abs=1)
        assert any("limited to AVX2" in note for note in exported.summary.notes)


# -- the summary ------------------------------------------------------------------------------------------------------


def test_the_summary_has_a_row_for_every_system(exported, seq_kd_teacher):
    fairseq, *converted, teacher = exported.summary.results
    assert [result.converted_to for result in exported.summary.results] == [None, *TYPES, None]
    assert (fairseq.system, teacher.system) == ("student, fairseq", "teacher, fairseq")
    weights = read_checkpoint_file(seq_kd_teacher)["model"]
    assert fairseq.parameters == converted[2].parameters < sum(weight.numel() for weight in weights.values())
    assert fairseq.megabytes_on_disk == seq_kd_teacher.stat().st_size / 1e6
    for result in converted:
        files = (exported.folder / result.converted_to).iterdir()
        assert result.megabytes_on_disk == sum(file.stat().st_size for file in files) / 1e6
    tokens = sum(map(token_count, exported.translations(0)))
    assert fairseq.tokens_per_second / fairseq.sentences_per_second == pytest.approx(tokens / 13)
    assert all(result.load_seconds > 0 for result in exported.summary.results)


def test_the_scores_in_the_summary_are_those_of_what_was_translated(exported, corpus):
    references = (corpus / "text/test.de").read_text(encoding="utf-8").splitlines()
    metric, chrf, results = BLEU(), CHRF(), exported.summary.results
    own = exported.translations(0)
    for row, result in enumerate(results):
        translations = exported.translations(row)
        assert result.bleu == pytest.approx(
            metric.corpus_score([text(line) for line in translations], [references]).score
        )
        assert result.chrf == chrf.corpus_score([text(line) for line in translations], [references]).score
        if result.converted_to is None:
            assert (result.bleu_change, result.identical_percent, result.as_good_percent) == (None, None, None)
        else:
            assert result.bleu_change == pytest.approx(result.bleu - results[0].bleu)
            compared = [(one, other) for one, other in zip(translations, own, strict=True) if len(other.split()) < 200]
            same = sum(one == other for one, other in compared)
            assert result.identical_percent == pytest.approx(100 * same / len(compared))
            assert result.identical_percent <= result.as_good_percent
    assert [result.as_good_percent for result in results[1:3]] == [100, 100]
    assert exported.summary.signatures == {"bleu": str(metric.get_signature()), "chrf": str(chrf.get_signature())}


def test_the_student_is_measured_as_fairseq_generate_translates(exported, of_fairseq):
    assert_same_but_for_ties(exported.translations(0), of_fairseq, exported.performances[0].system)


def test_the_page_and_the_json_say_the_same(exported):
    folder, summary = exported.folder, exported.summary
    page, record = (folder / "summary.md").read_text(), json.loads((folder / "summary.json").read_text())
    assert page == summary.as_markdown()
    assert page.count("\n| ") == 2 + len(summary.results)
    assert all(signature in page for signature in summary.signatures.values())
    assert "13 of the 13 sentences of test" in page
    assert "1 CPU thread." in page
    for name in ("bleu", "identical_percent", "as_good_percent"):
        assert [row[name] for row in record["results"]] == [getattr(result, name) for result in summary.results]
    assert sorted(record["files"]) == sorted(contents(folder))


def test_the_page_compares_the_recommended_model_with_the_teacher(exported):
    page, summary = (exported.folder / "summary.html").read_text(encoding="utf-8"), exported.summary
    student = next(result for result in summary.results if result.system == summary.recommended)
    teacher = summary.results[-1]
    assert student.converted_to == json.loads((exported.folder / "settings.json").read_text())["model"]
    share = 100 * student.megabytes_on_disk / teacher.megabytes_on_disk
    assert f"<td>{number(student.megabytes_on_disk)}</td><td>{number(teacher.megabytes_on_disk)}</td>" in page
    assert f"<td>{share:.1f} %</td>" in page
    for result in summary.results:
        assert f"<td>{result.chrf:.2f}" in page
    assert {int(line) for line in re.findall(r"source, line (\d+)", page)} <= set(range(1, 14))


def test_it_says_what_float16_is_computed_as(exported):
    _, _, float16, _, _ = exported.summary.results
    notes = exported.summary.notes
    said = any(note.startswith("The float16 model is computed in float32") for note in notes)
    assert (
        said == (float16.computed_in == "float32") == ("float16" not in ctranslate2.get_supported_compute_types("cpu"))
    )
    assert not any(note.startswith("The int8 model") for note in notes)


def test_translations_that_reach_the_length_limit_are_not_compared(write, monkeypatch):
    monkeypatch.setattr(export_sample, "LONGEST_TRANSLATION", 3)
    summary = write()
    assert (summary.results[1].identical_percent, summary.results[1].as_good_percent) == (None, None)
    assert any(note.startswith("3 of fairseq's translations did not end within 3 tokens") for note in summary.notes)


# -- the folder -------------------------------------------------------------------------------------------------------


def test_a_second_export_replaces_the_first(write, tmp_path):
    write(compute_types=["float32", "int8"])
    write(compute_types=["float32", "float32"])
    assert sorted(path.name for path in (tmp_path / "student").iterdir()) == [
        *("float32", "requirements.txt", "settings.json", "subwords.model"),
        *("summary.html", "summary.json", "summary.md", "translate.py"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_what_fails_midway_leaves_nothing_and_spares_what_was_there(write, tmp_path, monkeypatch):
    (tmp_path / "student").mkdir()  # an empty folder is no obstacle
    write()
    before = contents(tmp_path)
    monkeypatch.setattr(module, "measure", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    for output in ("student", "another"):
        with pytest.raises(KeyboardInterrupt):
            write(output=tmp_path / output)
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_page(data, seq_kd_teacher, corpus, tmp_path, capsys):
    subword_model, output = corpus / "pieces/subwords.model", tmp_path / "out"
    command = ["export", seq_kd_teacher, "--data", data, "--subword-model", subword_model, "--output", output]
    main([str(item) for item in [*command, "--compute-types", "int8", "--sentences", "4", "--beam", "2"]])
    page = capsys.readouterr().out
    assert page == (output / "summary.md").read_text(encoding="utf-8")
    assert "| student, CTranslate2 int8 |" in page
    assert "4 of the 13 sentences" in page
    assert "beam 2, length penalty 0.6" in page
