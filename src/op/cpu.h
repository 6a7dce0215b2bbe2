/* For the kernels of the CPU device (X_cpu.c): compiled once with real = float and once with real = double. */
#ifndef DT_OP_CPU_H
#define DT_OP_CPU_H

#include "op/op.h"
#include "op/total.h" // DT_TOTAL_BLOCK
#include <math.h>

#ifdef DT_REAL_F64
typedef double real;
#define DT_CPU_KERNEL(name) dt_cpu_f64_##name
#define DT_COMM_REAL DT_COMM_F64
#else
typedef float real;
#define DT_CPU_KERNEL(name) dt_cpu_f32_##name
#define DT_COMM_REAL DT_COMM_F32
#endif

/* Declares the kernels (and the local name of each) so that a missing one fails at link time. */
#define DT_OP(name) dt_status DT_CPU_KERNEL(name)(const dt_call *call);
#include "op/ops.def"
#undef DT_OP

#define DT_IN(call, i) ((const real *)(call)->in[i].data)
#define DT_IN_I32(call, i) ((const int32_t *)(call)->in[i].data)
#define DT_OUT(call, i) ((real *)(call)->out[i].data)
/** Threads for a loop over so many elements: one where that is done before the others would be awake. */
static inline int dt_cpu_threads(const dt_call *call, int64_t rows, int64_t width)
{
    return rows * width < 16384 ? 1 : call->threads;
}

static inline int64_t dt_tensor_count(const dt_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->dim[i];
    return n;
}

/* A plain loop compiled for several generations of x86, the best chosen when the program starts. Not for functions that
 * hold an `omp parallel` themselves: the body moves into another function that would not be compiled so. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define DT_VECTOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define DT_VECTOR
#endif

/** e^x that the compiler can vectorise. float: relative error below 1e-7, x clamped to [-87, 88]; double: exp(). */
static inline real dt_exp(real x)
{
#ifdef DT_REAL_F64
    return exp(x);
#else
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, kept in the low bits */
    float t = x * 1.44269504089f + shift, n = t - shift;
    float r = (x - n * 0.693359375f) - n * -2.12194440e-4f; /* ln 2 in two parts: the first product is exact */
    float p = 1.9875691500e-4f;                             /* polynomial of Cephes' expf */
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union {
        float f;
        uint32_t u;
    } bits = {.f = t}, two_to_n = {.u = (bits.u << 23) + (127u << 23)};
    return p * two_to_n.f;
#endif
}

/** A softmax's weight e^x, x <= 0: exactly 0 below e^-80, so that products with it do not become denormal. */
static inline real dt_exp_weight(real x)
{
    return x < (real)-80 ? (real)0 : dt_exp(x);
}

/** C[m,n] = alpha op(A) op(B) + beta C, row-major; op transposes. ld = row length in memory. float: oneDNN.
 * Deterministic. */
void DT_CPU_KERNEL(gemm)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, real alpha, const real *a, int64_t lda,
                         const real *b, int64_t ldb, real beta, real *c, int64_t ldc, int threads);

/** Sum of x[n] or of its squares, in double, the same for any number of threads; partial: dt_total_workspace(n) bytes.
 */
double DT_CPU_KERNEL(total)(const real *x, int64_t n, bool squares, double *partial, int threads);

#endif
