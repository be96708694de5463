"""Tiny untrained COMET models."""

from pathlib import Path

import yaml

WORDS = "ein eine der die rote Tisch Hund grün the a red table dog green .".split()


def tiny_comet(folder: Path, name: str, needs_references: bool) -> Path:
    """A regression model, or one without references, with random weights."""
    import torch
    from comet.models import ReferencelessRegression, RegressionMetric
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizerFast

    encoder, model = folder / f"{name}-encoder", folder / name
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = [(token, 0.0) for token in special] + [(f"\u2581{word}", -2.0) for word in WORDS]
    letters = {*"".join(WORDS), *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZäöüß,?!'", "\u2581"}
    pieces += [(letter, -9.0) for letter in sorted(letters)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    XLMRobertaTokenizerFast(tokenizer_object=tokenizer).save_pretrained(encoder)
    torch.manual_seed(1)
    config = XLMRobertaConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=200,
        initializer_range=0.5,  # an untrained model should tell sentences apart
    )
    XLMRobertaModel(config).save_pretrained(encoder)
    settings = {
        "pretrained_model": str(encoder),
        "encoder_model": "XLM-RoBERTa",
        "hidden_sizes": [16],
        "load_pretrained_weights": False,
        "local_files_only": True,
        "layer": "mix",
        "batch_size": 4,
    }
    kind = RegressionMetric if needs_references else ReferencelessRegression
    metric = kind(**settings)
    with torch.no_grad():
        for parameter in metric.encoder.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.5)
    (model / "checkpoints").mkdir(parents=True)
    state = {"state_dict": metric.state_dict(), "hyper_parameters": settings, "pytorch-lightning_version": "2.0.0"}
    torch.save(state, model / "checkpoints/model.ckpt")
    identifier = "regression_metric" if needs_references else "referenceless_regression_metric"
    (model / "hparams.yaml").write_text(yaml.safe_dump({**settings, "class_identifier": identifier}))
    return model
