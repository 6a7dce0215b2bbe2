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

/** The generator itself: ten rounds of Philox, 128-bit counter, 64-bit key, least significant words first. */
void dt_rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/** Four independent uniform 32-bit words for the 128-bit counter (hi, lo) under (seed, purpose).
 *  key = splitmix64's output function of seed + purpose * 0x9E3779B97F4A7C15; counter words: lo, then hi. */
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
