/* Adding a vector to every row, and its gradient. */
#ifndef DT_OP_BIAS_H
#define DT_OP_BIAS_H
#include "graph/graph.h"
/** y[N,O] = x[N,O] + b[O]. Gradients: dx = dy, db[O] = sum_N dy (op bias_grad: one input dy[N,O], output ACC [O]).
 * Placement: x split along tokens: b replicated; split along features: b split. A partial x is resolved. bias_grad:
 * tokens split -> partial; features split -> split 0; partial -> partial. */
dt_val dt_bias(dt_graph *g, dt_val x, dt_val b);
#endif
