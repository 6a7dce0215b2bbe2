/* Ops on selected entries of a matrix on CUDA. */
#include "op/cuda.cuh"
extern "C" {
#include "device/ways.h"
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
    DT_TRY(map(call, count_of(&call->in[0]), DT_IN(call, 0), DT_IN(call, 0), DT_OUT(call, 0), identity()));
    return scatter_to(call, true);
}

dt_status DT_CUDA_KERNEL(scatter_copy)(const dt_call *call)
{
    return scatter_to(call, false);
}

/* ---- sampled_wgrad: dy [tokens, out], x [tokens, in], idx -> v ---- */

/* Two ways, of which a device that measures takes the faster one for each weight.
 *
 * BY_ENTRY: dy and x are transposed; a warp keeps a row of dy^T in registers and takes the row's entries, each the dot
 * product with a row of x^T. Of a chunk of tokens at a time, so that all of its x^T stays in the L2 cache. Reads 2
 * bytes an entry and token there, at some 5 TB/s; the transposed matrices cost 4 (out + in) bytes a token at the
 * memory's rate.
 *
 * DENSE: the whole product on tensor cores, at some 650 TFLOP/s, piece by piece in the workspace, of which the entries
 * are taken. Costs the same however few they are: 2 FLOPs an element and token, and 8 bytes an element.
 *
 * At 4096 x 4096 and 4096 tokens, in microseconds: 45 and 275 more for each hundredth of the elements, against 210 and
 * 45. They meet at some 0.75%. */
enum { BY_ENTRY, DENSE, WAYS };
enum { DENSE_FROM = 130, PIECE_BYTES = 256 << 20 }; /* where nothing was measured: 1 entry in so many */
enum { STEPS = 4, CHUNK = STEPS * 8 * 32, TILE = 64 };

static bool may_be_dense(const dt_call *call)
{
    return sizeof(act) == 2 && call->in[0].type == DT_TYPE_ACT && call->in[1].type == DT_TYPE_ACT &&
           call->in[1].dim[1] > 0;
}

static int usual_way(const dt_call *call)
{
    const int64_t out = call->in[0].dim[1], in = call->in[1].dim[1];
    return may_be_dense(call) && call->in[2].dim[0] * DENSE_FROM >= out * in ? DENSE : BY_ENTRY;
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

/* Tokens of a row of a transposed matrix: whole packs of eight. */
static __host__ __device__ inline int64_t padded_tokens(int64_t tokens)
{
    return (tokens + 7) / 8 * 8;
}

/* x [tokens, width] to t [width, padded tokens], zero behind the last token. A block to TILE x TILE, eight elements at
 * a time on both sides; rows of the tile an odd number of elements apart, so that neither side meets in a bank. */
static __global__ void transpose(int64_t tokens, int64_t width, bool wide, floats x, act *t)
{
    __shared__ act tile[TILE][TILE + 1];
    const int64_t n0 = blockIdx.y * (int64_t)TILE, c0 = blockIdx.x * (int64_t)TILE, ld = padded_tokens(tokens);
    for (int p = threadIdx.x; p < TILE * TILE / 8; p += blockDim.x) {
        const int n = p / (TILE / 8), c = p % (TILE / 8) * 8;
        float v[8];
#pragma unroll
        for (int k = 0; k < 8; k++) v[k] = 0;
        if (wide && n0 + n < tokens && c0 + c < width) {
            x.load8((n0 + n) * width + c0 + c, v);
        } else {
#pragma unroll
            for (int k = 0; k < 8; k++)
                if (n0 + n < tokens && c0 + c + k < width) v[k] = x[(n0 + n) * width + c0 + c + k];
        }
#pragma unroll
        for (int k = 0; k < 8; k++) tile[n][c + k] = (act)v[k];
    }
    __syncthreads();
    floats to = {t, true, true};
    for (int p = threadIdx.x; p < TILE * TILE / 8; p += blockDim.x) {
        const int c = p / (TILE / 8), n = p % (TILE / 8) * 8;
        float v[8];
#pragma unroll
        for (int k = 0; k < 8; k++) v[k] = (float)tile[n + k][c];
        if (c0 + c < width && n0 + n < ld) to.store8((c0 + c) * ld + n0 + n, v);
    }
}

/* The first entry of which idx is at least `wanted`, or n; idx ascends. A warp looks at 32 places at a time. */
static __device__ inline int64_t first_entry(const int32_t *idx, int64_t n, int64_t wanted)
{
    const int lane = threadIdx.x % 32;
    int64_t low = 0, high = n; // idx[low - 1] < wanted <= idx[high]
    while (low < high) {
        const int64_t step = (high - low + 31) / 32, at = low + lane * step;
        const unsigned below = __ballot_sync(0xffffffffu, at < high && idx[at] < wanted);
        const int count = __popc(below); // the first lanes
        if (count == 0) return low;
        const int64_t end = low + count * step;
        low += (count - 1) * step + 1;
        if (end < high) high = end;
    }
    return low;
}

/* Tokens [first, first + count) of a row of a transposed matrix, those that the lane takes. */
static __device__ inline void load_tokens(const act *row, int64_t first, int64_t count, float (&v)[STEPS][8])
{
    const floats x = {(void *)(row + first), true, true};
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
        const int n = 8 * (32 * s + (int)(threadIdx.x % 32));
        if (n < count) x.load8(n, v[s]);
        else
#pragma unroll
            for (int k = 0; k < 8; k++) v[s][k] = 0;
    }
}

/* A warp to a row of W: its entries' sums over the tokens [first, first + count), added to what earlier chunks gave. */
static __global__ void dots(int64_t entries, int64_t out, int64_t in, int64_t tokens, int64_t first, int64_t count,
                            const int32_t *idx, const act *dyt, const act *xt, floats v)
{
    const int64_t row = blockIdx.x * (int64_t)(blockDim.x / 32) + threadIdx.x / 32, ld = padded_tokens(tokens);
    if (row >= out) return;
    const int64_t begin = first_entry(idx, entries, row * in), end = first_entry(idx, entries, (row + 1) * in);
    float d[STEPS][8];
    if (begin == end) return;
    load_tokens(dyt + row * ld, first, count, d);
#pragma unroll 2
    for (int64_t e = begin; e < end; e++) {
        float x[STEPS][8], s = 0;
        load_tokens(xt + (idx[e] - row * in) * ld, first, count, x);
#pragma unroll
        for (int i = 0; i < STEPS; i++)
#pragma unroll
            for (int k = 0; k < 8; k++) s += d[i][k] * x[i][k];
        s = warp_sum(s);
        if (threadIdx.x % 32 == 0) v.set(e, first > 0 ? v[e] + s : s);
    }
}

/* Elements of a transposed matrix in the workspace: what is behind it is aligned. */
static int64_t transposed_size(const dt_tensor *x)
{
    return (x->dim[1] * padded_tokens(x->dim[0]) + 127) / 128 * 128;
}

static dt_status transposed(const dt_call *call, int input, act *to)
{
    const int64_t tokens = call->in[input].dim[0], width = call->in[input].dim[1];
    const floats x = DT_IN(call, input);
    dim3 grid((unsigned)((width + TILE - 1) / TILE), (unsigned)((tokens + TILE - 1) / TILE));
    transpose<<<grid, 256, 0, stream_of(call)>>>(tokens, width, x.wide && width % 8 == 0, x, to);
    return launched();
}

static dt_status sample_by_entry(const dt_call *call)
{
    const int64_t tokens = call->in[0].dim[0], out = call->in[0].dim[1], in = call->in[1].dim[1];
    const int64_t entries = call->in[2].dim[0], padded = padded_tokens(tokens);
    act *dyt = (act *)call->workspace, *xt = dyt + transposed_size(&call->in[0]);
    if (tokens > 0) {
        DT_TRY(transposed(call, 0, dyt));
        DT_TRY(transposed(call, 1, xt));
    }
    for (int64_t n = 0; n == 0 || n < padded; n += CHUNK) {
        const int64_t count = padded - n < CHUNK ? padded - n : CHUNK;
        dots<<<(unsigned)((out + 7) / 8), 256, 0, stream_of(call)>>>(entries, out, in, tokens, n, count,
                                                                     DT_IN_I32(call, 2), dyt, xt, DT_OUT(call, 0));
        DT_TRY(launched());
    }
    return DT_OK;
}

static dt_status run_way(const dt_call *call, int way)
{
    return way == DENSE ? sample_dense(call) : sample_by_entry(call);
}

extern "C" size_t DT_CUDA_WORKSPACE(sampled_wgrad)(const dt_call *call)
{
    const size_t dense = may_be_dense(call) ? (size_t)(piece_rows(call) * call->in[1].dim[1]) * sizeof(float) : 0;
    const size_t by_entry = (size_t)(transposed_size(&call->in[0]) + transposed_size(&call->in[1])) * sizeof(act);
    return dense > by_entry ? dense : by_entry;
}

dt_status DT_CUDA_KERNEL(sampled_wgrad)(const dt_call *call)
{
    dt_cuda *cuda = dt_cuda_of(call->device);
    const dt_cuda_way_key key = {
        {call->in[0].dim[1], call->in[1].dim[1], call->in[0].dim[0], call->in[2].dim[0]}};
    if (call->in[2].dim[0] == 0) return DT_OK;
    if (!may_be_dense(call)) return sample_by_entry(call);
    if (cuda->considers) {
        DT_TRY(sample_dense(call)); // notes its products
        return dt_cuda_way_note(cuda, &key, call, WAYS, run_way);
    }
    return run_way(call, dt_cuda_way_of(cuda, &key, usual_way(call)));
}
