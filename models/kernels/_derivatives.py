"""Autograd for kernels that have their derivatives themselves, as training on forces needs it: twice.

A kernel is three functions: forward, backward and double backward.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hydrogate.models.kernels import Kernel, _native, triton_module

Run = Callable[[str, str, Tensor | None, Sequence[Tensor | None], Sequence[Tensor | None]], None]


def twice_differentiable(
    added: Sequence[bool],
    shapes: Callable[..., list[tuple[int, ...]]],
    run: Run,
    *,
    spared: Sequence[int] = (),
    adds_up: bool = True,
) -> Kernel:
    """A kernel called as ``kernel(*tensors, edges, how)``, where ``edges`` may be None.

    Parameters
    ----------
    added : sequence of bool
        For each tensor, whether its gradient is added up, and so starts at zero.
    shapes : callable
        Shapes of the outputs, which lie on the atoms, from the tensors.
    run : callable
        ``run(how, what, edges, inputs, outputs)`` fills the outputs; ``how`` names the implementation, ``what`` is
        forward, backward or double_backward. Backward has the outputs' cotangents after the tensors, and double
        backward the direction after both.
    spared : sequence of int
        Tensors whose gradient is not computed where nobody needs it: it is None then, and so may its direction be.
    adds_up : bool
        Whether the outputs are added up too.
    """
    count = len(added)

    def derivative(
        how: str, what: str, edges: Tensor, inputs: Sequence[Tensor | None], needed: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        found: list[Tensor | None] = []
        for n, (like, wanted) in enumerate(zip(inputs, needed, strict=False)):
            make = torch.zeros_like if (added[n] if n < count else adds_up) else torch.empty_like
            spare = n in spared and not wanted
            found.append(None if spare else make(like, memory_format=torch.contiguous_format))
        run(how, what, edges, [None if t is None else t.contiguous() for t in inputs], found)
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
            found = derivative(ctx.how, "double_backward", edges, [*tensors, *along], needed)
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
                return *Backward.apply(*given, edges, ctx.how, needed), None, None
            return *derivative(ctx.how, "backward", edges, given, needed), None, None

    kernel: Kernel = Forward.apply
    return kernel


def implementations(
    reference: Kernel, kernel: Kernel, library: str, *, given: tuple[None, ...] = (), triton: bool = False
) -> dict[str, Callable[[], Kernel]]:
    """The ways to run an operation: its formula, compiled too, and its kernel in C++ and Triton.

    Parameters
    ----------
    reference, kernel : callable
        The formula, and what `twice_differentiable` made.
    library : str
        The C++ source, and the Triton module, that the kernel is in.
    given : tuple
        What ``kernel`` takes after the tensors of ``reference``.
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
