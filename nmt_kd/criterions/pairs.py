"""The language pairs that a task trains, each with a teacher."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from fairseq.tasks import FairseqTask
from fairseq.tasks.multilingual_translation import MultilingualTranslationTask
from torch import Tensor

from nmt_kd.checkpoints.task import task_of_data
from nmt_kd.engine.predictions import Predictions, TeacherSource
from nmt_kd.errors import UserError


@dataclass
class LanguagePairs:
    """The language pairs of a training, and the one whose batch is being computed.

    fairseq's task multilingual_translation calls the criterion once for each pair, with the pair's model and batch, but
    without its name. Therefore the methods of the task that call it are wrapped.
    """

    tasks: dict[str, FairseqTask]  # for each pair, the translation task with its dictionaries
    current: str
    is_multilingual: bool

    @classmethod
    def of(cls, task: FairseqTask) -> "LanguagePairs":
        """Return the pairs of `task`, with `current` updated whenever it computes a loss; UserError for other tasks."""
        if not isinstance(task, MultilingualTranslationTask):
            if task.cfg is None or not hasattr(task.cfg, "source_lang"):
                raise UserError(
                    f"multilingual_kd cannot train with {type(task).__name__}; choose --task multilingual_translation "
                    "or --task translation"
                )
            pair = f"{task.cfg.source_lang}-{task.cfg.target_lang}"
            return cls({pair: task}, pair, is_multilingual=False)
        if task.args.distributed_world_size > 1 and task.args.ddp_backend not in ("legacy_ddp", "no_c10d"):
            raise UserError(
                f"--ddp-backend {task.args.ddp_backend} does not synchronise the gradients of "
                "--task multilingual_translation; give --ddp-backend legacy_ddp"
            )
        tasks = {pair: task_of_data(task.args.data, *pair.split("-")) for pair in task.model_lang_pairs}
        pairs = cls(tasks, "", is_multilingual=True)

        def naming_the_pair(compute_loss: Callable) -> Callable:
            @functools.wraps(compute_loss)
            def compute_named_loss(lang_pair: str, *args, **kwargs):
                pairs.current = lang_pair
                return compute_loss(lang_pair, *args, **kwargs)

            return compute_named_loss

        for name in ("_per_lang_pair_train_loss", "_per_lang_pair_valid_loss"):
            setattr(task, name, naming_the_pair(getattr(task, name)))
        return pairs

    def log_prefix(self, pair: str) -> str:
        """Return what fairseq puts before the names of a pair's values in the log."""
        return f"{pair}:" if self.is_multilingual else ""

    def values(self, flag: str, text: str) -> dict[str, str]:
        """Return the values for the pairs in `text`, such as "de-en=a,fr-en=b"; UserError if it has another form.

        In the task translation, `text` may be the value alone.
        """
        names = list(self.tasks)
        if not self.is_multilingual and not text.startswith(f"{names[0]}="):
            return {names[0]: text} if text else {}
        values: dict[str, str] = {}
        for item in filter(None, text.split(",")):
            pair, _, value = item.partition("=")
            if not value:
                raise UserError(f"{flag} has {item!r} instead of PAIR=VALUE; the language pairs are {', '.join(names)}")
            if pair not in names:
                raise UserError(f"{flag} names the unknown language pair {pair}; choose from {', '.join(names)}")
            if pair in values:
                raise UserError(f"{flag} names the language pair {pair} twice; write an ensemble as {pair}=A:B")
            values[pair] = value
        return values


class TeacherOfEachPair(TeacherSource):
    """The teachers of all language pairs; that of the current pair predicts."""

    def __init__(self, pairs: LanguagePairs, teachers: dict[str, TeacherSource]):
        self.pairs, self.teachers = pairs, teachers
        self.models = [model for teacher in teachers.values() for model in teacher.models]
        self.is_trained = all(teacher.is_trained for teacher in teachers.values())

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """The fingerprints of the teachers of all pairs."""
        if len(self.teachers) == 1:
            return next(iter(self.teachers.values())).fingerprint
        return ",".join(f"{pair}={teacher.fingerprint}" for pair, teacher in self.teachers.items())

    def read(self, sample: dict, token_index: Tensor, like: Tensor) -> Predictions:
        """Return the predictions of the current pair's teacher, see `TeacherSource`."""
        sample = without_language_tokens(sample, self.pairs.tasks[self.pairs.current])
        return self.teachers[self.pairs.current].read(sample, token_index, like)


def without_language_tokens(sample: dict, task: FairseqTask) -> dict:
    """Return fairseq's `sample` as a teacher of a single language pair was trained on it; `sample` does not change.

    --encoder-langtok and --decoder-langtok append symbols to the dictionaries, and replace the end-of-sentence symbol
    at the end of the source and at the beginning of the decoder's input by them. `task` has the original dictionaries.
    """
    net_input = dict(sample["net_input"])
    for name, dictionary in (
        ("src_tokens", task.source_dictionary),
        ("prev_output_tokens", task.target_dictionary),
    ):
        tokens = net_input[name]
        net_input[name] = tokens.masked_fill(tokens >= len(dictionary), dictionary.eos())
    return {**sample, "net_input": net_input}
