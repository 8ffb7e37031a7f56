"""PaiNN message in Triton: one program per atom, over the edges that it receives or sends, without atomic sums.

The formulas are those of message.cpp. The sender's program writes the values on edges.
"""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from hydrogate.models.kernels import by_atom


@triton.jit
def _forward(order, start, receiver, sender, x, w, u, v, s, out, f, P: tl.constexpr, B: tl.constexpr):
    i = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, B)
    m = k < f
    o = i * 3 * f + k
    total = tl.load(s + i * f + k, mask=m)
    t0 = tl.load(out + o, mask=m)
    t1 = tl.load(out + o + f, mask=m)
    t2 = tl.load(out + o + 2 * f, mask=m)
    for n in range(tl.load(start + i), tl.load(start + i + 1)):
        e = tl.load(order + n)
        j = tl.load(sender + e)
        xj = x + j * P * f + k
        we = w + e * P * f + k
        total += tl.load(xj, mask=m) * tl.load(we, mask=m)
        b = tl.load(xj + f, mask=m) * tl.load(we + f, mask=m)
        t0 += b * tl.load(u + 3 * e)
        t1 += b * tl.load(u + 3 * e + 1)
        t2 += b * tl.load(u + 3 * e + 2)
        if P == 3:
            c = tl.load(xj + 2 * f, mask=m) * tl.load(we + 2 * f, mask=m)
            vj = v + j * 3 * f + k
            t0 += c * tl.load(vj, mask=m)
            t1 += c * tl.load(vj + f, mask=m)
            t2 += c * tl.load(vj + 2 * f, mask=m)
    tl.store(s + i * f + k, total, mask=m)
    tl.store(out + o, t0, mask=m)
    tl.store(out + o + f, t1, mask=m)
    tl.store(out + o + 2 * f, t2, mask=m)


@triton.jit
def _backward(order, start, receiver, sender, x, w, u, v, gs, gv, dx, dw, du, dv, f, P: tl.constexpr, B: tl.constexpr):
    j = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, B)
    m = k < f
    xj = x + j * P * f + k
    xa = tl.load(xj, mask=m, other=0.0)
    xb = tl.load(xj + f, mask=m, other=0.0)
    da, db = tl.zeros_like(xa), tl.zeros_like(xa)
    if P == 3:
        vj = v + j * 3 * f + k
        xc = tl.load(xj + 2 * f, mask=m, other=0.0)
        v0 = tl.load(vj, mask=m, other=0.0)
        v1 = tl.load(vj + f, mask=m, other=0.0)
        v2 = tl.load(vj + 2 * f, mask=m, other=0.0)
        dc, dv0, dv1, dv2 = tl.zeros_like(xa), tl.zeros_like(xa), tl.zeros_like(xa), tl.zeros_like(xa)
    for n in range(tl.load(start + j), tl.load(start + j + 1)):
        e = tl.load(order + n)
        i = tl.load(receiver + e)
        we = w + e * P * f + k
        de = dw + e * P * f + k
        g = tl.load(gs + i * f + k, mask=m, other=0.0)
        gi = gv + i * 3 * f + k
        g0 = tl.load(gi, mask=m, other=0.0)
        g1 = tl.load(gi + f, mask=m, other=0.0)
        g2 = tl.load(gi + 2 * f, mask=m, other=0.0)
        wa = tl.load(we, mask=m, other=0.0)
        wb = tl.load(we + f, mask=m, other=0.0)
        b = xb * wb
        ug = tl.load(u + 3 * e) * g0 + tl.load(u + 3 * e + 1) * g1 + tl.load(u + 3 * e + 2) * g2
        tl.store(du + 3 * e, tl.sum(b * g0, 0))
        tl.store(du + 3 * e + 1, tl.sum(b * g1, 0))
        tl.store(du + 3 * e + 2, tl.sum(b * g2, 0))
        da += wa * g
        db += wb * ug
        tl.store(de, xa * g, mask=m)
        tl.store(de + f, xb * ug, mask=m)
        if P == 3:
            wc = tl.load(we + 2 * f, mask=m, other=0.0)
            vg = v0 * g0 + v1 * g1 + v2 * g2
            dc += wc * vg
            tl.store(de + 2 * f, xc * vg, mask=m)
            dv0 += xc * wc * g0
            dv1 += xc * wc * g1
            dv2 += xc * wc * g2
    dj = dx + j * P * f + k
    tl.store(dj, da, mask=m)
    tl.store(dj + f, db, mask=m)
    if P == 3:
        ej = dv + j * 3 * f + k
        tl.store(dj + 2 * f, dc, mask=m)
        tl.store(ej, dv0, mask=m)
        tl.store(ej + f, dv1, mask=m)
        tl.store(ej + 2 * f, dv2, mask=m)


@triton.jit
def _double_at_receiver(
    order, start, receiver, sender, x, w, u, v, tx, tw, tu, tv, ds, dg, f, P: tl.constexpr, B: tl.constexpr
):
    i = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, B)
    m = k < f
    o = i * 3 * f + k
    total = tl.load(ds + i * f + k, mask=m)
    t0 = tl.load(dg + o, mask=m)
    t1 = tl.load(dg + o + f, mask=m)
    t2 = tl.load(dg + o + 2 * f, mask=m)
    for n in range(tl.load(start + i), tl.load(start + i + 1)):
        e = tl.load(order + n)
        j = tl.load(sender + e)
        at, on = j * P * f + k, e * P * f + k
        total += tl.load(tx + at, mask=m) * tl.load(w + on, mask=m)
        total += tl.load(x + at, mask=m) * tl.load(tw + on, mask=m)
        xb, wb = tl.load(x + at + f, mask=m), tl.load(w + on + f, mask=m)
        b = xb * wb
        tb = tl.load(tx + at + f, mask=m) * wb + xb * tl.load(tw + on + f, mask=m)
        t0 += tb * tl.load(u + 3 * e) + b * tl.load(tu + 3 * e)
        t1 += tb * tl.load(u + 3 * e + 1) + b * tl.load(tu + 3 * e + 1)
        t2 += tb * tl.load(u + 3 * e + 2) + b * tl.load(tu + 3 * e + 2)
        if P == 3:
            xc, wc = tl.load(x + at + 2 * f, mask=m), tl.load(w + on + 2 * f, mask=m)
            c = xc * wc
            tc = tl.load(tx + at + 2 * f, mask=m) * wc + xc * tl.load(tw + on + 2 * f, mask=m)
            a = j * 3 * f + k
            t0 += tc * tl.load(v + a, mask=m) + c * tl.load(tv + a, mask=m)
            t1 += tc * tl.load(v + a + f, mask=m) + c * tl.load(tv + a + f, mask=m)
            t2 += tc * tl.load(v + a + 2 * f, mask=m) + c * tl.load(tv + a + 2 * f, mask=m)
    tl.store(ds + i * f + k, total, mask=m)
    tl.store(dg + o, t0, mask=m)
    tl.store(dg + o + f, t1, mask=m)
    tl.store(dg + o + 2 * f, t2, mask=m)


@triton.jit
def _double_at_sender(
    order,
    start,
    receiver,
    sender,
    x,
    w,
    u,
    v,
    gs,
    gv,
    tx,
    tw,
    tu,
    tv,
    dx,
    dw,
    du,
    dv,
    f,
    P: tl.constexpr,
    B: tl.constexpr,
):
    j = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, B)
    m = k < f
    at, a = j * P * f + k, j * 3 * f + k
    xb, txa, txb = (
        tl.load(x + at + f, mask=m, other=0.0),
        tl.load(tx + at, mask=m, other=0.0),
        tl.load(tx + at + f, mask=m, other=0.0),
    )
    da, db = tl.zeros_like(xb), tl.zeros_like(xb)
    if P == 3:
        xc, txc = tl.load(x + at + 2 * f, mask=m, other=0.0), tl.load(tx + at + 2 * f, mask=m, other=0.0)
        v0, p0 = tl.load(v + a, mask=m, other=0.0), tl.load(tv + a, mask=m, other=0.0)
        v1, p1 = tl.load(v + a + f, mask=m, other=0.0), tl.load(tv + a + f, mask=m, other=0.0)
        v2, p2 = tl.load(v + a + 2 * f, mask=m, other=0.0), tl.load(tv + a + 2 * f, mask=m, other=0.0)
        dc, dv0, dv1, dv2 = tl.zeros_like(xb), tl.zeros_like(xb), tl.zeros_like(xb), tl.zeros_like(xb)
    for n in range(tl.load(start + j), tl.load(start + j + 1)):
        e = tl.load(order + n)
        i = tl.load(receiver + e)
        on = e * P * f + k
        g = tl.load(gs + i * f + k, mask=m, other=0.0)
        gi = gv + i * 3 * f + k
        g0 = tl.load(gi, mask=m, other=0.0)
        g1 = tl.load(gi + f, mask=m, other=0.0)
        g2 = tl.load(gi + 2 * f, mask=m, other=0.0)
        ug = tl.load(u + 3 * e) * g0 + tl.load(u + 3 * e + 1) * g1 + tl.load(u + 3 * e + 2) * g2
        tug = tl.load(tu + 3 * e) * g0 + tl.load(tu + 3 * e + 1) * g1 + tl.load(tu + 3 * e + 2) * g2
        wb, twb = tl.load(w + on + f, mask=m, other=0.0), tl.load(tw + on + f, mask=m, other=0.0)
        tb = txb * wb + xb * twb
        tl.store(du + 3 * e, tl.sum(tb * g0, 0))
        tl.store(du + 3 * e + 1, tl.sum(tb * g1, 0))
        tl.store(du + 3 * e + 2, tl.sum(tb * g2, 0))
        da += tl.load(tw + on, mask=m, other=0.0) * g
        db += twb * ug + wb * tug
        tl.store(dw + on, txa * g, mask=m)
        tl.store(dw + on + f, txb * ug + xb * tug, mask=m)
        if P == 3:
            wc, twc = tl.load(w + on + 2 * f, mask=m, other=0.0), tl.load(tw + on + 2 * f, mask=m, other=0.0)
            tc = txc * wc + xc * twc
            vg, tvg = v0 * g0 + v1 * g1 + v2 * g2, p0 * g0 + p1 * g1 + p2 * g2
            dc += twc * vg + wc * tvg
            tl.store(dw + on + 2 * f, txc * vg + xc * tvg, mask=m)
            dv0 += tc * g0
            dv1 += tc * g1
            dv2 += tc * g2
    tl.store(dx + at, da, mask=m)
    tl.store(dx + at + f, db, mask=m)
    if P == 3:
        tl.store(dx + at + 2 * f, dc, mask=m)
        tl.store(dv + a, dv0, mask=m)
        tl.store(dv + a + f, dv1, mask=m)
        tl.store(dv + a + 2 * f, dv2, mask=m)


def run(
    what: str, sizes: tuple[int, int, int], edges: Tensor, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> None:
    """Fill ``outputs``; see `hydrogate.models.kernels._derivatives.twice_differentiable`."""
    _, f, parts = sizes
    atoms = len(inputs[0])
    if not atoms:
        return
    constants = {"P": parts, "B": triton.next_power_of_2(f)}
    receiving, sending = (by_atom(end, atoms) for end in edges)
    if what == "forward":
        _forward[(atoms,)](*receiving, *edges, *inputs, *outputs, f, **constants)
    elif what == "backward":
        _backward[(atoms,)](*sending, *edges, *inputs, *outputs, f, **constants)
    else:
        tensors, directions = inputs[:4], inputs[6:]
        _double_at_receiver[(atoms,)](*receiving, *edges, *tensors, *directions, *outputs[4:], f, **constants)
        _double_at_sender[(atoms,)](*sending, *edges, *inputs, *outputs[:4], f, **constants)
