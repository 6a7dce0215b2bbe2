/* Gated linear unit with SiLU on the CPU. */
#include "op/cpu.h"
#include "op/swiglu.h"

/* Elements of a task. */
#define SPAN 4096

DT_VECTOR static void forward(int64_t n, const real *gate, const real *up, real *h)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) h[i] = gate[i] / (1 + dt_exp(-gate[i])) * up[i];
}

dt_status DT_CPU_KERNEL(swiglu)(const dt_call *call)
{
    const int64_t count = dt_tensor_count(&call->out[0]);
    const real *gate = DT_IN(call, 0), *up = DT_IN(call, 1);
    real *h = DT_OUT(call, 0);
#pragma omp parallel for num_threads(dt_cpu_threads(call, 1, count))
    for (int64_t i = 0; i < count; i += SPAN) forward(count - i < SPAN ? count - i : SPAN, gate + i, up + i, h + i);
    return DT_OK;
}

/* silu'(x) = s + x s (1 - s), s the logistic function. Either output may be absent, or be the operand it belongs to. */
DT_VECTOR static void backward(int64_t n, const real *dh, const real *gate, const real *up, real *dgate, real *dup)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        real x = gate[i], s = 1 / (1 + dt_exp(-x)), dy = dh[i], u = up[i];
        if (dgate != NULL) dgate[i] = dy * u * (s + x * s * (1 - s));
        if (dup != NULL) dup[i] = dy * (x * s);
    }
}

dt_status DT_CPU_KERNEL(swiglu_grad)(const dt_call *call)
{
    const int64_t count = dt_tensor_count(&call->in[1]);
    const real *dh = DT_IN(call, 0), *gate = DT_IN(call, 1), *up = DT_IN(call, 2);
    real *dgate = DT_OUT(call, 0), *dup = DT_OUT(call, 1);
#pragma omp parallel for num_threads(dt_cpu_threads(call, 1, count))
    for (int64_t i = 0; i < count; i += SPAN)
        backward(count - i < SPAN ? count - i : SPAN, dh + i, gate + i, up + i, dgate != NULL ? dgate + i : NULL,
                 dup != NULL ? dup + i : NULL);
    return DT_OK;
}
