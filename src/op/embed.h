/* Token embedding. */
#ifndef DT_OP_EMBED_H
#define DT_OP_EMBED_H
#include "graph/graph.h"
/** y[N,C] = W[tokens[N], :]. W[V,C] split along V: rows outside the slice give 0, y is partial. tokens split along N: y
 * split. Gradient: embed_grad(tokens, dy, W) -> dW[V,C] ACC, dW[tokens[n]] += dy[n] (W only lends its shape and
 * placement; tokens in ascending n so that sums are repeatable). dy partial is resolved; tokens split along N and W not
 * split there: dW partial. */
dt_val dt_embed(dt_graph *g, dt_val tokens, dt_val w);
#endif
