"""PaiNN update of an atom: it adds s = a + b (l·r) and v = c l, with a, b, c computed from the atom's invariants.

Source: Schütt, Unke, Gastegger, arXiv 2102.03150, equations 9 and 10.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hydrogate.models.kernels import _native, fastest
from hydrogate.models.kernels._derivatives import implementations, twice_differentiable


def reference(u: Tensor, left: Tensor, right: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """Return what is added to the scalars (N, F) and, if P is 3, to the vectors (N, 3, F).

    Parameters
    ----------
    u : (N, P·F)
        a, b and, if P is 3, c.
    left, right : (N, 3, F)
        Mixed vectors.
    """
    f = left.shape[2]
    s = u[:, :f] + u[:, f : 2 * f] * (left * right).sum(1)
    return (s, u[:, None, 2 * f :] * left) if u.shape[1] == 3 * f else s


def _shapes(u: Tensor, left: Tensor, right: Tensor) -> list[tuple[int, ...]]:
    n, _, f = left.shape
    return [(n, f), (n, 3, f)] if u.shape[1] == 3 * f else [(n, f)]


def _run(how: str, what: str, edges: None, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    u, left, *_ = inputs
    n, _, f = left.shape
    given: Sequence[Tensor | None] = inputs
    wanted: Sequence[Tensor | None] = outputs
    if u.shape[1] == 2 * f:
        given = [*inputs[:4], None, *inputs[4:]] if len(inputs) > 3 else inputs
        wanted = outputs if what == "backward" else [*outputs, None]
    _native.call("update", f"gate_{what}", (n, f, u.shape[1] // f), edges, *given, *wanted)


_kernel: Callable[..., Tensor | tuple[Tensor, Tensor]] = twice_differentiable(
    (False, False, False), _shapes, _run, adds_up=False
)

IMPLEMENTATIONS = implementations(reference, _kernel, "update", given=(None,))


def gate(u: Tensor, left: Tensor, right: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """Run the fastest implementation; in a compiled graph, which fuses it, `reference`."""
    if torch.compiler.is_compiling() or fastest("gate", u.device.type) == "eager":
        return reference(u, left, right)
    return _kernel(u, left, right, None, "cpp")
