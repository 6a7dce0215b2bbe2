/* Rewrites in which a node does its reader's work as well: what is added to an output becomes an input of its op. */
#ifndef DT_OP_ABSORB_H
#define DT_OP_ABSORB_H

#include "graph/graph.h"

/** The node whose output 0 is `v`, if it may do the work of `node` on it: of the same program, v placed as output 0 of
 *  `node` and read by `node` alone. Else DT_NONE. */
int32_t dt_absorber(const dt_graph *g, const dt_node *node, dt_val v);
/** Output 0 of `node` comes from `producer` from now on, as its output 0; `node` is removed. */
void dt_absorb_output(dt_graph *g, int32_t producer, int32_t node);
/** Fuse: `node`, whose output 0 is c + v in c's type, is removed, and v's own node computes the sum with c as its
 * addend (dt_op.addend); if that has one already, and that comes from such a node, the first in the chain takes c.
 * Where it is sound: c is whole where it is read now, and a sum in c's own storage is written where nobody else uses
 * it. Returns true if it was removed. */
bool dt_absorb_sum(dt_graph *g, int32_t node, dt_val c, dt_val v);

#endif
