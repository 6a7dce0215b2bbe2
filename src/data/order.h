/* In which order rows are drawn. Sources take turns so that each has its share of every stretch; within a source the
 * rows of one pass stand in an order that only (seed, source, pass) decides, and the next pass begins behind its last.
 *
 * An epoch is as many draws as the sources have rows together. A single source is gone through once an epoch; of
 * several, one that is drawn more often than it has rows begins anew within the epoch, one that is drawn less often
 * goes on in the next. */
#ifndef DT_DATA_ORDER_H
#define DT_DATA_ORDER_H

#include "base/rng.h"    // dt_rng_purpose
#include "base/status.h" // dt_status
#include <stdint.h>      // int64_t

typedef struct dt_order_source {
    int64_t rows, first; /* rows [first, first + rows) of all */
    int64_t share;       /* of the draws, in units of 2^-32 */
    int64_t draws;       /* in an epoch */
    int64_t credit;      /* what it has not drawn yet of its share, while an epoch is laid out */
} dt_order_source;

/** Free with dt_order_free. */
typedef struct dt_order {
    uint64_t seed;
    int shuffle; /* otherwise: as in the files */
    dt_order_source *source;
    int n;
    int64_t total; /* rows of all sources: the draws of an epoch */
} dt_order;

/** Sources of rows[n], drawn by weight[n] > 0. DT_ERR_CONFIG if one would not be drawn at all. */
dt_status dt_order_make(const int64_t *rows, const double *weight, int n, int shuffle, uint64_t seed,
                        dt_order *out) DT_WARN_UNUSED;
void dt_order_free(dt_order *order);

/** The rows of an epoch, in order: row[total]. Orders for different purposes have nothing to do with each other. */
dt_status dt_order_epoch(dt_order *order, dt_rng_purpose purpose, int64_t epoch, int64_t *row) DT_WARN_UNUSED;

#endif
