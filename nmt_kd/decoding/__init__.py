"""Decoding a training set for sequence-level distillation: shards, backends, and the corpus made of them."""
