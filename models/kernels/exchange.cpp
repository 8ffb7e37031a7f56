// The PaiNN message in both directions along pairs of atoms, with the filter computed on the way; see exchange.py.
//
// Pairs are processed in blocks. The filter's rows of a block come out of a small matrix product into the cache and are
// used there, and so are their derivatives: nothing of their size reaches main memory. Each row is used as in
// message.cpp, once for i, which receives from j along u, and once for j, which receives from i along -u.

#include "_blocks.cpp"

// All derivatives of the results of `send_back`, in the direction (tx, tv, tw, tu), added up; `first` is its dw.
template <typename T, long P>
static inline void send_back_twice(long f, const T* x, const T* v, const T* w, const T* u, T sign, const T* gs,
                                   const T* gv, const T* tx, const T* tv, const T* tw, const T* tu, T* dx, T* dv, T* dw,
                                   T* du, T* ds, T* dg, T* first) {
    const T u0 = sign * u[0], u1 = sign * u[1], u2 = sign * u[2];
    const T t0 = sign * tu[0], t1 = sign * tu[1], t2 = sign * tu[2];
    T d0 = 0, d1 = 0, d2 = 0;
#pragma omp simd reduction(+ : d0, d1, d2)
    for (long k = 0; k < f; ++k) {
        const T g = gs[k], g0 = gv[k], g1 = gv[f + k], g2 = gv[2 * f + k];
        const T b = x[f + k] * w[f + k], tb = tx[f + k] * w[f + k] + x[f + k] * tw[f + k];
        const T ug = u0 * g0 + u1 * g1 + u2 * g2, tug = t0 * g0 + t1 * g1 + t2 * g2;
        ds[k] += tx[k] * w[k] + x[k] * tw[k];
        dg[k] += tb * u0 + b * t0;
        dg[f + k] += tb * u1 + b * t1;
        dg[2 * f + k] += tb * u2 + b * t2;
        d0 += tb * g0;
        d1 += tb * g1;
        d2 += tb * g2;
        dx[k] += tw[k] * g;
        dx[f + k] += tw[f + k] * ug + w[f + k] * tug;
        dw[k] += tx[k] * g;
        dw[f + k] += tx[f + k] * ug + x[f + k] * tug;
        first[k] += x[k] * g;
        first[f + k] += x[f + k] * ug;
    }
    if (P == 3) {
#pragma omp simd
        for (long k = 0; k < f; ++k) {
            const T g0 = gv[k], g1 = gv[f + k], g2 = gv[2 * f + k];
            const T v0 = v[k], v1 = v[f + k], v2 = v[2 * f + k];
            const T p0 = tv[k], p1 = tv[f + k], p2 = tv[2 * f + k];
            const T xc = x[2 * f + k], wc = w[2 * f + k], txc = tx[2 * f + k], twc = tw[2 * f + k];
            const T c = xc * wc, tc = txc * wc + xc * twc;
            const T vg = v0 * g0 + v1 * g1 + v2 * g2, tvg = p0 * g0 + p1 * g1 + p2 * g2;
            dg[k] += tc * v0 + c * p0;
            dg[f + k] += tc * v1 + c * p1;
            dg[2 * f + k] += tc * v2 + c * p2;
            dv[k] += tc * g0;
            dv[f + k] += tc * g1;
            dv[2 * f + k] += tc * g2;
            dx[2 * f + k] += twc * vg + wc * tvg;
            dw[2 * f + k] += txc * vg + xc * tvg;
            first[2 * f + k] += xc * vg;
        }
    }
    du[0] += sign * d0;
    du[1] += sign * d1;
    du[2] += sign * d2;
}

template <typename T, long P, long F>
static void forward(long pairs, long size, long k, const long* one, const long* other, const T* x, const T* functions,
                    const T* weight, const T* u, const T* v, T* s, T* out) {
    const long f = F ? F : size;
    const Weight<T> filter(P * f, k, weight);
    Scratch<T> w(PAIRS * filter.wide);
    for (long from = 0; from < pairs; from += PAIRS) {
        const long count = std::min(PAIRS, pairs - from);
        filter.rows(count, functions + from * k, w);
        for (long n = 0; n < count; ++n) {
            const long i = one[from + n], j = other[from + n], p = 3 * (from + n);
            const T* row = w + n * filter.wide;
            send<T, P>(f, x + j * P * f, v + j * 3 * f, row, u + p, 1, s + i * f, out + i * 3 * f);
            send<T, P>(f, x + i * P * f, v + i * 3 * f, row, u + p, -1, s + j * f, out + j * 3 * f);
        }
    }
}

// The weight's gradient is not computed if dweight is null.
template <typename T, long P, long F>
static void backward(long pairs, long size, long k, const long* one, const long* other, const T* x, const T* functions,
                     const T* weight, const T* u, const T* v, const T* gs, const T* gv, T* dx, T* dfunctions,
                     T* dweight, T* du, T* dv) {
    const long f = F ? F : size;
    const Weight<T> filter(P * f, k, weight);
    const long wide = filter.wide, narrow = filter.narrow;
    Scratch<T> w(PAIRS * wide), dw(PAIRS * wide), to(PAIRS * narrow), sum(dweight ? k * wide : 0);
    for (long from = 0; from < pairs; from += PAIRS) {
        const long count = std::min(PAIRS, pairs - from);
        filter.rows(count, functions + from * k, w);
        std::fill(dw.data, dw.data + count * wide, T(0));
        for (long n = 0; n < count; ++n) {
            const long i = one[from + n], j = other[from + n], p = 3 * (from + n), a = P * f, b = 3 * f;
            const T* row = w + n * wide;
            T* back = dw + n * wide;
            send_back<T, P>(f, x + j * a, v + j * b, row, u + p, 1, gs + i * f, gv + i * b, dx + j * a, dv + j * b,
                            back, du + p);
            send_back<T, P>(f, x + i * a, v + i * b, row, u + p, -1, gs + j * f, gv + j * b, dx + i * a, dv + i * b,
                            back, du + p);
        }
        filter.functions(count, dw, to);
        for (long n = 0; n < count; ++n) std::copy_n(to + n * narrow, k, dfunctions + (from + n) * k);
        if (dweight) product(k, count, functions + from * k, 1, k, dw.data, wide, sum.data, true);
    }
    if (dweight)
        for (long g = 0; g < P * f; ++g)
            for (long m = 0; m < k; ++m) dweight[g * k + m] = sum[m * wide + g];
}

// The weight's direction may be null, which means zero; dweight may be null too.
template <typename T, long P, long F>
static void double_backward(long pairs, long size, long k, const long* one, const long* other, const T* x,
                            const T* functions, const T* weight, const T* u, const T* v, const T* gs, const T* gv,
                            const T* tx, const T* tfunctions, const T* tweight, const T* tu, const T* tv, T* dx,
                            T* dfunctions, T* dweight, T* du, T* dv, T* ds, T* dg) {
    const long f = F ? F : size;
    const Weight<T> filter(P * f, k, weight), turned(P * f, tweight ? k : 0, tweight);
    const long wide = filter.wide, narrow = filter.narrow;
    Scratch<T> w(PAIRS * wide), tw(PAIRS * wide), dw(PAIRS * wide), first(PAIRS * wide), to(PAIRS * narrow);
    Scratch<T> sum(dweight ? k * wide : 0);
    for (long from = 0; from < pairs; from += PAIRS) {
        const long count = std::min(PAIRS, pairs - from);
        const T *given = functions + from * k, *direction = tfunctions + from * k;
        filter.rows(count, given, w);
        filter.rows(count, direction, tw);
        if (tweight) turned.rows(count, given, tw, true);
        std::fill(dw.data, dw.data + count * wide, T(0));
        std::fill(first.data, first.data + count * wide, T(0));
        for (long n = 0; n < count; ++n) {
            const long i = one[from + n], j = other[from + n], p = 3 * (from + n), a = P * f, b = 3 * f, r = n * wide;
            send_back_twice<T, P>(f, x + j * a, v + j * b, w + r, u + p, 1, gs + i * f, gv + i * b, tx + j * a,
                                  tv + j * b, tw + r, tu + p, dx + j * a, dv + j * b, dw + r, du + p, ds + i * f,
                                  dg + i * b, first + r);
            send_back_twice<T, P>(f, x + i * a, v + i * b, w + r, u + p, -1, gs + j * f, gv + j * b, tx + i * a,
                                  tv + i * b, tw + r, tu + p, dx + i * a, dv + i * b, dw + r, du + p, ds + j * f,
                                  dg + j * b, first + r);
        }
        filter.functions(count, dw, to);
        if (tweight) turned.functions(count, first, to, true);
        for (long n = 0; n < count; ++n) std::copy_n(to + n * narrow, k, dfunctions + (from + n) * k);
        if (dweight) {
            product(k, count, given, 1, k, dw.data, wide, sum.data, true);
            product(k, count, direction, 1, k, first.data, wide, sum.data, true);
        }
    }
    if (dweight)
        for (long g = 0; g < P * f; ++g)
            for (long m = 0; m < k; ++m) dweight[g * k + m] = sum[m * wide + g];
}

// Finds the pairs (i < j) of edges sorted by receiver, then sender; returns their number, or -1 if an edge has no
// opposite edge.
extern "C" long halves(long edges, long atoms, const long* receiver, const long* sender, long* one, long* other) {
    Scratch<long> next(atoms);  // the first edge of each atom whose opposite edge has not come yet
    std::fill(next.data, next.data + atoms, edges);
    for (long e = edges - 1; e >= 0; --e)
        if (receiver[e] < sender[e]) next[receiver[e]] = e;
    long found = 0, twins = 0;
    for (long e = 0; e < edges; ++e) {
        const long i = receiver[e], j = sender[e];
        if (i == j || (e > 0 && (receiver[e - 1] > i || (receiver[e - 1] == i && sender[e - 1] >= j)))) return -1;
        if (i < j) {
            one[found] = i;
            other[found++] = j;
        } else {
            const long twin = next[j]++;
            if (twin >= edges || receiver[twin] != j || sender[twin] != i) return -1;
            ++twins;
        }
    }
    return found == twins ? found : -1;
}

// Sizes known at compile time make the loops over features straight.
#define CHOOSE(WHAT, T, ...)                                                                  \
    if (parts == 3) {                                                                         \
        f == 64 ? WHAT<T, 3, 64>(__VA_ARGS__) : WHAT<T, 3, 0>(__VA_ARGS__);                   \
    } else {                                                                                  \
        f == 64 ? WHAT<T, 2, 64>(__VA_ARGS__) : WHAT<T, 2, 0>(__VA_ARGS__);                   \
    }

#define EXPORT(T, SUFFIX)                                                                                            \
    extern "C" void forward_##SUFFIX(long n, long f, long parts, long k, const long* i, const long* j, const T* x,   \
                                     const T* r, const T* w, const T* u, const T* v, T* s, T* o) {                   \
        CHOOSE(forward, T, n, f, k, i, j, x, r, w, u, v, s, o)                                                       \
    }                                                                                                                \
    extern "C" void backward_##SUFFIX(long n, long f, long parts, long k, const long* i, const long* j, const T* x,  \
                                      const T* r, const T* w, const T* u, const T* v, const T* gs, const T* gv,      \
                                      T* dx, T* dr, T* dw, T* du, T* dv) {                                           \
        CHOOSE(backward, T, n, f, k, i, j, x, r, w, u, v, gs, gv, dx, dr, dw, du, dv)                                \
    }                                                                                                                \
    extern "C" void double_backward_##SUFFIX(                                                                        \
        long n, long f, long parts, long k, const long* i, const long* j, const T* x, const T* r, const T* w,        \
        const T* u, const T* v, const T* gs, const T* gv, const T* tx, const T* tr, const T* tw, const T* tu,        \
        const T* tv, T* dx, T* dr, T* dw, T* du, T* dv, T* ds, T* dg) {                                              \
        CHOOSE(double_backward, T, n, f, k, i, j, x, r, w, u, v, gs, gv, tx, tr, tw, tu, tv, dx, dr, dw, du, dv, ds, \
               dg)                                                                                                   \
    }

EXPORT(float, float32)
EXPORT(double, float64)
