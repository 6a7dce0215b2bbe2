/* Layer normalisation on the CPU. Sums are taken in double, always in the same order. */
#include "op/cpu.h"
#include "op/layernorm.h"

/* Columns of dgain and dbias that one task sums over all rows. */
#define COLUMNS 64

DT_VECTOR static double sum(int64_t C, const real *x)
{
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t j = 0; j < C; j++) s += (double)x[j];
    return s;
}

DT_VECTOR static double sum_squares(int64_t C, const real *x, double mean)
{
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t j = 0; j < C; j++) s += ((double)x[j] - mean) * ((double)x[j] - mean);
    return s;
}

DT_VECTOR static void normalise(int64_t C, real mean, real rstd, const real *x, const real *gain, const real *bias,
                                real *y)
{
#pragma omp simd
    for (int64_t j = 0; j < C; j++) y[j] = (x[j] - mean) * rstd * gain[j] + bias[j];
}

dt_status DT_CPU_KERNEL(layernorm)(const dt_call *call)
{
    const int64_t N = call->in[0].dim[0], C = call->in[0].dim[1];
    const double eps = DT_ATTR(dt_layernorm_attr, call)->eps;
    const real *x = DT_IN(call, 0), *gain = DT_IN(call, 1), *bias = DT_IN(call, 2);
    real *y = DT_OUT(call, 0), *mean = DT_OUT(call, 1), *rstd = DT_OUT(call, 2);
#pragma omp parallel for num_threads(dt_cpu_threads(call, N, C))
    for (int64_t n = 0; n < N; n++) {
        double m = sum(C, x + n * C) / (double)C;
        real r = (real)(1.0 / sqrt(sum_squares(C, x + n * C, m) / (double)C + eps));
        if (mean != NULL) mean[n] = (real)m;
        if (rstd != NULL) rstd[n] = r;
        if (y != NULL) normalise(C, (real)m, r, x + n * C, gain, bias, y + n * C);
    }
    return DT_OK;
}

/* With z = (x - mean) r, r = rstd: dx = r (gain dy - mean(gain dy) - z mean(gain dy z)) + plus; plus may be
 * absent. */
DT_VECTOR static void row_gradient(int64_t C, real mean, real r, const real *dy, const real *x, const real *gain,
                                   const real *plus, real *dx)
{
    double s = 0, t = 0;
#pragma omp simd reduction(+ : s, t)
    for (int64_t j = 0; j < C; j++) {
        s += (double)(gain[j] * dy[j]);
        t += (double)(gain[j] * dy[j]) * (double)((x[j] - mean) * r);
    }
    const real whole = (real)(s / (double)C), along = (real)(t / (double)C);
#pragma omp simd
    for (int64_t j = 0; j < C; j++)
        dx[j] = r * (gain[j] * dy[j] - whole - (x[j] - mean) * r * along) + (plus != NULL ? plus[j] : 0);
}

/* dgain[j] = sum_n dy[n,j] (x[n,j] - mean[n]) rstd[n] and dbias[j] = sum_n dy[n,j], for at most COLUMNS columns of rows
 * `C` apart; either may be absent. */
DT_VECTOR static void vector_gradients(int64_t N, int64_t cols, int64_t C, const real *dy, const real *x,
                                       const real *mean, const real *rstd, real *dgain, real *dbias)
{
    double s[COLUMNS] = {0}, t[COLUMNS] = {0};
    for (int64_t n = 0; n < N; n++) {
#pragma omp simd
        for (int64_t j = 0; j < cols; j++) {
            s[j] += (double)dy[n * C + j];
            t[j] += (double)(dy[n * C + j] * ((x[n * C + j] - mean[n]) * rstd[n]));
        }
    }
    for (int64_t j = 0; j < cols && dbias != NULL; j++) dbias[j] = (real)s[j];
    for (int64_t j = 0; j < cols && dgain != NULL; j++) dgain[j] = (real)t[j];
}

dt_status DT_CPU_KERNEL(layernorm_grad)(const dt_call *call)
{
    const int64_t N = call->in[1].dim[0], C = call->in[1].dim[1];
    const real *dy = DT_IN(call, 0), *x = DT_IN(call, 1), *gain = DT_IN(call, 2);
    const real *mean = DT_IN(call, 3), *rstd = DT_IN(call, 4);
    const real *plus = call->nin > 5 ? DT_IN(call, 5) : NULL;
    real *dx = DT_OUT(call, 0), *dgain = DT_OUT(call, 1), *dbias = DT_OUT(call, 2);
    if (dgain != NULL || dbias != NULL) { /* first: dx may be written over dy */
#pragma omp parallel for num_threads(dt_cpu_threads(call, N, C))
        for (int64_t j = 0; j < C; j += COLUMNS)
            vector_gradients(N, C - j < COLUMNS ? C - j : COLUMNS, C, dy + j, x + j, mean, rstd,
                             dgain != NULL ? dgain + j : NULL, dbias != NULL ? dbias + j : NULL);
    }
    if (dx != NULL) {
#pragma omp parallel for num_threads(dt_cpu_threads(call, N, C))
        for (int64_t n = 0; n < N; n++)
            row_gradient(C, mean[n], rstd[n], dy + n * C, x + n * C, gain, plus != NULL ? plus + n * C : NULL,
                         dx + n * C);
    }
    return DT_OK;
}
