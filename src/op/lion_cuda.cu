/* Lion on CUDA. Bound by memory: it reads 12 bytes a value and writes 8. */
#include "op/update.cuh"

/* Names as in Chen et al. 2023, algorithm 2. */
static __global__ void lion_update(int64_t n, dt_lion_attr at, const float *hyper, const float *normsq, float *p,
                                   float *m, const float *grad)
{
    double factor;
    if (!gradient_factor(hyper, normsq[0], &factor)) return;
    const double rate = (double)hyper[DT_HYPER_LR] * at.lr_scale;
    const float scale = (float)factor, keep = (float)(1 - rate * at.weight_decay), lr = (float)rate;
    const float beta1 = (float)at.beta1, rest1 = (float)(1 - at.beta1), beta2 = (float)at.beta2,
                rest2 = (float)(1 - at.beta2);
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x) {
        float g = grad[i] * scale, c = beta1 * m[i] + rest1 * g, sign = (float)((c > 0) - (c < 0));
        p[i] = p[i] * keep - lr * sign;
        m[i] = beta2 * m[i] + rest2 * g;
    }
}

dt_status DT_CUDA_KERNEL(lion)(const dt_call *call)
{
    const int64_t n = count_of(&call->in[0]);
    if (n == 0) return DT_OK;
    lion_update<<<blocks_for(call, n, 256), 256, 0, stream_of(call)>>>(
        n, *DT_ATTR(dt_lion_attr, call), (const float *)call->in[3].data, (const float *)call->in[4].data,
        (float *)call->out[0].data, (float *)call->out[1].data, (const float *)call->in[2].data);
    return launched();
}
