/* Matrix product on the CPU: the device's GEMM on this rank's slices. */
#include "op/cpu.h"
#include "op/matmul.h"
#include <string.h> // memcpy

static void copy_rows(const dt_call *call, int64_t rows, int64_t width, const real *from, real *to)
{
#pragma omp parallel for num_threads(dt_cpu_threads(call, rows, width))
    for (int64_t i = 0; i < rows; i++) memcpy(to + i * width, from + i * width, (size_t)width * sizeof(real));
}

dt_status DT_CPU_KERNEL(matmul)(const dt_call *call)
{
    const dt_matmul_attr *attr = DT_ATTR(dt_matmul_attr, call);
    const dt_tensor *a = &call->in[0], *b = &call->in[1], *y = &call->out[0];
    const real *c = call->nin > 2 ? DT_IN(call, 2) : NULL;
    if (c != NULL && c != DT_OUT(call, 0)) copy_rows(call, y->dim[0], y->dim[1], c, DT_OUT(call, 0));
    DT_CPU_KERNEL(gemm)
    (attr->ta, attr->tb, y->dim[0], y->dim[1], a->dim[!attr->ta], (real)attr->alpha, DT_IN(call, 0), a->dim[1],
     DT_IN(call, 1), b->dim[1], c != NULL ? 1 : 0, DT_OUT(call, 0), y->dim[1], call->threads);
    return DT_OK;
}
