// Small matrix products in the cache, and the PaiNN message along one edge with its gradient.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <new>

#if defined(__AVX512F__)
constexpr long BYTES = 64, WIDE = 4;
#elif defined(__AVX2__)
constexpr long BYTES = 32, WIDE = 2;
#else
constexpr long BYTES = 16, WIDE = 2;
#endif
constexpr long PAIRS = 48, ROWS = 6;

template <typename T>
struct Lanes {
    typedef T type __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
    static constexpr long count = BYTES / sizeof(T);
    static long padded(long size) { return (size + count - 1) / count * count; }
};

// Zeroed scratch memory, aligned to a cache line.
template <typename T>
struct Scratch {
    T* data;
    explicit Scratch(long size) {
        const size_t bytes = (size * sizeof(T) + 63) / 64 * 64;
        data = static_cast<T*>(std::aligned_alloc(64, std::max<size_t>(bytes, 64)));
        if (!data) throw std::bad_alloc();
        std::fill(data, data + size, T(0));
    }
    ~Scratch() { std::free(data); }
    Scratch(const Scratch&) = delete;
    operator T*() const { return data; }
};

// c = a b, or c += a b, for R rows and C vectors of columns; a's element (r, k) is a[r * down + k * along].
template <typename T, long R, long C>
static void tile(long inner, const T* a, long down, long along, const T* b, long columns, T* c, bool add) {
    typedef typename Lanes<T>::type V;
    constexpr long L = Lanes<T>::count;
    V sum[R][C];
    for (long r = 0; r < R; ++r)
        for (long n = 0; n < C; ++n) sum[r][n] = add ? *(const V*)(c + r * columns + n * L) : V{};
    for (long k = 0; k < inner; ++k) {
        V row[C];
        for (long n = 0; n < C; ++n) row[n] = *(const V*)(b + k * columns + n * L);
        for (long r = 0; r < R; ++r)
            for (long n = 0; n < C; ++n) sum[r][n] += a[r * down + k * along] * row[n];
    }
    for (long r = 0; r < R; ++r)
        for (long n = 0; n < C; ++n) *(V*)(c + r * columns + n * L) = sum[r][n];
}

template <typename T, long C>
static void panel(long rows, long inner, const T* a, long down, long along, const T* b, long columns, T* c, bool add) {
    long r = 0;
    for (; r + ROWS <= rows; r += ROWS)
        tile<T, ROWS, C>(inner, a + r * down, down, along, b, columns, c + r * columns, add);
    for (; r + 3 <= rows; r += 3) tile<T, 3, C>(inner, a + r * down, down, along, b, columns, c + r * columns, add);
    for (; r < rows; ++r) tile<T, 1, C>(inner, a + r * down, down, along, b, columns, c + r * columns, add);
}

// The product of a (rows, inner) and b (inner, columns); columns is a multiple of the vector length.
template <typename T>
static void product(long rows, long inner, const T* a, long down, long along, const T* b, long columns, T* c,
                    bool add = false) {
    constexpr long L = Lanes<T>::count;
    long n = 0;
    for (; n + WIDE * L <= columns; n += WIDE * L)
        panel<T, WIDE>(rows, inner, a, down, along, b + n, columns, c + n, add);
    for (; n < columns; n += L) panel<T, 1>(rows, inner, a, down, along, b + n, columns, c + n, add);
}

// The weight (g, k) in the layouts of the two products, (k, g) and (g, k), with rows padded with zeros.
template <typename T>
struct Weight {
    long g, k, wide, narrow;
    Scratch<T> across, along;
    Weight(long g, long k, const T* weight)
        : g(g), k(k), wide(Lanes<T>::padded(g)), narrow(Lanes<T>::padded(k)), across(k * wide), along(g * narrow) {
        for (long n = 0; n < g; ++n)
            for (long m = 0; m < k; ++m) across[m * wide + n] = along[n * narrow + m] = weight[n * k + m];
    }
    void rows(long pairs, const T* functions, T* w, bool add = false) const {
        product(pairs, k, functions, k, 1, across.data, wide, w, add);
    }
    void functions(long pairs, const T* w, T* to, bool add = false) const {
        product(pairs, g, w, wide, 1, along.data, narrow, to, add);
    }
};

template <typename T, long P>
static inline void send(long f, const T* x, const T* v, const T* w, const T* u, T sign, T* s, T* out) {
    const T u0 = sign * u[0], u1 = sign * u[1], u2 = sign * u[2];
#pragma omp simd
    for (long k = 0; k < f; ++k) {
        const T b = x[f + k] * w[f + k];
        s[k] += x[k] * w[k];
        T o0 = b * u0, o1 = b * u1, o2 = b * u2;
        if (P == 3) {
            const T c = x[2 * f + k] * w[2 * f + k];
            o0 += c * v[k];
            o1 += c * v[f + k];
            o2 += c * v[2 * f + k];
        }
        out[k] += o0;
        out[f + k] += o1;
        out[2 * f + k] += o2;
    }
}

// Adds to dx, dv, dw and du.
template <typename T, long P>
static inline void send_back(long f, const T* x, const T* v, const T* w, const T* u, T sign, const T* gs, const T* gv,
                             T* dx, T* dv, T* dw, T* du) {
    const T u0 = sign * u[0], u1 = sign * u[1], u2 = sign * u[2];
    T d0 = 0, d1 = 0, d2 = 0;
#pragma omp simd reduction(+ : d0, d1, d2)
    for (long k = 0; k < f; ++k) {
        const T g = gs[k], g0 = gv[k], g1 = gv[f + k], g2 = gv[2 * f + k];
        const T b = x[f + k] * w[f + k], ug = u0 * g0 + u1 * g1 + u2 * g2;
        d0 += b * g0;
        d1 += b * g1;
        d2 += b * g2;
        dx[k] += w[k] * g;
        dx[f + k] += w[f + k] * ug;
        dw[k] += x[k] * g;
        dw[f + k] += x[f + k] * ug;
        if (P == 3) {
            const T xc = x[2 * f + k], wc = w[2 * f + k], c = xc * wc;
            const T vg = v[k] * g0 + v[f + k] * g1 + v[2 * f + k] * g2;
            dx[2 * f + k] += wc * vg;
            dw[2 * f + k] += xc * vg;
            dv[k] += c * g0;
            dv[f + k] += c * g1;
            dv[2 * f + k] += c * g2;
        }
    }
    du[0] += sign * d0;
    du[1] += sign * d1;
    du[2] += sign * d2;
}
