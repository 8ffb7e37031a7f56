// Operations of PaiNN on an atom's own vectors, except for the matrix products; see invariants.py and gate.py.
//
// Vectors l, r are (n, 3, f), and s is (n, f).

#include <cmath>

// Keeps the second derivative of a vector's norm finite where the vector is zero; same value as in invariants.py.
constexpr double EPSILON = 1e-8;

// joined = [s, |r|], with |r| = sqrt(r·r + ε).
template <typename T>
static void invariants_forward(long n, long f, const T* s, const T* r, T* joined) {
    for (long i = 0; i < n; ++i, s += f, r += 3 * f, joined += 2 * f)
#pragma omp simd
        for (long k = 0; k < f; ++k) {
            joined[k] = s[k];
            joined[f + k] = std::sqrt(r[k] * r[k] + r[f + k] * r[f + k] + r[2 * f + k] * r[2 * f + k] + T(EPSILON));
        }
}

template <typename T>
static void invariants_backward(long n, long f, const T*, const T* r, const T* g, T* ds, T* dr) {
    for (long i = 0; i < n; ++i, r += 3 * f, g += 2 * f, ds += f, dr += 3 * f)
#pragma omp simd
        for (long k = 0; k < f; ++k) {
            const T r0 = r[k], r1 = r[f + k], r2 = r[2 * f + k];
            const T scaled = g[f + k] / std::sqrt(r0 * r0 + r1 * r1 + r2 * r2 + T(EPSILON));
            ds[k] = g[k];
            dr[k] = scaled * r0;
            dr[f + k] = scaled * r1;
            dr[2 * f + k] = scaled * r2;
        }
}

template <typename T>
static void invariants_double_backward(long n, long f, const T*, const T* r, const T* g, const T* ts, const T* tr, T*,
                                       T* dr, T* dg) {
    for (long i = 0; i < n; ++i, r += 3 * f, g += 2 * f, ts += f, tr += 3 * f, dr += 3 * f, dg += 2 * f)
#pragma omp simd
        for (long k = 0; k < f; ++k) {
            const T r0 = r[k], r1 = r[f + k], r2 = r[2 * f + k], t0 = tr[k], t1 = tr[f + k], t2 = tr[2 * f + k];
            const T inverse = 1 / std::sqrt(r0 * r0 + r1 * r1 + r2 * r2 + T(EPSILON));
            const T along = (t0 * r0 + t1 * r1 + t2 * r2) * inverse, scaled = g[f + k] * inverse;
            dr[k] = scaled * (t0 - r0 * along * inverse);
            dr[f + k] = scaled * (t1 - r1 * along * inverse);
            dr[2 * f + k] = scaled * (t2 - r2 * along * inverse);
            dg[k] = ts[k];
            dg[f + k] = along;
        }
}

// With a, b, c the parts of u: s = a + b (l·r), and v = c l if there are three parts.
template <typename T, long P>
static void gate_forward(long n, long f, const T* u, const T* l, const T* r, T* s, T* v) {
    for (long i = 0; i < n; ++i, u += P * f, l += 3 * f, r += 3 * f, s += f, v += P == 3 ? 3 * f : 0)
#pragma omp simd
        for (long k = 0; k < f; ++k) {
            const T l0 = l[k], l1 = l[f + k], l2 = l[2 * f + k];
            s[k] = u[k] + u[f + k] * (l0 * r[k] + l1 * r[f + k] + l2 * r[2 * f + k]);
            if (P == 3) {
                const T c = u[2 * f + k];
                v[k] = c * l0;
                v[f + k] = c * l1;
                v[2 * f + k] = c * l2;
            }
        }
}

template <typename T, long P>
static void gate_backward(long n, long f, const T* u, const T* l, const T* r, const T* gs, const T* gv, T* du, T* dl,
                          T* dr) {
    for (long i = 0; i < n; ++i) {
#pragma omp simd
        for (long k = 0; k < f; ++k) {
            const T l0 = l[k], l1 = l[f + k], l2 = l[2 * f + k], r0 = r[k], r1 = r[f + k], r2 = r[2 * f + k];
            const T g = gs[k], bg = u[f + k] * g;
            T d0 = bg * r0, d1 = bg * r1, d2 = bg * r2;
            du[k] = g;
            du[f + k] = g * (l0 * r0 + l1 * r1 + l2 * r2);
            if (P == 3) {
                const T g0 = gv[k], g1 = gv[f + k], g2 = gv[2 * f + k], c = u[2 * f + k];
                du[2 * f + k] = g0 * l0 + g1 * l1 + g2 * l2;
                d0 += c * g0;
                d1 += c * g1;
                d2 += c * g2;
            }
            dl[k] = d0;
            dl[f + k] = d1;
            dl[2 * f + k] = d2;
            dr[k] = bg * l0;
            dr[f + k] = bg * l1;
            dr[2 * f + k] = bg * l2;
        }
        u += P * f, l += 3 * f, r += 3 * f, gs += f, gv += P == 3 ? 3 * f : 0, du += P * f, dl += 3 * f, dr += 3 * f;
    }
}

template <typename T, long P>
static void gate_double_backward(long n, long f, const T* u, const T* l, const T* r, const T* gs, const T* gv,
                                 const T* tu, const T* tl, const T* tr, T* du, T* dl, T* dr, T* ds, T* dv) {
    const long p = P == 3 ? 3 * f : 0;
    for (long i = 0; i < n; ++i) {
#pragma omp simd
        for (long k = 0; k < f; ++k) {
            const T l0 = l[k], l1 = l[f + k], l2 = l[2 * f + k], r0 = r[k], r1 = r[f + k], r2 = r[2 * f + k];
            const T p0 = tl[k], p1 = tl[f + k], p2 = tl[2 * f + k], q0 = tr[k], q1 = tr[f + k], q2 = tr[2 * f + k];
            const T g = gs[k], bg = u[f + k] * g, tbg = tu[f + k] * g;
            const T turned = p0 * r0 + p1 * r1 + p2 * r2 + q0 * l0 + q1 * l1 + q2 * l2;
            T d0 = tbg * r0 + bg * q0, d1 = tbg * r1 + bg * q1, d2 = tbg * r2 + bg * q2;
            du[k] = 0;
            du[f + k] = g * turned;
            ds[k] = tu[k] + tu[f + k] * (l0 * r0 + l1 * r1 + l2 * r2) + u[f + k] * turned;
            if (P == 3) {
                const T g0 = gv[k], g1 = gv[f + k], g2 = gv[2 * f + k], c = u[2 * f + k], tc = tu[2 * f + k];
                du[2 * f + k] = g0 * p0 + g1 * p1 + g2 * p2;
                d0 += tc * g0;
                d1 += tc * g1;
                d2 += tc * g2;
                dv[k] = tc * l0 + c * p0;
                dv[f + k] = tc * l1 + c * p1;
                dv[2 * f + k] = tc * l2 + c * p2;
            }
            dl[k] = d0;
            dl[f + k] = d1;
            dl[2 * f + k] = d2;
            dr[k] = tbg * l0 + bg * p0;
            dr[f + k] = tbg * l1 + bg * p1;
            dr[2 * f + k] = tbg * l2 + bg * p2;
        }
        u += P * f, l += 3 * f, r += 3 * f, gs += f, gv += p, tu += P * f, tl += 3 * f, tr += 3 * f;
        du += P * f, dl += 3 * f, dr += 3 * f, ds += f, dv += p;
    }
}

#define EXPORT(T, SUFFIX)                                                                                             \
    extern "C" void invariants_forward_##SUFFIX(long n, long f, const T* s, const T* r, T* joined) {                  \
        invariants_forward(n, f, s, r, joined);                                                                       \
    }                                                                                                                 \
    extern "C" void invariants_backward_##SUFFIX(long n, long f, const T* s, const T* r, const T* g, T* ds, T* dr) {  \
        invariants_backward(n, f, s, r, g, ds, dr);                                                                   \
    }                                                                                                                 \
    extern "C" void invariants_double_backward_##SUFFIX(long n, long f, const T* s, const T* r, const T* g,           \
                                                        const T* ts, const T* tr, T* ds, T* dr, T* dg) {              \
        invariants_double_backward(n, f, s, r, g, ts, tr, ds, dr, dg);                                                \
    }                                                                                                                 \
    extern "C" void gate_forward_##SUFFIX(long n, long f, long parts, const T* u, const T* l, const T* r, T* s,       \
                                          T* v) {                                                                     \
        (parts == 3 ? gate_forward<T, 3> : gate_forward<T, 2>)(n, f, u, l, r, s, v);                                  \
    }                                                                                                                 \
    extern "C" void gate_backward_##SUFFIX(long n, long f, long parts, const T* u, const T* l, const T* r,            \
                                           const T* gs, const T* gv, T* du, T* dl, T* dr) {                           \
        (parts == 3 ? gate_backward<T, 3> : gate_backward<T, 2>)(n, f, u, l, r, gs, gv, du, dl, dr);                  \
    }                                                                                                                 \
    extern "C" void gate_double_backward_##SUFFIX(long n, long f, long parts, const T* u, const T* l, const T* r,     \
                                                  const T* gs, const T* gv, const T* tu, const T* tl, const T* tr,    \
                                                  T* du, T* dl, T* dr, T* ds, T* dv) {                                \
        (parts == 3 ? gate_double_backward<T, 3> : gate_double_backward<T, 2>)(n, f, u, l, r, gs, gv, tu, tl, tr, du, \
                                                                               dl, dr, ds, dv);                       \
    }

EXPORT(float, float32)
EXPORT(double, float64)
