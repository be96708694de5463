"""A method for the tests that decodes twice, to be given as --user-dir."""

from fairseq.criterions import register_criterion

from nmt_kd.criterions.word_kd import WordKD, WordKDConfig


@register_criterion("two_passes", dataclass=WordKDConfig)
class TwoPasses(WordKD):
    """Word-level distillation on the usual decoder inputs and once more on inputs of which every other is the first."""

    def passes(self, batch):
        yield from super().passes(batch)
        other_inputs = batch.prev_output_tokens.clone()
        other_inputs[:, 2::2] = other_inputs[:, :1]
        yield from super().passes(batch.decode_again(other_inputs))
