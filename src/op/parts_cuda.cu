/* Several tensors as one, and one as several, on CUDA: one kernel for all parts, bound by memory. */
#include "op/cuda.cuh"
extern "C" {
#include "op/parts.h"
}

/* The whole is rows of `total` elements, in which part i begins at first[i]; absent parts have no data. */
struct layout {
    int n;
    int64_t total, first[DT_MAX_PARTS + 1];
    floats part[DT_MAX_PARTS];
};

/* Where element `at` of a row of the whole is: the part, how wide that is, and which element of its row. */
struct place {
    floats part;
    int64_t width, j;
};

static __device__ inline place place_of(const layout &l, int64_t at)
{
    place p = {l.part[0], l.first[1], at};
#pragma unroll
    for (int i = 1; i < DT_MAX_PARTS; i++) {
        if (i >= l.n || at < l.first[i]) continue;
        p.part = l.part[i];
        p.width = l.first[i + 1] - l.first[i];
        p.j = at - l.first[i];
    }
    return p;
}

/* W elements at a time, W = 8 or 1. GATHER: from the parts to the whole, else back. */
template <int W, bool GATHER>
static __global__ void move_parts(int64_t packs, layout l, floats whole)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < packs; i += (int64_t)gridDim.x * blockDim.x) {
        const int64_t at = i * W, row = at / l.total;
        const place p = place_of(l, at - row * l.total);
        const int64_t there = row * p.width + p.j;
        float v[8] = {};
        if (GATHER) {
            if (p.part.data != NULL && W == 8) p.part.load8(there, v);
            else if (p.part.data != NULL) v[0] = p.part[there];
            if (W == 8) whole.store8(at, v);
            else whole.set(at, v[0]);
        } else if (p.part.data != NULL && W == 8) {
            whole.load8(at, v);
            p.part.store8(there, v);
        } else if (p.part.data != NULL) {
            p.part.set(there, whole[at]);
        }
    }
}

/* Where the parts of `whole` lie, and whether eight elements at a time never cross from one to the next. */
static layout layout_of(const dt_call *call, const dt_tensor *part, const dt_tensor *whole, bool *wide)
{
    const dt_parts_attr *attr = DT_ATTR(dt_parts_attr, call);
    layout l = {};
    int64_t inner = 1;
    for (int d = attr->dim + 1; d < whole->ndim; d++) inner *= whole->dim[d];
    *wide = floats_of(whole).wide;
    l.n = attr->n;
    for (int i = 0; i < attr->n; i++) {
        l.part[i] = floats_of(&part[i]);
        l.first[i] = l.total;
        l.total += attr->size[i] * inner;
        l.first[i + 1] = l.total;
        *wide = *wide && l.part[i].wide && attr->size[i] * inner % 8 == 0;
    }
    return l;
}

dt_status DT_CUDA_KERNEL(concat)(const dt_call *call)
{
    bool wide = false;
    const layout l = layout_of(call, call->in, &call->out[0], &wide);
    const int64_t n = count_of(&call->out[0]) / (wide ? 8 : 1);
    if (n == 0) return DT_OK;
    auto kernel = wide ? move_parts<8, true> : move_parts<1, true>;
    kernel<<<blocks_for(call, n, DT_MAP_THREADS), DT_MAP_THREADS, 0, stream_of(call)>>>(n, l, DT_OUT(call, 0));
    return launched();
}

dt_status DT_CUDA_KERNEL(parts)(const dt_call *call)
{
    bool wide = false;
    const layout l = layout_of(call, call->out, &call->in[0], &wide);
    const int64_t n = count_of(&call->in[0]) / (wide ? 8 : 1);
    if (n == 0) return DT_OK;
    auto kernel = wide ? move_parts<8, false> : move_parts<1, false>;
    kernel<<<blocks_for(call, n, DT_MAP_THREADS), DT_MAP_THREADS, 0, stream_of(call)>>>(n, l, DT_IN(call, 0));
    return launched();
}
