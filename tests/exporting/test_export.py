"""What is exported translates as the student does in fairseq, and the summary's figures are what was measured."""

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import ctranslate2
import pytest
import subwords
from conftest import TINY_TRANSFORMER, parse_training, train_here
from sacrebleu.metrics import BLEU
from tasks.test_seq_kd import decode

from nmt_kd.checkpoints.reading import read_checkpoint_file
from nmt_kd.cli import main
from nmt_kd.decoding.corpus import in_order
from nmt_kd.decoding.shards import ShardFolder
from nmt_kd.errors import UserError
from nmt_kd.exporting import export as module
from nmt_kd.exporting import systems as export_systems
from nmt_kd.exporting.export import SubwordModel, export
from nmt_kd.exporting.systems import Measurement, Sample, System, measure

TYPES = ["float32", "float16", "int8"]
SEARCH = Measurement(beam=3)


@pytest.fixture(scope="module")
def subword_model(corpus) -> Path:
    return corpus / "pieces/subwords.model"


@pytest.fixture(scope="module")
def exported(data, seq_kd_teacher, teacher_path, subword_model, tmp_path_factory):
    """The folder and the summary of an export with everything."""
    folder = tmp_path_factory.mktemp("exported") / "student"
    return folder, export(seq_kd_teacher, str(data), subword_model, TYPES, folder, str(teacher_path), SEARCH)


@pytest.fixture
def write(data, seq_kd_teacher, subword_model, tmp_path):
    """An export to tmp_path/student, with some arguments changed."""

    def write(**changes):
        arguments = {
            "checkpoint": seq_kd_teacher,
            "data": str(data),
            "subword_model": subword_model,
            "compute_types": ["float32"],
            "output": tmp_path / "student",
            "measurement": replace(SEARCH, sentences=3),
        }
        return export(**{**arguments, **changes})

    return write


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


# -- the models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compute_type", TYPES)
def test_a_model_translates_with_its_vocabulary_alone(exported, corpus, of_fairseq, compute_type):
    sources = [line.split(" ") for line in (corpus / "pieces/test.en").read_text(encoding="utf-8").splitlines()]
    translator = ctranslate2.Translator(str(exported[0] / compute_type), device="cpu", intra_threads=1)
    found = translator.translate_batch(sources, beam_size=3, length_penalty=0.6, max_decoding_length=200)
    same = sum(" ".join(item.hypotheses[0]) == text for item, text in zip(found, of_fairseq, strict=True))
    assert same >= {"float32": 13, "float16": 12, "int8": 0}[compute_type]  # a model as small as this suffers from int8
    assert all(item.hypotheses[0] for item in found)


def test_models_are_stored_in_their_compute_type(exported):
    sizes = [(exported[0] / compute_type / "model.bin").stat().st_size for compute_type in TYPES]
    assert max(sizes[1:]) < sizes[0]
    configurations = [json.loads((exported[0] / kind / "config.json").read_text()) for kind in TYPES]
    assert all(configuration["add_source_eos"] for configuration in configurations)


def test_the_usage_in_the_summary_runs_without_fairseq_and_torch(exported, of_fairseq):
    folder, _ = exported
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "summary.md").read_text(encoding="utf-8"), re.DOTALL)
    alone = "import sys\nfor name in ('fairseq', 'torch', 'nmt_kd'):\n    sys.modules[name] = None\n"
    done = subprocess.run([sys.executable, "-c", alone + code], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == text(of_fairseq[0])


# -- the summary ------------------------------------------------------------------------------------------------------


def test_the_summary_has_all_rows_with_figures_that_were_measured(exported, corpus, of_fairseq, seq_kd_teacher):
    folder, summary = exported
    fairseq, *converted, teacher = summary.results
    assert [result.converted_to for result in summary.results] == [None, *TYPES, None]
    assert (fairseq.system, teacher.system) == ("student, fairseq", "teacher, fairseq")
    references = (corpus / "text/test.de").read_text(encoding="utf-8").splitlines()
    metric = BLEU()
    assert fairseq.bleu == pytest.approx(metric.corpus_score([text(line) for line in of_fairseq], [references]).score)
    assert summary.bleu_signature == str(metric.get_signature())
    assert converted[0].bleu == fairseq.bleu
    assert [converted[0].bleu_change, converted[0].identical_percent] == [0, 100]
    assert [fairseq.identical_percent, teacher.identical_percent, teacher.bleu_change] == [None, None, None]
    weights = read_checkpoint_file(seq_kd_teacher)["model"]
    assert fairseq.parameters == converted[2].parameters < sum(weight.numel() for weight in weights.values())
    assert fairseq.megabytes_on_disk == seq_kd_teacher.stat().st_size / 1e6
    for result in converted:
        files = (folder / result.converted_to).iterdir()
        assert result.megabytes_on_disk == sum(file.stat().st_size for file in files) / 1e6
    tokens = sum(len(line.split()) + 1 for line in of_fairseq)
    assert fairseq.tokens_per_second / fairseq.sentences_per_second == pytest.approx(tokens / 13)
    assert all(result.load_seconds > 0 for result in summary.results)


def test_the_page_and_the_json_say_the_same(exported):
    folder, summary = exported
    page, record = (folder / "summary.md").read_text(), json.loads((folder / "summary.json").read_text())
    assert page == summary.as_markdown()
    assert page.count("\n| ") == 2 + len(summary.results)
    assert summary.bleu_signature in page
    assert "13 of the 13 sentences of test" in page
    assert "1 thread of the CPU" in page
    assert [row["bleu"] for row in record["results"]] == [result.bleu for result in summary.results]
    assert sorted(record["files"]) == sorted(contents(folder))


def test_it_says_what_float16_is_computed_as(exported):
    _, _, float16, _, _ = exported[1].results
    said = any(note.startswith("float16 is stored as float16 but computed as float32") for note in exported[1].notes)
    assert (
        said == (float16.computed_in == "float32") == ("float16" not in ctranslate2.get_supported_compute_types("cpu"))
    )
    assert not any(note.startswith("int8 is stored") for note in exported[1].notes)


def test_translations_that_reach_the_length_limit_are_not_compared(write, monkeypatch):
    monkeypatch.setattr(export_systems, "LONGEST_TRANSLATION", 3)
    summary = write()
    assert summary.results[1].identical_percent is None
    assert any(note.startswith("3 of fairseq's translations did not end within 3 tokens") for note in summary.notes)


def test_the_sample_is_spread_over_the_subset_and_always_the_same(task):
    model = task.build_model(parse_training([task.cfg.data, *TINY_TRANSFORMER]).model)
    chosen = {
        count: Sample.choose(task, Measurement(sentences=count), [model]).numbers.tolist() for count in (0, 5, 13, 99)
    }
    assert sorted(chosen[0]) == sorted(chosen[13]) == sorted(chosen[99]) == list(range(13))
    assert sorted(chosen[5]) == [0, 2, 5, 7, 10]
    sizes = task.dataset("test").src_sizes[chosen[13]]
    assert sorted(sizes, reverse=True) == sizes.tolist()


def test_systems_translate_in_turn_and_the_median_round_counts():
    calls, waits = [], iter([0, 0, 0.3, 0, 0.1, 0, 0.2, 0])

    def translate(name):
        def translate(numbers):
            calls.append(name)
            time.sleep(next(waits))
            return ["a b"] * len(numbers)

        return translate

    systems = [System(name, None, "float32", 1, 1, 1.0, translate(name)) for name in ("slow", "fast")]
    sample = type("FiveSentences", (), {"numbers": list(range(5))})
    slow, fast = measure(systems, sample, rounds=3)
    assert calls == ["slow", "fast"] * 4
    assert 0.2 <= slow.seconds < 0.3
    assert fast.seconds < 0.1
    assert slow.tokens_per_second == pytest.approx(15 / slow.seconds)


# -- the folder -------------------------------------------------------------------------------------------------------


def test_a_second_export_replaces_the_first(write, tmp_path):
    write(compute_types=["float32", "int8"])
    write(compute_types=["float32", "float32"])
    assert sorted(path.name for path in (tmp_path / "student").iterdir()) == [
        *("float32", "subwords.model", "summary.json", "summary.md")
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


def test_a_folder_with_anything_else_is_refused(write, tmp_path, teacher_path):
    output = tmp_path / "student"
    write()
    with pytest.raises(UserError, match=r"holds the export of another checkpoint, .*; give another --output"):
        write(checkpoint=teacher_path)
    (output / "int8").mkdir()
    (output / "int8/mine.txt").touch()
    with pytest.raises(UserError, match=r"holds int8/mine.txt, which nmt-kd export did not write; move it"):
        write()
    (output / "summary.json").write_text("[]")
    with pytest.raises(UserError, match="is there and was not made by nmt-kd export; give another --output"):
        write()
    with pytest.raises(UserError, match="is a file; give --output a folder"):
        write(output=output / "summary.md")


def test_a_folder_that_cannot_be_written_is_named(write, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/student"):
        write(output=tmp_path / "file/student")


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_conversion_that_translates_otherwise_is_refused_where_it_must_not(write, tmp_path, monkeypatch):
    real = module.ctranslate2_system

    def deranged(*arguments):
        return replace(real(*arguments), translate=lambda numbers: ["\u2581nonsense"] * len(numbers))

    monkeypatch.setattr(module, "ctranslate2_system", deranged)
    for compute_type in ("float32", "float16"):
        with pytest.raises(UserError, match=rf"for 0.0 % of the sentences in {compute_type}, less than 95 %"):
            write(compute_types=["int8", compute_type])
        assert list(tmp_path.iterdir()) == []
    assert write(compute_types=["int8"]).results[1].identical_percent == 0


def test_what_ctranslate2_cannot_convert_is_named(data, write, tmp_path):
    flags = ["--criterion", "cross_entropy", "--max-update", "1", "--disable-validation"]
    run = train_here(data, tmp_path / "lstm", *flags, architecture=["--arch", "lstm_wiseman_iwslt_de_en"])
    with pytest.raises(
        UserError, match=r"CTranslate2 cannot convert .*lstm.*'lstm_wiseman_iwslt_de_en' is not support"
    ):
        write(checkpoint=run.save_dir / "checkpoint_last.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["lstm"]


def test_other_dictionaries_are_refused(data, write, tmp_path):
    for name in ("longer", "reordered"):
        shutil.copytree(data, tmp_path / name)
    lines = (data / "dict.en.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "longer/dict.de.txt").write_text("\n".join([*lines, "more 1"]) + "\n", encoding="utf-8")
    (tmp_path / "reordered/dict.en.txt").write_text("\n".join(lines[::-1]) + "\n", encoding="utf-8")
    size = len(lines) + 4
    with pytest.raises(
        UserError, match=f"has a target vocabulary of {size} symbols, dict.de.txt in .* of {size + 1}; "
    ):
        write(data=str(tmp_path / "longer"))
    with pytest.raises(
        UserError, match=r"trained with other source symbols, .*dict.en.txt, than dict.en.txt in .*; give"
    ):
        write(data=str(tmp_path / "reordered"))
    with pytest.raises(UserError, match=r"/none has no dict.\*.txt; give a folder that"):
        write(data="/none")


def test_a_missing_installation_is_named(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(UserError, match=r"it is not installed \(pip install 'nmt-kd\[ctranslate2\]'\)"):
        write()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": Path("/none.pt")}, "checkpoint /none.pt does not exist"),
        (
            {"checkpoint": Path("a.pt:b.pt")},
            "CTranslate2 cannot be used: it decodes with one model, not with an ensemble",
        ),
        ({"teacher": "/none.pt"}, "checkpoint /none.pt does not exist"),
        ({"compute_types": ["int4"]}, "--compute-types is int4; it must be int8, "),
        ({"measurement": Measurement(beam=0)}, "--beam is 0; it must be 1 or more"),
        ({"measurement": Measurement(sentences=-1)}, "--sentences is -1; it must be 0 or more"),
        ({"measurement": Measurement(gen_subset="test9")}, "has no test9.en-de; give a folder"),
        ({"subword_model": Path("/none.model")}, "subword model /none.model does not exist; give the file"),
        ({"subword_model": Path(__file__)}, "is neither a sentencepiece model nor BPE codes of subword-nmt; give"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_left(write, tmp_path, changes, message):
    with pytest.raises(UserError) as error:
        write(**changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_another_subword_model_is_refused(write, corpus, tmp_path):
    subwords.train_subwords([corpus / "text/train.en"], tmp_path / "other", 90)
    with pytest.raises(
        UserError, match=r"splits 0 of 3 sentences into the subwords that they have in .*; give the model"
    ):
        write(subword_model=tmp_path / "other.model")


def test_bpe_codes_are_known_and_have_a_usage_of_their_own(tmp_path):
    (tmp_path / "codes").write_text("#version: 0.2\ne r\ner n</w>\n", encoding="utf-8")
    model = SubwordModel.read(tmp_path / "codes")
    assert (model.kind, model.file_name) == ("subword_nmt", "subwords.codes")
    assert model.text("the tra@@ in@@ s leave") == "the trains leave"
    usage = module.USAGE[model.kind].format(
        file_name=model.file_name, compute_type="int8", beam=4, lenpen=0.6, longest=200, example="It's late"
    )
    compile(usage, "usage", "exec")


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_page(data, seq_kd_teacher, subword_model, tmp_path, capsys):
    command = ["export", seq_kd_teacher, "--data", data, "--subword-model", subword_model, "--output", tmp_path / "out"]
    main([str(item) for item in [*command, "--compute-types", "int8", "--sentences", "4", "--beam", "2"]])
    page = capsys.readouterr().out
    assert page == (tmp_path / "out/summary.md").read_text(encoding="utf-8")
    assert "| student, CTranslate2 int8 |" in page
    assert "4 of the 13 sentences" in page
    assert "beam 2, length penalty 0.6" in page
