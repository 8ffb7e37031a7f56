"""SO3krates attention message in Triton: one program per atom and head, over its edges, without atomic sums.

The formulas are those of attention.cpp. The sender's program writes the values on edges; the envelope's gradient is
computed head by head and added up at the end.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from hydrogate.models.kernels import by_atom


@triton.jit
def _forward(order, start, receiver, sender, q, k, v, w, f, out, heads, c, B: tl.constexpr):
    h = tl.program_id(1)
    n = tl.arange(0, B)
    m = n < c
    i = (tl.program_id(0).to(tl.int64) * heads + h) * c + n
    qi = tl.load(q + i, mask=m, other=0.0)
    total = tl.zeros_like(qi)
    for row in range(tl.load(start + tl.program_id(0)), tl.load(start + tl.program_id(0) + 1)):
        e = tl.load(order + row)
        j = (tl.load(sender + e) * heads + h) * c + n
        wk = tl.load(w + (e * heads + h) * c + n, mask=m, other=0.0) * tl.load(k + j, mask=m, other=0.0)
        total += tl.sum(qi * wk, 0) * tl.load(f + e) * tl.load(v + j, mask=m, other=0.0)
    tl.store(out + i, total, mask=m)


@triton.jit
def _at_receiver(
    order,
    start,
    receiver,
    sender,
    q,
    k,
    v,
    w,
    f,
    g,
    tq,
    tk,
    tv,
    tw,
    tf,
    dq,
    dg,
    heads,
    c,
    D: tl.constexpr,
    B: tl.constexpr,
):
    h = tl.program_id(1)
    n = tl.arange(0, B)
    m = n < c
    i = (tl.program_id(0).to(tl.int64) * heads + h) * c + n
    qi = tl.load(q + i, mask=m, other=0.0)
    gi = tl.load(g + i, mask=m, other=0.0)
    sq, sg = tl.zeros_like(qi), tl.zeros_like(qi)
    if D:
        tqi = tl.load(tq + i, mask=m, other=0.0)
    for row in range(tl.load(start + tl.program_id(0)), tl.load(start + tl.program_id(0) + 1)):
        e = tl.load(order + row)
        o = (e * heads + h) * c + n
        j = (tl.load(sender + e) * heads + h) * c + n
        kj, vj = tl.load(k + j, mask=m, other=0.0), tl.load(v + j, mask=m, other=0.0)
        wo, fe = tl.load(w + o, mask=m, other=0.0), tl.load(f + e)
        b = tl.sum(vj * gi, 0)
        if D:
            tkj, tvj = tl.load(tk + j, mask=m, other=0.0), tl.load(tv + j, mask=m, other=0.0)
            two, tfe = tl.load(tw + o, mask=m, other=0.0), tl.load(tf + e)
            a = tl.sum(qi * wo * kj, 0)
            ta = tl.sum(tqi * wo * kj + qi * two * kj + qi * wo * tkj, 0)
            tb = tl.sum(tvj * gi, 0)
            sq += (tfe * b + fe * tb) * wo * kj + fe * b * (two * kj + wo * tkj)
            sg += (tfe * a + fe * ta) * vj + fe * a * tvj
        else:
            sq += fe * b * wo * kj
    tl.store(dq + i, sq, mask=m)
    if D:
        tl.store(dg + i, sg, mask=m)


@triton.jit
def _at_sender(
    order,
    start,
    receiver,
    sender,
    q,
    k,
    v,
    w,
    f,
    g,
    tq,
    tk,
    tv,
    tw,
    tf,
    dk,
    dv,
    dw,
    df,
    heads,
    c,
    D: tl.constexpr,
    B: tl.constexpr,
):
    h = tl.program_id(1)
    n = tl.arange(0, B)
    m = n < c
    j = (tl.program_id(0).to(tl.int64) * heads + h) * c + n
    kj, vj = tl.load(k + j, mask=m, other=0.0), tl.load(v + j, mask=m, other=0.0)
    sk, sv = tl.zeros_like(kj), tl.zeros_like(kj)
    if D:
        tkj, tvj = tl.load(tk + j, mask=m, other=0.0), tl.load(tv + j, mask=m, other=0.0)
    for row in range(tl.load(start + tl.program_id(0)), tl.load(start + tl.program_id(0) + 1)):
        e = tl.load(order + row)
        o = (e * heads + h) * c + n
        i = (tl.load(receiver + e) * heads + h) * c + n
        qi, gi = tl.load(q + i, mask=m, other=0.0), tl.load(g + i, mask=m, other=0.0)
        wo, fe = tl.load(w + o, mask=m, other=0.0), tl.load(f + e)
        a, b = tl.sum(qi * wo * kj, 0), tl.sum(vj * gi, 0)
        if D:
            tqi, two, tfe = tl.load(tq + i, mask=m, other=0.0), tl.load(tw + o, mask=m, other=0.0), tl.load(tf + e)
            ta = tl.sum(tqi * wo * kj + qi * two * kj + qi * wo * tkj, 0)
            tb = tl.sum(tvj * gi, 0)
            tfb = tfe * b + fe * tb
            sk += tfb * wo * qi + fe * b * (two * qi + wo * tqi)
            sv += (tfe * a + fe * ta) * gi
            tl.store(dw + o, tfb * qi * kj + fe * b * (tqi * kj + qi * tkj), mask=m)
            tl.store(df + e * heads + h, ta * b + a * tb)
        else:
            sk += fe * b * wo * qi
            sv += fe * a * gi
            tl.store(dw + o, fe * b * qi * kj, mask=m)
            tl.store(df + e * heads + h, a * b)
    tl.store(dk + j, sk, mask=m)
    tl.store(dv + j, sv, mask=m)


def run(
    what: str, sizes: tuple[int, int, int], edges: Tensor, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> None:
    """Fill ``outputs``; see `hydrogate.models.kernels._derivatives.twice_differentiable`."""
    _, heads, c = sizes
    atoms = len(inputs[0])
    grid, block = (atoms, heads), triton.next_power_of_2(c)
    receiving, sending = (by_atom(end, atoms) for end in edges)
    if what == "forward":
        _forward[grid](*receiving, *edges, *inputs, *outputs, heads, c, B=block)
        return
    twice = what == "double_backward"
    # Without a direction, the tensors are passed in its place and are not read.
    given = inputs if twice else [*inputs, *inputs[:5]]
    dq, dk, dv, dw, df, *dg = outputs
    by_head = torch.empty(len(df), heads, dtype=df.dtype, device=df.device)
    _at_receiver[grid](*receiving, *edges, *given, dq, *(dg or [dq]), heads, c, D=twice, B=block)
    _at_sender[grid](*sending, *edges, *given, dk, dv, dw, by_head, heads, c, D=twice, B=block)
    torch.sum(by_head, dim=1, keepdim=True, out=df)
