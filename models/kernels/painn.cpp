// Energies of a PaiNN and their gradient by the edges, a few molecules at a time, with all data in the cache; see
// _painn.py.
//
// The number of features is a multiple of the vector length, so that only the rows of radial functions need padding.

#include <cmath>
#include <cstring>
#include <list>
#include <vector>

#include "_blocks.cpp"

// exp(-x), as 2^n times a Taylor polynomial on |r| <= ln(2)/2: as exact as the type, and the compiler can vectorise it.
template <typename T>
struct Exponential;

template <>
struct Exponential<float> {
    typedef int Bits;
    static constexpr int degree = 7, mantissa = 23, bias = 127;
    static constexpr float border = 87, magic = 12582912.0f;
};

template <>
struct Exponential<double> {
    typedef long Bits;
    static constexpr int degree = 14, mantissa = 52, bias = 1023;
    static constexpr double border = 708, magic = 6755399441055744.0;
};

template <typename T>
static inline T sigmoid(T x) {
    typedef Exponential<T> E;
    typedef typename E::Bits Bits;
    const T y = std::min(std::max(-x, -E::border), E::border);
    const T n = (y * T(1.4426950408889634) + E::magic) - E::magic;
    const T r = (y - n * T(0.693145751953125)) - n * T(1.42860682030941723e-6);
    T p = 1;
    for (int k = E::degree; k > 0; --k) p = 1 + p * (r * (T(1) / k));
    const Bits bits = (Bits(n) + E::bias) << E::mantissa;
    T power;
    std::memcpy(&power, &bits, sizeof(T));
    return 1 / (1 + p * power);
}

// y = x Wᵀ + b on rows, and its gradient.
template <typename T>
struct Linear {
    long in, out;
    const T* bias;
    Weight<T> weight;
    // Reads (out, in) numbers and, if there is a bias, out more numbers.
    Linear(const T*& from, long in, long out, bool biased = true)
        : in(in), out(out), bias(biased ? from + in * out : nullptr), weight(out, in, from) {
        from += in * out + (biased ? out : 0);
    }
    void forward(long rows, const T* x, T* y) const {
        if (bias)
            for (long n = 0; n < rows; ++n) std::copy_n(bias, out, y + n * out);
        weight.rows(rows, x, y, bias != nullptr);
    }
    void backward(long rows, const T* dy, T* dx, bool add = false) const { weight.functions(rows, dy, dx, add); }
};

// y = W₂ silu(W₁ x); `before` is W₁ x. In `backward`, `before` becomes its own gradient.
template <typename T>
struct Perceptron {
    Linear<T> first, second;
    Perceptron(const T*& from, long in, long f, long out, bool biased = true)
        : first(from, in, f), second(from, f, out, biased) {}
    void forward(long rows, const T* x, T* before, T* hidden, T* y) const {
        first.forward(rows, x, before);
        const long count = rows * first.out;
#pragma omp simd
        for (long n = 0; n < count; ++n) hidden[n] = before[n] * sigmoid(before[n]);
        second.forward(rows, hidden, y);
    }
    void backward(long rows, const T* dy, T* before, T* hidden, T* dx, bool add = false) const {
        second.backward(rows, dy, hidden);
        const long count = rows * first.out;
#pragma omp simd
        for (long n = 0; n < count; ++n) {
            const T g = sigmoid(before[n]);
            before[n] = hidden[n] * g * (1 + before[n] * (1 - g));
        }
        first.backward(rows, before, dx, add);
    }
};

template <typename T>
struct Layer {
    long sent, gated;
    Weight<T> filter;
    Perceptron<T> message, update;
    Linear<T> mix;
    // Values that an evaluation keeps for its gradient, for one block of atoms.
    std::vector<T> before, x, v, mixed, norm, inside, u;

    static const T* after(const T*& from, long count) {
        const T* here = from;
        from += count;
        return here;
    }
    Layer(const T*& from, long f, long k, bool first, bool last)
        : sent(first ? 2 : 3), gated(last ? 2 : 3), filter(sent * f, k, after(from, sent * f * k)),
          message(from, f, f, sent * f), update(from, 2 * f, f, gated * f), mix(from, f, 2 * f, false) {}

    void resize(long n, long f) {
        before.resize(n * f);
        x.resize(n * sent * f);
        v.resize(sent == 3 ? n * 3 * f : 0);
        mixed.resize(n * 6 * f);
        norm.resize(n * f);
        inside.resize(n * f);
        u.resize(n * gated * f);
    }
};

// The edges of one block of atoms: pairs `from` to `end`, and the block's first atom.
template <typename T>
struct Pairs {
    const long *one, *other;
    long from, end, atom, k;
    const T *functions, *slopes, *unit;
};

template <typename T, long P, long F>
static void exchange(const Pairs<T>& on, long size, const Weight<T>& filter, T* w, const T* x, const T* v, T* s,
                     T* out) {
    const long f = F ? F : size;
    for (long from = on.from; from < on.end; from += PAIRS) {
        const long count = std::min(PAIRS, on.end - from);
        filter.rows(count, on.functions + from * on.k, w);
        for (long n = 0; n < count; ++n) {
            const long i = on.one[from + n] - on.atom, j = on.other[from + n] - on.atom;
            const T *u = on.unit + 3 * (from + n), *row = w + n * filter.wide;
            send<T, P>(f, x + j * P * f, v + j * 3 * f, row, u, 1, s + i * f, out + i * 3 * f);
            send<T, P>(f, x + i * P * f, v + i * 3 * f, row, u, -1, s + j * f, out + j * 3 * f);
        }
    }
}

// Adds to dx and dv, and to the pairs' dr and du.
template <typename T, long P, long F>
static void exchange_back(const Pairs<T>& on, long size, const Weight<T>& filter, T* w, const T* x, const T* v,
                          const T* gs, const T* gv, T* dx, T* dv, T* dr, T* du) {
    const long f = F ? F : size, a = P * f, b = 3 * f;
    T *slope = w + PAIRS * filter.wide, *dw = slope + PAIRS * filter.wide;
    for (long from = on.from; from < on.end; from += PAIRS) {
        const long count = std::min(PAIRS, on.end - from);
        filter.rows(count, on.functions + from * on.k, w);
        filter.rows(count, on.slopes + from * on.k, slope);
        for (long n = 0; n < count; ++n) {
            const long i = on.one[from + n] - on.atom, j = on.other[from + n] - on.atom;
            const T *u = on.unit + 3 * (from + n), *row = w + n * filter.wide, *sloping = slope + n * filter.wide;
            T* to = du + 3 * (from + n);
            std::fill(dw, dw + a, T(0));
            send_back<T, P>(f, x + j * a, v + j * b, row, u, 1, gs + i * f, gv + i * b, dx + j * a, dv + j * b, dw, to);
            send_back<T, P>(f, x + i * a, v + i * b, row, u, -1, gs + j * f, gv + j * b, dx + i * a, dv + i * b, dw, to);
            T sum = 0;
#pragma omp simd reduction(+ : sum)
            for (long m = 0; m < a; ++m) sum += dw[m] * sloping[m];
            dr[from + n] += sum;
        }
    }
}

#define CHOOSE(WHAT, PARTS, ...)                                                              \
    if ((PARTS) == 3) {                                                                       \
        f == 64 ? WHAT<T, 3, 64>(__VA_ARGS__) : WHAT<T, 3, 0>(__VA_ARGS__);                   \
    } else {                                                                                  \
        f == 64 ? WHAT<T, 2, 64>(__VA_ARGS__) : WHAT<T, 2, 0>(__VA_ARGS__);                   \
    }

// Keeps the second derivative of a vector's norm finite where the vector is zero; same value as in invariants.py.
constexpr double EPSILON = 1e-8;
constexpr long ATOMS = 24;  // minimum in a block, if there are as many

template <typename T>
struct Network {
    const long f, k;
    std::list<Layer<T>> layers;
    Linear<T> readout;
    const T* last;
    std::vector<T> s, v, ds, dv, next, w, hidden, joined, back;

    static std::list<Layer<T>> read(const T*& from, long f, long k, long count) {
        std::list<Layer<T>> found;
        for (long n = 0; n < count; ++n) found.emplace_back(from, f, k, n == 0, n == count - 1);
        return found;
    }
    Network(const T* from, long f, long k, long count)
        : f(f), k(k), layers(read(from, f, k, count)), readout(from, f, f), last(from), w(9 * PAIRS * f) {}

    // Computes, from the atoms' initial features, their energies and the gradient by the pairs' lengths and directions.
    void block(long n, const T* features, const Pairs<T>& on, T* energy, T* dr, T* du) {
        s.assign(features, features + n * f);
        v.assign(n * 3 * f, 0);
        for (auto* one : {&ds, &hidden}) one->resize(n * f);
        for (auto* one : {&dv, &next, &back}) one->resize(n * 3 * f);
        joined.resize(n * 2 * f);
        for (auto& layer : layers) up(layer, n, on);
        readout.forward(n, s.data(), hidden.data());
        for (long i = 0; i < n; ++i) {
            T sum = 0, *h = hidden.data() + i * f;
#pragma omp simd reduction(+ : sum)
            for (long m = 0; m < f; ++m) {
                const T g = sigmoid(h[m]);
                sum += last[m] * h[m] * g;
                h[m] = last[m] * g * (1 + h[m] * (1 - g));
            }
            energy[i] = sum;
        }
        readout.backward(n, hidden.data(), ds.data());
        for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) down(*layer, n, on, dr, du);
    }

    void up(Layer<T>& layer, long n, const Pairs<T>& on) {
        layer.resize(n, f);
        layer.message.forward(n, s.data(), layer.before.data(), hidden.data(), layer.x.data());
        if (layer.sent == 3) layer.v = v;
        CHOOSE(exchange, layer.sent, on, f, layer.filter, w.data(), layer.x.data(), layer.v.data(), s.data(), v.data())
        layer.mix.forward(3 * n, v.data(), layer.mixed.data());
        for (long i = 0; i < n; ++i) {
            const T *r = layer.mixed.data() + i * 6 * f + f, *own = s.data() + i * f;
            T *norm = layer.norm.data() + i * f, *to = joined.data() + i * 2 * f;
#pragma omp simd
            for (long m = 0; m < f; ++m) {
                const T r0 = r[m], r1 = r[2 * f + m], r2 = r[4 * f + m];
                to[m] = own[m];
                to[f + m] = norm[m] = std::sqrt(r0 * r0 + r1 * r1 + r2 * r2 + T(EPSILON));
            }
        }
        layer.update.forward(n, joined.data(), layer.inside.data(), hidden.data(), layer.u.data());
        for (long i = 0; i < n; ++i) {
            const T *u = layer.u.data() + i * layer.gated * f, *l = layer.mixed.data() + i * 6 * f, *r = l + f;
            T *own = s.data() + i * f, *vector = v.data() + i * 3 * f;
#pragma omp simd
            for (long m = 0; m < f; ++m)
                own[m] += u[m] + u[f + m] * (l[m] * r[m] + l[2 * f + m] * r[2 * f + m] + l[4 * f + m] * r[4 * f + m]);
            if (layer.gated == 3)
                for (long d = 0; d < 3; ++d)
#pragma omp simd
                    for (long m = 0; m < f; ++m) vector[d * f + m] += u[2 * f + m] * l[2 * d * f + m];
        }
    }

    // Turns ds and dv, the gradients by the layer's results, into the gradients by its inputs.
    void down(Layer<T>& layer, long n, const Pairs<T>& on, T* dr, T* du) {
        const bool vectors = layer.gated == 3;
        for (long i = 0; i < n; ++i) {
            const T *l = layer.mixed.data() + i * 6 * f, *r = l + f, *g = ds.data() + i * f;
            const T* gv = dv.data() + i * 3 * f;
            T* to = back.data() + i * layer.gated * f;
#pragma omp simd
            for (long m = 0; m < f; ++m) {
                to[m] = g[m];
                to[f + m] = g[m] * (l[m] * r[m] + l[2 * f + m] * r[2 * f + m] + l[4 * f + m] * r[4 * f + m]);
                if (vectors) to[2 * f + m] = gv[m] * l[m] + gv[f + m] * l[2 * f + m] + gv[2 * f + m] * l[4 * f + m];
            }
        }
        layer.update.backward(n, back.data(), layer.inside.data(), hidden.data(), joined.data());
        for (long i = 0; i < n; ++i) {
            const T *u = layer.u.data() + i * layer.gated * f, *norm = layer.norm.data() + i * f;
            const T *given = joined.data() + i * 2 * f, *gv = dv.data() + i * 3 * f;
            T *l = layer.mixed.data() + i * 6 * f, *g = ds.data() + i * f;
            for (long d = 0; d < 3; ++d)
#pragma omp simd
                for (long m = 0; m < f; ++m) {
                    const T left = l[2 * d * f + m], right = l[(2 * d + 1) * f + m], bg = u[f + m] * g[m];
                    l[2 * d * f + m] = bg * right + (vectors ? u[2 * f + m] * gv[d * f + m] : T(0));
                    l[(2 * d + 1) * f + m] = bg * left + given[f + m] / norm[m] * right;
                }
#pragma omp simd
            for (long m = 0; m < f; ++m) g[m] += given[m];
        }
        layer.mix.backward(3 * n, layer.mixed.data(), dv.data(), vectors);
        std::fill(back.begin(), back.end(), T(0));
        next = dv;
        CHOOSE(exchange_back, layer.sent, on, f, layer.filter, w.data(), layer.x.data(), layer.v.data(), ds.data(),
               dv.data(), back.data(), next.data(), dr, du)
        if (layer.sent == 2) return;  // the first layer: its atoms' features are constants
        layer.message.backward(n, back.data(), layer.before.data(), hidden.data(), ds.data(), true);
        dv.swap(next);
    }
};

template <typename T>
static void energies(long atoms, long pairs, long f, long k, long layers, const long* one, const long* other,
                     const T* features, const T* weights, const T* functions, const T* slopes, const T* unit,
                     const T* distance, T* energy, T* gradient) {
    Network<T> network(weights, f, k, layers);
    std::vector<T> dr(pairs, 0), du(3 * pairs, 0);
    for (long atom = 0, from = 0; atom < atoms;) {
        long after = atom, end = from, reach = atom;
        // Pairs are sorted by their first atom; a block ends where no pair connects it to the following atoms.
        while (after < atoms && (after - atom < ATOMS || reach >= after)) {
            for (; end < pairs && one[end] == after; ++end) reach = std::max(reach, other[end]);
            ++after;
        }
        const Pairs<T> on{one, other, from, end, atom, k, functions, slopes, unit};
        network.block(after - atom, features + atom * f, on, energy + atom, dr.data(), du.data());
        atom = after;
        from = end;
    }
    for (long n = 0; n < pairs; ++n) {
        const T *u = unit + 3 * n, *d = du.data() + 3 * n, along = dr[n] - (d[0] * u[0] + d[1] * u[1] + d[2] * u[2]) / distance[n];
        for (long m = 0; m < 3; ++m) {
            const T g = along * u[m] + d[m] / distance[n];
            gradient[3 * other[n] + m] += g;
            gradient[3 * one[n] + m] -= g;
        }
    }
}

#define EXPORT(T, SUFFIX)                                                                                         \
    extern "C" void energies_##SUFFIX(long atoms, long pairs, long f, long k, long layers, const long* i,         \
                                      const long* j, const T* s, const T* weights, const T* functions,            \
                                      const T* slopes, const T* unit, const T* distance, T* energy, T* gradient) { \
        energies(atoms, pairs, f, k, layers, i, j, s, weights, functions, slopes, unit, distance, energy, gradient); \
    }                                                                                                             \
    extern "C" long lanes_##SUFFIX() { return Lanes<T>::count; }

EXPORT(float, float32)
EXPORT(double, float64)
