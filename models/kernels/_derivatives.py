"""Autograd for kernels with their own first and second derivatives, which training on forces needs.

A kernel consists of three functions: forward, backward and double backward.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from hydrogate.models.kernels import Kernel, _native, triton_module

Found = TypeVar("Found", bound=Tensor | tuple[Tensor, ...])
Edges = TypeVar("Edges", Tensor, None)
Shapes = Callable[..., list[tuple[int, ...]]]


@overload
def twice_differentiable(
    added: Sequence[bool],
    shapes: Shapes,
    run: Callable[[str, str, Edges, Sequence[Tensor], Sequence[Tensor]], None],
    *,
    adds_up: bool = True,
) -> Callable[..., Found]: ...


@overload
def twice_differentiable(
    added: Sequence[bool],
    shapes: Shapes,
    run: Callable[[str, str, Edges, Sequence[Tensor | None], Sequence[Tensor | None]], None],
    *,
    spared: Sequence[int],
    adds_up: bool = True,
) -> Callable[..., Found]: ...


def twice_differentiable(
    added: Sequence[bool],
    shapes: Shapes,
    run: Callable[..., None],
    *,
    spared: Sequence[int] = (),
    adds_up: bool = True,
) -> Callable[..., Found]:
    """Return a kernel that is called as ``kernel(*tensors, edges, how)``, where ``edges`` may be None.

    Parameters
    ----------
    added : sequence of bool
        For each tensor, whether its gradient is accumulated and therefore starts at zero.
    shapes : callable
        Returns, from the tensors, the shapes of the outputs, which lie on the atoms.
    run : callable
        ``run(how, what, edges, inputs, outputs)`` fills the outputs; ``how`` names the implementation, ``what`` is
        forward, backward or double_backward. The inputs are the tensors; for backward, followed by the outputs'
        cotangents; for double backward, followed by the cotangents and the direction.
    spared : sequence of int
        Tensors whose gradient is not computed if it is not needed. The gradient is then None, and the direction may be
        None too.
    adds_up : bool
        Whether the outputs are accumulated too.
    """
    count = len(added)

    def derivative(
        how: str,
        what: str,
        edges: Tensor | None,
        tensors: Sequence[Tensor],
        needed: Sequence[bool],
        directions: Sequence[Tensor | None] = (),
    ) -> tuple[Tensor | None, ...]:
        found: list[Tensor | None] = []
        for n, (like, wanted) in enumerate(zip(tensors, needed, strict=False)):
            make = torch.zeros_like if (added[n] if n < count else adds_up) else torch.empty_like
            spare = n in spared and not wanted
            found.append(None if spare else make(like, memory_format=torch.contiguous_format))
        run(how, what, edges, [None if t is None else t.contiguous() for t in (*tensors, *directions)], found)
        return tuple(found)

    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(*arguments: Any) -> tuple[Tensor | None, ...]:
            *tensors, edges, how, needed = arguments
            return derivative(how, "backward", edges, tensors, needed)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            *tensors, ctx.how, _ = inputs
            ctx.save_for_backward(*tensors)
            ctx.set_materialize_grads(False)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, *directions: Tensor | None) -> tuple[Tensor | None, ...]:
            *tensors, edges = ctx.saved_tensors
            along = [
                torch.zeros_like(like) if one is None and n not in spared else one
                for n, (one, like) in enumerate(zip(directions, tensors, strict=False))
            ]
            needed = ctx.needs_input_grad[: len(tensors)]
            found = derivative(ctx.how, "double_backward", edges, tensors, needed, along)
            return *found, None, None, None

    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(*arguments: Any) -> Tensor | tuple[Tensor, ...]:
            *tensors, edges, how = arguments
            make = tensors[0].new_zeros if adds_up else tensors[0].new_empty
            found = [make(shape) for shape in shapes(*tensors)]
            run(how, "forward", edges, [t.contiguous() for t in tensors], found)
            return tuple(found) if len(found) > 1 else found[0]

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            *tensors, ctx.how = inputs
            ctx.save_for_backward(*tensors)

        @staticmethod
        def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
            *tensors, edges = ctx.saved_tensors
            given, needed = [*tensors, *cotangents], ctx.needs_input_grad[:count]
            if torch.is_grad_enabled():
                found = Backward.apply(  # type: ignore[no-untyped-call]  # torch has no types here
                    *given, edges, ctx.how, needed
                )
                return *found, None, None
            return *derivative(ctx.how, "backward", edges, given, needed), None, None

    kernel: Callable[..., Found] = Forward.apply
    return kernel


def implementations(
    reference: Kernel, kernel: Kernel, library: str, *, given: tuple[None, ...] = (), triton: bool = False
) -> dict[str, Callable[[], Kernel]]:
    """Return the implementations of an operation: its formula, also compiled, and its kernel in C++ and Triton.

    Parameters
    ----------
    reference, kernel : callable
        The formula, and the result of `twice_differentiable`.
    library : str
        Name of the kernel's C++ source and Triton module.
    given : tuple
        Arguments that ``kernel`` takes after the tensors of ``reference``.
    triton : bool
        Whether there is a Triton module.
    """

    def native(prepare: Callable[[str], object], how: str) -> Kernel:
        prepare(library)
        return lambda *arguments: kernel(*arguments, *given, how)

    found: dict[str, Callable[[], Kernel]] = {
        "eager": lambda: reference,
        "compiled": partial(torch.compile, reference, dynamic=True),
        "cpp": partial(native, _native.library, "cpp"),
    }
    return found | ({"triton": partial(native, triton_module, "triton")} if triton else {})
