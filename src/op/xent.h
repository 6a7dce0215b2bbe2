/* Cross-entropy of a linear head without its logits in memory, and the small ops around a loss. */
#ifndef DT_OP_XENT_H
#define DT_OP_XENT_H
#include "graph/graph.h"

/** lse[N] = log sum_V exp(h W^T), target[N] = (h W^T)[n, targets[n]] (0 where targets[n] is outside the slice of W),
 * both ACC; from h[N,C], W[V,C], targets[N] I32. Rows whose targets[n] is -1 cost nothing: both results are 0 there.
 * Works through the vocabulary in chunks that stay in cache; the N x V logits never exist. Placement: W split along V:
 * lse is PARTIAL_LSE, target partial; W replicated: all follows the tokens. h split along tokens while W is split on
 * the same axis: h is gathered.
 *
 * dlogits = dlse softmax + dtarget onehot (dlse or dtarget absent: 0); a row with targets[n] = -1 gives nothing. Its
 * products, dh = dlogits W and dW = dlogits^T h, are taken in one of two ways:
 *
 * - W is not trained: the op has two outputs more, which nobody computes unless there is a gradient: expected[N,C] =
 *   softmax W and own[N] = lse, both over the slice of W that is here. With them dh is a sum of rows: xent_dh(expected,
 *   own, W, targets, lse, dlse, dtarget) = dlse exp(own - lse) expected + dtarget W[target]. Two products of the size
 * of the logits in place of three.
 * - W is trained: xent_grad(h, W, targets, lse, dlse, dtarget) -> (dh[N,C], dW[V,C] ACC), each optional, recomputes the
 *   logits chunk by chunk. A row with dlse = dtarget = 0 costs nothing.
 *
 * Both need lse whole (resolved); dh is partial where W is split, dW split (partial where W is replicated and tokens
 * are split). expected and own of ranks that split W are marked partial: they are each rank's own, not terms of a sum.
 */
void dt_xent(dt_graph *g, dt_val h, dt_val w, dt_val targets, dt_val *lse, dt_val *target);
/** How the CPU kernels cut the work: tokens in blocks of DT_XENT_ROWS, the vocabulary in chunks of dt_xent_chunk(C)
 * entries, whose slice of W stays in a core's cache. */
enum { DT_XENT_ROWS = 64 };
int64_t dt_xent_chunk(int64_t width);

/** nll[N] = lse - target where targets[n] >= 0, else 0. Gradient op nll_grad(dnll, targets) -> (dlse, dtarget), each
 * optional. */
dt_val dt_nll(dt_graph *g, dt_val lse, dt_val target, dt_val targets);
/** s[1] = sum of x (ACC, summed in double). Split -> partial; partial stays. Gradient: broadcast. */
dt_val dt_sum(dt_graph *g, dt_val x);
/** y[dims of like] = s[0]: inputs s[1], like (shape and placement only). Gradient: sum. */
dt_val dt_broadcast(dt_graph *g, dt_val s, dt_val like);

typedef struct dt_sample_attr {
    uint64_t seed;
} dt_sample_attr;
/** Labels drawn from softmax(logits[N,V]) (ACC) by the Gumbel-max rule with the counter-based generator: I32 [N]; -1
 * where targets[n] is -1. key[N] I32 tells tokens apart, attr carries the seed. logits are needed replicated along
 * features. Not differentiable. */
dt_val dt_sample(dt_graph *g, dt_val logits, dt_val targets, dt_val key, uint64_t seed);
#endif
