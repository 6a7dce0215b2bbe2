/* Which rows lie in which sequence. A sequence takes the rows of an epoch, in their order, one behind the other until
 * the next one does not fit. A row never splits, a sequence never crosses epochs. */
#ifndef DT_DATA_PACK_H
#define DT_DATA_PACK_H

#include "data/order.h" // dt_order
#include <stdint.h>     // int32_t, int64_t

/** The sequences of one epoch: s holds rows order[first[s] .. first[s + 1]). */
typedef struct dt_pack_epoch {
    int64_t epoch;  /* -1: not built */
    int64_t *order; /* [order->total] */
    int64_t *first; /* [n + 1] */
    int64_t n, first_cap;
} dt_pack_epoch;

/** Zero-initialise but for the first members; free with dt_pack_free. Epochs are built as they are asked for, and two
 *  are kept: ranks and steps near the end of one ask for both in turn. */
typedef struct dt_pack {
    dt_order *order; /* borrowed */
    int32_t seq_len;
    int packing;                                   /* otherwise one row to a sequence */
    int32_t (*length)(const void *set, int64_t i); /* ids in row i, <= seq_len */
    const void *set;
    int64_t *before; /* [n_epochs + 1]: sequences in all epochs in front of e */
    int64_t n_epochs, before_cap;
    dt_pack_epoch kept[2];
} dt_pack;

void dt_pack_free(dt_pack *pack);

/** The epoch that a sequence (counted on through all epochs) lies in, and its number there. */
dt_status dt_pack_find(dt_pack *pack, int64_t sequence, const dt_pack_epoch **epoch, int64_t *within) DT_WARN_UNUSED;

#endif
