import json

from nmt_kd.storage.kinds import kind_of_folder


def test_folders_are_told_apart_by_what_is_in_them(tmp_path):
    for name, files, settings in (
        ("cache", [], {"format": 1, "top_k": 8}),
        ("cache/train", ["0000000.safetensors"], {"sentences": 7}),
        ("decoded", ["shards/0000000.jsonl"], {"teacher": "1c2e"}),
        ("data-bin", ["dict.en.txt"], None),
        ("checkpoints", ["checkpoint_best.pt"], None),
        ("other", ["shards/0000000.jsonl", "text"], None),
        ("damaged", [], []),
    ):
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).touch()
        if settings is not None:
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "manifest.json").write_text(json.dumps(settings))
    kinds = {path.name: kind_of_folder(path) for path in (*tmp_path.iterdir(), tmp_path / "cache/train")}
    assert kinds == {
        "cache": "a cache of a teacher's predictions",
        "train": "one subset of a cache",
        "decoded": "a folder of decoded sentences",
        "data-bin": "a folder of binarised data",
        "checkpoints": "a folder of checkpoints",
        "other": None,
        "damaged": None,
    }
    (tmp_path / "other/summary.json").write_text('{"nmt-kd export": "1.0"}')
    assert kind_of_folder(tmp_path / "other") == "a folder that nmt-kd export wrote"
    assert kind_of_folder(tmp_path / "none") is None
    assert kind_of_folder(tmp_path / "other/text") is None
