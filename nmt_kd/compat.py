"""Everything that depends on the version of fairseq, torch or numpy, and nothing else.

fairseq 0.12 was written for torch 1.x. Since torch 2.6 its commands cannot read its own checkpoints, because
`torch.load` refuses the types in them; before, they could, but a checkpoint was a program that ran when it was
opened. `apply()` makes fairseq read checkpoints as data: on every supported torch, in every command, in one process
or in several. It also mends where fairseq loses sentences, and its last checkpoint when it is killed.
"""

import argparse
import ast
import builtins
import codecs
import collections
import functools
import importlib
import logging
import operator
import os
import pickle
import re
import shutil
import sys
import typing
import warnings
import zipfile
from pathlib import Path
from types import ModuleType

import fairseq
import numpy
import omegaconf
import torch
from fairseq import checkpoint_utils
from fairseq.data import data_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.modules.transformer_layer import TransformerEncoderLayerBase

from nmt_kd.errors import UserError


def apply() -> None:
    """Make the running fairseq work on the installed torch. Calling it twice does nothing more."""
    if checkpoint_utils.load_checkpoint_to_cpu is read_checkpoint:
        return
    checkpoint_utils.load_checkpoint_to_cpu = read_checkpoint
    allow_harmless_types()
    forbid_code_in_configurations()
    keep_last_batch()
    copy_whole_or_not_at_all()
    leave_out_the_old_fast_path()
    silence_known_warnings()


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints are data
# ---------------------------------------------------------------------------------------------------------------------


def _harmless_types() -> dict[str, object]:
    """The types beside tensors and plain containers that fairseq stores, by the name a pickle gives them."""
    core = "numpy.core" if numpy.__version__.startswith("1.") else "numpy._core"
    multiarray = importlib.import_module(f"{core}.multiarray")
    classes = [
        argparse.Namespace,
        collections.OrderedDict,
        collections.defaultdict,
        numpy.ndarray,
        numpy.dtype,
        *{type(numpy.dtype(kind)) for kind in ("int8", "int32", "int64", "float16", "float32", "float64", "bool")},
        # The following travel only when rank 0 hands a checkpoint on to the other workers.
        omegaconf.DictConfig,
        omegaconf.ListConfig,
        omegaconf.base.ContainerMetadata,
        omegaconf.base.Metadata,
        omegaconf.nodes.AnyNode,
        omegaconf.nodes.BooleanNode,
        omegaconf.nodes.FloatNode,
        omegaconf.nodes.IntegerNode,
        omegaconf.nodes.StringNode,
        distributed_utils._TensorPlaceholder,
        typing.Any,
        dict,
        list,
        int,
        float,
        bool,
        str,
        tuple,
        set,
        bytes,
    ]
    named = {f"{kind.__module__}.{getattr(kind, '__qualname__', 'Any')}": kind for kind in classes}
    for package in ("numpy.core", "numpy._core"):  # the name depends on the numpy that wrote the file
        named[f"{package}.multiarray._reconstruct"] = multiarray._reconstruct
        named[f"{package}.multiarray.scalar"] = multiarray.scalar
    named["_codecs.encode"] = codecs.encode  # how numpy stores the bytes of an array
    return named


def allow_harmless_types() -> None:
    """Tell torch which types a fairseq checkpoint may hold (torch 2.4 and later keep such a list)."""
    if not hasattr(torch.serialization, "add_safe_globals"):
        return
    # A pair gives the name in the file beside the object; torch knows pairs since 2.5, single objects since 2.4.
    pairs = [(kind, name) for name, kind in _harmless_types().items()]
    try:
        torch.serialization.add_safe_globals(pairs)
        torch.serialization.get_safe_globals()
    except (AttributeError, TypeError):
        torch.serialization.add_safe_globals([kind for kind, _ in pairs])


class _HarmlessUnpickler(pickle.Unpickler):
    """For torch before 2.4, whose own restricted reading cannot be told of further types."""

    allowed = _harmless_types()

    def find_class(self, module: str, name: str):
        qualified = f"{module}.{name}".replace("__builtin__.", "builtins.")  # pickle's name for it in old protocols
        if qualified in self.allowed:
            return self.allowed[qualified]
        torch_types = torch._weights_only_unpickler._get_allowed_globals()
        if qualified in torch_types:
            return torch_types[qualified]
        raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {qualified}")


def _load_as_data(path: Path):
    if hasattr(torch.serialization, "add_safe_globals"):
        return torch.load(path, map_location="cpu", weights_only=True)
    restricted_pickle = ModuleType("restricted_pickle")
    restricted_pickle.__dict__.update(
        Unpickler=_HarmlessUnpickler,
        UnpicklingError=pickle.UnpicklingError,
        load=lambda file, **options: _HarmlessUnpickler(file, **options).load(),
    )
    return torch.load(path, map_location="cpu", pickle_module=restricted_pickle)


def read_checkpoint_file(path: str | Path) -> dict:
    """Read a fairseq checkpoint as data, without fairseq's upgrades of old layouts.

    Nothing in the file is executed. Raises UserError where the file is missing, empty, damaged, holds a type that
    no translation model needs, or is no fairseq checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist; give the path of a file written by fairseq-train")
    if path.stat().st_size == 0:
        raise UserError(f"checkpoint {path} is empty; it was probably cut off while it was written, take an older one")
    try:
        state = _load_as_data(path)
    except (pickle.UnpicklingError, AttributeError) as error:
        name = _forbidden_name(error)
        if name:
            raise UserError(
                f"checkpoint {path} holds {name}, which could run code when it is read; refused. "
                "Use a checkpoint written by fairseq-train from a source you trust"
            ) from None
        raise _damaged(path) from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, OSError, zipfile.BadZipFile, UnicodeDecodeError):
        raise _damaged(path) from None
    if not isinstance(state, dict) or "model" not in state or not (state.get("cfg") or state.get("args")):
        raise UserError(
            f"{path} is not a fairseq checkpoint: it has no model with its configuration; "
            "give a file written by fairseq-train"
        )
    return state


def _damaged(path: Path) -> UserError:
    return UserError(f"checkpoint {path} is truncated or not a torch file; take another checkpoint or copy it again")


def _forbidden_name(error: Exception) -> str | None:
    """The name that made torch refuse a file, or None where the file is merely unreadable.

    torch says it in its message alone: "... GLOBAL posix.system ..." or, before 2.4, "Unsupported class ...".
    """
    found = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", str(error))
    return found.group(1).rstrip(".") if found else None


def read_checkpoint(path, arg_overrides=None, load_on_all_ranks=False) -> dict:
    """fairseq's `load_checkpoint_to_cpu`, same arguments and result, by way of `read_checkpoint_file`."""
    local_path = checkpoint_utils.PathManager.get_local_path(str(path))
    state = read_checkpoint_file(local_path)
    if state.get("args") is not None:
        for name, value in (arg_overrides or {}).items():
            setattr(state["args"], name, value)
    if state.get("cfg") is not None:
        state["cfg"] = _as_configuration(state["cfg"])
        if arg_overrides is not None:
            checkpoint_utils.overwrite_args_by_name(state["cfg"], arg_overrides)
    # A model shared without its training state is complete for every use but going on with the training.
    if "optimizer_history" not in state and "best_loss" not in state:
        state["optimizer_history"] = [{"optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}]
        state.setdefault("extra_state", {"train_iterator": None})
    return checkpoint_utils._upgrade_state_dict(state)


def _as_configuration(plain: dict) -> omegaconf.DictConfig:
    """Wrap a checkpoint's settings; `model` may be an argparse.Namespace, which old omegaconf must be talked into."""
    if tuple(int(part) for part in omegaconf.__version__.split(".")[:2]) >= (2, 2):
        return omegaconf.OmegaConf.create(plain, flags={"allow_objects": True})
    is_primitive_type = omegaconf._utils.is_primitive_type
    omegaconf._utils.is_primitive_type = lambda _: True
    try:
        configuration = omegaconf.OmegaConf.create(plain)
    finally:
        omegaconf._utils.is_primitive_type = is_primitive_type
    omegaconf.OmegaConf.set_struct(configuration, True)
    return configuration


# ---------------------------------------------------------------------------------------------------------------------
# Configurations are data
# ---------------------------------------------------------------------------------------------------------------------

_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_SIGNS = {ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Not: operator.not_}
_LONGEST_LAYER_LIST = 10_000


def evaluate_literal(text: str):
    """What `eval` would give for a literal such as "[(512, 3)] * 8 + [(1024, 1)]", and nothing that runs code.

    fairseq hands such settings to `eval`, and they may come from a checkpoint. Raises UserError for names, calls,
    attributes and anything else that is not numbers, strings, containers and their arithmetic.
    """

    def value(node):
        match node:
            case ast.Constant():
                return node.value
            case ast.List() | ast.Tuple() | ast.Set():
                kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
                return kind(value(element) for element in node.elts)
            case ast.Dict() if None not in node.keys:
                return {value(key): value(element) for key, element in zip(node.keys, node.values, strict=True)}
            case ast.UnaryOp() if type(node.op) in _SIGNS:
                return _SIGNS[type(node.op)](value(node.operand))
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                left, right = value(node.left), value(node.right)
                _check_length(node.op, left, right)
                return _ARITHMETIC[type(node.op)](left, right)
        raise ValueError

    def _check_length(operation, left, right):
        if isinstance(operation, ast.Mult):
            for sequence, factor in ((left, right), (right, left)):
                if hasattr(sequence, "__len__") and len(sequence) * factor > _LONGEST_LAYER_LIST:
                    raise ValueError

    try:
        return value(ast.parse(text.strip(), mode="eval").body)
    except (ValueError, SyntaxError, TypeError, ZeroDivisionError, RecursionError, MemoryError):
        raise UserError(
            f"the setting {text[:80]!r} is not a plain literal and fairseq would run it as code; refused. "
            "It stands in the checkpoint's configuration or on the command line: use numbers, strings and lists"
        ) from None


def forbid_code_in_configurations() -> None:
    """Let every module of fairseq that calls `eval` on a setting call `evaluate_literal` instead.

    A module looks a name up in itself before it looks among Python's own, so this reaches all the places and no
    list of settings has to be kept.
    """

    def evaluate(text, *namespaces):
        return evaluate_literal(text) if isinstance(text, str) else builtins.eval(text, *namespaces)

    for name, module in list(sys.modules.items()):
        if name == "fairseq" or name.startswith("fairseq."):
            module.eval = evaluate


# ---------------------------------------------------------------------------------------------------------------------
# No sentence is lost
# ---------------------------------------------------------------------------------------------------------------------


def keep_last_batch() -> None:
    """Let fairseq use every sentence it is given.

    fairseq-fixed 0.12.3 drops the last batch of any data set where it is no multiple of
    --required-batch-size-multiple (default 8): of 13 test sentences, `fairseq-generate` translates 8 and says nothing.
    Stock fairseq 0.12.2 keeps it.
    """
    batch_by_size = data_utils.batch_by_size

    @functools.wraps(batch_by_size)
    def batch_by_size_and_rest(indices, *args, **kwargs):
        if len(indices) == 0:
            return []
        batches = batch_by_size(indices, *args, **kwargs)
        if kwargs.get("fixed_shapes") is not None:
            return batches
        batched = sum(len(batch) for batch in batches)  # batches follow the order of `indices`
        return batches if batched == len(indices) else [*batches, numpy.asarray(indices[batched:])]

    data_utils.batch_by_size = batch_by_size_and_rest


# ---------------------------------------------------------------------------------------------------------------------
# A killed training can go on
# ---------------------------------------------------------------------------------------------------------------------


def copy_whole_or_not_at_all() -> None:
    """Let a checkpoint's copies appear under their names only when they are complete.

    fairseq writes the first of a checkpoint's files that way, but copies it byte by byte onto checkpoint_last.pt.
    Killed in the middle, it leaves a training that cannot go on, for that is the file it would go on from.
    """
    copy = PathManager.copy

    def copy_then_rename(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        if not PathManager.supports_rename(dst_path):
            return copy(src_path, dst_path, overwrite=overwrite)
        partial = f"{dst_path}.tmp"
        shutil.copyfile(src_path, partial)
        os.replace(partial, dst_path)
        return True

    PathManager.copy = staticmethod(copy_then_rename)


# ---------------------------------------------------------------------------------------------------------------------
# Stock fairseq on torch 2
# ---------------------------------------------------------------------------------------------------------------------


def leave_out_the_old_fast_path() -> None:
    """Keep stock fairseq 0.12.2 from calling torch's encoder fast path, whose arguments have changed since torch 1.12.

    Its layers take that path in evaluation once `load_to_BT` is set, and then fail with "Mask Type should be defined".
    """
    never = property(lambda layer: False, lambda layer, value: None)
    if fairseq.__version__ == "0.12.2":
        TransformerEncoderLayerBase.load_to_BT = never


# ---------------------------------------------------------------------------------------------------------------------
# Noise
# ---------------------------------------------------------------------------------------------------------------------


def silence_known_warnings() -> None:
    """Hide the messages that fairseq causes on new torch and that its users can do nothing about."""
    logging.getLogger("hydra").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"fairseq(\.|_cli|$)")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"fairseq(\.|_cli|$)")
    warnings.filterwarnings("ignore", category=UserWarning, module=r"hydra\.")
    for message in (
        r"Support for mismatched key_padding_mask and (attn_mask|src_mask|mask) is deprecated",
        r"The torch\.cuda\.\w+(DtypeTensor|Tensor)\S* constructors are no longer recommended",
        r"An output with one or more elements was resized",
        r"pkg_resources is deprecated",
        r"\s*'config' is validated against ConfigStore",
        r".pin_memory. argument is set as true but no accelerator is found",
    ):
        warnings.filterwarnings("ignore", message=message)
