/* Selected entries of a matrix: gather, in-place scatter, and the weight gradient at selected entries only. Indices are
 * I32, flat and row-major in the *local* slice of the matrix, ascending; idx and values are ragged (each rank has its
 * own count). */
#ifndef DT_OP_SPARSE_H
#define DT_OP_SPARSE_H
#include "graph/graph.h"
/** v[k] (ACC) = x_flat[idx[k]]. Inputs x, idx. Placement: x split -> v split 0 (ragged), x partial -> v partial. Fuse:
 * gather(matmul(dy, x, ta), idx), of a product that only gathers read, -> sampled_wgrad(dy, x, idx) where the share of
 * entries is below DT_SAMPLED_SHARE; any other gather of a temporary moves up to right behind what computes it, so that
 * a dense gradient lives no longer than it takes to read it. Gradient: none is needed. */
dt_val dt_gather(dt_graph *g, dt_val x, dt_val idx);
/** y = W with val[k] (ACC) added at idx[k]: inputs W, idx, val. In the forward graph y is a copy; gradient: dval =
 * gather(dy, idx), dW = dy. Fuse: a forward scatter_add on a WEIGHT that nothing else reads is removed, its readers
 * read W: the update is then done in W itself after each optimizer step (dt_graph_add_update records it). */
dt_val dt_scatter_add(dt_graph *g, dt_val w, dt_val idx, dt_val val);
/** In place, W_flat[idx[k]] = src[k]: inputs W, idx, src; output shares W's storage. */
dt_val dt_scatter_copy(dt_graph *g, dt_val w, dt_val idx, dt_val src);
/** v[k] (ACC) = sum_N dy[n, o(k)] x[n, i(k)], idx[k] = o * I + i: the entries idx of dy^T x, without the matrix. Split
 * tokens -> partial; dy split along O or x along I: as the weight. */
dt_val dt_sampled_wgrad(dt_graph *g, dt_val dy, dt_val x, dt_val idx);

/** Share of a matrix's entries from which the whole product, then a gather, is faster: measured on AVX-512, where they
 * break even between 0.09 (I = 3072) and 0.16 (I = 768). */
#define DT_SAMPLED_SHARE 0.08
/** Tokens that the CPU kernel of sampled_wgrad takes at a time: its transposed x of width I stays in a core's cache. */
int64_t dt_sampled_tokens(int64_t width);
#endif
