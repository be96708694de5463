"""Register the simulated device with torch. This module must not import torch, which looks for devices only once."""

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

SOURCE = Path(__file__).with_name("guard.cpp")


def load() -> None:
    """Register the device; exits with one line where it cannot be compiled.

    The library is compiled once for each version of torch, which takes about half a minute.
    """
    if "torch" in sys.modules:
        raise RuntimeError("torch has been imported already; call simulated_gpu.guard.load() first")
    specification = importlib.util.find_spec("torch")
    if specification is None or specification.origin is None:
        sys.exit("torch is not installed; run bash scripts/setup.sh")
    torch_folder = Path(specification.origin).parent
    library = _compiled(torch_folder)
    libraries = torch_folder / "lib"
    # as `import torch` does: with their symbols visible to the libraries that are loaded later
    for path in (*sorted(libraries.glob("libgomp*")), libraries / "libc10.so", libraries / "libtorch_cpu.so", library):
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)


def _compiled(torch_folder: Path) -> Path:
    source = SOURCE.read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nmt-kd"
    library = cache / f"simulated-gpu-{version('torch')}-{hashlib.sha256(source).hexdigest()[:8]}.so"
    if library.exists():
        return library
    if shutil.which("g++") is None:
        sys.exit("the simulated GPU needs g++ to compile 40 lines of C++ once; install it, e.g. apt-get install g++")
    cache.mkdir(parents=True, exist_ok=True)
    temporary = library.with_suffix(f".{os.getpid()}")
    command = ["g++", "-O0", "-shared", "-fPIC", "-std=c++20", f"-I{torch_folder / 'include'}", str(SOURCE)]
    command += [f"-L{torch_folder / 'lib'}", "-lc10", "-ltorch_cpu", "-o", str(temporary)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        errors = [line for line in result.stderr.splitlines() if "error" in line] or ["no error message"]
        sys.exit(f"cannot compile {SOURCE} for torch {version('torch')}: {errors[0]}")
    temporary.replace(library)
    return library
