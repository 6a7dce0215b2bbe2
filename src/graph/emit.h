/* The few ops that passes emit themselves. Their builders are declared here, above the ops, and defined beside the ops
 * (src/op/add.c, src/op/collective.c): a pass knows what it needs, not how it is done. */
#ifndef DT_GRAPH_EMIT_H
#define DT_GRAPH_EMIT_H

#include "graph/graph.h"

/** y = a + b (same shape, any dims; y has a's type). Placement: both partial stay partial; partial + split: the
 * partial one is scattered; partial + replicated: it is resolved; replicated + split: the replicated one is sliced.
 * Fuse: add(a, f(..)) where f's op has an addend and nobody else reads it -> f with addend a. */
dt_val dt_add(dt_graph *g, dt_val a, dt_val b);

/** acc += x, in place: the returned value shares acc's storage (a STATE). x's type may be ACT, acc is ACC. An
 * accumulator without a placement is partial if its first x is, else replicated. Not differentiable. Fuse: as add. */
dt_val dt_accumulate(dt_graph *g, dt_val acc, dt_val x);

/** y = x * x, elementwise (Fisher information). Not linear: partial is resolved first. */
dt_val dt_square(dt_graph *g, dt_val x);

/** y = sum (or max) of x over the ranks of `axes`. */
dt_val dt_all_reduce(dt_graph *g, dt_val x, dt_axes axes, dt_comm_op op);
/** The group's slices along `dim` put together. */
dt_val dt_all_gather(dt_graph *g, dt_val x, dt_axes axes, int dim);
/** Sum over the ranks of `axes`, then this rank's slice along `dim`. */
dt_val dt_reduce_scatter(dt_graph *g, dt_val x, dt_axes axes, int dim);
/** This rank's slice along `dim` of a replicated x; no communication. */
dt_val dt_slice(dt_graph *g, dt_val x, dt_axes axes, int dim);
/** The two local steps of a log-sum-exp over ranks, with m the maximum: stage 0, exp(x - m); stage 1, m + log(x). */
dt_val dt_lse_finish(dt_graph *g, dt_val m, dt_val x, int stage);

#endif
