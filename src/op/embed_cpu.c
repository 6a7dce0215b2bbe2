/* Token embedding on the CPU. */
#include "op/cpu.h"
#include "op/embed.h"
#include <string.h> // memcpy, memset

dt_status DT_CPU_KERNEL(embed)(const dt_call *call)
{
    const dt_tensor *w = &call->in[1];
    const int64_t N = call->out[0].dim[0], C = call->out[0].dim[1];
    const int32_t *tokens = DT_IN_I32(call, 0);
    real *y = DT_OUT(call, 0);
#pragma omp parallel for num_threads(dt_cpu_threads(call, N, C))
    for (int64_t n = 0; n < N; n++) {
        int64_t row = tokens[n] - w->off[0];
        bool here = row >= 0 && row < w->dim[0];
        if (here) memcpy(y + n * C, DT_IN(call, 1) + row * C, (size_t)C * sizeof(real));
        else memset(y + n * C, 0, (size_t)C * sizeof(real));
    }
    return DT_OK;
}

/* Columns that one task adds up, over all tokens in their order: no two tasks meet in an element. */
#define COLUMNS 64

DT_VECTOR static void add_row(int64_t cols, const real *dy, real *dw)
{
#pragma omp simd
    for (int64_t j = 0; j < cols; j++) dw[j] += dy[j];
}

dt_status DT_CPU_KERNEL(embed_grad)(const dt_call *call)
{
    const dt_tensor *dw = &call->out[0];
    const int64_t N = call->in[1].dim[0], C = dw->dim[1];
    const int32_t *tokens = DT_IN_I32(call, 0);
    const real *dy = DT_IN(call, 1);
    real *sum = DT_OUT(call, 0);
    memset(sum, 0, (size_t)dt_tensor_count(dw) * sizeof(real));
#pragma omp parallel for num_threads(dt_cpu_threads(call, N, C))
    for (int64_t j = 0; j < C; j += COLUMNS) {
        int64_t cols = C - j < COLUMNS ? C - j : COLUMNS;
        for (int64_t n = 0; n < N; n++) {
            int64_t row = tokens[n] - dw->off[0];
            if (row >= 0 && row < dw->dim[0]) add_row(cols, dy + n * C + j, sum + row * C + j);
        }
    }
    return DT_OK;
}
