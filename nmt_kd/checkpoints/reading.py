"""Reading fairseq checkpoints as data: nothing in a file is executed.

Since torch 2.6 fairseq's commands cannot read their own checkpoints, because `torch.load` refuses the types in them;
before that, a checkpoint was a program that ran when it was opened. Here it may hold tensors, plain containers
and the few harmless types that fairseq stores.
"""

import argparse
import codecs
import collections
import hashlib
import pickle
import re
import typing
import zipfile
from pathlib import Path

import numpy
import omegaconf
import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils

from nmt_kd.errors import UserError


def make_fairseq_read_checkpoints_as_data() -> None:
    """Let all of fairseq's commands read checkpoints with `read_checkpoint`, in one process or in several."""
    torch.serialization.add_safe_globals([(kind, name) for name, kind in _harmless_types().items()])
    checkpoint_utils.load_checkpoint_to_cpu = read_checkpoint


def _harmless_types() -> dict[str, object]:
    """The types beside tensors and plain containers that fairseq stores, by the name a pickle gives them."""
    reconstruct, scalar = (value.__reduce__()[0] for value in (numpy.empty(0), numpy.float64()))
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
        named[f"{package}.multiarray._reconstruct"] = reconstruct
        named[f"{package}.multiarray.scalar"] = scalar
    named["_codecs.encode"] = codecs.encode  # how numpy stores the bytes of an array
    return named


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
        state = torch.load(path, map_location="cpu", weights_only=True)
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
        state["cfg"] = omegaconf.OmegaConf.create(state["cfg"], flags={"allow_objects": True})
        if arg_overrides is not None:
            checkpoint_utils.overwrite_args_by_name(state["cfg"], arg_overrides)
    # A model shared without its training state is complete for every use but going on with the training.
    if "optimizer_history" not in state and "best_loss" not in state:
        state["optimizer_history"] = [{"optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}]
        state.setdefault("extra_state", {"train_iterator": None})
    return checkpoint_utils._upgrade_state_dict(state)


def file_hash(path: Path) -> str:
    """The first 12 digits of the file's SHA-256, as `sha256sum` prints it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()[:12]
