"""Read fairseq checkpoints as data, without executing anything in the file.

Before torch 2.6, `torch.load` unpickled a checkpoint, which could run any code in it. Since then it refuses the types
that fairseq stores, so fairseq's commands cannot read their own checkpoints. Here a checkpoint may contain tensors,
plain containers and an allow-list of harmless types.
"""

import argparse
import codecs
import collections
import functools
import hashlib
import pickle
import re
import typing
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy
import omegaconf
import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils

from nmt_kd.errors import UserError
from nmt_kd.storage.kinds import kind_of_folder

WRITTEN_BY_FAIRSEQ = "give the path of a file written by fairseq-train"
CHECKPOINTS_SHOWN = 6


def make_fairseq_read_checkpoints_as_data() -> None:
    """Make all fairseq commands read checkpoints with `read_checkpoint`, in one process or in several."""
    torch.serialization.add_safe_globals([(kind, name) for name, kind in _harmless_types().items()])
    checkpoint_utils.load_checkpoint_to_cpu = read_checkpoint
    load_models = checkpoint_utils.load_model_ensemble_and_task

    @functools.wraps(load_models)
    def load_models_or_explain(filenames, *args, **kwargs):
        try:
            return load_models(filenames, *args, **kwargs)
        except OSError as error:  # raised before the file is read
            prefix, _, path = str(error).partition("Model file not found: ")
            if prefix or not path:
                raise
            raise _missing(path) from None

    checkpoint_utils.load_model_ensemble_and_task = load_models_or_explain


def _harmless_types() -> dict[str, Callable]:
    """Return the types that fairseq stores besides tensors and plain containers, by their names in a pickle."""
    reconstruct, scalar = (value.__reduce__()[0] for value in (numpy.empty(0), numpy.float64()))
    classes: list = [
        argparse.Namespace,
        collections.OrderedDict,
        collections.defaultdict,
        numpy.ndarray,
        numpy.dtype,
        *{type(numpy.dtype(kind)) for kind in ("int8", "int32", "int64", "float16", "float32", "float64", "bool")},
        # The types below occur only when rank 0 sends a checkpoint to the other workers.
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
    for package in ("numpy.core", "numpy._core"):  # the name depends on the numpy version that wrote the file
        named[f"{package}.multiarray._reconstruct"] = reconstruct
        named[f"{package}.multiarray.scalar"] = scalar
    named["_codecs.encode"] = codecs.encode  # numpy stores the bytes of an array with it
    return named


def read_checkpoint_file(path: str | Path, mapped: bool = False) -> dict:
    """Read a fairseq checkpoint as data, without fairseq's upgrades of old layouts.

    Nothing in the file is executed. With `mapped`, tensors are memory-mapped: processes share them, and unused ones are
    never read. The file must not change while they are in use. Raises UserError if the file is missing, empty, damaged
    or not a fairseq checkpoint, or if it contains a type that is not on the allow-list.
    """
    path = Path(path)
    if path.is_dir():
        raise _folder(path)
    if not path.is_file():
        raise _missing(path)
    if path.stat().st_size == 0:
        raise UserError(f"checkpoint {path} is empty, probably because writing it was interrupted; use an earlier one")
    try:
        mapped = mapped and zipfile.is_zipfile(path)  # before torch 1.6, checkpoints had another format
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, AttributeError) as error:
        name = _forbidden_name(error)
        if name:
            raise UserError(
                f"refused to load checkpoint {path}: it contains {name}, which could run code; "
                "use a checkpoint that fairseq-train wrote"
            ) from None
        raise _damaged(path) from None
    except OSError as error:
        if error.strerror:  # by the system, not by torch
            raise UserError(f"cannot read checkpoint {path}: {error.strerror}") from None
        raise _damaged(path) from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile, UnicodeDecodeError):
        raise _damaged(path) from None
    if not isinstance(state, dict) or "model" not in state or not (state.get("cfg") or state.get("args")):
        raise UserError(
            f"{path} is not a fairseq checkpoint: it lacks the model or its configuration; "
            "give a file written by fairseq-train"
        )
    return state


def _missing(path: str | Path) -> UserError:
    return UserError(f"checkpoint {path} does not exist; {WRITTEN_BY_FAIRSEQ}")


def _folder(path: Path) -> UserError:
    checkpoints = sorted(path.glob("*.pt"), key=lambda file: file.stat().st_mtime, reverse=True)
    if checkpoints:
        names = ", ".join(file.name for file in checkpoints[:CHECKPOINTS_SHOWN])
        more = ", ..." if len(checkpoints) > CHECKPOINTS_SHOWN else ""
        return UserError(f"checkpoint {path} is a folder; give a checkpoint in it: {names}{more}")
    kind = kind_of_folder(path) or "a folder without checkpoints"
    return UserError(f"checkpoint {path} is {kind}; {WRITTEN_BY_FAIRSEQ}")


def _damaged(path: Path) -> UserError:
    return UserError(f"checkpoint {path} is truncated or not a torch file; copy it again or use another one")


def _forbidden_name(error: Exception) -> str | None:
    """Return the name that made torch refuse a file, or None if the file is merely unreadable.

    torch gives it only in the error text: "... GLOBAL posix.system ..." or, before 2.4, "Unsupported class ...".
    """
    found = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", str(error))
    return found.group(1).rstrip(".") if found else None


def read_checkpoint(path, arg_overrides=None, load_on_all_ranks=False) -> dict:
    """Replace fairseq's `load_checkpoint_to_cpu`: same arguments and result, but the file is read as data."""
    local_path = checkpoint_utils.PathManager.get_local_path(str(path))
    state = _upgraded(read_checkpoint_file(local_path), arg_overrides)
    # fairseq before 0.12 wrote no criterion's state if it had no parameters. Without the optimiser's state (as with
    # --no-save-optimizer-state), a training begins anew, so the criterion's is not used.
    state["criterion"] = state.get("criterion") if state.get("last_optimizer_state") is not None else None
    return state


def read_model(path: str | Path) -> dict:
    """Read a checkpoint like `read_checkpoint`, without the optimiser's state, which is most of the file.

    The model's tensors are memory-mapped (see `read_checkpoint_file`); copy those that must outlive the file.
    """
    state = read_checkpoint_file(path, mapped=True)
    state.pop("last_optimizer_state", None)
    return _upgraded(state)


@contextmanager
def mapping(path: str | Path) -> Iterator[None]:
    """Make other packages memory-map the checkpoint at `path` when they read it within the block."""
    load = torch.load
    torch.load = functools.partial(load, mmap=zipfile.is_zipfile(path))
    try:
        yield
    finally:
        torch.load = load


def _upgraded(state: dict, arg_overrides=None) -> dict:
    """Apply `arg_overrides` and fairseq's upgrades of old layouts to the content of a checkpoint."""
    if state.get("args") is not None:
        for name, value in (arg_overrides or {}).items():
            setattr(state["args"], name, value)
    if state.get("cfg") is not None:
        state["cfg"] = omegaconf.OmegaConf.create(state["cfg"], flags={"allow_objects": True})
        if arg_overrides is not None:
            checkpoint_utils.overwrite_args_by_name(state["cfg"], arg_overrides)
    # A model published without its training state can be used for everything except resuming its training.
    if "optimizer_history" not in state and "best_loss" not in state:
        state["optimizer_history"] = [{"optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}]
        state.setdefault("extra_state", {"train_iterator": None})
    return checkpoint_utils._upgrade_state_dict(state)


def file_hash(path: Path) -> str:
    """Return the first 12 hexadecimal digits of the file's SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()[:12]


def folder_hash(folder: Path, files: Iterable[Path]) -> str:
    """Return 12 hexadecimal digits that identify the names and the contents of `files` in a folder."""
    listed = "".join(f"{path.relative_to(folder)} {file_hash(path)}\n" for path in sorted(files))
    return hashlib.sha256(listed.encode()).hexdigest()[:12]
