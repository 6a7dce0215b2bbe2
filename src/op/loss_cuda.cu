/* nll, its gradient, and sampled labels on CUDA. */
#include "op/rng.cuh"
extern "C" {
#include "op/xent.h"
}

struct loss_of {
    const int32_t *targets;
    __device__ float operator()(float lse, float target, int64_t n) const
    {
        return targets[n] >= 0 ? lse - target : 0.0f;
    }
};
struct counted {
    const int32_t *targets;
    float sign;
    __device__ float operator()(float d, float unused, int64_t n) const
    {
        return targets[n] >= 0 ? sign * d : 0.0f;
    }
};

dt_status DT_CUDA_KERNEL(nll)(const dt_call *call)
{
    loss_of f = {DT_IN_I32(call, 2)};
    return map(call, call->in[0].dim[0], DT_IN(call, 0), DT_IN(call, 1), DT_OUT(call, 0), f);
}

dt_status DT_CUDA_KERNEL(nll_grad)(const dt_call *call)
{
    for (int i = 0; i < 2; i++) {
        counted f = {DT_IN_I32(call, 1), i == 0 ? 1.0f : -1.0f};
        if (call->out[i].data == NULL) continue;
        DT_TRY(map(call, call->in[0].dim[0], DT_IN(call, 0), DT_IN(call, 0), DT_OUT(call, i), f));
    }
    return DT_OK;
}

/* argmax over v of logits[v] - log(-log u_v), u uniform in (0, 1): distributed as softmax(logits) (Gumbel 1954). A
 * block to a token; of equal scores the lowest entry wins. */
static __global__ void draw(int64_t entries, uint32_t k0, uint32_t k1, floats logits, const int32_t *targets,
                            const int32_t *key, int32_t *label)
{
    __shared__ double best_score[256];
    __shared__ int32_t best_label[256];
    const int64_t n = blockIdx.x;
    if (targets[n] < 0) {
        if (threadIdx.x == 0) label[n] = -1;
        return;
    }
    double best = -INFINITY;
    int32_t mine = 0;
    for (int64_t v = threadIdx.x; v < entries; v += blockDim.x) {
        uint32_t word[4];
        philox((uint32_t)(v / 4), 0, (uint32_t)key[n], 0, k0, k1, word);
        double u = ((double)word[v % 4] + 0.5) * 0x1p-32, score = (double)logits[n * entries + v] - log(-log(u));
        if (score > best) {
            best = score;
            mine = (int32_t)v;
        }
    }
    best_score[threadIdx.x] = best;
    best_label[threadIdx.x] = mine;
    for (int d = 128; d > 0; d /= 2) {
        __syncthreads();
        if (threadIdx.x >= d) continue;
        double other = best_score[threadIdx.x + d];
        int32_t its = best_label[threadIdx.x + d];
        if (other > best_score[threadIdx.x] || (other == best_score[threadIdx.x] && its < best_label[threadIdx.x])) {
            best_score[threadIdx.x] = other;
            best_label[threadIdx.x] = its;
        }
    }
    if (threadIdx.x == 0) label[n] = best_label[0];
}

dt_status DT_CUDA_KERNEL(sample)(const dt_call *call)
{
    uint32_t key[2];
    dt_rng_key(DT_ATTR(dt_sample_attr, call)->seed, DT_RNG_SAMPLE, key);
    if (call->in[0].dim[0] == 0) return DT_OK;
    draw<<<(unsigned)call->in[0].dim[0], 256, 0, stream_of(call)>>>(call->in[0].dim[1], key[0], key[1], DT_IN(call, 0),
                                                                    DT_IN_I32(call, 1), DT_IN_I32(call, 2),
                                                                    (int32_t *)call->out[0].data);
    return launched();
}
