"""Checkpoints: reading them as data, averaging them, and setting up the task that one was trained for."""
