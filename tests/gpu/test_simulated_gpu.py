"""Every method on a CUDA device without values (scripts/simulated_gpu): devices, dtypes, and waits for the GPU."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cases import cases
from conftest import METHODS, ROOT, python_variables

# Where our code waits for the GPU in every step: file, function, and why it may. Remove what no longer waits.
ALLOWED = {
    ("nmt_kd/engine/models.py", "target_token_index"): "the number of tokens decides about the shapes",
    ("nmt_kd/criterions/ckd.py", "CKD.batch_losses"): "the number of source tokens; copies the number of states",
    ("nmt_kd/criterions/ckd.py", "CKD.reduce_metrics"): "whether there are states to average; after the update",
    ("nmt_kd/criterions/reports.py", "_log_averages_of"): "whether tokens have no prediction; after the update",
    ("nmt_kd/engine/sampling.py", "with_sampled_targets"): "the number of sampled tokens, for fairseq's sample size",
    ("nmt_kd/criterions/selective_kd.py", "SelectiveKD.from_all_workers"): "the numbers of tokens of the other workers",
}
CASES = cases(METHODS)


@pytest.fixture(scope="session")
def outcome(tmp_path_factory):
    """The results of all cases, from one process even if several test processes run."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.getbasetemp()
    if "popen" in folder.name:  # of one of several test processes
        folder = folder.parent
    with open(folder / "simulated_gpu.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = folder / "simulated_gpu.json"
        if not results.exists():
            script = Path(__file__).with_name("gpu_process.py")
            result = subprocess.run(
                [sys.executable, str(script), json.dumps(CASES)],
                capture_output=True,
                text=True,
                timeout=1200,
                check=False,
                cwd=ROOT,
                env={**os.environ, **python_variables()},
            )
            assert result.returncode == 0, result.stderr
            results.write_text(result.stdout.splitlines()[-1])
    return json.loads(results.read_text())


def problems(phases: dict) -> list[str]:
    """What is wrong with the steps of a case, one line each."""
    if "error" in phases:
        return [phases["error"]]
    found = []
    for phase, of_phase in phases.items():
        found += [f"{phase}: {finding}" for finding in of_phase["findings"]]
        for reason, file, function, _ in of_phase["waits"]:
            if (file, function) not in ALLOWED:
                found.append(f"{phase}: waits for the GPU: {reason} in {file} {function}")
    return found


@pytest.mark.parametrize(("system", "mode"), CASES, ids=[": ".join(case) for case in CASES])
def test_a_step_runs_on_a_gpu_without_needless_waits(system, mode, outcome):
    phases = outcome["results"][f"{system}, {mode}"]
    if "cannot be cached" in phases:
        pytest.skip(phases["cannot be cached"])
    assert problems(phases) == []


def test_some_methods_learn_from_a_cache(outcome):
    cached = [name for name, phases in outcome["results"].items() if " cached" in name and "train" in phases]
    assert {"word_kd cached, bf16", "selective_kd cached, --amp", "tie_kd cached, bf16"} <= set(cached)


def test_every_mistake_is_found(outcome):
    found = {name: problems(outcome["results"][name]) for name in outcome["mistakes"]}
    missed = {name: found[name] for name, text in outcome["mistakes"].items() if text not in "\n".join(found[name])}
    assert missed == {}
    assert len(found) > 10


def test_every_allowed_wait_still_happens(outcome):
    happening = {
        (file, function)
        for name, phases in outcome["results"].items()
        if name not in outcome["mistakes"] and "train" in phases
        for of_phase in phases.values()
        for _, file, function, _ in of_phase["waits"]
    }
    assert set(ALLOWED) - happening == set()
