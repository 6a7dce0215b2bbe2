/* Lion on the CPU. */
#include "op/update_cpu.h"

/* Names as in Chen et al. 2023, algorithm 2. */
typedef struct lion {
    real factor, keep, lr; /* of the gradient; 1 - lr * weight decay */
    real beta1, rest1, beta2, rest2;
} lion;

DT_VECTOR static void lion_step(const lion *l, int64_t n, real *restrict p, real *restrict m, const real *restrict grad)
{
    for (int64_t i = 0; i < n; i++) {
        real g = grad[i] * l->factor, c = l->beta1 * m[i] + l->rest1 * g;
        real sign = (real)((c > 0) - (c < 0));
        p[i] = p[i] * l->keep - l->lr * sign;
        m[i] = l->beta2 * m[i] + l->rest2 * g;
    }
}

dt_status DT_CPU_KERNEL(lion)(const dt_call *call)
{
    const dt_lion_attr *at = DT_ATTR(dt_lion_attr, call);
    const real *hyper = DT_IN(call, 3);
    double factor;
    if (!gradient_factor(hyper, DT_IN(call, 4)[0], &factor)) return DT_OK;
    double lr = (double)hyper[DT_HYPER_LR] * at->lr_scale;
    const lion l = {.factor = (real)factor,
                    .keep = (real)(1 - lr * at->weight_decay),
                    .lr = (real)lr,
                    .beta1 = (real)at->beta1,
                    .rest1 = (real)(1 - at->beta1),
                    .beta2 = (real)at->beta2,
                    .rest2 = (real)(1 - at->beta2)};
    int64_t n = dt_tensor_count(&call->in[0]);
#pragma omp parallel for schedule(static) num_threads(dt_cpu_threads(call, n, 1))
    for (int64_t i = 0; i < n; i += CHUNK)
        lion_step(&l, n - i < CHUNK ? n - i : CHUNK, DT_OUT(call, 0) + i, DT_OUT(call, 1) + i, DT_IN(call, 2) + i);
    return DT_OK;
}
