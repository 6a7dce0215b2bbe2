/* Dropout keyed by what an element is, not where it is computed. */
#ifndef DT_OP_DROPOUT_H
#define DT_OP_DROPOUT_H
#include "graph/graph.h"
typedef struct dt_dropout_attr {
    double p;
    uint64_t seed, site; /* site: hash of the site's and delta's names */
} dt_dropout_attr;
/** y = x / (1 - p) where a uniform number of (seed, site, step[0], key[n], feature) is >= p, else 0. x[N,C]; key[N] I32
 * numbers the tokens of the global batch; step[1] I32. Feature numbers are global (off[1]). Linear in x: the gradient
 * is the same op on dy. The number of feature f is word f % 4 of dt_rng_words(seed, DT_RNG_DROPOUT, hi, lo), hi = site
 * + step * 0x9E3779B97F4A7C15 (mod 2^64), lo = key * 2^32 + f / 4. Returns x itself if p is 0 or g->train is not set.
 */
dt_val dt_dropout(dt_graph *g, dt_val x, dt_val key, dt_val step, double p, uint64_t seed, uint64_t site);
#endif
