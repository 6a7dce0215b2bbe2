/* Norm of gradients and the optimizers' updates on CUDA. Bound by memory: AdamW reads 16 bytes a value and writes 12.
 */
#include "op/total.cuh"
#include "op/update.cuh"

struct store_norm {
    floats acc, y; // acc.data NULL: none
    double weight;
    __device__ void operator()(double squares) const
    {
        y.set(0, (float)((acc.data != NULL ? (double)acc[0] : 0.0) + weight * squares));
    }
};

extern "C" size_t DT_CUDA_WORKSPACE(grad_norm)(const dt_call *call)
{
    return total_workspace();
}

dt_status DT_CUDA_KERNEL(grad_norm)(const dt_call *call)
{
    store_norm finish = {DT_IN(call, 1), DT_OUT(call, 0), DT_ATTR(dt_grad_norm_attr, call)->weight};
    return total(call, DT_IN(call, 0), count_of(&call->in[0]), true, finish);
}

/* Constants of an AdamW step, as on the CPU. */
struct adamw {
    float factor, keep, rest1, beta2, rest2, step, root, eps;
};

/* Rounds where PyTorch does: products that are added to something are not fused with the sum. */
static __global__ void adamw_update(int64_t n, dt_adamw_attr at, const float *hyper, const float *normsq, float *p,
                                    float *m, float *v, const float *grad)
{
    double factor;
    if (!gradient_factor(hyper, normsq[0], &factor)) return;
    const double lr = (double)hyper[DT_HYPER_LR] * at.lr_scale;
    const adamw a = {(float)factor,
                     (float)(1 - lr * at.weight_decay),
                     (float)(1 - at.beta1),
                     (float)at.beta2,
                     (float)(1 - at.beta2),
                     (float)(lr / (double)hyper[DT_HYPER_BIAS1]),
                     (float)sqrt((double)hyper[DT_HYPER_BIAS2]),
                     (float)at.eps};
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x) {
        float g = grad[i] * a.factor, q = __fmul_rn(p[i], a.keep);
        m[i] = m[i] + __fmul_rn(g - m[i], a.rest1);
        v[i] = __fmul_rn(v[i], a.beta2) + __fmul_rn(__fmul_rn(g, g), a.rest2);
        p[i] = q - __fmul_rn(a.step, m[i]) / (sqrtf(v[i]) / a.root + a.eps);
    }
}

dt_status DT_CUDA_KERNEL(adamw)(const dt_call *call)
{
    const int64_t n = count_of(&call->in[0]);
    if (n == 0) return DT_OK;
    adamw_update<<<blocks_for(call, n, 256), 256, 0, stream_of(call)>>>(
        n, *DT_ATTR(dt_adamw_attr, call), (const float *)call->in[4].data, (const float *)call->in[5].data,
        (float *)call->out[0].data, (float *)call->out[1].data, (float *)call->out[2].data,
        (const float *)call->in[3].data);
    return launched();
}

static __global__ void sgd_update(int64_t n, dt_sgd_attr at, const float *hyper, const float *normsq, float *p,
                                  float *m, const float *grad)
{
    double factor;
    if (!gradient_factor(hyper, normsq[0], &factor)) return;
    const float scale = (float)factor, decay = (float)at.weight_decay, momentum = (float)at.momentum,
                lr = (float)((double)hyper[DT_HYPER_LR] * at.lr_scale);
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x) {
        float g = grad[i] * scale + decay * p[i];
        if (m != NULL) g = m[i] = momentum * m[i] + g;
        p[i] -= lr * g;
    }
}

dt_status DT_CUDA_KERNEL(sgd)(const dt_call *call)
{
    const int64_t n = count_of(&call->in[0]);
    if (n == 0) return DT_OK;
    sgd_update<<<blocks_for(call, n, 256), 256, 0, stream_of(call)>>>(
        n, *DT_ATTR(dt_sgd_attr, call), (const float *)call->in[2].data, (const float *)call->in[3].data,
        (float *)call->out[0].data, (float *)call->out[2].data, (const float *)call->in[1].data);
    return launched();
}
