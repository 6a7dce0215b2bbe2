/* A vector added to every row, and its gradient, on the CPU. */
#include "op/bias.h"
#include "op/cpu.h"

/* Columns that one task sums: a few cache lines of each row. */
#define COLUMNS 64

DT_VECTOR static void add_row(int64_t n, const real *x, const real *b, real *y)
{
#pragma omp simd
    for (int64_t j = 0; j < n; j++) y[j] = x[j] + b[j];
}

dt_status DT_CPU_KERNEL(bias)(const dt_call *call)
{
    const int64_t N = call->out[0].dim[0], O = call->out[0].dim[1];
    const real *x = DT_IN(call, 0), *b = DT_IN(call, 1);
    real *y = DT_OUT(call, 0);
#pragma omp parallel for num_threads(dt_cpu_threads(call, N, O))
    for (int64_t n = 0; n < N; n++) add_row(O, x + n * O, b, y + n * O);
    return DT_OK;
}

/* sum[j] = sum_n x[n,j] for at most COLUMNS columns of rows `stride` apart: in double, in the order of the rows. */
DT_VECTOR static void sum_rows(int64_t rows, int64_t cols, const real *x, int64_t stride, real *sum)
{
    double s[COLUMNS] = {0};
    for (int64_t n = 0; n < rows; n++) {
#pragma omp simd
        for (int64_t j = 0; j < cols; j++) s[j] += (double)x[n * stride + j];
    }
    for (int64_t j = 0; j < cols; j++) sum[j] = (real)s[j];
}

dt_status DT_CPU_KERNEL(bias_grad)(const dt_call *call)
{
    const int64_t N = call->in[0].dim[0], O = call->in[0].dim[1];
    const real *dy = DT_IN(call, 0);
    real *db = DT_OUT(call, 0);
#pragma omp parallel for num_threads(dt_cpu_threads(call, N, O))
    for (int64_t j = 0; j < O; j += COLUMNS) sum_rows(N, O - j < COLUMNS ? O - j : COLUMNS, dy + j, O, db + j);
    return DT_OK;
}
