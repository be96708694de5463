"""Speeds are medians over rounds in which the systems take turns."""

import pytest

from nmt_kd.exporting import speed
from nmt_kd.exporting.systems import MeasuredSystem


def test_systems_translate_in_turn_and_the_median_round_counts(monkeypatch):
    calls, durations, now = [], iter([0, 0, 0.3, 0.01, 0.1, 0.01, 0.2, 0.01]), [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])

    def translate(name):
        def translate(numbers):
            calls.append(name)
            now[0] += next(durations)
            return ["a b"] * len(numbers)

        return translate

    def score(numbers, translations):
        raise AssertionError("scoring takes no part in the measurement")

    systems = [MeasuredSystem(name, None, "float32", 1, 1, 1.0, translate(name), score) for name in ("slow", "fast")]
    sample = type("FiveSentences", (), {"numbers": list(range(5))})
    slow, fast = speed.measure(systems, sample, rounds=3)
    assert calls == ["slow", "fast"] * 4
    assert [slow.seconds, fast.seconds] == [pytest.approx(0.2), pytest.approx(0.01)]
    assert slow.tokens_per_second == pytest.approx(15 / 0.2)
    assert slow.sentences_per_second == pytest.approx(5 / 0.2)
