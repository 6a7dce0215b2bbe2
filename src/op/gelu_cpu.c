/* Gaussian error linear unit on the CPU. Since (1 + tanh u) / 2 = 1 / (1 + e^-2u), one exponential an element. */
#include "op/cpu.h"
#include "op/gelu.h"

/* Elements of a task. */
#define SPAN 4096

/* 2 sqrt(2/pi) and the cubic term's share. */
#define TWICE_ROOT ((real)1.5957691216057308)
#define CUBIC ((real)0.044715)

DT_VECTOR static void forward(int64_t n, const real *x, real *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        real u = TWICE_ROOT * x[i] * (1 + CUBIC * x[i] * x[i]);
        y[i] = x[i] / (1 + dt_exp(-u));
    }
}

dt_status DT_CPU_KERNEL(gelu)(const dt_call *call)
{
    const int64_t count = dt_tensor_count(&call->out[0]);
    const real *x = DT_IN(call, 0);
    real *y = DT_OUT(call, 0);
#pragma omp parallel for num_threads(dt_cpu_threads(call, 1, count))
    for (int64_t i = 0; i < count; i += SPAN) forward(count - i < SPAN ? count - i : SPAN, x + i, y + i);
    return DT_OK;
}

/* d/dx x s(u) = s + x s (1 - s) u', s the logistic function. */
DT_VECTOR static void backward(int64_t n, const real *dy, const real *x, real *dx)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        real square = x[i] * x[i], u = TWICE_ROOT * x[i] * (1 + CUBIC * square);
        real slope = TWICE_ROOT * (1 + 3 * CUBIC * square), s = 1 / (1 + dt_exp(-u));
        dx[i] = dy[i] * (s + x[i] * slope * s * (1 - s));
    }
}

dt_status DT_CPU_KERNEL(gelu_grad)(const dt_call *call)
{
    const int64_t count = dt_tensor_count(&call->out[0]);
    const real *dy = DT_IN(call, 0), *x = DT_IN(call, 1);
    real *dx = DT_OUT(call, 0);
#pragma omp parallel for num_threads(dt_cpu_threads(call, 1, count))
    for (int64_t i = 0; i < count; i += SPAN) backward(count - i < SPAN ? count - i : SPAN, dy + i, x + i, dx + i);
    return DT_OK;
}
