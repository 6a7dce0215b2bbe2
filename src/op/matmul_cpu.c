/* Matrix product on the CPU: the device's GEMM on this rank's slices. */
#include "op/cpu.h"
#include "op/matmul.h"
#include <string.h> // memcpy

dt_status DT_CPU_KERNEL(matmul)(const dt_call *call)
{
    const dt_matmul_attr *attr = DT_ATTR(dt_matmul_attr, call);
    const dt_tensor *a = &call->in[0], *b = &call->in[1], *y = &call->out[0];
    const real *c = call->nin > 2 ? DT_IN(call, 2) : NULL;
    if (c != NULL && c != DT_OUT(call, 0)) memcpy(y->data, c, (size_t)dt_tensor_count(y) * sizeof(real));
    DT_CPU_KERNEL(gemm)
    (attr->ta, attr->tb, y->dim[0], y->dim[1], a->dim[!attr->ta], (real)attr->alpha, DT_IN(call, 0), a->dim[1],
     DT_IN(call, 1), b->dim[1], c != NULL ? 1 : 0, DT_OUT(call, 0), y->dim[1], call->threads);
    return DT_OK;
}
