"""What the tests on the pretended GPU run: systems, and how each is trained."""

from itertools import product

from pretended_gpu.systems import VARIANTS, systems

WORKERS = 4
AS_ONE_OF_SEVERAL = f"bf16, one of {WORKERS} workers"
OF_METHODS = ("fp32", "fp16", AS_ONE_OF_SEVERAL, "--fp16", "--amp")  # those with dashes by fairseq's own trainer
OF_VARIANTS = ("fp16",)
OF_CACHES = ("fp16", "--amp")
# enough for what differs only in fairseq's optimiser: a criterion without parameters, and one with some
MEMORY_EFFICIENT = [("word_kd", "--memory-efficient-fp16"), ("ckd", "--memory-efficient-fp16")]


def cases(methods: list[str]) -> list[tuple[str, str]]:
    """The name of a system and a mode each: a method's live, one with other settings, or one from a cache."""
    found = []
    for name, system in systems().items():
        if system.criterion in methods:
            modes = OF_CACHES if system.from_cache else OF_VARIANTS if name in VARIANTS else OF_METHODS
            found += product([name], modes)
    return found + [case for case in MEMORY_EFFICIENT if case[0] in methods]
