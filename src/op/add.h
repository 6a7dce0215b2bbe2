/* Sums and multiples of tensors of one shape. */
#ifndef DT_OP_ADD_H
#define DT_OP_ADD_H
#include "graph/graph.h"

/** y = a + b (same shape, any dims; y has a's type). Placement: both partial stay partial; partial + other: the partial
 * one is resolved to the other's placement; replicated + split: the replicated one is sliced. Fuse: add(a, matmul(..))
 * where the product has no other reader, a is a temporary with no later reader -> matmul with C = a. */
dt_val dt_add(dt_graph *g, dt_val a, dt_val b);

/** acc += x, in place: the returned value shares acc's storage (a STATE). x's type may be ACT, acc is ACC. An
 * accumulator takes x's placement, partial included. Not differentiable. Fuse: accumulate(acc, matmul(..)), product
 * read nowhere else, -> matmul with C = acc. */
dt_val dt_accumulate(dt_graph *g, dt_val acc, dt_val x);

typedef struct dt_scale_attr {
    double factor;
} dt_scale_attr;
/** y = factor * x. Linear: partial stays partial. */
dt_val dt_scale(dt_graph *g, dt_val x, double factor);
/** y = x * x, elementwise (Fisher information). Not linear: partial is resolved first. */
dt_val dt_square(dt_graph *g, dt_val x);
#endif
