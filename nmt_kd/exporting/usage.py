"""The short program on the summary page that translates with an exported model."""

from nmt_kd.exporting.sample import Measurement, Sample
from nmt_kd.subword_model import SubwordModel

USAGE = {
    "sentencepiece": """\
# pip install ctranslate2 sentencepiece
import ctranslate2
import sentencepiece

subwords = sentencepiece.SentencePieceProcessor(model_file="{file_name}")
translator = ctranslate2.Translator("{compute_type}", device="cpu")


def translate(sentences):
    pieces = subwords.encode(sentences, out_type=str)
    found = translator.translate_batch(pieces, beam_size={beam}, length_penalty={lenpen}, max_decoding_length={longest})
    return [subwords.decode(result.hypotheses[0]) for result in found]


print(*translate([{example!r}]))
""",
    "subword_nmt": """\
# pip install ctranslate2 subword-nmt
import ctranslate2
from subword_nmt.apply_bpe import BPE

with open("{file_name}", encoding="utf-8") as codes:
    subwords = BPE(codes)
translator = ctranslate2.Translator("{compute_type}", device="cpu")


def translate(sentences):  # tokenised like the training data
    pieces = [subwords.process_line(sentence).split(" ") for sentence in sentences]
    found = translator.translate_batch(pieces, beam_size={beam}, length_penalty={lenpen}, max_decoding_length={longest})
    return [" ".join(result.hypotheses[0]).replace("@@ ", "") for result in found]


print(*translate([{example!r}]))
""",
}


def usage(subwords: SubwordModel, compute_type: str, measurement: Measurement, sample: Sample) -> str:
    """Return a program that translates the first sentence of the sample with the model stored in `compute_type`."""
    source, _ = sample.originals.texts(sample.numbers.min())
    return USAGE[subwords.kind].format(
        file_name=subwords.file_name,
        compute_type=compute_type,
        beam=measurement.beam,
        lenpen=measurement.lenpen,
        longest=sample.longest_translation,
        example=subwords.text(source),
    )
