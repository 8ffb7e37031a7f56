// The SO3krates attention message: forward, backward and double backward; see attention.py.
//
// All of them are derivatives of one sum over edges e (i receives, j sends) and heads, S = f_e a b with
// a = Σ_c q_ic w_ec k_jc and b = Σ_c v_jc g_ic, where g is the receiver's cotangent.

template <typename T>
static void forward(long edges, long heads, long c, const long* receiver, const long* sender, const T* q, const T* k,
                    const T* v, const T* w, const T* f, T* out) {
    for (long e = 0; e < edges; ++e) {
        for (long h = 0; h < heads; ++h) {
            const long i = (receiver[e] * heads + h) * c, j = (sender[e] * heads + h) * c, o = (e * heads + h) * c;
            T a = 0;
#pragma omp simd reduction(+ : a)
            for (long n = 0; n < c; ++n) a += q[i + n] * w[o + n] * k[j + n];
            a *= f[e];
#pragma omp simd
            for (long n = 0; n < c; ++n) out[i + n] += a * v[j + n];
        }
    }
}

template <typename T>
static void backward(long edges, long heads, long c, const long* receiver, const long* sender, const T* q, const T* k,
                     const T* v, const T* w, const T* f, const T* g, T* dq, T* dk, T* dv, T* dw, T* df) {
    for (long e = 0; e < edges; ++e) {
        T total = 0;
        for (long h = 0; h < heads; ++h) {
            const long i = (receiver[e] * heads + h) * c, j = (sender[e] * heads + h) * c, o = (e * heads + h) * c;
            T a = 0, b = 0;
#pragma omp simd reduction(+ : a, b)
            for (long n = 0; n < c; ++n) {
                a += q[i + n] * w[o + n] * k[j + n];
                b += v[j + n] * g[i + n];
            }
            total += a * b;
            const T fa = f[e] * a, fb = f[e] * b;
#pragma omp simd
            for (long n = 0; n < c; ++n) {
                dq[i + n] += fb * w[o + n] * k[j + n];
                dk[j + n] += fb * w[o + n] * q[i + n];
                dw[o + n] = fb * q[i + n] * k[j + n];
                dv[j + n] += fa * g[i + n];
            }
        }
        df[e] = total;
    }
}

// All derivatives of the results of `backward`, in the direction (tq, tk, tv, tw, tf).
template <typename T>
static void double_backward(long edges, long heads, long c, const long* receiver, const long* sender, const T* q,
                            const T* k, const T* v, const T* w, const T* f, const T* g, const T* tq, const T* tk,
                            const T* tv, const T* tw, const T* tf, T* dq, T* dk, T* dv, T* dw, T* df, T* dg) {
    for (long e = 0; e < edges; ++e) {
        T total = 0;
        for (long h = 0; h < heads; ++h) {
            const long i = (receiver[e] * heads + h) * c, j = (sender[e] * heads + h) * c, o = (e * heads + h) * c;
            T a = 0, b = 0, ta = 0, tb = 0;
#pragma omp simd reduction(+ : a, b, ta, tb)
            for (long n = 0; n < c; ++n) {
                const T qn = q[i + n], kn = k[j + n], wn = w[o + n];
                a += qn * wn * kn;
                ta += tq[i + n] * wn * kn + qn * tw[o + n] * kn + qn * wn * tk[j + n];
                b += v[j + n] * g[i + n];
                tb += tv[j + n] * g[i + n];
            }
            total += ta * b + a * tb;
            const T fa = f[e] * a, fb = f[e] * b, tfa = tf[e] * a + f[e] * ta, tfb = tf[e] * b + f[e] * tb;
#pragma omp simd
            for (long n = 0; n < c; ++n) {
                const T qn = q[i + n], kn = k[j + n], wn = w[o + n];
                const T tqn = tq[i + n], tkn = tk[j + n], twn = tw[o + n];
                dq[i + n] += tfb * wn * kn + fb * (twn * kn + wn * tkn);
                dk[j + n] += tfb * wn * qn + fb * (twn * qn + wn * tqn);
                dw[o + n] = tfb * qn * kn + fb * (tqn * kn + qn * tkn);
                dv[j + n] += tfa * g[i + n];
                dg[i + n] += tfa * v[j + n] + fa * tv[j + n];
            }
        }
        df[e] = total;
    }
}

#define EXPORT(T, SUFFIX)                                                                                             \
    extern "C" void forward_##SUFFIX(long e, long h, long c, const long* i, const long* j, const T* q, const T* k,    \
                                     const T* v, const T* w, const T* f, T* out) {                                    \
        forward(e, h, c, i, j, q, k, v, w, f, out);                                                                   \
    }                                                                                                                 \
    extern "C" void backward_##SUFFIX(long e, long h, long c, const long* i, const long* j, const T* q, const T* k,   \
                                      const T* v, const T* w, const T* f, const T* g, T* dq, T* dk, T* dv, T* dw,     \
                                      T* df) {                                                                        \
        backward(e, h, c, i, j, q, k, v, w, f, g, dq, dk, dv, dw, df);                                                \
    }                                                                                                                 \
    extern "C" void double_backward_##SUFFIX(long e, long h, long c, const long* i, const long* j, const T* q,        \
                                             const T* k, const T* v, const T* w, const T* f, const T* g, const T* tq, \
                                             const T* tk, const T* tv, const T* tw, const T* tf, T* dq, T* dk, T* dv, \
                                             T* dw, T* df, T* dg) {                                                   \
        double_backward(e, h, c, i, j, q, k, v, w, f, g, tq, tk, tv, tw, tf, dq, dk, dv, dw, df, dg);                 \
    }

EXPORT(float, float32)
EXPORT(double, float64)
