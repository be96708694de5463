"""Updates by fairseq's own trainer, in its precisions."""

import copy
from dataclasses import dataclass

from fairseq.logging import metrics
from fairseq.trainer import Trainer

from simulated_gpu.gradients import Gradients, faults
from simulated_gpu.recorder import Record, Recorder
from simulated_gpu.steps import Simulation, end_comparison_with_chance
from simulated_gpu.systems import System
from simulated_gpu.workplace import Workplace

PRECISIONS = {
    "--fp16": ["--fp16"],
    "--memory-efficient-fp16": ["--memory-efficient-fp16", "--optimizer", "adam"],  # which SGD does not support
    "--bf16": ["--bf16"],
    "--amp": ["--amp"],
}
# the cheapest optimiser, since this package has none to test
TRAINING = ["--optimizer", "sgd", "--lr", "0.001", "--clip-norm", "1.0"]


@dataclass
class Update:
    """What one update did, and the gradients it left."""

    record: Record
    gradients: Gradients


def take_updates(workplace: Workplace, system: System, precision: str) -> Update:
    """Build a system, make two updates, and return the second one.

    Raises what an update raises, and RuntimeError if the trainer skips one.
    """
    task = workplace.task()
    flags = [*workplace.flags(system), *TRAINING, "--save-dir", str(workplace.folder), "--distributed-world-size", "1"]
    cfg = copy.deepcopy(workplace.parse(*flags, *PRECISIONS[precision]))  # the trainer changes it
    cfg.common.tpu = False  # as nmt_kd.compat does before it lets fairseq train in bfloat16
    metrics.reset()
    simulation = Simulation(Recorder())
    with simulation.mode:
        student, criterion = workplace.build(task, cfg)
    batch = workplace.batch(task)
    with simulation as recorder:
        trainer = Trainer(cfg, task, student, criterion)
        for _ in range(2):
            record = recorder.restart()
            trainer.train_step([batch])
            end_comparison_with_chance(criterion)
    if trainer.get_num_updates() != 2:
        raise RuntimeError(f"fairseq's trainer made {trainer.get_num_updates()} updates instead of 2")
    trained = [*student.named_parameters(), *criterion.named_parameters()]
    return Update(record, faults(trained, criterion))
