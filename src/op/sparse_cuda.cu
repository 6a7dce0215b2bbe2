/* Ops on selected entries of a matrix on CUDA. */
#include "op/cuda.cuh"
extern "C" {
#include "op/sparse.h"
}

struct gathered {
    floats x;
    const int32_t *idx;
    __device__ float operator()(float a, float b, int64_t i) const
    {
        return x[idx[i]];
    }
};

dt_status DT_CUDA_KERNEL(gather)(const dt_call *call)
{
    floats v = DT_OUT(call, 0);
    gathered f = {DT_IN(call, 0), DT_IN_I32(call, 1)};
    return map(call, call->in[1].dim[0], v, v, v, f);
}

struct unchanged {
    __device__ float operator()(float a, float b, int64_t i) const
    {
        return a;
    }
};

static __global__ void scatter(int64_t n, bool add, const int32_t *idx, floats from, floats to)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x)
        to.set(idx[i], add ? to[idx[i]] + from[i] : from[i]); // indices ascend: no two threads meet
}

static dt_status scatter_to(const dt_call *call, bool add)
{
    const int64_t n = call->in[1].dim[0];
    if (n == 0) return DT_OK;
    scatter<<<blocks_for(call, n, 256), 256, 0, stream_of(call)>>>(n, add, DT_IN_I32(call, 1), DT_IN(call, 2),
                                                                   DT_OUT(call, 0));
    return launched();
}

dt_status DT_CUDA_KERNEL(scatter_add)(const dt_call *call)
{
    DT_TRY(map(call, count_of(&call->in[0]), DT_IN(call, 0), DT_IN(call, 0), DT_OUT(call, 0), unchanged()));
    return scatter_to(call, true);
}

dt_status DT_CUDA_KERNEL(scatter_copy)(const dt_call *call)
{
    return scatter_to(call, false);
}

/* ---- sampled_wgrad ---- */

/* Two ways. By entry: 4 tokens bytes an entry, which come out of the cache at some 5 TB/s. Densely: the whole product
 * on tensor cores at some 600 TFLOP/s, piece by piece in the workspace, of which the entries are taken; this costs the
 * same however few they are. They meet where 2 / 600e12 of a matrix's element is 4 / 5e12 of an entry: 1 in 240. */
enum { DENSE_FROM = 240, PIECE_BYTES = 256 << 20 };

static bool is_dense(const dt_call *call)
{
    const int64_t out = call->in[0].dim[1], in = call->in[1].dim[1];
    return sizeof(act) == 2 && call->in[0].type == DT_TYPE_ACT && call->in[1].type == DT_TYPE_ACT && in > 0 &&
           call->in[2].dim[0] * DENSE_FROM >= out * in;
}

/* Rows of the product in a piece. */
static int64_t piece_rows(const dt_call *call)
{
    const int64_t out = call->in[0].dim[1], in = call->in[1].dim[1], most = PIECE_BYTES / 4 / in / 128 * 128;
    return most < 1 ? 1 : most < out ? most : out;
}

static __global__ void take_entries(int64_t entries, int64_t first, int64_t count, const int32_t *idx,
                                    const float *piece, floats v)
{
    for (int64_t e = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; e < entries; e += (int64_t)gridDim.x * blockDim.x)
        if (idx[e] >= first && idx[e] < first + count) v.set(e, piece[idx[e] - first]);
}

/* v = (dy^T x)[idx], rows [o, o + n) of the product at a time. */
static dt_status sample_dense(const dt_call *call)
{
    const dt_tensor *dy = &call->in[0], *x = &call->in[1];
    const int64_t tokens = dy->dim[0], out = dy->dim[1], in = x->dim[1], entries = call->in[2].dim[0];
    float *piece = (float *)call->workspace;
    for (int64_t o = 0, n; o < out; o += n) {
        n = out - o < piece_rows(call) ? out - o : piece_rows(call);
        dt_cuda_product p = {true, false, n,     in, tokens,      1,         (const act *)dy->data + o, out, x->data,
                             in,   0,     piece, in, DT_CUDA_ACT, CUDA_R_32F};
        DT_TRY(multiply(call, p));
        take_entries<<<blocks_for(call, entries, 256), 256, 0, stream_of(call)>>>(
            entries, o * in, n * in, DT_IN_I32(call, 2), piece, DT_OUT(call, 0));
        DT_TRY(launched());
    }
    return DT_OK;
}

/* Row-major [tokens, width] to [width, tokens], 32 x 32 at a time. */
static __global__ void transpose(int64_t tokens, int64_t width, floats x, act *t)
{
    __shared__ float tile[32][33];
    const int64_t n0 = blockIdx.y * (int64_t)32, c0 = blockIdx.x * (int64_t)32;
    for (int i = threadIdx.y; i < 32; i += 8)
        if (n0 + i < tokens && c0 + threadIdx.x < width) tile[i][threadIdx.x] = x[(n0 + i) * width + c0 + threadIdx.x];
    __syncthreads();
    for (int i = threadIdx.y; i < 32; i += 8)
        if (c0 + i < width && n0 + threadIdx.x < tokens)
            t[(c0 + i) * tokens + n0 + threadIdx.x] = (act)tile[threadIdx.x][i];
}

/* A warp to an entry: the dot product of a row of dy^T and one of x^T. Entries ascend, so that the warps of a block
 * read the same row of dy^T. */
static __global__ void dots(int64_t entries, int64_t in, int64_t tokens, const int32_t *idx, const act *dyt,
                            const act *xt, floats v)
{
    const int64_t warps = (int64_t)gridDim.x * (blockDim.x / 32);
    const int lane = threadIdx.x % 32;
    for (int64_t e = blockIdx.x * (int64_t)(blockDim.x / 32) + threadIdx.x / 32; e < entries; e += warps) {
        floats a = {(void *)(dyt + idx[e] / in * tokens), true, tokens % 16 == 0};
        floats b = {(void *)(xt + idx[e] % in * tokens), true, tokens % 16 == 0};
        float s = 0;
        if (a.wide) {
            for (int64_t n = 8 * lane; n < tokens; n += 8 * 32) {
                float p[8], q[8];
                a.load8(n, p);
                b.load8(n, q);
#pragma unroll
                for (int k = 0; k < 8; k++) s += p[k] * q[k];
            }
        } else {
            for (int64_t n = lane; n < tokens; n += 32) s += a[n] * b[n];
        }
        s = warp_sum(s);
        if (lane == 0) v.set(e, s);
    }
}

/* Elements of a transposed matrix in the workspace: what is behind it is aligned. */
static int64_t transposed_size(const dt_tensor *x)
{
    return (count_of(x) + 127) / 128 * 128;
}

extern "C" size_t DT_CUDA_WORKSPACE(sampled_wgrad)(const dt_call *call)
{
    if (is_dense(call)) return (size_t)(piece_rows(call) * call->in[1].dim[1]) * sizeof(float);
    return (size_t)(transposed_size(&call->in[0]) + transposed_size(&call->in[1])) * sizeof(act);
}

dt_status DT_CUDA_KERNEL(sampled_wgrad)(const dt_call *call)
{
    const int64_t tokens = call->in[0].dim[0], out = call->in[0].dim[1], in = call->in[1].dim[1];
    const int64_t n = call->in[2].dim[0];
    act *dyt = (act *)call->workspace, *xt = dyt + transposed_size(&call->in[0]);
    if (n == 0) return DT_OK;
    if (is_dense(call)) return sample_dense(call);
    dim3 block(32, 8), of_dy((unsigned)((out + 31) / 32), (unsigned)((tokens + 31) / 32)),
        of_x((unsigned)((in + 31) / 32), (unsigned)((tokens + 31) / 32));
    transpose<<<of_dy, block, 0, stream_of(call)>>>(tokens, out, DT_IN(call, 0), dyt);
    transpose<<<of_x, block, 0, stream_of(call)>>>(tokens, in, DT_IN(call, 1), xt);
    dots<<<blocks_for(call, n, 8), 256, 0, stream_of(call)>>>(n, in, tokens, DT_IN_I32(call, 2), dyt, xt,
                                                              DT_OUT(call, 0));
    return launched();
}
