/* Ops on selected entries of a matrix on the CPU. */
#include "op/cpu.h"
#include "op/sparse.h"
#include <string.h>

dt_status DT_CPU_KERNEL(gather)(const dt_call *call)
{
    const real *x = DT_IN(call, 0);
    const int32_t *idx = DT_IN_I32(call, 1);
    real *v = DT_OUT(call, 0);
    int64_t n = call->in[1].dim[0];
#pragma omp parallel for schedule(static) num_threads(dt_cpu_threads(call, n, 1))
    for (int64_t i = 0; i < n; i++) v[i] = x[idx[i]];
    return DT_OK;
}

dt_status DT_CPU_KERNEL(scatter_add)(const dt_call *call)
{
    const int32_t *idx = DT_IN_I32(call, 1);
    const real *val = DT_IN(call, 2);
    real *y = DT_OUT(call, 0);
    memcpy(y, call->in[0].data, (size_t)dt_tensor_count(&call->in[0]) * sizeof(real));
    for (int64_t i = 0; i < call->in[1].dim[0]; i++) y[idx[i]] += val[i];
    return DT_OK;
}

dt_status DT_CPU_KERNEL(scatter_copy)(const dt_call *call)
{
    const int32_t *idx = DT_IN_I32(call, 1);
    const real *src = DT_IN(call, 2);
    real *w = DT_OUT(call, 0);
    int64_t n = call->in[1].dim[0];
#pragma omp parallel for schedule(static) num_threads(dt_cpu_threads(call, n, 1))
    for (int64_t i = 0; i < n; i++) w[idx[i]] = src[i];
    return DT_OK;
}

/* ---- sampled_wgrad ---- */

enum { TILE = 16 };

/* t[c, n] = x[n, c] for up to TILE rows of x. */
DT_VECTOR static void transpose_rows(const real *x, int64_t width, int64_t rows, real *t, int64_t ldt)
{
    int64_t c = 0;
    if (rows == TILE)
        for (; c + TILE <= width; c += TILE)
            for (int64_t j = 0; j < TILE; j++)
                for (int64_t i = 0; i < TILE; i++) t[(c + j) * ldt + i] = x[i * width + c + j];
    for (; c < width; c++)
        for (int64_t i = 0; i < rows; i++) t[c * ldt + i] = x[i * width + c];
}

static void transpose(const real *x, int64_t width, int64_t tokens, real *t, int64_t ldt, int threads)
{
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t n = 0; n < tokens; n += TILE)
        transpose_rows(x + n * width, width, tokens - n < TILE ? tokens - n : TILE, t + n, ldt);
}

DT_VECTOR static real dot(const real *a, const real *b, int64_t n)
{
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* A row of dy^T and one of x^T for each entry; the entries are ascending, so rows of dy^T come one after the other. */
dt_status DT_CPU_KERNEL(sampled_wgrad)(const dt_call *call)
{
    const int32_t *idx = DT_IN_I32(call, 2);
    real *v = DT_OUT(call, 0);
    int64_t tokens = call->in[0].dim[0], out = call->in[0].dim[1], in = call->in[1].dim[1], n = call->in[2].dim[0];
    int64_t step = dt_sampled_tokens(in);
    real *dyt = call->workspace, *xt = dyt + out * step;
    memset(v, 0, (size_t)n * sizeof *v);
    for (int64_t at = 0; at < tokens && n > 0; at += step) {
        int64_t rows = tokens - at < step ? tokens - at : step;
        transpose(DT_IN(call, 0) + at * out, out, rows, dyt, step, dt_cpu_threads(call, rows, out));
        transpose(DT_IN(call, 1) + at * in, in, rows, xt, step, dt_cpu_threads(call, rows, in));
#pragma omp parallel for schedule(static) num_threads(dt_cpu_threads(call, n, rows))
        for (int64_t i = 0; i < n; i++) v[i] += dot(dyt + idx[i] / in * step, xt + idx[i] % in * step, rows);
    }
    return DT_OK;
}
