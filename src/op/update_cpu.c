/* Norm of gradients and the optimizers' updates on the CPU. */
#include "op/update_cpu.h"

dt_status DT_CPU_KERNEL(grad_norm)(const dt_call *call)
{
    double acc = call->in[1].data != NULL ? (double)DT_IN(call, 1)[0] : 0;
    double squares =
        DT_CPU_KERNEL(total)(DT_IN(call, 0), dt_tensor_count(&call->in[0]), true, call->workspace, call->threads);
    DT_OUT(call, 0)[0] = (real)(acc + DT_ATTR(dt_grad_norm_attr, call)->weight * squares);
    return DT_OK;
}

static inline real root_of(real x)
{
    return sizeof(real) == sizeof(float) ? (real)sqrtf((float)x) : (real)sqrt((double)x);
}

/* Constants of an AdamW step; names as in Kingma & Ba 2015. */
typedef struct adamw {
    real factor, keep;        /* of the gradient; 1 - lr * weight decay */
    real rest1, beta2, rest2; /* 1 - beta1, beta2, 1 - beta2 */
    real step, root, eps;     /* lr / (1 - beta1^t), sqrt(1 - beta2^t) */
} adamw;

/* Rounds where PyTorch does: the decayed parameter in a loop of its own, so that it is not joined to the step by a
 * fused multiply-add; always the same way, that difference would grow with the steps. */
DT_VECTOR static void adamw_step(const adamw *a, int64_t n, real *restrict p, real *restrict m, real *restrict v,
                                 const real *restrict grad)
{
    if (a->keep != 1)
        for (int64_t i = 0; i < n; i++) p[i] *= a->keep;
    for (int64_t i = 0; i < n; i++) {
        real g = grad[i] * a->factor;
        m[i] += (g - m[i]) * a->rest1;
        v[i] = v[i] * a->beta2 + g * g * a->rest2;
        p[i] -= a->step * m[i] / (root_of(v[i]) / a->root + a->eps);
    }
}

dt_status DT_CPU_KERNEL(adamw)(const dt_call *call)
{
    const dt_adamw_attr *at = DT_ATTR(dt_adamw_attr, call);
    const real *hyper = DT_IN(call, 4);
    double factor;
    if (!gradient_factor(hyper, DT_IN(call, 5)[0], &factor)) return DT_OK;
    double lr = (double)hyper[DT_HYPER_LR] * at->lr_scale;
    const adamw a = {.factor = (real)factor,
                     .keep = (real)(1 - lr * at->weight_decay),
                     .rest1 = (real)(1 - at->beta1),
                     .beta2 = (real)at->beta2,
                     .rest2 = (real)(1 - at->beta2),
                     .step = (real)(lr / (double)hyper[DT_HYPER_BIAS1]),
                     .root = (real)sqrt((double)hyper[DT_HYPER_BIAS2]),
                     .eps = (real)at->eps};
    int64_t n = dt_tensor_count(&call->in[0]);
#pragma omp parallel for schedule(static) num_threads(dt_cpu_threads(call, n, 1))
    for (int64_t i = 0; i < n; i += CHUNK)
        adamw_step(&a, n - i < CHUNK ? n - i : CHUNK, DT_OUT(call, 0) + i, DT_OUT(call, 1) + i, DT_OUT(call, 2) + i,
                   DT_IN(call, 3) + i);
    return DT_OK;
}

typedef struct sgd {
    real factor, decay, momentum, lr;
} sgd;

DT_VECTOR static void sgd_step(const sgd *s, int64_t n, real *restrict p, real *restrict m, const real *restrict grad)
{
    for (int64_t i = 0; i < n; i++) {
        real g = grad[i] * s->factor + s->decay * p[i];
        if (m != NULL) g = m[i] = s->momentum * m[i] + g;
        p[i] -= s->lr * g;
    }
}

dt_status DT_CPU_KERNEL(sgd)(const dt_call *call)
{
    const dt_sgd_attr *at = DT_ATTR(dt_sgd_attr, call);
    const real *hyper = DT_IN(call, 2);
    double factor;
    if (!gradient_factor(hyper, DT_IN(call, 3)[0], &factor)) return DT_OK;
    const sgd s = {(real)factor, (real)at->weight_decay, (real)at->momentum,
                   (real)((double)hyper[DT_HYPER_LR] * at->lr_scale)};
    real *m = DT_OUT(call, 2);
    int64_t n = dt_tensor_count(&call->in[0]);
#pragma omp parallel for schedule(static) num_threads(dt_cpu_threads(call, n, 1))
    for (int64_t i = 0; i < n; i += CHUNK)
        sgd_step(&s, n - i < CHUNK ? n - i : CHUNK, DT_OUT(call, 0) + i, m != NULL ? m + i : NULL, DT_IN(call, 1) + i);
    return DT_OK;
}
