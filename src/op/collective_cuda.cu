/* The ops that move data between ranks, on CUDA: as on the CPU, with strided copies on the stream. */
#include "op/cuda.cuh"
extern "C" {
#include "op/collective.h"
}

static dt_comm_type comm_type(const dt_tensor *t)
{
    if (t->type == DT_TYPE_I32) return DT_COMM_I32;
    return t->type == DT_TYPE_ACT && sizeof(act) == 2 ? DT_COMM_BF16 : DT_COMM_F32;
}

static size_t element_size(const dt_tensor *t)
{
    return dt_comm_type_size(comm_type(t));
}

static dt_status copy(const dt_call *call, void *dst, const void *src, size_t bytes)
{
    return dt_cuda_check(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, stream_of(call)), "a copy");
}

/* `rows` runs of `run` bytes, so far apart in both. */
static dt_status copy_runs(const dt_call *call, void *dst, size_t dst_stride, const void *src, size_t src_stride,
                           size_t run, int64_t rows)
{
    if (run == 0 || rows == 0) return DT_OK;
    return dt_cuda_check(cudaMemcpy2DAsync(dst, dst_stride, src, src_stride, run, (size_t)rows,
                                           cudaMemcpyDeviceToDevice, stream_of(call)),
                         "a strided copy");
}

dt_status DT_CUDA_KERNEL(all_reduce)(const dt_call *call)
{
    const dt_collective_attr *attr = DT_ATTR(dt_collective_attr, call);
    const dt_tensor *x = &call->in[0], *y = &call->out[0];
    const int64_t count = count_of(x);
    if (y->data != x->data) DT_TRY(copy(call, y->data, x->data, (size_t)count * element_size(x)));
    return call->comm->ops->all_reduce(call->comm, attr->axes, y->data, count, comm_type(x), attr->op);
}

static size_t whole_bytes(const dt_call *call, const dt_tensor *whole)
{
    int64_t pieces = 1;
    for (int i = 0; i < DT_ATTR(dt_collective_attr, call)->dim; i++) pieces *= whole->dim[i];
    return pieces > 1 ? (size_t)count_of(whole) * element_size(whole) : 0;
}

extern "C" size_t DT_CUDA_WORKSPACE(all_gather)(const dt_call *call)
{
    return whole_bytes(call, &call->out[0]);
}

dt_status DT_CUDA_KERNEL(all_gather)(const dt_call *call)
{
    const dt_axes axes = DT_ATTR(dt_collective_attr, call)->axes;
    const dt_tensor *x = &call->in[0], *y = &call->out[0];
    dt_parts l;
    DT_TRY(dt_parts_of(call, y, x, element_size(x), &l));
    char *parts = (char *)(l.pieces > 1 ? call->workspace : y->data);
    DT_TRY(call->comm->ops->all_gather(call->comm, axes, x->data, parts, count_of(x), comm_type(x)));
    for (int64_t r = 0; l.pieces > 1 && r < l.ranks; r++)
        DT_TRY(copy_runs(call, (char *)y->data + (size_t)r * l.run, (size_t)l.ranks * l.run,
                         parts + (size_t)(r * l.pieces) * l.run, l.run, l.run, l.pieces));
    return DT_OK;
}

extern "C" size_t DT_CUDA_WORKSPACE(reduce_scatter)(const dt_call *call)
{
    return whole_bytes(call, &call->in[0]);
}

dt_status DT_CUDA_KERNEL(reduce_scatter)(const dt_call *call)
{
    const dt_axes axes = DT_ATTR(dt_collective_attr, call)->axes;
    const dt_tensor *x = &call->in[0], *y = &call->out[0];
    dt_parts l;
    DT_TRY(dt_parts_of(call, x, y, element_size(y), &l));
    char *parts = (char *)(l.pieces > 1 ? call->workspace : x->data);
    for (int64_t r = 0; l.pieces > 1 && r < l.ranks; r++)
        DT_TRY(copy_runs(call, parts + (size_t)(r * l.pieces) * l.run, l.run, (const char *)x->data + (size_t)r * l.run,
                         (size_t)l.ranks * l.run, l.run, l.pieces));
    return call->comm->ops->reduce_scatter(call->comm, axes, parts, y->data, count_of(y), comm_type(y));
}

dt_status DT_CUDA_KERNEL(slice)(const dt_call *call)
{
    const int dim = DT_ATTR(dt_collective_attr, call)->dim;
    const dt_tensor *x = &call->in[0], *y = &call->out[0];
    size_t inner = element_size(y);
    int64_t rows = 1;
    for (int i = 0; i < dim; i++) rows *= y->dim[i];
    for (int i = dim + 1; i < y->ndim; i++) inner *= (size_t)y->dim[i];
    const size_t run = (size_t)y->dim[dim] * inner, stride = (size_t)x->dim[dim] * inner;
    return copy_runs(call, y->data, run, (const char *)x->data + (size_t)(y->off[dim] - x->off[dim]) * inner, stride,
                     run, rows);
}

/* Where no rank has anything to sum (m is minus infinity), the result is minus infinity rather than undefined. */
struct finished {
    bool exponential;
    __device__ float operator()(float m, float x, int64_t i) const
    {
        if (exponential) return m > -INFINITY ? expf(x - m) : 0.0f;
        return m + logf(x);
    }
};

dt_status DT_CUDA_KERNEL(lse_finish)(const dt_call *call)
{
    finished f = {DT_ATTR(dt_collective_attr, call)->dim == 0};
    return map(call, count_of(&call->out[0]), DT_IN(call, 0), DT_IN(call, 1), DT_OUT(call, 0), f);
}
