/* Dropout on the CPU. */
#include "base/rng.h" // dt_rng_words
#include "op/cpu.h"
#include "op/dropout.h"

dt_status DT_CPU_KERNEL(dropout)(const dt_call *call)
{
    const dt_dropout_attr *attr = DT_ATTR(dt_dropout_attr, call);
    const int64_t N = call->out[0].dim[0], C = call->out[0].dim[1], first = call->out[0].off[1];
    const int32_t *key = DT_IN_I32(call, 1);
    const uint64_t site_step = attr->site + (uint64_t)DT_IN_I32(call, 2)[0] * 0x9E3779B97F4A7C15u;
    const real keep = (real)(1.0 / (1.0 - attr->p)), *x = DT_IN(call, 0);
    real *y = DT_OUT(call, 0);
#pragma omp parallel for num_threads(call->threads) if (call->threads > 1)
    for (int64_t n = 0; n < N; n++) {
        const uint64_t token = (uint64_t)(uint32_t)key[n] << 32;
        for (int64_t quad = first / 4; quad * 4 < first + C; quad++) {
            uint32_t word[4];
            dt_rng_words(attr->seed, DT_RNG_DROPOUT, site_step, token + (uint64_t)quad, word);
            for (int64_t j = quad * 4 - first, k = 0; k < 4; j++, k++)
                if (j >= 0 && j < C) y[n * C + j] = (double)dt_rng_unit(word[k]) >= attr->p ? keep * x[n * C + j] : 0;
        }
    }
    return DT_OK;
}
