"""Safetensors files with a checksum, mapped into memory that all processes of a machine share.

The metadata has the CRC-32 of all bytes after the file's header, as `crc32`.
"""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

READ_AT_ONCE = 2**20  # bytes

Kinds = Mapping[str, tuple[str | numpy.dtype, tuple[int, ...]]]  # the type and shape of each tensor, by name


def encoded(tensors: Mapping[str, numpy.ndarray]) -> bytes:
    """Return the content of a file with these tensors."""
    content = save(dict(tensors))
    crc = zlib.crc32(memoryview(content)[_header_bytes(content) :])
    return save(dict(tensors), {"crc32": f"{crc:08x}"})  # one entry, since safetensors writes several in any order


def mapped(path: Path, check: bool) -> dict[str, numpy.ndarray] | None:
    """Map the tensors of a file into memory; None if it is damaged.

    With `check` the file is read once, a piece at a time, to compare its CRC-32. Raises FileNotFoundError.
    """
    try:
        with safe_open(path, "pt") as file:  # with "np" it would be copied
            found = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118
            crc = (file.metadata() or {}).get("crc32")
    except SafetensorError:
        return None
    return None if check and crc_of(path) != crc else found


def are_of(tensors: Mapping[str, numpy.ndarray], kinds: Kinds) -> bool:
    """Return whether there are tensors of these names, types and shapes, and no others."""
    found = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    return found == {name: (numpy.dtype(kind), shape) for name, (kind, shape) in kinds.items()}


def crc_of(path: Path) -> str:
    """Return the CRC-32 of all bytes after a file's header."""
    crc = 0
    with path.open("rb") as file:
        file.seek(_header_bytes(file.read(8)))
        while part := file.read(READ_AT_ONCE):
            crc = zlib.crc32(part, crc)
    return f"{crc:08x}"


def _header_bytes(start: bytes) -> int:
    """Return the length of the header of a safetensors file, given the file's first 8 bytes or more."""
    return 8 + struct.unpack("<Q", start[:8])[0]
