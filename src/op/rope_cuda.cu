/* Rotary position embedding on CUDA. Bound by memory: 4 bytes an element in bf16; the table stays in the cache. */
#include "op/cuda.cuh"
extern "C" {
#include "op/rope.h"
}

static __global__ void fill_table(int64_t tokens, int64_t half, const int32_t *pos, floats frequency, floats table)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < tokens * half;
         i += (int64_t)gridDim.x * blockDim.x) {
        int64_t n = i / half, j = i % half;
        double angle = (double)pos[n] * (double)frequency[j], s, c;
        sincos(angle, &s, &c);
        table.set(n * 2 * half + j, (float)c);
        table.set(n * 2 * half + half + j, (float)s);
    }
}

dt_status DT_CUDA_KERNEL(rope_table)(const dt_call *call)
{
    const int64_t N = call->out[0].dim[0], half = call->out[0].dim[1] / 2;
    fill_table<<<blocks_for(call, N * half, 256), 256, 0, stream_of(call)>>>(N, half, DT_IN_I32(call, 0),
                                                                             DT_IN(call, 1), DT_OUT(call, 0));
    return launched();
}

/* A pair (x[j], x[j + half]) of a head a thread, turned by its angle; sign -1 turns back. */
static __global__ void rotate(int64_t pairs, int64_t width, int64_t half, float sign, floats x, floats table, floats y)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < pairs; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t j = i % half, n = i / (width / 2), at = i / half * 2 * half + j;
        float c = table[n * 2 * half + j], s = sign * table[n * 2 * half + half + j];
        float a = x[at], b = x[at + half];
        y.set(at, a * c - b * s);
        y.set(at + half, b * c + a * s);
    }
}

dt_status DT_CUDA_KERNEL(rope)(const dt_call *call)
{
    const dt_rope_attr *attr = DT_ATTR(dt_rope_attr, call);
    const int64_t width = call->out[0].dim[1], pairs = count_of(&call->out[0]) / 2;
    if (width % attr->head_dim != 0)
        return dt_fail(DT_ERR_INTERNAL, "a slice of %lld columns cuts heads of width %lld", (long long)width,
                       (long long)attr->head_dim);
    rotate<<<blocks_for(call, pairs, 256), 256, 0, stream_of(call)>>>(pairs, width, attr->head_dim / 2,
                                                                      attr->inverse ? -1.0f : 1.0f, DT_IN(call, 0),
                                                                      DT_IN(call, 1), DT_OUT(call, 0));
    return launched();
}
