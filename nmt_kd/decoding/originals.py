"""The data that was decoded: its sources and references."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fairseq import tasks
from fairseq.data import FairseqDataset
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from omegaconf import OmegaConf

from nmt_kd.data import dictionary_checksum, opening_subset, source_checksum, subwords
from nmt_kd.decoding.shards import Decoded
from nmt_kd.errors import UserError

Pair = tuple[str, str]  # source and target, in subwords


@dataclass
class Originals:
    """A binarised subset that was decoded, as subwords."""

    task: TranslationTask
    dataset: FairseqDataset

    @classmethod
    def load(cls, data: Path, source_lang: str, target_lang: str, subset: str) -> "Originals":
        """Open a subset of a binarised data folder; raises UserError if it does not exist."""
        settings = {
            "_name": "translation",
            "data": str(data),
            "source_lang": source_lang,
            "target_lang": target_lang,
            "train_subset": subset,
            "dataset_impl": None,
            "required_seq_len_multiple": 1,
        }
        defaults = OmegaConf.create(OmegaConf.to_container(OmegaConf.structured(TranslationConfig), resolve=False))
        cfg = OmegaConf.merge(defaults, settings)
        with opening_subset(str(data), subset, source_lang, target_lang):
            task = tasks.setup_task(cfg)
            task.load_dataset(subset)
        return cls(task, task.dataset(subset))

    def check(self, settings: dict, folder: Path) -> None:
        """Raise UserError unless the `settings` of a decoding in `folder` fit this data."""
        expected = {
            "sentences": len(self.dataset),
            "source_dictionary": dictionary_checksum(self.task.source_dictionary),
            "target_dictionary": dictionary_checksum(self.task.target_dictionary),
        }
        for name, value in expected.items():
            if settings[name] != value:
                raise UserError(
                    f"{folder} was decoded with {name} {settings[name]}, but the data given has {value}; "
                    "give the data folder that was decoded"
                )

    def pair(self, decoded: Decoded) -> Pair:
        """Return source and reference of a decoded sentence; raises UserError if the source has changed since."""
        if source_checksum(self.dataset[decoded.id]["source"]) != decoded.source:
            raise UserError(
                f"sentence {decoded.id} of the data differs from the one that was decoded: the data has changed; "
                "decode it again"
            )
        return self.texts(decoded.id)

    def pairs(self) -> Iterator[Pair]:
        """Yield source and reference of every sentence."""
        return map(self.texts, range(len(self.dataset)))

    def texts(self, number: int) -> Pair:
        """Return source and reference of a sentence."""
        item = self.dataset[number]
        return (
            subwords(self.task.source_dictionary, item["source"]),
            subwords(self.task.target_dictionary, item["target"]),
        )


class InteractiveOriginals:
    """The text that fairseq-interactive read, which is stored with the decoded sentences."""

    def pair(self, decoded: Decoded) -> Pair:
        """Return the source, and an empty reference."""
        return decoded.notes["text"], ""

    def pairs(self) -> Iterator[Pair]:
        """Yield no pairs, since there are no references."""
        return iter(())
