/* The ops that move data between ranks, on the CPU: the communicator works on whole buffers, so a tensor that is cut
 * along an inner dimension is put together from, or taken apart into, the ranks' parts here. */
#include "op/collective.h"
#include "op/cpu.h"
#include <string.h> // memcpy

static dt_comm_type comm_type(const dt_tensor *t)
{
    return t->type == DT_TYPE_I32 ? DT_COMM_I32 : DT_COMM_REAL;
}

static size_t element_size(const dt_tensor *t)
{
    return dt_comm_type_size(comm_type(t));
}

dt_status DT_CPU_KERNEL(all_reduce)(const dt_call *call)
{
    const dt_collective_attr *attr = DT_ATTR(dt_collective_attr, call);
    const dt_tensor *x = &call->in[0], *y = &call->out[0];
    const int64_t count = dt_tensor_count(x);
    if (y->data != x->data) memcpy(y->data, x->data, (size_t)count * element_size(x));
    return call->comm->ops->all_reduce(call->comm, attr->axes, y->data, count, comm_type(x), attr->op);
}

dt_status DT_CPU_KERNEL(all_gather)(const dt_call *call)
{
    const dt_axes axes = DT_ATTR(dt_collective_attr, call)->axes;
    const dt_tensor *x = &call->in[0], *y = &call->out[0];
    dt_parts l;
    DT_TRY(dt_parts_of(call, y, x, element_size(x), &l));
    unsigned char *parts = l.pieces > 1 ? call->workspace : y->data, *to = y->data;
    DT_TRY(call->comm->ops->all_gather(call->comm, axes, x->data, parts, dt_tensor_count(x), comm_type(x)));
    for (int64_t i = 0; l.pieces > 1 && i < l.pieces; i++)
        for (int64_t r = 0; r < l.ranks; r++, to += l.run)
            memcpy(to, parts + (size_t)(r * l.pieces + i) * l.run, l.run);
    return DT_OK;
}

dt_status DT_CPU_KERNEL(reduce_scatter)(const dt_call *call)
{
    const dt_axes axes = DT_ATTR(dt_collective_attr, call)->axes;
    const dt_tensor *x = &call->in[0], *y = &call->out[0];
    dt_parts l;
    DT_TRY(dt_parts_of(call, x, y, element_size(y), &l));
    const unsigned char *from = x->data;
    unsigned char *parts = call->workspace;
    for (int64_t i = 0; l.pieces > 1 && i < l.pieces; i++)
        for (int64_t r = 0; r < l.ranks; r++, from += l.run)
            memcpy(parts + (size_t)(r * l.pieces + i) * l.run, from, l.run);
    return call->comm->ops->reduce_scatter(call->comm, axes, l.pieces > 1 ? call->workspace : x->data, y->data,
                                           dt_tensor_count(y), comm_type(y));
}

dt_status DT_CPU_KERNEL(slice)(const dt_call *call)
{
    const int dim = DT_ATTR(dt_collective_attr, call)->dim;
    const dt_tensor *x = &call->in[0], *y = &call->out[0];
    size_t inner = element_size(y);
    int64_t rows = 1;
    for (int i = 0; i < dim; i++) rows *= y->dim[i];
    for (int i = dim + 1; i < y->ndim; i++) inner *= (size_t)y->dim[i];
    const size_t run = (size_t)y->dim[dim] * inner, stride = (size_t)x->dim[dim] * inner;
    const unsigned char *from = (const unsigned char *)x->data + (size_t)(y->off[dim] - x->off[dim]) * inner;
    unsigned char *to = y->data;
    for (int64_t i = 0; i < rows; i++) memcpy(to + (size_t)i * run, from + (size_t)i * stride, run);
    return DT_OK;
}

/* Where no rank has anything to sum (m is minus infinity), the result is minus infinity rather than undefined. */
dt_status DT_CPU_KERNEL(lse_finish)(const dt_call *call)
{
    const bool exponential = DT_ATTR(dt_collective_attr, call)->dim == 0;
    const int64_t count = dt_tensor_count(&call->out[0]);
    const real *m = DT_IN(call, 0), *x = DT_IN(call, 1);
    real *y = DT_OUT(call, 0);
    for (int64_t i = 0; i < count; i++) {
        if (exponential) y[i] = m[i] > -INFINITY ? (real)exp((double)(x[i] - m[i])) : 0;
        else y[i] = m[i] + (real)log((double)x[i]);
    }
    return DT_OK;
}
