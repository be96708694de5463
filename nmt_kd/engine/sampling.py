"""Sample target sentences from a model."""

import torch
from fairseq.models import BaseFairseqModel
from torch import Tensor

from nmt_kd.losses.selection import uniform_hash


@torch.no_grad()
def with_sampled_targets(
    model: BaseFairseqModel, sample: dict, padding: int, end: int, seed: int, prefix: int = 0
) -> dict:
    """Return fairseq's `sample` with targets sampled from the model, without dropout, at temperature 1.

    Each is at most as long as the reference, so that a batch needs no more memory, and begins with the first `prefix`
    words of the reference, such as a language tag, which the model was not trained to predict. A sentence's target
    depends on the model, the sentence's number and the seed, and not on the rest of the batch or the number of workers.
    torch's random numbers stay as they are.
    """
    net_input, room = sample["net_input"], sample["target"].ne(padding)
    inputs = net_input["prev_output_tokens"][:, :1]
    state: dict = {}
    was_training = model.training
    model.eval()
    try:
        encoder_output = model.encoder(net_input["src_tokens"], net_input["src_lengths"])
        for position in range(room.size(1)):
            scores = model.decoder(inputs, encoder_out=encoder_output, incremental_state=state)[0][:, -1].float()
            scores[:, padding] = -torch.inf
            drawn = _draw(scores, _chances(sample["id"], seed, position))
            words = sample["target"][:, position] if position < prefix else drawn
            ended = (inputs[:, 1:] == end).any(1) | ~room[:, position]
            inputs = torch.cat([inputs, words.masked_fill(ended, padding).unsqueeze(1)], dim=1)
    finally:
        model.train(was_training)
        torch.clear_autocast_cache()  # before 2.10, torch reuses weights cast without gradients, which then get none
    target = inputs[:, 1:].contiguous()
    net_input = {**net_input, "prev_output_tokens": inputs[:, :-1].masked_fill(target == padding, padding)}
    return {**sample, "target": target, "ntokens": int(target.ne(padding).sum()), "net_input": net_input}


def _chances(sentences: Tensor, seed: int, position: int) -> Tensor:
    """Return a number in [0, 1) for each sentence, [batch]."""
    of_sentence = uniform_hash(sentences, torch.full_like(sentences, seed)) * 2**32
    return uniform_hash(of_sentence, torch.full_like(sentences, position))


def _draw(scores: Tensor, chances: Tensor) -> Tensor:
    """Return the words, [batch], at which the cumulative probabilities of `scores` [batch, V] exceed the chances."""
    cumulative = scores.softmax(-1).double().cumsum(-1)
    return (cumulative > chances.unsqueeze(1) * cumulative[:, -1:]).int().argmax(-1)
