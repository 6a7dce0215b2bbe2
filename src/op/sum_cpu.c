/* Sum and broadcast on the CPU, and the repeatable sum that other kernels use. */
#include "op/cpu.h"

DT_VECTOR static double block_total(const real *x, int64_t n, bool squares)
{
    double total = 0;
    if (squares) {
#pragma omp simd reduction(+ : total)
        for (int64_t i = 0; i < n; i++) total += (double)x[i] * (double)x[i];
    } else {
#pragma omp simd reduction(+ : total)
        for (int64_t i = 0; i < n; i++) total += (double)x[i];
    }
    return total;
}

double DT_CPU_KERNEL(total)(const real *x, int64_t n, bool squares, double *partial, int threads)
{
    int64_t blocks = (n + DT_TOTAL_BLOCK - 1) / DT_TOTAL_BLOCK;
#pragma omp parallel for schedule(static) num_threads(threads) if (blocks > 8)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t at = b * DT_TOTAL_BLOCK, left = n - at;
        partial[b] = block_total(x + at, left < DT_TOTAL_BLOCK ? left : DT_TOTAL_BLOCK, squares);
    }
    double total = 0;
    for (int64_t b = 0; b < blocks; b++) total += partial[b];
    return total;
}

dt_status DT_CPU_KERNEL(sum)(const dt_call *call)
{
    int64_t n = dt_tensor_count(&call->in[0]);
    DT_OUT(call, 0)[0] = (real)DT_CPU_KERNEL(total)(DT_IN(call, 0), n, false, call->workspace, call->threads);
    return DT_OK;
}

dt_status DT_CPU_KERNEL(broadcast)(const dt_call *call)
{
    real s = DT_IN(call, 0)[0], *y = DT_OUT(call, 0);
    int64_t n = dt_tensor_count(&call->out[0]);
    for (int64_t i = 0; i < n; i++) y[i] = s;
    return DT_OK;
}
