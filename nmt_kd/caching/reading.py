"""Read a cache of a teacher's predictions while a student is trained."""

from pathlib import Path

from fairseq.tasks import FairseqTask

from nmt_kd.caching.files import FORMAT, Block, Positions, SubsetFolder, cache_manifest
from nmt_kd.caching.packing import PackedPredictions
from nmt_kd.caching.sentences import Sentences
from nmt_kd.data import TRAINING_SUBSET, dictionary_checksum
from nmt_kd.errors import UserError
from nmt_kd.storage.kinds import CACHE, kind_of_folder

OPEN_BLOCKS = 400  # files that a process keeps open for a subset


def paddings(task: FairseqTask) -> tuple[int, int]:
    """Return the padding symbols of both sides."""
    return task.source_dictionary.pad(), task.target_dictionary.pad()


class TeacherCache:
    """A folder written by `nmt-kd cache`, whose files are mapped into memory that processes share."""

    def __init__(
        self,
        folder: Path,
        settings: dict,
        data: str,
        padding: tuple[int, int],
        training_subset: str = TRAINING_SUBSET,
    ):
        self.folder, self.data, self._paddings, self.training_subset = folder, data, padding, training_subset
        self.fingerprint: str = settings["teacher"]
        self.top_k: int = settings["top_k"]
        self._vocabulary_size: int = settings["vocabulary_size"]
        self._subsets: dict[str, _Subset] = {}
        self._validated: set[str] = set()  # the subsets that validation is known to use
        self._last = ""  # the subset in which validation sentences were last found

    @classmethod
    def open(cls, folder: str, task: FairseqTask, training_subset: str = TRAINING_SUBSET) -> "TeacherCache":
        """Open a cache for the data of `task`, whose `training_subset` is trained on.

        Raises UserError if `folder` is not a cache, or was made with other dictionaries or for other languages.
        """
        kind = kind_of_folder(Path(folder))
        if kind not in (CACHE, None):
            command = cache_manifest(Path(folder)).command
            raise UserError(f"{folder} is {kind}, not {CACHE}; give a folder that this command writes: {command}")
        settings = cache_manifest(Path(folder)).read()
        if settings.get("format") != FORMAT:
            raise UserError(
                f"{folder} has predictions in format {settings.get('format')}, but this version of nmt-kd reads format "
                f"{FORMAT}; make them again with nmt-kd cache"
            )
        for side in ("source", "target"):
            checksum = dictionary_checksum(getattr(task, f"{side}_dictionary"))
            cached = settings[f"{side}_dictionary"]
            if cached != checksum:
                raise UserError(
                    f"{folder} was made with another {side} dictionary (checksum {cached}) than that of "
                    f"{task.cfg.data} ({checksum}); train on the data that was cached, or cache this data"
                )
        languages = f"{task.cfg.source_lang}-{task.cfg.target_lang}"
        if settings["languages"] != languages:
            raise UserError(
                f"{folder} has predictions for {settings['languages']}, but the student is trained on {languages}; "
                "give a cache of the same direction"
            )
        return cls(Path(folder), settings, task.cfg.data, paddings(task), training_subset)

    def validate_on(self, subset: str) -> None:
        """Use `subset` during validation, too; raises UserError unless the cache has all files of it."""
        self.subset(subset)
        self._validated.add(subset)

    def sentences_of(self, sample: dict) -> Sentences:
        """Return the sentences of fairseq's `sample`, for `look_up`."""
        return Sentences.of(sample, self._paddings)

    def look_up(self, sentences: Sentences, training: bool) -> PackedPredictions:
        """Return the teacher's predictions for the sentences of a batch.

        In `training` the sentences are looked up in the subset that is trained on, otherwise in all others, and in
        that one only if `validate_on` has named it. Raises UserError if they are not the sentences that were cached,
        or a file is missing or damaged.
        """
        subset = self._subset_of_training(sentences) if training else self._subset_of_validation(sentences)
        return PackedPredictions.of(subset.positions(sentences), sentences.kept)

    def _subset_of_training(self, sentences: Sentences) -> "_Subset":
        subset = self.subset(self.training_subset)
        unlike = subset.first_unlike(sentences)
        if unlike is not None:
            raise self._not_cached(unlike, [self.training_subset])
        return subset

    def _subset_of_validation(self, sentences: Sentences) -> "_Subset":
        cached = (path.parent.name for path in self.folder.glob("*/manifest.json"))
        names = sorted(
            (name for name in cached if name != self.training_subset or name in self._validated),
            key=lambda name: (name != self._last, name),
        )
        if not names:
            raise UserError(f"{self.folder} has no predictions for a validation subset; {self._make('valid')}")
        unlike: list[int] = []
        unusable: list[UserError] = []
        for name in names:
            try:
                subset = self.subset(name)
            except UserError as error:  # matters only if no other subset has the sentences
                unusable.append(error)
                continue
            number = subset.first_unlike(sentences)
            if number is None:
                self._last = name
                return subset
            unlike.append(number)
        if unusable:
            raise unusable[0]
        raise self._not_cached(unlike[0], sorted(names))

    def _not_cached(self, number: int, names: list[str]) -> UserError:
        return UserError(
            f"sentence {number} (counting from 0) differs from the one cached in {self.folder} for "
            f"{' or '.join(names)}: the data is different, reordered, truncated (--truncate-source) or of a subset "
            f"that is not cached; train on the data that was cached, or cache this data with nmt-kd cache {self.data}"
        )

    def _make(self, subset: str) -> str:
        return (
            f"make them with nmt-kd cache {self.data} --teacher-path TEACHER --top-k {self.top_k} {self.folder} "
            f"--gen-subset {subset}"
        )

    def subset(self, name: str) -> "_Subset":
        """Return a subset; raises UserError unless all its files are there."""
        if name not in self._subsets:
            manifest = cache_manifest(self.folder / name)
            if not manifest.path.exists():
                raise UserError(f"{self.folder} has no predictions for the subset {name}; {self._make(name)}")
            settings = manifest.read()
            subset = SubsetFolder(
                manifest.folder, settings["sentences"], settings["block_sentences"], self.top_k, self._vocabulary_size
            )
            subset.check_present("nmt-kd cache")
            self._subsets[name] = _Subset(subset, settings["data"])
        return self._subsets[name]


class _Subset:
    """The blocks of a subset, each opened when it is first needed."""

    def __init__(self, files: SubsetFolder, data: str = ""):
        self.files = files
        self.data = data  # the checksum of the data it was made for
        self._open: dict[int, Block] = {}
        self._checked: set[int] = set()

    def __getstate__(self) -> dict:
        return {**vars(self), "_open": {}}  # a worker that is not forked maps the files itself

    def first_unlike(self, sentences: Sentences) -> int | None:
        """Return the number of the first of `sentences` that differs from the cached one, or None."""
        for number, checksum, length in zip(sentences.numbers, sentences.checksums, sentences.lengths, strict=True):
            if not 0 <= number < self.files.sentences:
                return number
            block = self._block(number)
            if block.checksums[number - block.first] != checksum or block.length(number) not in (length, 0):
                return number
        return None

    def positions(self, sentences: Sentences) -> Positions:
        """Return the positions of all sentences, one sentence after the other."""
        parts = []
        for number, length in zip(sentences.numbers, sentences.lengths, strict=True):
            part = self.sentence(number)
            if len(part) != length:
                raise UserError(
                    f"sentence {number} (counting from 0) has no predictions in {self.files.folder} because it is too "
                    "long for the teacher; train with the teacher's --max-source-positions and --max-target-positions, "
                    "and with --skip-invalid-size-inputs-valid-test"
                )
            parts.append(part)
        return Positions.joined(parts)

    def sentence(self, number: int) -> Positions:
        """Return the positions of a sentence; none if it is too long for the teacher."""
        return self._block(number).sentence(number)

    def _block(self, number: int) -> Block:
        block = number // self.files.block_sentences
        if block not in self._open:
            if len(self._open) >= OPEN_BLOCKS:
                del self._open[next(iter(self._open))]
            self._open[block] = self.files.open(block, check=block not in self._checked)
            self._checked.add(block)
        return self._open[block]
