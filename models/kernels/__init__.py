"""Kernels: the operations that a student spends its time in, one file each, found by its name.

A kernel's module has ``reference``, the formula in plain torch, and ``IMPLEMENTATIONS``, a mapping from a name to a
function without arguments that gives a callable like ``reference`` or raises `NotAvailable`: nothing is built, and no
compiler asked for, before it is used.
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

# By kernel and device, since the students ask many times a step.
_CHOSEN: dict[tuple[str, str], str] = {}

Kernel = Callable[..., Tensor | tuple[Tensor, ...]]


class NotAvailable(RuntimeError):
    """An implementation that cannot run here; the message says why."""


def kernel_names() -> list[str]:
    """The kernels that exist."""
    return module_names(Path(__file__).parent)


def kernel_module(name: str) -> ModuleType:
    """The module of kernel ``name``.

    Raises
    ------
    UnknownName
        No such kernel.
    """
    refuse_unknown("kernel", name, kernel_names())
    return importlib.import_module(f"{__name__}.{name}")


def implementation(kernel: str, name: str) -> Kernel:
    """Implementation ``name`` of ``kernel``.

    Raises
    ------
    UnknownName
        No such kernel or implementation.
    NotAvailable
        It cannot run here.
    """
    known = kernel_module(kernel).IMPLEMENTATIONS
    refuse_unknown(f"implementation of kernel {kernel!r}:", name, known)
    found: Kernel = known[name]()
    return found


def fastest(kernel: str, device: str) -> str:
    """Name of the implementation of ``kernel`` that the students use on ``device``: cpu or cuda.

    The C++ and the Triton one take a fraction of the eager one's time (`nox -s benchmarks`), where they can run.
    """
    if (kernel, device) not in _CHOSEN:
        _CHOSEN[kernel, device] = "eager"
        name = {"cpu": "cpp", "cuda": "triton"}.get(device)
        if name in kernel_module(kernel).IMPLEMENTATIONS:
            try:
                implementation(kernel, name)
                _CHOSEN[kernel, device] = name
            except NotAvailable as reason:
                warnings.warn(f"{reason}; kernel {kernel!r} runs slower, in plain torch", stacklevel=2)
    return _CHOSEN[kernel, device]


@contextmanager
def in_plain_torch() -> Iterator[None]:
    """The students with the reference in place of each kernel, to compare with."""
    chosen = dict(_CHOSEN)
    _CHOSEN.update({(kernel, device): "eager" for kernel in kernel_names() for device in ("cpu", "cuda")})
    try:
        yield
    finally:
        _CHOSEN.clear()
        _CHOSEN.update(chosen)


def refuse_unsorted(edges: Tensor) -> None:
    """Raise unless ``edges`` (2, E) are sorted by receiver.

    Raises
    ------
    ValueError
        Names the first edge that is out of order.
    """
    wrong = edges[0, 1:] < edges[0, :-1]
    # On a GPU the answer would be waited for; batches are collated sorted, and tested on the CPU.
    if not edges.is_cuda and bool(wrong.any()):
        at = int(wrong.nonzero()[0]) + 1
        raise ValueError(
            f"edges must be sorted by receiver; edge {at} has receiver {int(edges[0, at])} after "
            f"{int(edges[0, at - 1])}. Sort them, or collate the batch with `Student.collate`"
        )


@functools.cache
def triton_module(kernel: str) -> ModuleType:
    """The Triton functions of ``kernel``.

    Raises
    ------
    NotAvailable
        Triton is not installed, or there is neither a GPU nor its interpreter.
    """
    try:
        import triton
    except ImportError as error:
        raise NotAvailable("no triton; it comes with torch for CUDA") from error
    if not (torch.cuda.is_available() or triton.knobs.runtime.interpret):
        raise NotAvailable("no CUDA device, and TRITON_INTERPRET=1 is not set")
    return importlib.import_module(f"{__name__}._{kernel}_triton")


def by_atom(end: Tensor, atoms: int) -> tuple[Tensor, Tensor]:
    """Edges in the order of the atoms at one of their ends (E,), and where each atom's begin (atoms + 1,)."""
    ordered, order = torch.sort(end, stable=True)
    return order, torch.searchsorted(ordered, torch.arange(atoms + 1, device=end.device))
