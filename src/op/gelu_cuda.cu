/* Gaussian error linear unit on CUDA: x s(u), s the logistic function, u = 2 sqrt(2/pi) (x + 0.044715 x^3). Bound by
 * memory: 4 bytes an element forward, 6 backward, in bf16, with low-rank addends as without. */
#include "op/lowrank.cuh"
extern "C" {
#include "op/gelu.h"
}

#define TWICE_ROOT 1.5957691216057308f
#define CUBIC 0.044715f

struct gelu_of {
    __device__ float operator()(float x, float unused, int64_t i) const
    {
        float u = TWICE_ROOT * x * (1 + CUBIC * x * x);
        return x / (1 + expf(-u));
    }
    __device__ void operator()(const float x[1], float y[1]) const
    {
        y[0] = x[0] * logistic(TWICE_ROOT * x[0] * (1 + CUBIC * x[0] * x[0]));
    }
};
struct gelu_slope { // d/dx x s(u) = s + x s (1 - s) u'
    __device__ float operator()(float dy, float x, int64_t i) const
    {
        float u = TWICE_ROOT * x * (1 + CUBIC * x * x), s = 1 / (1 + expf(-u));
        return dy * (s + x * s * (1 - s) * TWICE_ROOT * (1 + 3 * CUBIC * x * x));
    }
    __device__ void operator()(const float x[2], float dx[1]) const
    {
        float square = CUBIC * x[1] * x[1], s = logistic(TWICE_ROOT * x[1] * (1 + square));
        dx[0] = x[0] * (s + x[1] * s * (1 - s) * TWICE_ROOT * (1 + 3 * square));
    }
};

dt_status DT_CUDA_KERNEL(gelu)(const dt_call *call)
{
    if (dt_lowrank_any(call)) return lowrank_map<1, 1>(call, gelu_of());
    return map(call, count_of(&call->out[0]), DT_IN(call, 0), DT_IN(call, 0), DT_OUT(call, 0), gelu_of());
}

dt_status DT_CUDA_KERNEL(gelu_grad)(const dt_call *call)
{
    if (dt_lowrank_any(call)) return lowrank_map<2, 1>(call, gelu_slope());
    return map(call, count_of(&call->out[0]), DT_IN(call, 0), DT_IN(call, 1), DT_OUT(call, 0), gelu_slope());
}
