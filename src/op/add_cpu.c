/* Elementwise arithmetic on the CPU. Every output may be one of the inputs. */
#include "op/add.h"
#include "op/cpu.h"

/* Elements of a task: enough to be worth a thread, few enough to stay in its cache. */
#define SPAN 8192

typedef void (*span_fn)(int64_t n, real factor, const real *a, const real *b, real *y);

DT_VECTOR static void add_span(int64_t n, real factor, const real *a, const real *b, real *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

DT_VECTOR static void scale_span(int64_t n, real factor, const real *a, const real *b, real *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = factor * a[i];
}

DT_VECTOR static void multiply_span(int64_t n, real factor, const real *a, const real *b, real *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = a[i] * b[i];
}

static dt_status over_spans(const dt_call *call, span_fn span, real factor, const real *a, const real *b)
{
    const int64_t count = dt_tensor_count(&call->out[0]);
    real *y = DT_OUT(call, 0);
#pragma omp parallel for num_threads(dt_cpu_threads(call, 1, count))
    for (int64_t i = 0; i < count; i += SPAN) span(count - i < SPAN ? count - i : SPAN, factor, a + i, b + i, y + i);
    return DT_OK;
}

dt_status DT_CPU_KERNEL(add)(const dt_call *call)
{
    return over_spans(call, add_span, 1, DT_IN(call, 0), DT_IN(call, 1));
}

dt_status DT_CPU_KERNEL(accumulate)(const dt_call *call)
{
    return over_spans(call, add_span, 1, DT_IN(call, 0), DT_IN(call, 1));
}

dt_status DT_CPU_KERNEL(scale)(const dt_call *call)
{
    real factor = (real)DT_ATTR(dt_scale_attr, call)->factor;
    return over_spans(call, scale_span, factor, DT_IN(call, 0), DT_IN(call, 0));
}

dt_status DT_CPU_KERNEL(square)(const dt_call *call)
{
    return over_spans(call, multiply_span, 1, DT_IN(call, 0), DT_IN(call, 0));
}
