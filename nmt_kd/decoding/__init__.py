"""Decode a training set for sequence-level distillation, and assemble a corpus from the result."""
