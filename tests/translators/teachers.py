"""Small teachers of every kind, and the options that name them."""

import json
from pathlib import Path

import sentencepiece
from transformers import MarianConfig, MarianMTModel, MarianTokenizer

from nmt_kd.translators.search import Search

SEARCH = Search(beam=3, nbest=2, lenpen=0.6, max_len=30)


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def write(path: Path, texts) -> Path:
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def shortest_pairs(corpus: Path) -> list[tuple[str, str]]:
    """The 50 shortest training sentences, with their translations."""
    pairs = zip(*(lines(corpus / f"text/train.{language}") for language in ("en", "de")), strict=True)
    return sorted(pairs, key=lambda pair: len(pair[0]))[:50]


def vocabulary_of(model: Path, folder: Path, *codes: str) -> Path:
    """A vocabulary file as Marian and M2M100 have it, of the pieces of a sentencepiece model."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    pieces = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    symbols = list(dict.fromkeys(["</s>", "<unk>", *codes, *pieces, "<pad>"]))
    if "<s>" in symbols:
        symbols.remove("<s>")
    path = folder / "vocabulary.json"
    path.write_text(json.dumps({symbol: number for number, symbol in enumerate(symbols)}), encoding="utf-8")
    return path


def marian(folder: Path, subword_model: Path, *codes: str, **settings) -> tuple[MarianMTModel, MarianTokenizer]:
    """An untrained Marian model with its tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = vocabulary_of(subword_model, folder, *codes)
    tokenizer = MarianTokenizer(str(subword_model), str(subword_model), str(vocabulary), **settings)
    vocabulary.unlink()
    config = MarianConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=256,
        activation_function="relu",
        dropout=0.0,
        scale_embedding=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        forced_eos_token_id=None,
    )
    return MarianMTModel(config), tokenizer


def save(folder: Path, model, tokenizer) -> Path:
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
