/* Counter-based random numbers: Philox 4x32-10 (Salmon et al. 2011). A number is a pure function of (seed, purpose,
 * index), so every layout of ranks draws the same ones. */
#ifndef DT_BASE_RNG_H
#define DT_BASE_RNG_H

#include <stdint.h> // uint32_t, uint64_t

/** What a stream of numbers is for; part of the key, so that streams never overlap. Values are kept in checkpoints. */
typedef enum dt_rng_purpose {
    DT_RNG_INIT = 1,    /* initial values; index = (hash of the value's name, element) */
    DT_RNG_SHUFFLE = 2, /* order of rows; index = (epoch, row) */
    DT_RNG_DROPOUT = 3, /* index = (site, step, token, feature) */
    DT_RNG_SAMPLE = 4,  /* sampled labels and generated tokens */
    DT_RNG_SELECT = 5   /* rows chosen for a selection pass */
} dt_rng_purpose;

/** The generator itself: ten rounds of Philox, 128-bit counter, 64-bit key, least significant words first. Here so that
 *  a loop over counters can be vectorised. */
static inline void dt_rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
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
        k0 += 0x9E3779B9u; /* golden ratio */
        k1 += 0xBB67AE85u; /* sqrt(3) - 1 */
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/** The key of (seed, purpose): splitmix64's output function of seed + purpose * 0x9E3779B97F4A7C15. */
void dt_rng_key(uint64_t seed, dt_rng_purpose purpose, uint32_t key[2]);
/** Four independent uniform 32-bit words for the 128-bit counter (hi, lo) under (seed, purpose).
 *  counter words: lo, then hi. */
void dt_rng_words(uint64_t seed, dt_rng_purpose purpose, uint64_t hi, uint64_t lo, uint32_t out[4]);
/** Uniform in [0, 1) with 24 bits. */
float dt_rng_uniform(uint64_t seed, dt_rng_purpose purpose, uint64_t hi, uint64_t lo);
/** Standard normal (Box-Muller on two words of the counter). */
float dt_rng_normal(uint64_t seed, dt_rng_purpose purpose, uint64_t hi, uint64_t lo);
/** Word -> uniform in [0, 1) with 24 bits. */
static inline float dt_rng_unit(uint32_t word)
{
    return (float)(word >> 8) * (1.0f / 16777216.0f);
}

#endif
