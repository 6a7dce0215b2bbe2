/* Selected entries of a matrix: gather, in-place scatter, and the weight gradient at selected entries only. Indices are
 * I32, flat and row-major in the *local* slice of the matrix, ascending; idx and values are ragged (each rank has its
 * own count). */
#ifndef DT_OP_SPARSE_H
#define DT_OP_SPARSE_H
#include "graph/graph.h"
/** v[k] (ACC) = x_flat[idx[k]]. Inputs x, idx. Placement: x split -> v split 0 (ragged), x partial -> v partial. Fuse:
 * gather(matmul(dy, x, ta), idx) whose product has no other reader -> sampled_wgrad(dy, x, idx) where the share of
 * entries is small enough to pay. Gradient: none is needed. */
dt_val dt_gather(dt_graph *g, dt_val x, dt_val idx);
/** y = W with val[k] (ACC) added at idx[k]: inputs W, idx, val. In the forward graph y is a copy; gradient: dval =
 * gather(dy, idx), dW = dy. Fuse: a forward scatter_add on a WEIGHT is removed, its readers read W: the update is then
 * done in W itself after each optimizer step (dt_scatter_update). */
dt_val dt_scatter_add(dt_graph *g, dt_val w, dt_val idx, dt_val val);
/** In place, W_flat[idx[k]] = src[k]: inputs W, idx, src; output shares W's storage. */
dt_val dt_scatter_copy(dt_graph *g, dt_val w, dt_val idx, dt_val src);
/** v[k] (ACC) = sum_N dy[n, o(k)] x[n, i(k)], idx[k] = o * I + i: the entries idx of dy^T x, without the matrix. Split
 * tokens -> partial; dy split along O or x along I: as the weight. */
dt_val dt_sampled_wgrad(dt_graph *g, dt_val dy, dt_val x, dt_val idx);
#endif
