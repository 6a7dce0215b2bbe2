/* Philox 4x32-10 and the draws made from it. */
#include "base/rng.h"

#include <math.h> // sqrt, log, cos

void dt_rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u; // golden ratio
        k1 += 0xBB67AE85u; // sqrt(3) - 1
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* The output function of splitmix64 (Steele et al. 2014): one-to-one, so purposes of one seed never share a key. */
static uint64_t key_of(uint64_t seed, dt_rng_purpose purpose)
{
    uint64_t z = seed + (uint64_t)purpose * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

void dt_rng_words(uint64_t seed, dt_rng_purpose purpose, uint64_t hi, uint64_t lo, uint32_t out[4])
{
    uint64_t key = key_of(seed, purpose);
    dt_rng_philox((uint32_t[4]){(uint32_t)lo, (uint32_t)(lo >> 32), (uint32_t)hi, (uint32_t)(hi >> 32)},
                  (uint32_t[2]){(uint32_t)key, (uint32_t)(key >> 32)}, out);
}

float dt_rng_uniform(uint64_t seed, dt_rng_purpose purpose, uint64_t hi, uint64_t lo)
{
    uint32_t word[4];
    dt_rng_words(seed, purpose, hi, lo, word);
    return dt_rng_unit(word[0]);
}

float dt_rng_normal(uint64_t seed, dt_rng_purpose purpose, uint64_t hi, uint64_t lo)
{
    uint32_t word[4];
    dt_rng_words(seed, purpose, hi, lo, word);
    double u = ((double)word[0] + 1.0) * 0x1p-32; // (0, 1]: the logarithm stays finite
    double v = (double)word[1] * 0x1p-32;
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}
