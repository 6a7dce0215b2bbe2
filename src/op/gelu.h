/* Gaussian error linear unit, in its tanh form (Hendrycks & Gimpel 2016). */
#ifndef DT_OP_GELU_H
#define DT_OP_GELU_H
#include "graph/graph.h"
/** y[N,F] = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): gelu_new of Hugging Face. Gradient op gelu_grad(dy, x) ->
 * dx. Elementwise. Fuse: a low-rank product added to an operand is computed on the fly (op/lowrank.h). */
dt_val dt_gelu(dt_graph *g, dt_val x);
#endif
