/* Dropout on CUDA: the same numbers as on the CPU, four features a draw. */
#include "op/rng.cuh"
extern "C" {
#include "op/dropout.h"
}

/* least: of the 24 bits that make a uniform number, what an element needs to be kept. first: global number of the first
 * feature here. */
static __global__ void drop(int64_t tokens, int64_t width, int64_t first, uint32_t k0, uint32_t k1, uint64_t site,
                            uint32_t least, float keep, const int32_t *token, const int32_t *step, floats x, floats y)
{
    const uint64_t site_step = site + (uint64_t)step[0] * 0x9E3779B97F4A7C15u;
    const int64_t quad0 = first / 4, quads = (first + width - 1) / 4 - quad0 + 1;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < tokens * quads;
         i += (int64_t)gridDim.x * blockDim.x) {
        const int64_t n = i / quads, quad = quad0 + i % quads;
        uint32_t word[4];
        philox((uint32_t)quad, (uint32_t)token[n], (uint32_t)site_step, (uint32_t)(site_step >> 32), k0, k1, word);
        for (int k = 0; k < 4; k++) {
            int64_t j = 4 * quad + k - first;
            if (j < 0 || j >= width) continue;
            y.set(n * width + j, (word[k] >> 8) >= least ? keep * x[n * width + j] : 0.0f);
        }
    }
}

dt_status DT_CUDA_KERNEL(dropout)(const dt_call *call)
{
    const dt_dropout_attr *attr = DT_ATTR(dt_dropout_attr, call);
    const int64_t N = call->out[0].dim[0], C = call->out[0].dim[1];
    uint32_t key[2];
    dt_rng_key(attr->seed, DT_RNG_DROPOUT, key);
    if (N * C == 0) return DT_OK;
    drop<<<blocks_for(call, N * (C / 4 + 1), 256), 256, 0, stream_of(call)>>>(
        N, C, call->out[0].off[1], key[0], key[1], attr->site, (uint32_t)ceil(attr->p * 0x1p24),
        (float)(1.0 / (1.0 - attr->p)), DT_IN_I32(call, 1), DT_IN_I32(call, 2), DT_IN(call, 0), DT_OUT(call, 0));
    return launched();
}
