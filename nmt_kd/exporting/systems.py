"""Systems that translate and score the same sentences on the CPU: fairseq checkpoints and CTranslate2 models."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from fairseq.sequence_scorer import SequenceScorer

from nmt_kd.decoding.fairseq_backend import FairseqBackend
from nmt_kd.decoding.settings import beam_search
from nmt_kd.engine.loading import LoadedCheckpoints
from nmt_kd.exporting.sample import Measurement, Sample

SHORTLIST = "vmap.txt"  # CTranslate2's name for the shortlist beside a model


@dataclass(frozen=True)
class MeasuredSystem:
    """Something that translates and scores.

    `translate` takes the numbers of sentences, longest first, and returns translations in subwords. `score` takes the
    numbers of sentences and a translation of each, and returns what beam search ranks by: the log-probability under
    forced decoding, divided by the length to the power of the length penalty.
    """

    name: str
    converted_to: str | None  # the compute type a CTranslate2 model is stored in; None for fairseq
    computed_in: str  # the precision of the arithmetic
    parameters: int
    bytes_on_disk: int
    load_seconds: float
    translate: Callable[[numpy.ndarray], list[str]]
    score: Callable[[numpy.ndarray, list[str]], list[float]]
    shortlist: bool = False  # whether only likely target words are considered


def token_count(translation: str) -> int:
    """Return the number of subwords of a translation, including the end of the sentence."""
    return len(translation.split(" ")) + 1 if translation else 1


def fairseq_system(name: str, loaded: LoadedCheckpoints, sample: Sample, measurement: Measurement) -> MeasuredSystem:
    """Return the system of fairseq's own beam search, with models prepared as by fairseq-generate."""
    parameters = loaded.parameters
    for model in loaded.models:
        model.make_generation_fast_(beamable_mm_beam_size=measurement.beam, need_attn=False)
    task, dataset = sample.originals.task, sample.originals.dataset
    search = beam_search(measurement.beam, measurement.lenpen, sample.longest_translation)
    generator = task.build_generator(loaded.models, search)
    backend = FairseqBackend(task, loaded.models, generator, 1, measurement.max_tokens, None)
    dictionary = task.target_dictionary
    scorer = SequenceScorer(dictionary)

    def translate(numbers: numpy.ndarray) -> list[str]:
        return [hypotheses[0].text for hypotheses in backend.decode(dataset, numbers)]

    def score_one(number: int, translation: str) -> float:
        symbols = translation.split(" ") if translation else []
        if not all(symbol in dictionary.indices for symbol in symbols):
            return float("-inf")  # fairseq cannot produce it
        target = torch.tensor([*map(dictionary.indices.__getitem__, symbols), dictionary.eos()])
        batch = dataset.collater([{"id": 0, "source": dataset[number]["source"], "target": target}])
        ((scored,),) = scorer.generate(loaded.models, batch)
        return float(scored["positional_scores"].sum()) / len(target) ** measurement.lenpen

    def score(numbers: numpy.ndarray, translations: list[str]) -> list[float]:
        # one at a time: the logits of a whole batch of translations would take gigabytes
        return [score_one(number, translation) for number, translation in zip(numbers, translations, strict=True)]

    bytes_on_disk = sum(path.stat().st_size for path in loaded.paths)
    return MeasuredSystem(name, None, "float32", parameters, bytes_on_disk, loaded.load_seconds, translate, score)


def ctranslate2_system(
    compute_type: str,
    folder: Path,
    parameters: int,
    sample: Sample,
    measurement: Measurement,
    shortlist: bool = False,
) -> MeasuredSystem:
    """Return the CTranslate2 system of the model in `folder`, stored in `compute_type`, with so many `parameters`.

    With `shortlist`, it considers only the target words that the folder's shortlist allows. It computes in that type
    where this CPU supports it, else in the type that CTranslate2 chooses.
    """
    import ctranslate2

    started = time.perf_counter()
    translator = ctranslate2.Translator(str(folder), device="cpu", inter_threads=1, intra_threads=measurement.threads)
    load_seconds = time.perf_counter() - started
    dataset, symbols = sample.originals.dataset, sample.originals.task.source_dictionary.symbols

    def sources(numbers: numpy.ndarray) -> list[list[str]]:
        return [[symbols[token] for token in dataset[number]["source"].tolist()[:-1]] for number in numbers]

    def translate(numbers: numpy.ndarray) -> list[str]:
        found = translator.translate_batch(
            sources(numbers),
            beam_size=measurement.beam,
            length_penalty=measurement.lenpen,
            max_decoding_length=sample.longest_translation,
            max_input_length=0,
            max_batch_size=measurement.max_tokens,
            batch_type="tokens",
            use_vmap=shortlist,
        )
        return [" ".join(result.hypotheses[0]) for result in found]

    def score(numbers: numpy.ndarray, translations: list[str]) -> list[float]:
        targets = [translation.split(" ") if translation else [] for translation in translations]
        scored = translator.score_batch(sources(numbers), targets, max_input_length=0, max_batch_size=1)
        return [sum(item.log_probs) / len(item.log_probs) ** measurement.lenpen for item in scored]

    bytes_on_disk = sum(path.stat().st_size for path in folder.iterdir() if shortlist or path.name != SHORTLIST)
    name, computed_in = f"student, CTranslate2 {compute_type}{', shortlist' * shortlist}", translator.compute_type
    return MeasuredSystem(
        name, compute_type, computed_in, parameters, bytes_on_disk, load_seconds, translate, score, shortlist
    )
