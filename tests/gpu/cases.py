"""What the tests on the simulated GPU run: systems, and how each is trained."""

from itertools import product

from simulated_gpu.systems import VARIANTS, systems

WORKERS = 4
AS_ONE_OF_SEVERAL = f"bf16, one of {WORKERS} workers"
OF_METHODS = ("fp32", "fp16", AS_ONE_OF_SEVERAL, "--fp16", "--amp")  # those with dashes by fairseq's own trainer
OF_VARIANTS = ("fp16",)
OF_CACHES = ("bf16", "--amp")  # a tensor left in the store's float16 shows in bf16
# enough for what differs only in fairseq's optimiser: a criterion without parameters, one with some, and a cache
OTHER_OPTIMISERS = [*product(("word_kd", "ckd"), ("--memory-efficient-fp16", "--bf16")), ("word_kd cached", "--bf16")]


def cases(methods: list[str]) -> list[tuple[str, str]]:
    """The name of a system and a mode each: a method's live, one with other settings, or one from a cache."""
    found, known = [], systems()
    for name, system in known.items():
        if system.criterion in methods:
            modes = OF_CACHES if system.from_cache else OF_VARIANTS if name in VARIANTS else OF_METHODS
            found += product([name], modes)
    return found + [case for case in OTHER_OPTIMISERS if known[case[0]].criterion in methods]
