"""Takes the place of scikit-learn in the processes that tests start.

fairseq imports it for tasks on audio and on single sentences, which nothing here uses, and that takes a fifth of the
time that each process needs to start.
"""
