/* The kernels of the CUDA device, by op number, and the workspace that they need. */
extern "C" {
#include "op/op.h"

#define DT_OP(name)                                                                                                    \
    dt_status dt_cuda_f32_##name(const dt_call *call);                                                                 \
    dt_status dt_cuda_bf16_##name(const dt_call *call);
#include "op/ops.def"
#undef DT_OP

/* Ops whose kernels need a workspace. */
#define WITH_WORKSPACE(X)                                                                                              \
    X(matmul)                                                                                                          \
    X(bias_grad)                                                                                                       \
    X(rmsnorm_grad)                                                                                                    \
    X(layernorm_grad) X(attention_grad) X(xent) X(xent_grad) X(sum) X(grad_norm) X(sampled_wgrad) X(all_gather)        \
        X(reduce_scatter)
#define DECLARE(name)                                                                                                  \
    size_t dt_cuda_f32_workspace_##name(const dt_call *call);                                                          \
    size_t dt_cuda_bf16_workspace_##name(const dt_call *call);
WITH_WORKSPACE(DECLARE)

extern const dt_kernel dt_cuda_kernels_f32[DT_OP_COUNT] = {
#define DT_OP(name) dt_cuda_f32_##name,
#include "op/ops.def"
#undef DT_OP
};

extern const dt_kernel dt_cuda_kernels_bf16[DT_OP_COUNT] = {
#define DT_OP(name) dt_cuda_bf16_##name,
#include "op/ops.def"
#undef DT_OP
};

/* Ops whose kernels multiply matrices. */
int dt_cuda_has_choices(int kernel)
{
    return kernel == DT_OP_INDEX_matmul || kernel == DT_OP_INDEX_xent || kernel == DT_OP_INDEX_xent_grad ||
           kernel == DT_OP_INDEX_sampled_wgrad;
}

size_t dt_cuda_workspace(const dt_device *device, int kernel, const dt_call *planned)
{
    const bool f32 = device->kernels == dt_cuda_kernels_f32;
    dt_call bound = *planned, *call = &bound;
    bound.device = (dt_device *)device;
    switch (kernel) {
#define CASE(name)                                                                                                     \
    case DT_OP_INDEX_##name: return f32 ? dt_cuda_f32_workspace_##name(call) : dt_cuda_bf16_workspace_##name(call);
        WITH_WORKSPACE(CASE)
    default: return 0;
    }
}
}
