/* Philox 4x32-10 and the draws made from it. */
#include "base/rng.h"

#include <math.h> // sqrt, log, cos

/* The output function of splitmix64 (Steele et al. 2014): one-to-one, so purposes of one seed never share a key. */
void dt_rng_key(uint64_t seed, dt_rng_purpose purpose, uint32_t key[2])
{
    uint64_t z = seed + (uint64_t)purpose * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    key[0] = (uint32_t)z;
    key[1] = (uint32_t)(z >> 32);
}

void dt_rng_words(uint64_t seed, dt_rng_purpose purpose, uint64_t hi, uint64_t lo, uint32_t out[4])
{
    uint32_t key[2];
    dt_rng_key(seed, purpose, key);
    dt_rng_philox((uint32_t[4]){(uint32_t)lo, (uint32_t)(lo >> 32), (uint32_t)hi, (uint32_t)(hi >> 32)}, key, out);
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
