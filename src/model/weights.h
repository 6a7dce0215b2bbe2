/* What the files share that bring weights into memory (weights.c, fetch.c). Not for other users. */
#ifndef DT_MODEL_WEIGHTS_H
#define DT_MODEL_WEIGHTS_H

#include "model/model.h"

/** A rank's slice of a stored tensor as rows: rows x cols elements from `offset` on, `ld` apart, one after the other.
 */
typedef struct dt_slice {
    int64_t offset, rows, cols, ld;
} dt_slice;
dt_slice dt_weights_slice(const dt_value *v);

/** The checkpoint's tensor of a value: there, and of the shape that it must have. DT_ERR_MODEL as dt_weights_load. */
dt_status dt_weights_tensor(const dt_backbone *bb, const dt_value *v, const dt_st_tensor **out) DT_WARN_UNUSED;

/** A slice that dt_weights_fetch brought. */
typedef struct dt_fetched {
    const char *name; /* of the value; in the backbone's region */
    dt_slice slice;
    float *data; /* owned; NULL once released */
    bool lent;   /* a store has a view of it */
} dt_fetched;
/** That of a value. DT_ERR_INTERNAL: it was not fetched, or as another slice, or is released. */
dt_status dt_weights_fetched(const dt_backbone *bb, const dt_value *v, dt_fetched **out) DT_WARN_UNUSED;

#endif
