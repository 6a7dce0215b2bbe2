/* Rotary position embedding on the CPU. */
#include "op/cpu.h"
#include "op/rope.h"

dt_status DT_CPU_KERNEL(rope_table)(const dt_call *call)
{
    const int64_t N = call->out[0].dim[0], D = call->out[0].dim[1];
    const int32_t *pos = DT_IN_I32(call, 0);
    const real *f = DT_IN(call, 1);
    real *table = DT_OUT(call, 0);
#pragma omp parallel for num_threads(dt_cpu_threads(call, N, D))
    for (int64_t n = 0; n < N; n++) {
        for (int64_t j = 0; j < D / 2; j++) {
            double angle = (double)pos[n] * (double)f[j];
            table[n * D + j] = (real)cos(angle);
            table[n * D + D / 2 + j] = (real)sin(angle);
        }
    }
    return DT_OK;
}

/* One head: half = D / 2 pairs (x[j], x[j + half]), each turned by its angle; sign -1 turns back. */
DT_VECTOR static void rotate_heads(int64_t heads, int64_t half, real sign, const real *table, const real *x, real *y)
{
    for (int64_t h = 0; h < heads; h++, x += 2 * half, y += 2 * half) {
#pragma omp simd
        for (int64_t j = 0; j < half; j++) {
            real c = table[j], s = sign * table[half + j], a = x[j], b = x[half + j];
            y[j] = a * c - b * s;
            y[half + j] = b * c + a * s;
        }
    }
}

dt_status DT_CPU_KERNEL(rope)(const dt_call *call)
{
    const dt_rope_attr *attr = DT_ATTR(dt_rope_attr, call);
    const int64_t N = call->out[0].dim[0], width = call->out[0].dim[1], D = attr->head_dim;
    const real *x = DT_IN(call, 0), *table = DT_IN(call, 1);
    real *y = DT_OUT(call, 0);
    if (width % D != 0)
        return dt_fail(DT_ERR_INTERNAL, "a slice of %lld columns cuts heads of width %lld", (long long)width,
                       (long long)D);
#pragma omp parallel for num_threads(dt_cpu_threads(call, N, width))
    for (int64_t n = 0; n < N; n++)
        rotate_heads(width / D, D / 2, attr->inverse ? -1 : 1, table + n * D, x + n * width, y + n * width);
    return DT_OK;
}
