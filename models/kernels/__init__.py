"""Kernels: the operations that take most of a student's time, one file each, found by name.

A kernel's module defines ``reference``, the formula in plain PyTorch, and ``IMPLEMENTATIONS``, which maps names to
functions without arguments. Such a function returns a callable like ``reference`` or raises `NotAvailable`. Nothing is
built, and no compiler is needed, before a kernel is used.
"""

import functools
import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from hydrogate.models.names import module_names, refuse_unknown

# Chosen implementation by kernel and device: students look it up many times in each step.
_CHOSEN: dict[tuple[str, str], str] = {}

Kernel = Callable[..., Tensor | tuple[Tensor, ...]]


class NotAvailable(RuntimeError):
    """Implementation that cannot run here; the message gives the reason."""


def kernel_names() -> list[str]:
    """List the names of the kernels."""
    return module_names(Path(__file__).parent)


def kernel_module(name: str) -> ModuleType:
    """Import the module of kernel ``name``.

    Raises
    ------
    UnknownName
        There is no such kernel.
    """
    refuse_unknown("kernel", name, kernel_names())
    return importlib.import_module(f"{__name__}.{name}")


def implementation(kernel: str, name: str) -> Kernel:
    """Return implementation ``name`` of ``kernel``.

    Raises
    ------
    UnknownName
        There is no such kernel or implementation.
    NotAvailable
        It cannot run here.
    """
    known = kernel_module(kernel).IMPLEMENTATIONS
    refuse_unknown(f"implementation of kernel {kernel!r}:", name, known)
    found: Kernel = known[name]()
    return found


def fastest(kernel: str, device: str) -> str:
    """Return the name of the implementation of ``kernel`` that students use on ``device``: cpu or cuda.

    The C++ and Triton implementations, where they can run, take a fraction of the eager one's time (`nox -s
    benchmarks`).
    """
    if (kernel, device) not in _CHOSEN:
        _CHOSEN[kernel, device] = "eager"
        name = {"cpu": "cpp", "cuda": "triton"}.get(device)
        if name is not None and name in kernel_module(kernel).IMPLEMENTATIONS:
            try:
                implementation(kernel, name)
                _CHOSEN[kernel, device] = name
            except NotAvailable as reason:
                warnings.warn(f"{reason}; kernel {kernel!r} runs slower, in plain torch", stacklevel=2)
    return _CHOSEN[kernel, device]


@contextmanager
def in_plain_torch() -> Iterator[None]:
    """Replace each kernel by its reference in the students, for comparison."""
    chosen = dict(_CHOSEN)
    _CHOSEN.update({(kernel, device): "eager" for kernel in kernel_names() for device in ("cpu", "cuda")})
    try:
        yield
    finally:
        _CHOSEN.clear()
        _CHOSEN.update(chosen)


def refuse_unsorted(edges: Tensor) -> None:
    """Raise an error unless ``edges`` (2, E) are sorted by receiver.

    Raises
    ------
    ValueError
        The message names the first edge that is out of order.
    """
    wrong = edges[0, 1:] < edges[0, :-1]
    # On a GPU this check would wait for the device; batches are collated sorted, and checked on the CPU.
    if not edges.is_cuda and bool(wrong.any()):
        at = int(wrong.nonzero()[0]) + 1
        raise ValueError(
            f"edges must be sorted by receiver; edge {at} has receiver {int(edges[0, at])} after "
            f"{int(edges[0, at - 1])}. Sort them, or collate the batch with `Student.collate`"
        )


@functools.cache
def triton_module(kernel: str) -> ModuleType:
    """Import the Triton functions of ``kernel``.

    Raises
    ------
    NotAvailable
        Triton is not installed, or there is neither a GPU nor Triton's interpreter.
    """
    try:
        import triton
    except ImportError as error:
        raise NotAvailable("Triton is not installed; it comes with PyTorch for CUDA") from error
    if not (torch.cuda.is_available() or triton.knobs.runtime.interpret):
        raise NotAvailable("no CUDA device, and TRITON_INTERPRET=1 is not set")
    return importlib.import_module(f"{__name__}._{kernel}_triton")


def by_atom(end: Tensor, atoms: int) -> tuple[Tensor, Tensor]:
    """Return the order (E,) of edges by the atom at one end, and where the edges of each atom begin (atoms + 1,)."""
    ordered, order = torch.sort(end, stable=True)
    return order, torch.searchsorted(ordered, torch.arange(atoms + 1, device=end.device))
