/* For the kernels of the CPU device (X_cpu.c): compiled once with real = float and once with real = double. */
#ifndef DT_OP_CPU_H
#define DT_OP_CPU_H

#include "op/op.h"
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
static inline int64_t dt_tensor_count(const dt_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->dim[i];
    return n;
}

/** C[m,n] = alpha op(A) op(B) + beta C, row-major; op transposes. ld = row length in memory. float: oneDNN.
 * Deterministic. */
void DT_CPU_KERNEL(gemm)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, real alpha, const real *a, int64_t lda,
                         const real *b, int64_t ldb, real beta, real *c, int64_t ldc, int threads);

#endif
