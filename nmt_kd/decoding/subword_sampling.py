"""Split text into subwords at random, the same for a seed whatever the versions and the number of processes."""

import random
from collections.abc import Callable
from threading import Thread

import sentencepiece

from nmt_kd.errors import UserError
from nmt_kd.subword_model import MAX_CACHED_WORDS, SubwordModel, load_bpe

Draw = Callable[[str, int], list[str]]  # a text and a seed into subwords


def random_splitter(model: SubwordModel, alpha: float) -> Draw:
    """Return a function that splits a text with a seed; UserError if the model cannot split at random.

    For BPE, `alpha` is the share of merges to leave out. For a unigram model, the probability of each split is raised
    to the power `alpha`. 0 splits as usual.
    """
    if not alpha:
        split = model.splitter()
        return lambda text, seed: split(text).split()
    return _sentencepiece(model, alpha) if model.kind == "sentencepiece" else _bpe(model, alpha)


def _sentencepiece(model: SubwordModel, alpha: float) -> Draw:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model.path))

    def draw(text: str, seed: int, alpha: float = alpha) -> list[str]:
        sentencepiece.set_random_generator_seed(seed)
        return processor.encode(text, out_type=str, enable_sampling=True, alpha=alpha, nbest_size=-1)

    def draw_in_thread(text: str, seed: int) -> list[str]:
        found: list[list[str]] = []
        thread = Thread(target=lambda: found.append(draw(text, seed)))
        thread.start()
        thread.join()
        return found[0]

    letters = "".join(processor.id_to_piece(number) for number in range(min(300, len(processor))))
    try:
        repeats = draw(letters, 1, 0.5) == draw(letters, 1, 0.5)
    except RuntimeError:
        raise UserError(
            f"{model.path} splits into words or characters, which is possible in one way only; leave out "
            "--subword-sampling"
        ) from None
    return draw if repeats else draw_in_thread  # before sentencepiece 0.2.3, only new threads heed a seed


def _bpe(model: SubwordModel, alpha: float) -> Draw:
    bpe = load_bpe(model.path)

    def draw(text: str, seed: int) -> list[str]:
        if len(bpe.cache) > MAX_CACHED_WORDS:
            bpe.cache.clear()
        random.seed(seed)  # which subword-nmt draws from
        return bpe.segment_tokens(text.split(" "), alpha)

    return draw
