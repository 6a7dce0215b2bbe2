/* Matrix product, the op behind every linear layer, its gradients, and LoRA. */
#ifndef DT_OP_MATMUL_H
#define DT_OP_MATMUL_H
#include "graph/graph.h"

typedef struct dt_matmul_attr {
    bool ta, tb; /* use A^T, B^T */
    double alpha;
    dt_type type; /* of Y (without C) */
} dt_matmul_attr;

/** Y[m,n] = alpha op(A)[m,k] op(B)[k,n] (+ C[m,n]). A, B, C: ACT or ACC, two-dimensional; Y has `type`, with C (neither
 * A nor B) that one's. Differentiable in all three. Placement: split m or n -> split; split k on both -> partial; one
 * partial operand -> partial (a C must then be partial too). */
dt_val dt_matmul(dt_graph *g, dt_val a, dt_val b, bool ta, bool tb, double alpha, dt_type type);
dt_val dt_matmul_add(dt_graph *g, dt_val a, dt_val b, dt_val c, bool ta, bool tb, double alpha);
/** y[N,O] = x[N,I] W[O,I]^T (+ b[O]; DT_NONE: none). */
dt_val dt_linear(dt_graph *g, dt_val x, dt_val w, dt_val b);

/** Does a device whose ACT is narrower than ACC round operand i, 0 or 1, of `node` before it multiplies? It does unless
 *  all of the product is ACC. False for nodes of other ops. */
bool dt_matmul_rounds(const dt_graph *g, int32_t node, int i);

/** Fuse: `node`, whose output 0 is factor * product, is replaced by the product's own node with alpha multiplied, if
 * that is a plain product that nobody else reads. Returns true if it was replaced. */
bool dt_matmul_absorb_factor(dt_graph *g, int32_t node, dt_val product, double factor);
/** Merge (src/op/matmul_merge.c): narrow products x A_i^T of one x with several parameters become one. */
bool dt_matmul_merge(dt_graph *g, int32_t node);
#endif
