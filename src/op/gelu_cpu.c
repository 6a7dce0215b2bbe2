/* Gaussian error linear unit on the CPU. Since (1 + tanh u) / 2 = 1 / (1 + e^-2u), one exponential an element. */
#include "op/gelu.h"
#include "op/lowrank_cpu.h"

/* 2 sqrt(2/pi) and the cubic term's share. */
#define TWICE_ROOT ((real)1.5957691216057308)
#define CUBIC ((real)0.044715)

static inline real gelu_of(real x)
{
    return x / (1 + dt_exp(-(TWICE_ROOT * x * (1 + CUBIC * x * x))));
}

DT_VECTOR static void forward(int64_t n, const real *x, real *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = gelu_of(x[i]);
}

DT_VECTOR static void forward_added(int64_t n, const real *x, const real *add, real *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = gelu_of(x[i] + add[i]);
}

static void forward_span(int64_t n, const real *const *in, const real *const *add, real *const *out)
{
    if (add == NULL) forward(n, in[0], out[0]);
    else forward_added(n, in[0], add[0], out[0]);
}

dt_status DT_CPU_KERNEL(gelu)(const dt_call *call)
{
    DT_CPU_KERNEL(lowrank_map)(call, forward_span);
    return DT_OK;
}

/* d/dx x s(u) = s + x s (1 - s) u', s the logistic function. */
static inline real slope_of(real x)
{
    real square = x * x, u = TWICE_ROOT * x * (1 + CUBIC * square);
    real slope = TWICE_ROOT * (1 + 3 * CUBIC * square), s = 1 / (1 + dt_exp(-u));
    return s + x * slope * s * (1 - s);
}

DT_VECTOR static void backward(int64_t n, const real *dy, const real *x, real *dx)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * slope_of(x[i]);
}

DT_VECTOR static void backward_added(int64_t n, const real *dy, const real *x, const real *dy_add, const real *x_add,
                                     real *dx)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dx[i] = (dy[i] + dy_add[i]) * slope_of(x[i] + x_add[i]);
}

static void backward_span(int64_t n, const real *const *in, const real *const *add, real *const *out)
{
    if (add == NULL) backward(n, in[0], in[1], out[0]);
    else backward_added(n, in[0], in[1], add[0], add[1], out[0]);
}

dt_status DT_CPU_KERNEL(gelu_grad)(const dt_call *call)
{
    DT_CPU_KERNEL(lowrank_map)(call, backward_span);
    return DT_OK;
}
