"""How often two models make the same first choice under teacher forcing (top-1 agreement, TIE-KD paper, section 3)."""

from dataclasses import asdict, dataclass

import torch
from fairseq import tasks, utils
from omegaconf import open_dict

from nmt_kd import compat
from nmt_kd.errors import UserError
from nmt_kd.features import target_token_index
from nmt_kd.teacher import Teacher


@dataclass
class Agreement:
    """Counts over target tokens, padding excluded, the end of each sentence included."""

    tokens: int = 0
    agreeing: int = 0

    @property
    def percent(self) -> float:
        return 100 * self.agreeing / self.tokens if self.tokens else float("nan")

    def as_dict(self) -> dict:
        return {"teacher_agreement": self.percent, **asdict(self)}


def measure_agreement(student_path: str, teacher_path: str, data: str, subset: str, max_tokens: int) -> Agreement:
    """Compare the first choices of two models at every target token of a binarised data set.

    Each path is a checkpoint or several, separated by ":" (an ensemble). Runs on a GPU where there is one.
    Raises UserError where the models do not fit each other or the data.
    """
    task = _task_on(student_path.split(":")[0], data)
    models = [Teacher.load(path, task) for path in (student_path, teacher_path)]
    try:
        task.load_dataset(subset)
    except FileNotFoundError:
        raise UserError(f"{data} has no subset {subset!r}; see what fairseq-preprocess wrote there") from None
    batches = task.get_batch_iterator(
        task.dataset(subset),
        max_tokens=max_tokens,
        max_positions=utils.resolve_max_positions(task.max_positions(), *(model.max_positions() for model in models)),
        ignore_invalid_inputs=True,
    ).next_epoch_itr(shuffle=False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    like = torch.zeros((), device=device)
    agreement = Agreement()
    with torch.no_grad():
        for sample in batches:
            sample = utils.move_to_cuda(sample) if device.type == "cuda" else sample
            token_index = target_token_index(sample["target"], task.target_dictionary.pad())
            first, second = (model.read(sample["net_input"], token_index, like).first_choices() for model in models)
            agreement.tokens += token_index.numel()
            agreement.agreeing += (first == second).sum().item()
    return agreement


def _task_on(checkpoint: str, data: str):
    configuration = compat.read_checkpoint(checkpoint)["cfg"].task
    with open_dict(configuration):
        configuration.data = data
        if "eval_bleu" in configuration:
            configuration.eval_bleu = False
    return tasks.setup_task(configuration, from_checkpoint=True)
