"""PaiNN message: gather the sender's row, multiply by the edge's filter and direction, add up at the receiver.

With x the sender's row in parts (a, b, c), w the edge's filter and u its direction, s_i = Σ_j x_a w_a and
v_i = Σ_j (x_b w_b u + x_c w_c v_j). Source: Schütt, Unke, Gastegger, arXiv 2102.03150, equations 7 and 8.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hydrogate.models.kernels import _native, fastest, refuse_unsorted, triton_module
from hydrogate.models.kernels._derivatives import implementations, twice_differentiable


def reference(x: Tensor, w: Tensor, u: Tensor, v: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Return the messages that the atoms receive.

    Parameters
    ----------
    x : (N, P·F)
        Values that each atom sends; P is 3, or 2 if there are no vectors yet.
    w : (E, P·F)
        Filter of the edges.
    u : (E, 3)
        Unit vectors of the edges.
    v : (N, 3, F), or (0, 3, F) if P is 2
        Vectors of the atoms.
    edges : (2, E) int64
        Receiver and sender of each edge, sorted by receiver.

    Returns
    -------
    s : (N, F)
    vectors : (N, 3, F)
    """
    f = v.shape[2]
    sent = x[edges[1]] * w
    vectors = sent[:, None, f : 2 * f] * u[:, :, None]
    if x.shape[1] == 3 * f:
        vectors = vectors + sent[:, None, 2 * f :] * v[edges[1]]
    s = x.new_zeros(x.shape[0], f).index_add(0, edges[0], sent[:, :f])
    return s, x.new_zeros(x.shape[0], 3, f).index_add(0, edges[0], vectors)


def _shapes(x: Tensor, w: Tensor, u: Tensor, v: Tensor) -> list[tuple[int, ...]]:
    return [(x.shape[0], v.shape[2]), (x.shape[0], 3, v.shape[2])]


def _run(how: str, what: str, edges: Tensor, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    edges = edges.contiguous()
    refuse_unsorted(edges)
    x, _, _, v, *_ = inputs
    f = v.shape[2]
    sizes = (edges.shape[1], f, x.shape[1] // f)
    if how == "triton":
        triton_module("message").run(what, sizes, edges, inputs, outputs)
    else:
        _native.call("message", what, sizes, edges, *inputs, *outputs)


_kernel: Callable[..., tuple[Tensor, Tensor]] = twice_differentiable((True, False, False, True), _shapes, _run)

IMPLEMENTATIONS = implementations(reference, _kernel, "message", triton=True)


def message(x: Tensor, w: Tensor, u: Tensor, v: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Run the fastest implementation for the device of ``x``; in a compiled graph, which fuses it, `reference`."""
    if torch.compiler.is_compiling():
        return reference(x, w, u, v, edges)
    how = fastest("message", x.device.type)
    return reference(x, w, u, v, edges) if how == "eager" else _kernel(x, w, u, v, edges, how)
