/* The ops that move data between ranks; only the shard pass and epilogues emit them. */
#ifndef DT_OP_COLLECTIVE_H
#define DT_OP_COLLECTIVE_H
#include "graph/graph.h"
typedef struct dt_collective_attr {
    dt_axes axes;
    int dim;       /* gather, scatter, slice: which dimension */
    dt_comm_op op; /* all_reduce */
} dt_collective_attr;
/** all_reduce: y = sum (or max) over the group, in place on x's storage where x has no other reader (op inplace), else
 * copied first. all_gather: the group's slices along `dim` put together. reduce_scatter: sum, then this rank's slice
 * along `dim`. slice: this rank's slice along `dim` of a replicated x, no communication. Global shapes do not change.
 * lse_finish: see shard.c: from x (PARTIAL_LSE) and m (its maximum): first exp(x - m) (attr dim 0), later m + log(s)
 * (attr dim 1). */
dt_val dt_all_reduce(dt_graph *g, dt_val x, dt_axes axes, dt_comm_op op);
dt_val dt_all_gather(dt_graph *g, dt_val x, dt_axes axes, int dim);
dt_val dt_reduce_scatter(dt_graph *g, dt_val x, dt_axes axes, int dim);
dt_val dt_slice(dt_graph *g, dt_val x, dt_axes axes, int dim);
dt_val dt_lse_finish(dt_graph *g, dt_val m, dt_val x, int stage);
#endif
