"""Autograd for kernels that are linear in each of their tensors, as training on forces needs it: twice.

The backward pass of such a kernel is the gradient of one sum, and so is the one behind it, so that a kernel is three
functions: forward, backward and double backward.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hydrogate.models.kernels import Kernel

Run = Callable[[str, str, Tensor, Sequence[Tensor], Sequence[Tensor]], None]


def multilinear(added: Sequence[bool], shapes: Callable[..., list[tuple[int, ...]]], run: Run) -> Kernel:
    """A kernel called as ``kernel(*tensors, edges, how)``.

    Parameters
    ----------
    added : sequence of bool
        For each tensor, whether its gradient is added up at the atoms, and so starts at zero.
    shapes : callable
        Shapes of the outputs, which lie on the atoms, from the tensors.
    run : callable
        ``run(how, what, edges, inputs, outputs)`` fills the outputs; ``how`` names the implementation, ``what`` is
        forward, backward or double_backward. Backward has the outputs' cotangents after the tensors, and double
        backward the direction after both.
    """
    count = len(added)

    def derivative(how: str, what: str, edges: Tensor, inputs: Sequence[Tensor], of: int) -> tuple[Tensor, ...]:
        found = []
        for n, like in enumerate(inputs[:of]):
            make = torch.empty_like if n < count and not added[n] else torch.zeros_like
            found.append(make(like, memory_format=torch.contiguous_format))
        run(how, what, edges, [t.contiguous() for t in inputs], found)
        return tuple(found)

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, ctx.how = inputs
        ctx.save_for_backward(*tensors)

    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(*arguments: Any) -> tuple[Tensor, ...]:
            *tensors, edges, how = arguments
            return derivative(how, "backward", edges, tensors, count)

        setup_context = staticmethod(keep)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, *directions: Tensor) -> tuple[Tensor | None, ...]:
            *tensors, edges = ctx.saved_tensors
            found = derivative(ctx.how, "double_backward", edges, [*tensors, *directions], len(tensors))
            return *found, None, None

    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(*arguments: Any) -> Tensor | tuple[Tensor, ...]:
            *tensors, edges, how = arguments
            found = [tensors[0].new_zeros(shape) for shape in shapes(*tensors)]
            run(how, "forward", edges, [t.contiguous() for t in tensors], found)
            return tuple(found) if len(found) > 1 else found[0]

        setup_context = staticmethod(keep)

        @staticmethod
        def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
            *tensors, edges = ctx.saved_tensors
            return *Backward.apply(*tensors, *cotangents, edges, ctx.how), None, None

    kernel: Kernel = Forward.apply
    return kernel
