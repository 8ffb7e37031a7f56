// The PaiNN message over edges sorted by receiver: forward, backward and double backward; see message.py.
//
// With the receiver's cotangents gs and gv, all of them are derivatives of one sum over edges e (i receives, j sends) and
// features f, S = x_a w_a gs_i + x_b w_b (u·gv_i) + x_c w_c (v_j·gv_i), where x is the sender's and w the edge's row.
// Rows are accumulated in place: edges of one receiver follow each other, so its row stays in the cache.

template <typename T>
static void forward(long edges, long f, long parts, const long* receiver, const long* sender, const T* x, const T* w,
                    const T* u, const T* v, T* s, T* out) {
    for (long e = 0; e < edges; ++e) {
        const long i = receiver[e], j = sender[e];
        const T *xj = x + j * parts * f, *we = w + e * parts * f, *vj = v + j * 3 * f;
        const T u0 = u[3 * e], u1 = u[3 * e + 1], u2 = u[3 * e + 2];
        T *si = s + i * f, *oi = out + i * 3 * f;
        if (parts == 2) {
#pragma omp simd
            for (long k = 0; k < f; ++k) {
                const T b = xj[f + k] * we[f + k];
                si[k] += xj[k] * we[k];
                oi[k] += b * u0;
                oi[f + k] += b * u1;
                oi[2 * f + k] += b * u2;
            }
        } else {
#pragma omp simd
            for (long k = 0; k < f; ++k) {
                const T b = xj[f + k] * we[f + k], c = xj[2 * f + k] * we[2 * f + k];
                si[k] += xj[k] * we[k];
                oi[k] += b * u0 + c * vj[k];
                oi[f + k] += b * u1 + c * vj[f + k];
                oi[2 * f + k] += b * u2 + c * vj[2 * f + k];
            }
        }
    }
}

template <typename T>
static void backward(long edges, long f, long parts, const long* receiver, const long* sender, const T* x, const T* w,
                     const T* u, const T* v, const T* gs, const T* gv, T* dx, T* dw, T* du, T* dv) {
    for (long e = 0; e < edges; ++e) {
        const long i = receiver[e], j = sender[e];
        const T *xj = x + j * parts * f, *we = w + e * parts * f, *vj = v + j * 3 * f;
        const T *si = gs + i * f, *gi = gv + i * 3 * f;
        const T u0 = u[3 * e], u1 = u[3 * e + 1], u2 = u[3 * e + 2];
        T *dxj = dx + j * parts * f, *dwe = dw + e * parts * f, *dvj = dv + j * 3 * f;
        T d0 = 0, d1 = 0, d2 = 0;
        if (parts == 2) {
#pragma omp simd reduction(+ : d0, d1, d2)
            for (long k = 0; k < f; ++k) {
                const T g0 = gi[k], g1 = gi[f + k], g2 = gi[2 * f + k];
                const T b = xj[f + k] * we[f + k], ug = u0 * g0 + u1 * g1 + u2 * g2;
                d0 += b * g0;
                d1 += b * g1;
                d2 += b * g2;
                dxj[k] += we[k] * si[k];
                dxj[f + k] += we[f + k] * ug;
                dwe[k] = xj[k] * si[k];
                dwe[f + k] = xj[f + k] * ug;
            }
        } else {
#pragma omp simd reduction(+ : d0, d1, d2)
            for (long k = 0; k < f; ++k) {
                const T g0 = gi[k], g1 = gi[f + k], g2 = gi[2 * f + k];
                const T b = xj[f + k] * we[f + k], c = xj[2 * f + k] * we[2 * f + k];
                const T ug = u0 * g0 + u1 * g1 + u2 * g2;
                const T vg = vj[k] * g0 + vj[f + k] * g1 + vj[2 * f + k] * g2;
                d0 += b * g0;
                d1 += b * g1;
                d2 += b * g2;
                dxj[k] += we[k] * si[k];
                dxj[f + k] += we[f + k] * ug;
                dxj[2 * f + k] += we[2 * f + k] * vg;
                dwe[k] = xj[k] * si[k];
                dwe[f + k] = xj[f + k] * ug;
                dwe[2 * f + k] = xj[2 * f + k] * vg;
                dvj[k] += c * g0;
                dvj[f + k] += c * g1;
                dvj[2 * f + k] += c * g2;
            }
        }
        du[3 * e] = d0;
        du[3 * e + 1] = d1;
        du[3 * e + 2] = d2;
    }
}

// All derivatives of the results of `backward`, in the direction (tx, tw, tu, tv).
template <typename T>
static void double_backward(long edges, long f, long parts, const long* receiver, const long* sender, const T* x,
                            const T* w, const T* u, const T* v, const T* gs, const T* gv, const T* tx, const T* tw,
                            const T* tu, const T* tv, T* dx, T* dw, T* du, T* dv, T* ds, T* dg) {
    for (long e = 0; e < edges; ++e) {
        const long i = receiver[e], j = sender[e];
        const T *xj = x + j * parts * f, *we = w + e * parts * f, *vj = v + j * 3 * f;
        const T *txj = tx + j * parts * f, *twe = tw + e * parts * f, *tvj = tv + j * 3 * f;
        const T *si = gs + i * f, *gi = gv + i * 3 * f;
        const T u0 = u[3 * e], u1 = u[3 * e + 1], u2 = u[3 * e + 2];
        const T t0 = tu[3 * e], t1 = tu[3 * e + 1], t2 = tu[3 * e + 2];
        T *dxj = dx + j * parts * f, *dwe = dw + e * parts * f, *dvj = dv + j * 3 * f;
        T *dsi = ds + i * f, *dgi = dg + i * 3 * f;
        T d0 = 0, d1 = 0, d2 = 0;
#pragma omp simd reduction(+ : d0, d1, d2)
        for (long k = 0; k < f; ++k) {
            const T g0 = gi[k], g1 = gi[f + k], g2 = gi[2 * f + k];
            const T b = xj[f + k] * we[f + k], tb = txj[f + k] * we[f + k] + xj[f + k] * twe[f + k];
            const T ug = u0 * g0 + u1 * g1 + u2 * g2, tug = t0 * g0 + t1 * g1 + t2 * g2;
            dsi[k] += txj[k] * we[k] + xj[k] * twe[k];
            dgi[k] += tb * u0 + b * t0;
            dgi[f + k] += tb * u1 + b * t1;
            dgi[2 * f + k] += tb * u2 + b * t2;
            d0 += tb * g0;
            d1 += tb * g1;
            d2 += tb * g2;
            dxj[k] += twe[k] * si[k];
            dwe[k] = txj[k] * si[k];
            dxj[f + k] += twe[f + k] * ug + we[f + k] * tug;
            dwe[f + k] = txj[f + k] * ug + xj[f + k] * tug;
        }
        if (parts == 3) {
#pragma omp simd
            for (long k = 0; k < f; ++k) {
                const T g0 = gi[k], g1 = gi[f + k], g2 = gi[2 * f + k];
                const T v0 = vj[k], v1 = vj[f + k], v2 = vj[2 * f + k];
                const T p0 = tvj[k], p1 = tvj[f + k], p2 = tvj[2 * f + k];
                const T xc = xj[2 * f + k], wc = we[2 * f + k], txc = txj[2 * f + k], twc = twe[2 * f + k];
                const T c = xc * wc, tc = txc * wc + xc * twc;
                const T vg = v0 * g0 + v1 * g1 + v2 * g2, tvg = p0 * g0 + p1 * g1 + p2 * g2;
                dgi[k] += tc * v0 + c * p0;
                dgi[f + k] += tc * v1 + c * p1;
                dgi[2 * f + k] += tc * v2 + c * p2;
                dvj[k] += tc * g0;
                dvj[f + k] += tc * g1;
                dvj[2 * f + k] += tc * g2;
                dxj[2 * f + k] += twc * vg + wc * tvg;
                dwe[2 * f + k] = txc * vg + xc * tvg;
            }
        }
        du[3 * e] = d0;
        du[3 * e + 1] = d1;
        du[3 * e + 2] = d2;
    }
}

#define EXPORT(T, SUFFIX)                                                                                             \
    extern "C" void forward_##SUFFIX(long e, long f, long p, const long* i, const long* j, const T* x, const T* w,    \
                                     const T* u, const T* v, T* s, T* o) {                                            \
        forward(e, f, p, i, j, x, w, u, v, s, o);                                                                     \
    }                                                                                                                 \
    extern "C" void backward_##SUFFIX(long e, long f, long p, const long* i, const long* j, const T* x, const T* w,   \
                                      const T* u, const T* v, const T* gs, const T* gv, T* dx, T* dw, T* du, T* dv) { \
        backward(e, f, p, i, j, x, w, u, v, gs, gv, dx, dw, du, dv);                                                  \
    }                                                                                                                 \
    extern "C" void double_backward_##SUFFIX(long e, long f, long p, const long* i, const long* j, const T* x,        \
                                             const T* w, const T* u, const T* v, const T* gs, const T* gv,            \
                                             const T* tx, const T* tw, const T* tu, const T* tv, T* dx, T* dw, T* du, \
                                             T* dv, T* ds, T* dg) {                                                   \
        double_backward(e, f, p, i, j, x, w, u, v, gs, gv, tx, tw, tu, tv, dx, dw, du, dv, ds, dg);                   \
    }

EXPORT(float, float32)
EXPORT(double, float64)
