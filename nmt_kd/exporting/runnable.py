"""The runnable part of an export: a program with its settings and requirements, and the subword model."""

import json
import shutil
from pathlib import Path

from nmt_kd.exporting.sample import Measurement, Sample
from nmt_kd.subword_model import SubwordModel

PROGRAM, SETTINGS, REQUIREMENTS = "translate.py", "settings.json", "requirements.txt"  # as in translate.py
PACKAGES = {"sentencepiece": "sentencepiece", "subword_nmt": "subword-nmt"}


def write_runnable(
    folder: Path, subwords: SubwordModel, measurement: Measurement, sample: Sample, model: str, shortlist: bool = False
) -> None:
    """Write everything that translates with the models in `folder`; `model` is the name of the default one.

    Lines longer than the longest source in the measured subset are split.
    """
    cfg = sample.originals.task.cfg
    settings = {
        "model": model,
        "shortlist": shortlist,
        "subwords": subwords.file_name,
        "beam": measurement.beam,
        "length_penalty": measurement.lenpen,
        "longest_source": sample.longest_source,
        "longest_translation": sample.longest_translation,
        "source_language": cfg.source_lang,
        "target_language": cfg.target_lang,
    }
    shutil.copyfile(Path(__file__).with_name(PROGRAM), folder / PROGRAM)
    shutil.copyfile(subwords.path, folder / subwords.file_name)
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    (folder / REQUIREMENTS).write_text(f"ctranslate2>=4.5\n{PACKAGES[subwords.kind]}\n", encoding="utf-8")
