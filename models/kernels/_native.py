"""C++ kernels for the CPU: built on first use and kept in PyTorch's folder of extensions.

PyTorch's own loader is not used, because its lock outlives a killed process and the next process waits forever. The
sources include nothing from PyTorch, so they build in a second or two; tensors are passed as pointers.
"""

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from hydrogate.models.kernels import NotAvailable

# No -ffast-math: sums are vectorised only where the source says so, and nothing else is reordered.
FLAGS = ("-O3", "-shared", "-fPIC", "-fopenmp-simd", "-fno-math-errno", "-ffp-contract=fast", "-std=c++17")
# Named targets instead of -march=native, so that a library in a home folder shared by machines runs on each of them.
MACHINES = {"AVX512": ("-march=x86-64-v4",), "AVX2": ("-march=x86-64-v3",)}
SECONDS = 120


@functools.cache
def library(name: str) -> ctypes.CDLL:
    """Load the library of ``<name>.cpp`` beside this file, and build it if needed.

    Raises
    ------
    NotAvailable
        There is no C++ compiler here, it rejects the source, or there is no folder to write to.
    """
    from torch.utils import cpp_extension

    source = Path(__file__).with_name(f"{name}.cpp")
    text = "".join(path.read_text(encoding="utf-8") for path in (source, *sorted(source.parent.glob("_*.cpp"))))
    capability = torch.backends.cpu.get_cpu_capability()
    compiler: str = cpp_extension.get_cxx_compiler()  # type: ignore[no-untyped-call]  # torch has no types here
    command = [compiler, *FLAGS, *MACHINES.get(capability, ()), str(source)]
    key = f"{text}{command}{platform.system()}{platform.machine()}"
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root()
    path = Path(root) / f"hydrogate_{name}_{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Moved into place atomically, so that processes may build at the same time.
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                made = Path(folder) / path.name
                subprocess.run([*command, "-o", str(made)], check=True, capture_output=True, timeout=SECONDS)
                made.replace(path)
        return ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        raise NotAvailable(f"the C++ kernel {name!r} does not build here: {next(iter(lines), error)}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAvailable(f"the C++ kernel {name!r} cannot be built here: {error}") from error


@functools.cache
def _function(name: str, what: str, dtype: torch.dtype) -> "ctypes._NamedFuncPointer":
    found = library(name)[f"{what}_{str(dtype).removeprefix('torch.')}"]
    found.restype = None
    return found


def call(name: str, what: str, sizes: tuple[int, ...], edges: Tensor | None, *tensors: Tensor | None) -> None:
    """Run ``what`` of library ``name`` on ``edges`` (2, E) int64, if any, and contiguous ``tensors`` of one dtype.

    A tensor that is None is passed as a null pointer.

    Raises
    ------
    TypeError
        The tensors have several dtypes, or one that is neither float32 nor float64.
    """
    kinds = {tensor.dtype for tensor in tensors if tensor is not None}
    if len(kinds) > 1 or not kinds <= {torch.float32, torch.float64}:
        raise TypeError(
            f"kernel {name!r} takes tensors of one dtype, float32 or float64; got {sorted(map(str, kinds))}"
        )
    function = _function(name, what, kinds.pop())
    if function.argtypes is None:
        function.argtypes = [ctypes.c_long] * len(sizes) + [ctypes.c_void_p] * (len(tensors) + 2 * (edges is not None))
    between = () if edges is None else edges
    function(*sizes, *(None if tensor is None else tensor.data_ptr() for tensor in (*between, *tensors)))
