/* Who uses a value's storage: what a rewrite must know before it has the value read or written elsewhere. */
#ifndef DT_OP_STORAGE_H
#define DT_OP_STORAGE_H

#include "graph/graph.h"

/** The value whose own storage `v` lives in. */
dt_val dt_storage_of(const dt_graph *g, dt_val v);
/** Does `node` read `storage`? */
bool dt_storage_is_read(const dt_graph *g, dt_val storage, int32_t node);
/** Does a node behind `after` and in front of `before` write `storage`? */
bool dt_storage_is_written(const dt_graph *g, dt_val storage, int32_t after, int32_t before);
/** The same for reading or writing it. */
bool dt_storage_is_used(const dt_graph *g, dt_val storage, int32_t after, int32_t before);

#endif
