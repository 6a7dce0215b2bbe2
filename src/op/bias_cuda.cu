/* A vector added to every row, and its gradient, on CUDA. */
#include "op/rows.cuh"
extern "C" {
#include "op/bias.h"
}

struct with_bias {
    floats bias;
    int64_t width;
    __device__ float operator()(float x, float unused, int64_t i) const
    {
        return x + bias[i % width];
    }
};

dt_status DT_CUDA_KERNEL(bias)(const dt_call *call)
{
    with_bias f = {DT_IN(call, 1), call->out[0].dim[1]};
    return map(call, count_of(&call->out[0]), DT_IN(call, 0), DT_IN(call, 0), DT_OUT(call, 0), f);
}

extern "C" size_t DT_CUDA_WORKSPACE(bias_grad)(const dt_call *call)
{
    return column_workspace(call->in[0].dim[0], call->in[0].dim[1]);
}

dt_status DT_CUDA_KERNEL(bias_grad)(const dt_call *call)
{
    column_entry f = {call->in[0].dim[1], DT_IN(call, 0)};
    return column_sums(call, call->in[0].dim[0], call->in[0].dim[1], f, DT_OUT(call, 0));
}
