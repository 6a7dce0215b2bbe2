/* What the files share that bring weights into memory or write them (weights.c, fetch.c, weights_write.c). Not for
 * other users. */
#ifndef DT_MODEL_WEIGHTS_H
#define DT_MODEL_WEIGHTS_H

#include "model/model.h"

/** A rank's slice of a stored tensor as rows: rows x cols elements from `offset` on, `ld` apart, one after the other.
 */
typedef struct dt_slice {
    int64_t offset, rows, cols, ld;
} dt_slice;
dt_slice dt_weights_slice(const dt_value *v);
/** The stored tensor of a weight: its name, and its shape in dim. */
const char *dt_weights_stored(const dt_value *v, int64_t dim[DT_DIMS]);
/** Random values of a slice of a stored tensor by (seed, name, element): gains 1, biases 0, everything else normal. */
void dt_weights_draw(const dt_backbone *bb, const char *tensor, int ndim, dt_slice s, float *dst);

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
