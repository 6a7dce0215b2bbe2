/* Gated linear unit with SiLU (Shazeer 2020). */
#ifndef DT_OP_SWIGLU_H
#define DT_OP_SWIGLU_H
#include "graph/graph.h"
/** h[N,F] = silu(gate[N,F]) * up[N,F]. Gradient op swiglu_grad(dh, gate, up) -> (dgate, dup), each optional.
 * Elementwise. Fuse: a low-rank product added to an operand is computed on the fly (op/lowrank.h), and gate and up stay
 * in memory as they were before it. */
dt_val dt_swiglu(dt_graph *g, dt_val gate, dt_val up);
#endif
