/* What an epilogue does to flat fp32 buffers: norm, and the optimizers' updates. All ACC; lr, scale and the like are
 * device scalars so that a captured epilogue can be replayed. */
#ifndef DT_OP_UPDATE_H
#define DT_OP_UPDATE_H
#include "graph/graph.h"
typedef struct dt_grad_norm_attr {
    double weight; /* of this range: 1 / ranks that hold it */
} dt_grad_norm_attr;
/** out[1] = (acc[0] or 0 if acc is DT_NONE) + weight * sum_i x_i^2, in double. Inputs x, acc. */
dt_val dt_grad_norm(dt_graph *g, dt_val x, dt_val acc, double weight);

/** hyper[8] ACC input of an update: lr, gradient scale, 1 - beta1^t, 1 - beta2^t, clip norm (0: none), (rest unused).
 * normsq[1]: sum of squares of the unscaled gradient; the clip factor is min(1, clip / (scale * sqrt(normsq) + 1e-6))
 * as PyTorch's clip_grad_norm_. A non-finite normsq skips the update (parameters and moments stay). */
enum { DT_HYPER_LR, DT_HYPER_SCALE, DT_HYPER_BIAS1, DT_HYPER_BIAS2, DT_HYPER_CLIP, DT_HYPER_COUNT = 8 };
typedef struct dt_adamw_attr {
    double beta1, beta2, eps, weight_decay, lr_scale;
} dt_adamw_attr;
/** In place: p, m, v from gradient grad (inputs p, m, v, grad, hyper, normsq; outputs p', m', v' in the same storage).
 * AdamW as PyTorch computes it: p -= lr wd p; m, v updated; p -= lr m^ / (sqrt(v^) + eps). */
void dt_adamw(dt_graph *g, dt_val p, dt_val m, dt_val v, dt_val grad, dt_val hyper, dt_val normsq, dt_adamw_attr attr);
typedef struct dt_lion_attr {
    double beta1, beta2, weight_decay, lr_scale;
} dt_lion_attr;
/** In place: p -= lr (sign(beta1 m + (1 - beta1) grad) + wd p); m = beta2 m + (1 - beta2) grad. Chen et al. 2023,
 * algorithm 2. Inputs p, m, grad, hyper, normsq; outputs p', m' in the same storage. */
void dt_lion(dt_graph *g, dt_val p, dt_val m, dt_val grad, dt_val hyper, dt_val normsq, dt_lion_attr attr);
typedef struct dt_sgd_attr {
    double momentum, weight_decay, lr_scale;
} dt_sgd_attr;
/** In place: grad += wd p; m = momentum m + grad; p -= lr m (m absent where momentum is 0). Inputs p, grad, hyper,
 * normsq, m or DT_NONE; outputs p', (grad slot DT_NONE), m'. The first step's m is the gradient itself, as PyTorch's.
 */
void dt_sgd(dt_graph *g, dt_val p, dt_val m, dt_val grad, dt_val hyper, dt_val normsq, dt_sgd_attr attr);
#endif
