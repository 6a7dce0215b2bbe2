/* Root-mean-square normalisation (Zhang & Sennrich 2019). */
#ifndef DT_OP_RMSNORM_H
#define DT_OP_RMSNORM_H
#include "graph/graph.h"
typedef struct dt_rmsnorm_attr {
    double eps;
} dt_rmsnorm_attr;
/** y[N,G,C] = x[N,G,C] / sqrt(mean_C x^2 + eps) * gain[C]: each of G groups of features by itself, G = 1 or the heads
 * of a projection (x, y: [N, G*C]). Second output: rstd[N,G] ACC, the reciprocal root. Gradient op rmsnorm_grad(dy, x,
 *  gain, rstd, plus) -> (dx[N,G*C], dgain[C] ACC), each optional; plus (may be absent) is added to dx. Placement: x
 * replicated, split along tokens or between groups (otherwise features are gathered); partial resolved. dgain: partial
 * where x is split. Sums in double. */
dt_val dt_rmsnorm(dt_graph *g, dt_val x, dt_val gain, double eps);
#endif
