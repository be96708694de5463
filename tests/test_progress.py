from nmt_kd import progress
from nmt_kd.progress import Progress


def test_progress_is_reported_every_few_seconds_and_at_the_end(monkeypatch, caplog):
    clock = iter([0.0, 4.0, 20.0, 21.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with caplog.at_level("INFO", logger="nmt_kd.progress"):
        report = Progress(4000, name="train")
        for _ in range(3):
            report.add(1000 if report.done < 2000 else 2000)
    assert [record.getMessage() for record in caplog.records] == [
        "train: 2,000 of 4,000 sentences, 100.0 sentences/s, 0.3 min left",
        "train: 4,000 of 4,000 sentences, 190.5 sentences/s, 0.0 min left",
    ]


def test_the_unit_is_named(caplog):
    with caplog.at_level("INFO", logger="nmt_kd.progress"):
        Progress(2, "batches").add(2)
    assert caplog.records[0].getMessage().startswith("2 of 2 batches, ")
