"""Run training steps of all systems on the simulated GPU and print the problems found, as JSON.

A process of its own, because the device must exist before torch is imported. Its argument is a JSON list of `cases`.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT), str(ROOT / "tests")]

from simulated_gpu import guard  # noqa: E402

guard.load()

from simulated_gpu import patches  # noqa: E402

patches.apply()

import torch  # noqa: E402
from fairseq import utils  # noqa: E402

import nmt_kd  # noqa: E402, F401  (registers the criteria)

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
for user_dir in os.environ.get("NMT_KD_USER_DIR", "").split(":"):  # methods to test that are not in the package
    utils.import_user_module(argparse.Namespace(user_dir=user_dir or None))

import cases  # noqa: E402
import composition  # noqa: E402, F401  (fairseq composes its configurations with it)
import controls  # noqa: E402
from simulated_gpu import places, steps, updates, workers  # noqa: E402
from simulated_gpu.systems import System, systems  # noqa: E402
from simulated_gpu.workplace import Workplace, write_data  # noqa: E402

from nmt_kd.errors import UserError  # noqa: E402

STUDENT = [
    *("--arch", "transformer_iwslt_de_en", "--share-all-embeddings", "--dropout", "0.1"),
    *("--encoder-layers", "1", "--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "32"),
    *("--decoder-layers", "1", "--decoder-embed-dim", "16", "--decoder-ffn-embed-dim", "32"),
    *("--encoder-attention-heads", "2", "--decoder-attention-heads", "2"),
]
TEACHER = [*STUDENT, "--encoder-embed-dim", "24", "--decoder-embed-dim", "24"]
LENGTHS = [4, 5, 6, 7] * 50
CHUNKS = ["--kd-chunk-tokens", "600"]


def waits(record) -> list[list]:
    """What the record says of the CPU waiting in our code: reason, file, function and count."""
    return [
        [wait.reason, wait.place.file, wait.place.function, count]
        for wait, count in record.waits.items()
        if wait.place.is_ours
    ]


def of_gradients(gradients) -> list[str]:
    """What is wrong with the gradients of a step or an update."""
    found = [f"no gradient: {name}" for name in gradients.missing]
    found += [f"gradient of another dtype or device: {name}" for name in gradients.wrong]
    return found + [f"gradient of the teacher: {name}" for name in gradients.of_teacher]


def of_results(step) -> list[str]:
    """What is wrong with the results of a step."""
    found = of_gradients(step.gradients)
    found += [f"on the {device}: the logged {name}" for name, device in step.logged.items() if device != "cuda"]
    return found if step.loss_dtype == torch.float32 else [*found, f"the loss is {step.loss_dtype}"]


def of_record(record, in_half: bool) -> list[str]:
    """What is wrong with the dtypes of a step's operations, which should multiply matrices `in_half` precision."""
    products = record.float32_products if in_half else ()
    found = {f"in float32: a matrix product in {place.file} {place.function}" for place in products}
    found |= {f"in half precision: {name} in {place.file} {place.function}" for name, place in record.half_exponentials}
    return sorted(found)


class Attempts:
    """Takes steps of systems, and says what is wrong with each."""

    def __init__(self, folder: Path):
        write_data(folder, 200, LENGTHS)
        self.workplace = Workplace(folder, STUDENT, TEACHER)

    def __call__(self, system: System, mode: str) -> dict[str, dict]:
        """The waits and the findings by the phase; or an error, or that the method cannot learn from a cache."""
        try:
            if mode in updates.PRECISIONS:
                return self.update(system, mode)
            if mode == cases.AS_ONE_OF_SEVERAL:
                with workers.one_of(cases.WORKERS):
                    return self.step(system, "bf16")
            return self.step(system, mode)
        except UserError as error:
            kind = "cannot be cached" if system.from_cache and "needs the teacher itself" in str(error) else "error"
            return {kind: str(error)}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}

    def step(self, system: System, precision: str) -> dict[str, dict]:
        taken = steps.take_steps(self.workplace, system, precision)
        return {
            "train": {
                "waits": waits(taken.train.record),
                "findings": [*of_results(taken.train), *of_record(taken.train.record, precision != "fp32")],
            },
            "valid": {
                "waits": waits(taken.valid.record),
                "findings": [*of_results(taken.valid), *of_record(taken.valid.record, precision in ("fp16", "bf16"))],
            },
        }

    def update(self, system: System, precision: str) -> dict[str, dict]:
        update = updates.take_updates(self.workplace, system, precision)
        findings = [*of_gradients(update.gradients), *of_record(update.record, in_half=True)]
        return {"train": {"waits": waits(update.record), "findings": findings}}


def main(wanted: list[list[str]]) -> dict:
    torch.set_num_threads(1)
    places.OURS[controls.__file__] = "tests/gpu/controls.py"
    known = systems()
    with tempfile.TemporaryDirectory() as folder:
        attempt = Attempts(Path(folder))
        results = {
            f"{name}, {mode}": attempt(replace(known[name], flags=(*known[name].flags, *CHUNKS)), mode)
            for name, mode in wanted
        }
        mistakes = {}
        for name, finding in controls.MISTAKES.items():
            for mode in ("fp16", *(controls.BY_TRAINER if "gradient" in finding else ())):
                mistakes[f"{name}, {mode}"] = finding
                results[f"{name}, {mode}"] = attempt(System(name, name), mode)
    return {"results": results, "mistakes": mistakes}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
