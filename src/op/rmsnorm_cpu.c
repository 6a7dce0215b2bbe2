/* Root-mean-square normalisation on the CPU. Sums are taken in double, always in the same order. */
#include "op/cpu.h"
#include "op/rmsnorm.h"

/* Columns of dgain that one task sums over all rows. */
#define COLUMNS 64

DT_VECTOR static double sum_squares(int64_t C, const real *x)
{
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t j = 0; j < C; j++) s += (double)x[j] * (double)x[j];
    return s;
}

DT_VECTOR static void normalise(int64_t C, real rstd, const real *x, const real *gain, real *y)
{
#pragma omp simd
    for (int64_t j = 0; j < C; j++) y[j] = x[j] * rstd * gain[j];
}

/* Every group of C features is a row of its own here. */
static dt_status check_groups(const dt_call *call, int x, int64_t C)
{
    if (call->in[x].dim[1] % C == 0) return DT_OK;
    return dt_fail(DT_ERR_INTERNAL, "a slice of %lld columns cuts groups of %lld", (long long)call->in[x].dim[1],
                   (long long)C);
}

dt_status DT_CPU_KERNEL(rmsnorm)(const dt_call *call)
{
    const int64_t C = call->in[1].dim[0], N = dt_tensor_count(&call->in[0]) / C;
    const double eps = DT_ATTR(dt_rmsnorm_attr, call)->eps;
    const real *x = DT_IN(call, 0), *gain = DT_IN(call, 1);
    real *y = DT_OUT(call, 0), *rstd = DT_OUT(call, 1);
    DT_TRY(check_groups(call, 0, C));
#pragma omp parallel for num_threads(dt_cpu_threads(call, N, C))
    for (int64_t n = 0; n < N; n++) {
        real r = (real)(1.0 / sqrt(sum_squares(C, x + n * C) / (double)C + eps));
        if (rstd != NULL) rstd[n] = r;
        if (y != NULL) normalise(C, r, x + n * C, gain, y + n * C);
    }
    return DT_OK;
}

/* dx = r (gain dy - x r mean(gain dy x r)) + plus, r = rstd; plus may be absent. */
DT_VECTOR static void row_gradient(int64_t C, real r, const real *dy, const real *x, const real *gain, const real *plus,
                                   real *dx)
{
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t j = 0; j < C; j++) s += (double)(gain[j] * dy[j]) * (double)x[j];
    const real mean = (real)(s / (double)C) * r * r;
#pragma omp simd
    for (int64_t j = 0; j < C; j++) dx[j] = r * (gain[j] * dy[j] - x[j] * mean) + (plus != NULL ? plus[j] : 0);
}

/* dgain[j] = sum_n dy[n,j] x[n,j] rstd[n], for at most COLUMNS columns of rows `C` apart. */
DT_VECTOR static void gain_gradient(int64_t N, int64_t cols, int64_t C, const real *dy, const real *x, const real *rstd,
                                    real *dgain)
{
    double s[COLUMNS] = {0};
    for (int64_t n = 0; n < N; n++) {
#pragma omp simd
        for (int64_t j = 0; j < cols; j++) s[j] += (double)(dy[n * C + j] * (x[n * C + j] * rstd[n]));
    }
    for (int64_t j = 0; j < cols; j++) dgain[j] = (real)s[j];
}

dt_status DT_CPU_KERNEL(rmsnorm_grad)(const dt_call *call)
{
    const int64_t C = call->in[2].dim[0], N = dt_tensor_count(&call->in[1]) / C;
    const real *dy = DT_IN(call, 0), *x = DT_IN(call, 1), *gain = DT_IN(call, 2), *rstd = DT_IN(call, 3);
    const real *plus = call->nin > 4 ? DT_IN(call, 4) : NULL;
    real *dx = DT_OUT(call, 0), *dgain = DT_OUT(call, 1);
    DT_TRY(check_groups(call, 1, C));
    if (dgain != NULL) { /* first: dx may be written over dy */
#pragma omp parallel for num_threads(dt_cpu_threads(call, N, C))
        for (int64_t j = 0; j < C; j += COLUMNS)
            gain_gradient(N, C - j < COLUMNS ? C - j : COLUMNS, C, dy + j, x + j, rstd, dgain + j);
    }
    if (dx != NULL) {
#pragma omp parallel for num_threads(dt_cpu_threads(call, N, C))
        for (int64_t n = 0; n < N; n++)
            row_gradient(C, rstd[n], dy + n * C, x + n * C, gain, plus != NULL ? plus + n * C : NULL, dx + n * C);
    }
    return DT_OK;
}
