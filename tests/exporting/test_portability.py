"""Measuring as on a CPU without VNNI: in a process of its own, where the CPU allows it; losses are named."""

from dataclasses import replace

import pytest

from nmt_kd.errors import UserError
from nmt_kd.exporting import portability
from nmt_kd.exporting.faithfulness import losses, recommended
from nmt_kd.exporting.portability import translate_without_vnni
from nmt_kd.exporting.summary import Result

INT8 = Result("int8", "int8", "int8_float32", 1, 1.0, 0.1, 9, 9, 9, 1, 30, -0.1, -0.1, 50, 0.1, 0.1, 90, 90)
FLOAT32 = replace(INT8, system="float32", converted_to="float32", megabytes_on_disk=4.0)
ECHO = (
    "import os, sys\nfor line in sys.stdin:\n    print(line.strip(), os.environ['CT2_FORCE_CPU_ISA'], *sys.argv[1:])\n"
)


@pytest.fixture
def cpu(tmp_path, monkeypatch):
    """A function that sets the flags of the CPU."""

    def cpu(flags):
        (tmp_path / "cpuinfo").write_text(f"model name : X\nflags\t\t: {flags}\n\nmodel name : X\nflags\t\t: {flags}\n")
        monkeypatch.setattr(portability, "CPU_INFO", tmp_path / "cpuinfo")

    return cpu


def test_the_program_runs_in_a_process_limited_to_avx2(cpu, tmp_path):
    cpu("sse avx2 avx512_vnni")
    (tmp_path / "translate.py").write_text(ECHO)
    assert translate_without_vnni(tmp_path, "int8", False, ["a\u2028b", ""]) == [
        f"{source} AVX2 --subwords --model int8 --no-shortlist" for source in ("a\u2028b", "")
    ]


def test_a_cpu_without_avx2_measures_nothing(cpu, tmp_path):
    cpu("sse asimd")
    assert translate_without_vnni(tmp_path, "int8", False, ["a"]) is None


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise SystemExit('no model')", "no model"),
        ("print(1)", "1 of 2 lines translated"),
        ("", "0 of 2 lines translated"),
    ],
)
def test_a_program_that_fails_is_an_error(cpu, tmp_path, program, reason):
    cpu("avx2")
    (tmp_path / "translate.py").write_text(program)
    with pytest.raises(UserError, match=f"the exported translate.py fails with the int8 model: {reason}"):
        translate_without_vnni(tmp_path, "int8", True, ["a", "b"])


@pytest.mark.parametrize(("flags", "vnni"), [("avx2", False), ("avx2 avx_vnni", True), ("avx512_vnni", True)])
def test_vnni_is_recognised(cpu, flags, vnni):
    cpu(flags)
    assert portability.has_vnni() is vnni


def test_a_loss_is_named_by_score_and_instruction_set():
    assert losses(INT8) == []
    assert losses(replace(INT8, bleu_change=-0.25)) == ["0.25 BLEU"]
    lost = replace(INT8, chrf_change=-0.5, bleu_change_without_vnni=-1.0, chrf_change_without_vnni=None)
    assert losses(lost) == ["0.50 chrF", "1.00 BLEU on CPUs without VNNI"]
    assert losses(replace(lost, converted_to="float32")) == []  # held to a stricter standard
    assert losses(replace(lost, converted_to=None)) == []


def test_the_smallest_model_that_loses_little_is_recommended():
    fairseq = replace(INT8, converted_to=None, megabytes_on_disk=0.1)
    assert recommended([fairseq, FLOAT32, INT8]) == INT8
    assert recommended([fairseq, FLOAT32, replace(INT8, bleu_change=-0.3)]) == FLOAT32
    bad = replace(INT8, bleu_change=-0.3)
    assert recommended([fairseq, bad]) == bad


def test_a_shortlist_is_recommended_if_it_loses_little():
    listed = replace(INT8, system="int8, shortlist", shortlist=True, megabytes_on_disk=2.0)
    assert recommended([FLOAT32, INT8, listed]) == listed
    assert recommended([FLOAT32, INT8, replace(listed, chrf_change=-0.3)]) == INT8
    assert losses(replace(listed, converted_to="float32", chrf_change=-0.3)) == ["0.30 chrF"]
