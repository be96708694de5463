"""Translate with a base model and the nearest neighbours of its decoder states (kNN-MT, Khandelwal et al., 2021).

    python scripts/knn_decoding.py data-bin knn.de --teacher-path student.pt --knn-datastore datastore \
        --knn-share 0.5 --subword-model subwords.model

This shows how much the neighbours help when they take part in translation: a student of kNN-KD can hardly gain more.
Compare the translations with those of the base model alone, with nmt-kd score. Every target word needs a search.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from fairseq.models import BaseFairseqModel
from torch import Tensor

from nmt_kd.caching.neighbours.finding import SearchingFinder
from nmt_kd.caching.sources import knn
from nmt_kd.caching.subsets import open_subset
from nmt_kd.decoding.fairseq_backend import FairseqBackend
from nmt_kd.decoding.settings import beam_search
from nmt_kd.errors import UserError
from nmt_kd.losses.neighbours import mixed_with, neighbour_distribution
from nmt_kd.options import add_flags, check_options, values_of
from nmt_kd.subword_model import SubwordModel
from nmt_kd.workers import device_of_worker


@contextmanager
def predicting_with_neighbours(model: BaseFairseqModel, source: knn.NeighbourSource) -> Iterator[None]:
    """Mix the predictions of the base model `model` with those of its neighbours within the block."""
    finder, options = source.finder, source.options
    if not isinstance(finder, SearchingFinder):
        raise UserError("--knn-neighbours has neighbours of known sentences only; give --knn-datastore")
    states: list[Tensor] = []
    of_the_model = model.get_normalized_probs

    def log_probabilities(output, log_probs: bool, sample=None) -> Tensor:
        base = of_the_model(output, log_probs=True, sample=sample)  # [hypotheses, 1, V]
        (newest,) = states.pop()  # [hypotheses, width]: decoding is incremental
        found = finder.search.nearest(newest.half(), options.knn_k)
        tokens, temperatures = finder.datastore.tokens(found.entries), source.temperatures(found.distances)
        words, log_q = neighbour_distribution(found.distances, tokens, temperatures, base.size(-1))
        return mixed_with(base[:, -1].float(), words, log_q, options.knn_share).unsqueeze(1)

    hook = finder.reader.layer.register_forward_pre_hook(lambda layer, inputs: states.append(inputs[0]))
    model.get_normalized_probs = log_probabilities
    try:
        yield
    finally:
        model.get_normalized_probs = of_the_model
        hook.remove()


def translate(source: knn.NeighbourSource, subset: str, beam: int, lenpen: float, max_tokens: int) -> list[str]:
    """Return the translations of a subset in subwords, in the order of its sentences."""
    task, (model,) = source.task, source.base.models
    source.base.follow(torch.zeros((), device=device_of_worker()))
    dataset = open_subset(task, subset)
    generator = task.build_generator([model], beam_search(beam, lenpen))
    backend = FairseqBackend(task, [model], generator, 1, max_tokens, None)
    translations = {}
    with predicting_with_neighbours(model, source):
        order = dataset.ordered_indices()[::-1]
        for number, hypotheses in zip(order, backend.decode(dataset, order), strict=True):
            translations[int(number)] = hypotheses[0].text
    return [translations[number] for number in range(len(dataset))]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder with the binarised data")
    parser.add_argument("output", type=Path, help="file for the translations, one per line")
    parser.add_argument("--teacher-path", required=True, help="the base model that the datastore was made with")
    parser.add_argument("--gen-subset", default="test", help="subset to translate (default: %(default)s)")
    parser.add_argument("--subword-model", type=Path, required=True, help="the file that split the data")
    parser.add_argument("--beam", type=int, default=4, help="beam size (default: %(default)s)")
    parser.add_argument("--lenpen", type=float, default=0.6, help="length penalty (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=4000, help="source tokens per batch (default: %(default)s)")
    add_flags(parser, knn.Options)
    args = parser.parse_args(arguments)
    try:
        options = knn.Options(**values_of(knn.Options, args))
        check_options(vars(options), knn.Options)
        subwords = SubwordModel.read(args.subword_model)
        _, source = knn.open_source(args.data, args.teacher_path, options)
        found = translate(source, args.gen_subset, args.beam, args.lenpen, args.max_tokens)
    except UserError as error:
        raise SystemExit(f"knn_decoding.py: error: {error}") from None
    args.output.write_text("".join(subwords.text(line) + "\n" for line in found), encoding="utf-8")


if __name__ == "__main__":
    main()
