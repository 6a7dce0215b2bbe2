/* Root-mean-square normalisation (Zhang & Sennrich 2019). */
#ifndef DT_OP_RMSNORM_H
#define DT_OP_RMSNORM_H
#include "graph/graph.h"
typedef struct dt_rmsnorm_attr {
    double eps;
} dt_rmsnorm_attr;
/** y[N,C] = x[N,C] / sqrt(mean_C x^2 + eps) * gain[C]. Second output: rstd[N] ACC, the reciprocal root. Gradient op
 *  rmsnorm_grad(dy, x, gain, rstd) -> (dx[N,C], dgain[C] ACC), each optional. Placement: x replicated or split along
 * tokens (features are gathered); partial resolved. dgain: partial where tokens are split. Sums in double. */
dt_val dt_rmsnorm(dt_graph *g, dt_val x, dt_val gain, double eps);
#endif
