"""Composes fairseq's configurations from parts that are kept, since hydra takes a quarter of a second for each.

Import this to make it take effect. The groups of a configuration (model, criterion, optimiser, ...) are composed once
for each choice of them, and each override of a value is parsed once.
"""

import copy
import functools

from fairseq.dataclass import utils
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser

_compose = utils.compose
_parsed = functools.cache(OverridesParser.create().parse_override)


@functools.cache
def _of_groups(choices: tuple[str, ...]):
    return _compose("config", overrides=list(choices))


def compose(config_name: str, overrides: list[str], strict: bool = False):
    """Return what hydra's `compose` returns."""
    choices = tuple(override for override in overrides if "." not in override.partition("=")[0])
    values = [_parsed(override) for override in overrides if "." in override.partition("=")[0]]
    cfg = copy.deepcopy(_of_groups(choices))
    ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
    return cfg


utils.compose = compose
