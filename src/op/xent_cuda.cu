/* Linear head with cross-entropy on CUDA: the logits of all tokens for a chunk of the vocabulary at a time, in the
 * workspace.
 *
 * Work, forward with the products that backward needs: 4 V C FLOPs a token. Bytes a token beside the weight: V of 12
 * (logits written and read in fp32, weights written and read in bf16), and for each chunk but the first 8 C (the sum of
 * its products is read and written), 8 C more where a maximum grows, which is rare behind the first chunks. At V
 * 128,256, C 2048, N 16,384: 1.05 GFLOP, 1.5 us of 700 TFLOP/s, against 1.8 MB, 0.4 us at 4.8 TB/s, one behind the
 * other. */
#include "op/cuda.cuh"
extern "C" {
#include "op/xent.h"
}

/* Entries of a chunk: at most so many bytes of logits, in whole tiles of a product. */
#ifndef DT_LOGIT_BYTES
#define DT_LOGIT_BYTES ((int64_t)512 << 20)
#endif

struct head {
    int64_t tokens, width, entries, chunk;
    bool round_h, round_w; /* ACC: rounded to ACT, W chunk by chunk */
};

static head head_of(const dt_call *call)
{
    head a;
    a.tokens = call->in[0].dim[0], a.width = call->in[0].dim[1], a.entries = call->in[1].dim[0];
    a.chunk = (int64_t)DT_LOGIT_BYTES / (4 * (a.tokens > 0 ? a.tokens : 1)) / 128 * 128;
    if (a.chunk < 128) a.chunk = 128;
    if (a.chunk > a.entries) a.chunk = (a.entries + 7) / 8 * 8;
    a.round_h = sizeof(act) != sizeof(float) && call->in[0].type != DT_TYPE_ACT;
    a.round_w = sizeof(act) != sizeof(float) && call->in[1].type != DT_TYPE_ACT;
    return a;
}

/* Pieces of the workspace, each aligned to 256 bytes. */
struct pieces {
    char *at;
    size_t used;
    void *take(size_t bytes)
    {
        void *piece = at + used;
        used += (bytes + 255) / 256 * 256;
        return piece;
    }
};

struct scratch {
    float *logits;    /* [N, chunk] */
    act *h;           /* [N, C], rounded */
    act *rounded;     /* [chunk, C] of W */
    float *max, *sum; /* [N] */
    act *weights;     /* [N, chunk]: e^(logit - max), or the derivatives of the logits */
    float *rows;      /* [N, C]: what the products with W sum up to */
    size_t bytes;
};

static scratch scratch_of(const dt_call *call, const head &a, bool statistics, bool products)
{
    scratch s = {};
    pieces p = {(char *)call->workspace, 0};
    s.logits = (float *)p.take((size_t)(a.tokens * a.chunk) * sizeof(float));
    if (a.round_h) s.h = (act *)p.take((size_t)(a.tokens * a.width) * sizeof(act));
    if (a.round_w) s.rounded = (act *)p.take((size_t)(a.chunk * a.width) * sizeof(act));
    if (statistics) {
        s.max = (float *)p.take((size_t)a.tokens * sizeof(float));
        s.sum = (float *)p.take((size_t)a.tokens * sizeof(float));
    }
    if (products) {
        s.weights = (act *)p.take((size_t)(a.tokens * a.chunk) * sizeof(act));
        s.rows = (float *)p.take((size_t)(a.tokens * a.width) * sizeof(float));
    }
    s.bytes = p.used;
    return s;
}

extern "C" size_t DT_CUDA_WORKSPACE(xent)(const dt_call *call)
{
    return scratch_of(call, head_of(call), true, call->out[2].data != NULL).bytes;
}

extern "C" size_t DT_CUDA_WORKSPACE(xent_grad)(const dt_call *call)
{
    return scratch_of(call, head_of(call), false, true).bytes;
}

/* h as ACT: where it is, or rounded. */
static dt_status whole_h(const dt_call *call, const head &a, const scratch &s, const void **h)
{
    *h = call->in[0].data;
    if (!a.round_h) return DT_OK;
    floats to = {s.h, true, true};
    *h = s.h;
    return map(call, a.tokens * a.width, DT_IN(call, 0), DT_IN(call, 0), to, identity());
}

/* Rows [v, v + n) of W as ACT: where they are, or rounded. */
static dt_status chunk_of_w(const dt_call *call, const head &a, const scratch &s, int64_t v, int64_t n, const void **w)
{
    const size_t size = call->in[1].type == DT_TYPE_ACT ? sizeof(act) : sizeof(float);
    char *rows = (char *)call->in[1].data + (size_t)(v * a.width) * size;
    *w = rows;
    if (!a.round_w) return DT_OK;
    floats from = {rows, false, (uintptr_t)rows % 32 == 0}, to = {s.rounded, true, true};
    *w = s.rounded;
    return map(call, n * a.width, from, from, to, identity());
}

static dt_status logits_of(const dt_call *call, const head &a, const scratch &s, const void *h, const void *w,
                           int64_t n)
{
    dt_cuda_product p = {false, true,    a.tokens, n,        a.width, 1,           h,         a.width,
                         w,     a.width, 0,        s.logits, a.chunk, DT_CUDA_ACT, CUDA_R_32F};
    return multiply(call, p);
}

/* rows[N, C] (+)= x[N, n] W[n, C] of a chunk: the first one starts the sum. */
static dt_status add_product(const dt_call *call, const head &a, const scratch &s, const void *w, int64_t v, int64_t n)
{
    dt_cuda_product p = {
        false,  false,   a.tokens,    a.width,   n, 1, s.weights, a.chunk, w, a.width, v > 0 ? 1.0f : 0.0f,
        s.rows, a.width, DT_CUDA_ACT, CUDA_R_32F};
    return multiply(call, p);
}

/* Four elements at a multiple of four. */
static __device__ inline void store4(act *to, const float x[4])
{
    if (sizeof(act) == sizeof(float)) {
        *(float4 *)to = make_float4(x[0], x[1], x[2], x[3]);
        return;
    }
    uint2 raw;
    __nv_bfloat162 *pair = (__nv_bfloat162 *)&raw;
    pair[0] = __floats2bfloat162_rn(x[0], x[1]);
    pair[1] = __floats2bfloat162_rn(x[2], x[3]);
    *(uint2 *)to = raw;
}

/* Takes the logits of a chunk into each row's running maximum and sum of e^(x - maximum), a block to a row. Where the
 * products with W are wanted: leaves the weights, and brings the row's sum so far to the new maximum. */
static __global__ void weigh_rows(int64_t chunk, int64_t width, int64_t v, int64_t n, int64_t offset,
                                  const int32_t *targets, const float *logits, float *max, float *sum, floats target,
                                  act *weights, float *rows)
{
    __shared__ float shared[32];
    const int64_t row = blockIdx.x;
    const float *x = logits + row * chunk;
    if (targets[row] < 0) {
        for (int64_t j = threadIdx.x; j < n && weights != NULL; j += blockDim.x) weights[row * chunk + j] = (act)0.0f;
        return;
    }
    float m = -INFINITY, s = 0;
    const int64_t packs = n / 4; // rows are multiples of 8 entries apart
    for (int64_t j = threadIdx.x; j < packs; j += blockDim.x) {
        const float4 four = ((const float4 *)x)[j];
        m = fmaxf(m, fmaxf(fmaxf(four.x, four.y), fmaxf(four.z, four.w)));
    }
    for (int64_t j = 4 * packs + threadIdx.x; j < n; j += blockDim.x) m = fmaxf(m, x[j]);
    const float before = v > 0 ? max[row] : -INFINITY;
    m = fmaxf(block_max(m, shared), before);
    act *to = weights != NULL ? weights + row * chunk : NULL;
    for (int64_t j = threadIdx.x; j < packs; j += blockDim.x) {
        const float4 four = ((const float4 *)x)[j];
        const float e[4] = {expf(four.x - m), expf(four.y - m), expf(four.z - m), expf(four.w - m)};
        s += (e[0] + e[1]) + (e[2] + e[3]);
        if (to != NULL) store4(to + 4 * j, e);
    }
    for (int64_t j = 4 * packs + threadIdx.x; j < n; j += blockDim.x) {
        const float e = expf(x[j] - m);
        s += e;
        if (to != NULL) to[j] = (act)e;
    }
    s = block_sum(s, shared); // behind it no thread reads max[row] any more
    const float correction = expf(before - m);
    for (int64_t j = threadIdx.x; j < width && rows != NULL && v > 0 && correction != 1; j += blockDim.x)
        rows[row * width + j] *= correction;
    if (threadIdx.x != 0) return;
    sum[row] = (v > 0 ? sum[row] * correction : 0.0f) + s;
    max[row] = m;
    const int64_t wanted = targets[row] - offset - v;
    if (target.data != NULL && wanted >= 0 && wanted < n) target.set(row, x[wanted]);
}

struct log_sum {
    const int32_t *targets;
    const float *max, *sum;
    __device__ float operator()(float a, float b, int64_t n) const
    {
        return targets[n] >= 0 ? max[n] + logf(sum[n]) : 0.0f;
    }
};

struct divided { // by the row's sum; a row without a target is 0
    const int32_t *targets;
    const float *sum;
    int64_t width;
    __device__ float operator()(float x, float b, int64_t i) const
    {
        return targets[i / width] >= 0 ? x / sum[i / width] : 0.0f;
    }
};

dt_status DT_CUDA_KERNEL(xent)(const dt_call *call)
{
    const head a = head_of(call);
    const dt_tensor *expected = &call->out[2];
    const scratch s = scratch_of(call, a, true, expected->data != NULL);
    const int32_t *targets = DT_IN_I32(call, 2);
    const void *h = NULL;
    floats target = DT_OUT(call, 1);
    if (a.tokens == 0) return DT_OK;
    DT_TRY(whole_h(call, a, s, &h));
    if (target.data != NULL)
        DT_TRY(dt_cuda_check(cudaMemsetAsync(target.data, 0, (size_t)a.tokens * sizeof(float), stream_of(call)),
                             "cudaMemsetAsync"));
    for (int64_t v = 0, n; v < a.entries; v += n) {
        const void *w = NULL;
        n = a.entries - v < a.chunk ? a.entries - v : a.chunk;
        DT_TRY(chunk_of_w(call, a, s, v, n, &w));
        DT_TRY(logits_of(call, a, s, h, w, n));
        weigh_rows<<<(unsigned)a.tokens, 256, 0, stream_of(call)>>>(a.chunk, a.width, v, n, call->in[1].off[0], targets,
                                                                    s.logits, s.max, s.sum, target, s.weights, s.rows);
        DT_TRY(launched());
        if (expected->data != NULL) DT_TRY(add_product(call, a, s, w, v, n));
    }
    log_sum f = {targets, s.max, s.sum};
    for (int k = 0; k < 4; k += 3) { // lse, own
        floats y = DT_OUT(call, k);
        if (y.data != NULL) DT_TRY(map(call, a.tokens, y, y, y, f));
    }
    if (expected->data == NULL) return DT_OK;
    divided by = {targets, s.sum, a.width};
    floats rows = {s.rows, false, true};
    return map(call, a.tokens * a.width, rows, rows, floats_of(expected), by);
}

/* dh = dlse e^(own - lse) expected + dtarget W[target]. */
struct head_gradient {
    int64_t width, first, entries;
    const int32_t *targets;
    floats own, lse, dlse, dtarget, w;
    __device__ float operator()(float expected, float unused, int64_t i) const
    {
        const int64_t n = i / width, wanted = targets[n] - first;
        if (targets[n] < 0) return 0.0f;
        float dh = dlse.data != NULL ? dlse[n] * expf(own[n] - lse[n]) * expected : 0.0f;
        if (dtarget.data != NULL && wanted >= 0 && wanted < entries) dh += dtarget[n] * w[wanted * width + i % width];
        return dh;
    }
};

dt_status DT_CUDA_KERNEL(xent_dh)(const dt_call *call)
{
    const dt_tensor *w = &call->in[2];
    head_gradient f = {call->in[0].dim[1], w->off[0],      w->dim[0],      DT_IN_I32(call, 3), DT_IN(call, 1),
                       DT_IN(call, 4),     DT_IN(call, 5), DT_IN(call, 6), floats_of(w)};
    return map(call, count_of(&call->out[0]), DT_IN(call, 0), DT_IN(call, 0), DT_OUT(call, 0), f);
}

/* Logits of a chunk become their derivatives: dlse softmax + dtarget onehot. */
static __global__ void derive(int64_t rows, int64_t chunk, int64_t v, int64_t n, int64_t offset, const int32_t *targets,
                              const float *logits, floats lse, floats dlse, floats dtarget, act *out)
{
    const int64_t row = blockIdx.x;
    const bool counts = targets[row] >= 0;
    const float of_lse = counts && dlse.data != NULL ? dlse[row] : 0.0f, l = counts ? lse[row] : 0.0f;
    const float of_target = counts && dtarget.data != NULL ? dtarget[row] : 0.0f;
    const int64_t wanted = counts ? targets[row] - offset - v : -1;
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) {
        float d = of_lse != 0 ? of_lse * expf(logits[row * chunk + j] - l) : 0.0f;
        if (j == wanted) d += of_target;
        out[row * chunk + j] = (act)d;
    }
}

dt_status DT_CUDA_KERNEL(xent_grad)(const dt_call *call)
{
    const head a = head_of(call);
    const scratch s = scratch_of(call, a, false, true);
    const dt_tensor *dh = &call->out[0], *dw = &call->out[1];
    const void *h = NULL;
    if (a.tokens == 0) return DT_OK;
    DT_TRY(whole_h(call, a, s, &h));
    for (int64_t v = 0, n; v < a.entries; v += n) {
        const void *w = NULL;
        n = a.entries - v < a.chunk ? a.entries - v : a.chunk;
        DT_TRY(chunk_of_w(call, a, s, v, n, &w));
        DT_TRY(logits_of(call, a, s, h, w, n));
        derive<<<(unsigned)a.tokens, 256, 0, stream_of(call)>>>(a.tokens, a.chunk, v, n, call->in[1].off[0],
                                                                DT_IN_I32(call, 2), s.logits, DT_IN(call, 3),
                                                                DT_IN(call, 4), DT_IN(call, 5), s.weights);
        DT_TRY(launched());
        if (dh->data != NULL) DT_TRY(add_product(call, a, s, w, v, n));
        if (dw->data != NULL) {
            dt_cuda_product p = {true,      false,       n,         a.width, a.tokens, 1,
                                 s.weights, a.chunk,     h,         a.width, 0,        (float *)dw->data + v * a.width,
                                 a.width,   DT_CUDA_ACT, CUDA_R_32F};
            DT_TRY(multiply(call, p));
        }
    }
    if (dh->data == NULL) return DT_OK;
    floats from = {s.rows, false, true};
    return map(call, a.tokens * a.width, from, from, floats_of(dh), identity());
}
