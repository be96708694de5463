"""Run models, query teachers, and sum losses over chunks of tokens."""
