/* Layer normalisation (Ba, Kiros & Hinton 2016). */
#ifndef DT_OP_LAYERNORM_H
#define DT_OP_LAYERNORM_H
#include "graph/graph.h"
typedef struct dt_layernorm_attr {
    double eps;
} dt_layernorm_attr;
/** y[N,C] = (x[N,C] - mean_C x) * rstd * gain[C] + bias[C], rstd = 1 / sqrt(mean_C (x - mean_C x)^2 + eps). Further
 *  outputs: mean[N] and rstd[N], both ACC. Gradient op layernorm_grad(dy, x, gain, mean, rstd, plus) -> (dx[N,C],
 *  dgain[C] ACC, dbias[C] ACC), each optional; plus (may be absent) is added to dx. Placement: x replicated or split
 * along tokens (features are gathered); partial resolved. dgain, dbias: partial where tokens are split. Sums in double.
 */
dt_val dt_layernorm(dt_graph *g, dt_val x, dt_val gain, dt_val bias, double eps);
#endif
