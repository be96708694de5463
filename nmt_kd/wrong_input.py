"""Make fairseq's commands answer wrong input with one line instead of a traceback."""

import functools
import sys

import torch
from fairseq.optim.fp16_optimizer import FP16Optimizer
from fairseq.tasks import translation
from fairseq.tasks.translation import TranslationTask
from fairseq.trainer import Trainer

from nmt_kd.data import opening_data, opening_subset
from nmt_kd.errors import UserError


def apply() -> None:
    """Replace the functions of fairseq that fail on wrong input; call this once per process."""
    explain_missing_data()
    explain_missing_subsets()
    explain_half_precision_on_the_cpu()
    save_no_crash_of_wrong_input()


def explain_missing_data() -> None:
    """Make a translation task say what is wrong with its data folder or languages."""
    setup_task = TranslationTask.setup_task.__func__

    @functools.wraps(setup_task)
    def setup_task_or_explain(cls, cfg, **kwargs):
        with opening_data(cfg.data, cfg.source_lang, cfg.target_lang):
            return setup_task(cls, cfg, **kwargs)

    TranslationTask.setup_task = classmethod(setup_task_or_explain)


def explain_missing_subsets() -> None:
    """Make a translation task say which subsets and languages its data has, and where the two sides differ."""
    load_langpair_dataset = translation.load_langpair_dataset

    @functools.wraps(load_langpair_dataset)
    def load_or_explain(data_path, split, src, src_dict, tgt, *args, **kwargs):
        with opening_subset(data_path, split, src, tgt):
            return load_langpair_dataset(data_path, split, src, src_dict, tgt, *args, **kwargs)

    translation.load_langpair_dataset = load_or_explain


def explain_half_precision_on_the_cpu() -> None:
    """Make fairseq say which flags train in half precision without a GPU: --fp16 alone asks torch for one."""
    build_fp32_params = FP16Optimizer.build_fp32_params.__func__

    @functools.wraps(build_fp32_params)
    def build_or_explain(cls, args, params, flatten=True):
        if flatten and not torch.cuda.is_available():
            raise UserError(
                "--fp16 needs a GPU, and torch sees none; leave it out, or on the CPU use --memory-efficient-fp16, or "
                "--fp16 with --fp16-no-flatten-grads"
            )
        return build_fp32_params(cls, args, params, flatten)

    FP16Optimizer.build_fp32_params = classmethod(build_or_explain)


def save_no_crash_of_wrong_input() -> None:
    """Make fairseq-train save no crash.pt, as large as a checkpoint, if a training step ends because of wrong input."""
    save_checkpoint = Trainer.save_checkpoint

    @functools.wraps(save_checkpoint)
    def save_unless_wrong_input(self, filename, extra_state):
        if not isinstance(sys.exc_info()[1], UserError):
            save_checkpoint(self, filename, extra_state)

    Trainer.save_checkpoint = save_unless_wrong_input
