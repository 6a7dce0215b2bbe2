/* Gated linear unit with SiLU on CUDA. Bound by memory: 6 bytes an element forward, 10 backward, in bf16, with low-rank
 * addends as without: their 2 R FLOPs an element and addend are, at R = 16 on a Hopper, a twentieth of its time. */
#include "op/lowrank.cuh"
extern "C" {
#include "op/swiglu.h"
}

struct gated {
    __device__ float operator()(float gate, float up, int64_t i) const
    {
        return gate / (1 + expf(-gate)) * up;
    }
    __device__ void operator()(const float x[2], float h[1]) const
    {
        h[0] = x[0] * logistic(x[0]) * x[1];
    }
};

dt_status DT_CUDA_KERNEL(swiglu)(const dt_call *call)
{
    if (dt_lowrank_any(call)) return lowrank_map<2, 1>(call, gated());
    return map(call, count_of(&call->out[0]), DT_IN(call, 0), DT_IN(call, 1), DT_OUT(call, 0), gated());
}

/* silu'(x) = s + x s (1 - s), s the logistic function. Either output may be absent, or be the operand it belongs to. */
static __device__ void derive(float dh, float x, float s, float up, float *dgate, float *dup)
{
    *dgate = dh * up * (s + x * s * (1 - s));
    *dup = dh * (x * s);
}

struct gated_slopes {
    __device__ void operator()(const float x[3], float dx[2]) const
    {
        derive(x[0], x[1], logistic(x[1]), x[2], &dx[0], &dx[1]);
    }
};

static __global__ void swiglu_backward(int64_t n, bool wide, floats dh, floats gate, floats up, floats dgate,
                                       floats dup)
{
    int64_t first = blockIdx.x * (int64_t)blockDim.x + threadIdx.x, stride = (int64_t)gridDim.x * blockDim.x;
    int64_t packs = wide ? n / 8 : 0;
    for (int64_t p = first; p < packs; p += stride) {
        float d[8], x[8], u[8], a[8], b[8];
        dh.load8(8 * p, d);
        gate.load8(8 * p, x);
        up.load8(8 * p, u);
#pragma unroll
        for (int k = 0; k < 8; k++) derive(d[k], x[k], 1 / (1 + expf(-x[k])), u[k], &a[k], &b[k]);
        if (dgate.data != NULL) dgate.store8(8 * p, a);
        if (dup.data != NULL) dup.store8(8 * p, b);
    }
    for (int64_t i = 8 * packs + first; i < n; i += stride) {
        float a, b;
        derive(dh[i], gate[i], 1 / (1 + expf(-gate[i])), up[i], &a, &b);
        if (dgate.data != NULL) dgate.set(i, a);
        if (dup.data != NULL) dup.set(i, b);
    }
}

dt_status DT_CUDA_KERNEL(swiglu_grad)(const dt_call *call)
{
    if (dt_lowrank_any(call)) return lowrank_map<3, 2>(call, gated_slopes());
    int64_t n = count_of(&call->in[1]);
    floats dh = DT_IN(call, 0), gate = DT_IN(call, 1), up = DT_IN(call, 2), dgate = DT_OUT(call, 0),
           dup = DT_OUT(call, 1);
    bool wide = dh.wide && gate.wide && up.wide && dgate.wide && dup.wide; // absent: address 0 is wide
    if (n == 0) return DT_OK;
    swiglu_backward<<<blocks_for(call, wide ? (n + 7) / 8 : n, 256), 256, 0, stream_of(call)>>>(n, wide, dh, gate, up,
                                                                                                dgate, dup);
    return launched();
}
