/* Dropout on the CPU. */
#include "base/rng.h" // dt_rng_philox
#include "op/cpu.h"
#include "op/dropout.h"

/* Features that are drawn at once, four a counter. */
#define QUADS 64
#define BLOCK (4 * QUADS)

/* word[f]: the number of feature 4 quad + f of a token. */
DT_VECTOR static void draw(const uint32_t key[2], uint64_t site_step, uint32_t token, uint32_t quad,
                           uint32_t word[BLOCK])
{
    const uint32_t k0 = key[0], k1 = key[1], low = (uint32_t)site_step, high = (uint32_t)(site_step >> 32);
    uint32_t by_word[4][QUADS];
    for (uint32_t i = 0; i < QUADS; i++) {
        uint32_t out[4];
        dt_rng_philox((uint32_t[4]){quad + i, token, low, high}, (uint32_t[2]){k0, k1}, out);
        by_word[0][i] = out[0];
        by_word[1][i] = out[1];
        by_word[2][i] = out[2];
        by_word[3][i] = out[3];
    }
    for (int i = 0; i < QUADS; i++)
        for (int k = 0; k < 4; k++) word[4 * i + k] = by_word[k][i];
}

/* least: of the 24 bits that make a uniform number, what an element needs to be kept. */
DT_VECTOR static void apply(int64_t n, const uint32_t *word, uint32_t least, real keep, const real *x, real *y)
{
#pragma omp simd
    for (int64_t j = 0; j < n; j++) y[j] = (word[j] >> 8) >= least ? keep * x[j] : 0;
}

dt_status DT_CPU_KERNEL(dropout)(const dt_call *call)
{
    const dt_dropout_attr *attr = DT_ATTR(dt_dropout_attr, call);
    const int64_t N = call->out[0].dim[0], C = call->out[0].dim[1], first = call->out[0].off[1];
    const int32_t *token = DT_IN_I32(call, 1);
    const uint64_t site_step = attr->site + (uint64_t)DT_IN_I32(call, 2)[0] * 0x9E3779B97F4A7C15u;
    const uint32_t least = (uint32_t)ceil(attr->p * 0x1p24);
    const real keep = (real)(1.0 / (1.0 - attr->p)), *x = DT_IN(call, 0);
    real *y = DT_OUT(call, 0);
    uint32_t key[2];
    dt_rng_key(attr->seed, DT_RNG_DROPOUT, key);
#pragma omp parallel for num_threads(dt_cpu_threads(call, N, C))
    for (int64_t n = 0; n < N; n++) {
        uint32_t word[BLOCK];
        for (int64_t f = first / 4 * 4; f < first + C; f += BLOCK) { /* counters start at multiples of four */
            const int64_t from = f < first ? first : f, to = f + BLOCK < first + C ? f + BLOCK : first + C;
            draw(key, site_step, (uint32_t)token[n], (uint32_t)(f / 4), word);
            apply(to - from, word + (from - f), least, keep, x + n * C + from - first, y + n * C + from - first);
        }
    }
    return DT_OK;
}
