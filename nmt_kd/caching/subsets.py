"""The subsets that are cached: opened as fairseq-train opens them, identified by a checksum, and entered in a store."""

import zlib
from pathlib import Path

import numpy
from fairseq.data import LanguagePairDataset
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig, open_dict

from nmt_kd.caching.files import FORMAT, SubsetFolder, cache_manifest, usual_block_sentences, word_dtype
from nmt_kd.data import dictionary_checksum, load_subset
from nmt_kd.errors import UserError

SENTENCES_COMPARED = 1000  # per subset, to detect other data whose sentences have the same lengths
# Settings of the teacher's training that would change the sentences it sees.
AS_ON_DISK = {"truncate_source": False, "load_alignments": False, "num_batch_buckets": 0, "upsample_primary": 1}


def with_sentences_as_on_disk(configuration: DictConfig) -> DictConfig:
    """Reset the settings of a teacher's training that change its sentences; changes `configuration`, and returns it."""
    with open_dict(configuration):
        for name, value in AS_ON_DISK.items():
            if getattr(configuration.task, name, None) is not None:
                setattr(configuration.task, name, value)
    return configuration


def open_subset(task: FairseqTask, subset: str) -> LanguagePairDataset:
    """Open a subset as fairseq-train does; raises UserError if it does not exist or has nothing to predict."""
    load_subset(task, subset)
    data, dataset = task.cfg.data, task.dataset(subset)
    if len(dataset) == 0:
        raise UserError(f"{subset} of {data} has no sentences; choose other subsets with --gen-subset")
    if dataset.tgt_sizes is None:
        raise UserError(f"{subset} of {data} has no targets; choose other subsets with --gen-subset")
    return dataset


def data_checksum(dataset: LanguagePairDataset) -> str:
    """Return a checksum of the lengths of all sentences, and of the tokens of some."""
    checksum = 0
    for sizes in (dataset.src_sizes, dataset.tgt_sizes):
        checksum = zlib.crc32(numpy.asarray(sizes, dtype="<i8").tobytes(), checksum)
    for number in numpy.linspace(0, len(dataset) - 1, min(len(dataset), SENTENCES_COMPARED)).astype(numpy.int64):
        item = dataset[number]
        for side in ("source", "target"):
            checksum = zlib.crc32(item[side].numpy().astype("<i8").tobytes(), checksum)
    return f"{checksum:08x}"


def vocabularies(task: FairseqTask) -> dict:
    """Return the settings that identify the languages and dictionaries of a task."""
    return {
        "languages": f"{task.cfg.source_lang}-{task.cfg.target_lang}",
        "source_dictionary": dictionary_checksum(task.source_dictionary),
        "target_dictionary": dictionary_checksum(task.target_dictionary),
        "vocabulary_size": len(task.target_dictionary),
    }


def claim_store(folder: Path, task: FairseqTask, teacher: str, top_k: int) -> None:
    """Store all settings that determine the predictions; raises UserError if the folder was made with others."""
    cache_manifest(folder).claim(
        {
            "format": FORMAT,
            "teacher": teacher,
            **vocabularies(task),
            "top_k": top_k,
            "words": word_dtype(len(task.target_dictionary)).name,
            "log_probabilities": "float16",
            "rest": "float32",
        }
    )


def claim_subset(
    folder: Path, dataset: LanguagePairDataset, top_k: int, vocabulary_size: int, block_sentences: int | None = None
) -> SubsetFolder:
    """Return the files of a subset; raises UserError if the folder was made for other data or blocks."""
    sentences = len(dataset)
    files = SubsetFolder(folder, sentences, block_sentences or usual_block_sentences(sentences), top_k, vocabulary_size)
    cache_manifest(folder).claim(
        {"sentences": sentences, "block_sentences": files.block_sentences, "data": data_checksum(dataset)}
    )
    return files
