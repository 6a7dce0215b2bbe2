/* Gated linear unit with SiLU on the CPU. */
#include "op/lowrank_cpu.h"
#include "op/swiglu.h"

DT_VECTOR static void forward(int64_t n, const real *gate, const real *up, real *h)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) h[i] = gate[i] / (1 + dt_exp(-gate[i])) * up[i];
}

DT_VECTOR static void forward_added(int64_t n, const real *gate, const real *up, const real *gate_add,
                                    const real *up_add, real *h)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        real x = gate[i] + gate_add[i];
        h[i] = x / (1 + dt_exp(-x)) * (up[i] + up_add[i]);
    }
}

static void forward_span(int64_t n, const real *const *in, const real *const *add, real *const *out)
{
    if (add == NULL) forward(n, in[0], in[1], out[0]);
    else forward_added(n, in[0], in[1], add[0], add[1], out[0]);
}

dt_status DT_CPU_KERNEL(swiglu)(const dt_call *call)
{
    DT_CPU_KERNEL(lowrank_map)(call, forward_span);
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

DT_VECTOR static void backward_added(int64_t n, const real *const *in, const real *const *add, real *dgate, real *dup)
{
    const real *dh = in[0], *gate = in[1], *up = in[2], *dh_add = add[0], *gate_add = add[1], *up_add = add[2];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        real x = gate[i] + gate_add[i], s = 1 / (1 + dt_exp(-x)), dy = dh[i] + dh_add[i], u = up[i] + up_add[i];
        if (dgate != NULL) dgate[i] = dy * u * (s + x * s * (1 - s));
        if (dup != NULL) dup[i] = dy * (x * s);
    }
}

static void backward_span(int64_t n, const real *const *in, const real *const *add, real *const *out)
{
    if (add == NULL) backward(n, in[0], in[1], in[2], out[0], out[1]);
    else backward_added(n, in, add, out[0], out[1]);
}

dt_status DT_CPU_KERNEL(swiglu_grad)(const dt_call *call)
{
    DT_CPU_KERNEL(lowrank_map)(call, backward_span);
    return DT_OK;
}
