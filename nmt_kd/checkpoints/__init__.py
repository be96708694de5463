"""Read checkpoints as data, average them, and set up the task that one was trained for."""
