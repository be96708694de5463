"""One file a method: what it needs of the two models, which losses it combines, and with which weights."""
