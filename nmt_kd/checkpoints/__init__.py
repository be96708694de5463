"""Read checkpoints as data, average them, and set up the task of a checkpoint."""
