/* Several tensors as one, and one as several, on the CPU: rows of the parts are copied. */
#include "op/cpu.h"
#include "op/parts.h"
#include <string.h> // memcpy, memset

/* The whole is `rows` rows of `total` numbers, in which part i has width[i] of them behind first[i]. */
typedef struct layout {
    int64_t rows, total, first[DT_MAX_PARTS], width[DT_MAX_PARTS];
} layout;

static layout layout_of(const dt_parts_attr *attr, const dt_tensor *whole)
{
    layout l = {.rows = 1};
    int64_t inner = 1;
    for (int d = 0; d < attr->dim; d++) l.rows *= whole->dim[d];
    for (int d = attr->dim + 1; d < whole->ndim; d++) inner *= whole->dim[d];
    for (int i = 0; i < attr->n; i++) {
        l.first[i] = l.total;
        l.width[i] = attr->size[i] * inner;
        l.total += l.width[i];
    }
    return l;
}

dt_status DT_CPU_KERNEL(concat)(const dt_call *call)
{
    const dt_parts_attr *attr = DT_ATTR(dt_parts_attr, call);
    const layout l = layout_of(attr, &call->out[0]);
    real *y = DT_OUT(call, 0);
#pragma omp parallel for num_threads(dt_cpu_threads(call, l.rows, l.total))
    for (int64_t n = 0; n < l.rows; n++) {
        for (int i = 0; i < attr->n; i++) {
            const size_t bytes = (size_t)l.width[i] * sizeof(real);
            real *to = y + n * l.total + l.first[i];
            if (call->in[i].data != NULL) memcpy(to, DT_IN(call, i) + n * l.width[i], bytes);
            else memset(to, 0, bytes);
        }
    }
    return DT_OK;
}

dt_status DT_CPU_KERNEL(parts)(const dt_call *call)
{
    const dt_parts_attr *attr = DT_ATTR(dt_parts_attr, call);
    const layout l = layout_of(attr, &call->in[0]);
    const real *x = DT_IN(call, 0);
#pragma omp parallel for num_threads(dt_cpu_threads(call, l.rows, l.total))
    for (int64_t n = 0; n < l.rows; n++)
        for (int i = 0; i < attr->n; i++)
            if (call->out[i].data != NULL)
                memcpy(DT_OUT(call, i) + n * l.width[i], x + n * l.total + l.first[i],
                       (size_t)l.width[i] * sizeof(real));
    return DT_OK;
}
