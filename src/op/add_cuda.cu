/* Elementwise arithmetic on CUDA. Bound by memory: 6 bytes an element in bf16 for a sum, 4 for a product by a factor.
 */
#include "op/cuda.cuh"
extern "C" {
#include "op/add.h"
}

struct sum_of {
    __device__ float operator()(float a, float b, int64_t i) const
    {
        return a + b;
    }
};
struct scaled {
    float factor;
    __device__ float operator()(float a, float b, int64_t i) const
    {
        return factor * a;
    }
};
struct squared {
    __device__ float operator()(float a, float b, int64_t i) const
    {
        return a * a;
    }
};

dt_status DT_CUDA_KERNEL(add)(const dt_call *call)
{
    return map(call, count_of(&call->out[0]), DT_IN(call, 0), DT_IN(call, 1), DT_OUT(call, 0), sum_of());
}

dt_status DT_CUDA_KERNEL(accumulate)(const dt_call *call)
{
    return map(call, count_of(&call->out[0]), DT_IN(call, 0), DT_IN(call, 1), DT_OUT(call, 0), sum_of());
}

dt_status DT_CUDA_KERNEL(scale)(const dt_call *call)
{
    scaled f = {(float)DT_ATTR(dt_scale_attr, call)->factor};
    return map(call, count_of(&call->out[0]), DT_IN(call, 0), DT_IN(call, 0), DT_OUT(call, 0), f);
}

dt_status DT_CUDA_KERNEL(square)(const dt_call *call)
{
    return map(call, count_of(&call->out[0]), DT_IN(call, 0), DT_IN(call, 0), DT_OUT(call, 0), squared());
}
