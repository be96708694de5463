"""Decoding a training set for sequence-level distillation, and the corpus that is made of it."""
