/* Who still needs a value's storage: what a rewrite must know before it lets a node write over it. */
#ifndef DT_OP_STORAGE_H
#define DT_OP_STORAGE_H

#include "graph/graph.h"

/** The value whose own storage `v` lives in. */
dt_val dt_storage_of(const dt_graph *g, dt_val v);
/** Does a node behind `after` and in front of `before` (DT_NONE: the end), other than `node`, read or write `storage`?
 */
bool dt_storage_is_used(const dt_graph *g, dt_val storage, int32_t node, int32_t after, int32_t before);
/** Does a node behind `after` and in front of `before` write `storage`? */
bool dt_storage_is_written(const dt_graph *g, dt_val storage, int32_t after, int32_t before);
/** May `node`, its work done where `at` stands, write over `v`? It may if v is a temporary of node's own program (made
 * anew whenever that runs), the host does not read it, and behind `at` only `node` uses its storage. */
bool dt_storage_is_spare(const dt_graph *g, dt_val v, int32_t node, int32_t at);

#endif
