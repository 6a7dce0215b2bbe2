/* Attention on CUDA: who takes a call, and the kernels that take any. These compute in fp32, for head widths up to 256:
 * blocks of queries against blocks of keys in shared memory, online softmax (Milakov & Gimelshein 2018; Dao et al.
 * 2022). The gradient goes over the keys once for dq and over the queries once for dk and dv, so that every sum has one
 * owner and one order. */
#include "op/attention.cuh"
#include <stdlib.h>
#include <string.h>

enum { WARPS = 8, THREADS = 32 * WARPS, QUERIES = 32, KEYS = 32, MAX_WIDTH = 256, MAX_EACH = MAX_WIDTH / 32 };

static dt_status shape_of(const dt_call *call, const dt_tensor *q, const dt_tensor *k, shape *s)
{
    const dt_attention_attr *a = DT_ATTR(dt_attention_attr, call);
    const int64_t d = a->head_dim;
    s->seq = a->seq, s->width = d, s->count = q->dim[1] / d, s->first = q->off[1] / d;
    s->kv_count = k->dim[1] / d, s->kv_first = k->off[1] / d, s->group = a->heads / a->kv_heads;
    s->ldq = q->dim[1], s->ldk = k->dim[1], s->window = a->window, s->scale = (float)a->scale;
    bool whole = q->dim[1] % d == 0 && q->off[1] % d == 0 && k->dim[1] % d == 0 && k->off[1] % d == 0;
    int64_t lowest = s->first / s->group, highest = (s->first + s->count - 1) / s->group;
    if (!whole || lowest < s->kv_first || highest >= s->kv_first + s->kv_count)
        return dt_fail(DT_ERR_INTERNAL, "%s: query heads %lld..%lld do not find their kv heads in %lld..%lld",
                       call->op->name, (long long)s->first, (long long)(s->first + s->count - 1),
                       (long long)s->kv_first, (long long)(s->kv_first + s->kv_count - 1));
    if (d > MAX_WIDTH)
        return dt_fail(DT_ERR_DEVICE, "heads of %lld features; the CUDA kernels take %d at most", (long long)d,
                       MAX_WIDTH);
    return DT_OK;
}

/* rows [at, at + n) of one head, as fp32 rows of `width` + 1 floats: no two lanes of a column meet in a bank. Rows past
 * n are zero. */
static __device__ void load_rows(const shape &s, floats x, int64_t base, int64_t ld, int64_t at, int64_t n, int rows,
                                 float *to)
{
    for (int64_t i = threadIdx.x; i < rows * s.width; i += THREADS) {
        int64_t r = i / s.width, d = i % s.width;
        to[r * (s.width + 1) + d] = r < n ? x[base + (at + r) * ld + d] : 0.0f;
    }
}

static __device__ float dot(const float *a, const float *b, int64_t n)
{
    float sum = 0;
    for (int64_t d = 0; d < n; d++) sum += a[d] * b[d];
    return sum;
}

static size_t shared_bytes(const shape &s, int tiles)
{
    return (size_t)tiles * 32 * (size_t)(s.width + 1) * sizeof(float);
}

/* o and lse of QUERIES queries: a warp takes every WARPS'th of them; a lane scores one key, then sums MAX_EACH features
 * at most. key0: where the queries stand among the keys (0 but for a cache). */
static __global__ void attend(shape s, floats q, floats k, floats v, const int32_t *pos, int64_t rows_in_sequence,
                              const int32_t *start, floats o, floats lse)
{
    extern __shared__ float shared[];
    float *keys = shared, *values = keys + KEYS * (s.width + 1), *queries = values + KEYS * (s.width + 1);
    const int64_t head = blockIdx.y, sequence = blockIdx.z, at = blockIdx.x * (int64_t)QUERIES;
    const int64_t token = sequence * s.seq, key0 = start != NULL ? start[0] : 0;
    const int64_t kv = (s.first + head) / s.group - s.kv_first;
    const int64_t rows = rows_in_sequence - at < QUERIES ? rows_in_sequence - at : QUERIES;
    const int32_t *p = pos != NULL ? pos + token : NULL;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, each = (int)((s.width + 31) / 32);
    const int64_t qbase = token * s.ldq + head * s.width, kbase = token * s.ldk + kv * s.width;
    float acc[QUERIES / WARPS][MAX_EACH], max[QUERIES / WARPS], sum[QUERIES / WARPS];

    load_rows(s, q, qbase, s.ldq, at, rows, QUERIES, queries);
    for (int i = 0; i < QUERIES / WARPS; i++) {
        max[i] = -1e30f; // below any score, and finite: a block may hide all its keys from a row
        sum[i] = 0;
        for (int e = 0; e < MAX_EACH; e++) acc[i][e] = 0;
    }
    int64_t low = key0 + at;
    for (int64_t i = 0; i < rows; i++) {
        int64_t f = first_key(s, p, key0 + at + i);
        low = f < low ? f : low;
    }
    for (int64_t key = low; key < key0 + at + rows; key += KEYS) {
        const int64_t n = key0 + at + rows - key < KEYS ? key0 + at + rows - key : KEYS;
        __syncthreads();
        load_rows(s, k, kbase, s.ldk, key, n, KEYS, keys);
        load_rows(s, v, kbase, s.ldk, key, n, KEYS, values);
        __syncthreads();
        for (int i = 0; i < QUERIES / WARPS; i++) {
            const int64_t row = warp + i * WARPS, own = key0 + at + row;
            if (row >= rows) break;
            const bool seen = key + lane <= own && key + lane >= first_key(s, p, own);
            float score =
                seen ? s.scale * dot(queries + row * (s.width + 1), keys + lane * (s.width + 1), s.width) : -INFINITY;
            float m = fmaxf(max[i], warp_max(score)), correction = expf(max[i] - m), w = expf(score - m);
            max[i] = m;
            sum[i] = sum[i] * correction + warp_sum(w);
            for (int e = 0; e < each; e++) acc[i][e] *= correction;
            for (int j = 0; j < n; j++) {
                const float wj = __shfl_sync(0xffffffffu, w, j);
                for (int e = 0; e < each; e++) {
                    const int64_t d = lane + 32 * e;
                    if (d < s.width) acc[i][e] += wj * values[j * (s.width + 1) + d];
                }
            }
        }
    }
    for (int i = 0; i < QUERIES / WARPS; i++) {
        const int64_t row = warp + i * WARPS;
        if (row >= rows) break;
        for (int e = 0; e < each; e++)
            if (lane + 32 * e < s.width) o.set(qbase + (at + row) * s.ldq + lane + 32 * e, acc[i][e] / sum[i]);
        if (lse.data != NULL && lane == 0) lse.set((token + at + row) * s.count + head, max[i] + logf(sum[i]));
    }
}

/* ---- who takes a call ---- */

#ifndef DT_ACT_F32
/* The kernels that DTRAIN_ATTENTION asks for: simple leaves tensor cores out, for comparison; mma; wgmma, on a Hopper
 * alone and mma elsewhere; cudnn. */
static bool asked_for(const char *kernels)
{
    const char *chosen = getenv("DTRAIN_ATTENTION");
    return strcmp(chosen != NULL ? chosen : "mma", kernels) == 0;
}

/* Tensor cores, where the call's first `inputs` inputs and its results are bf16 and lie as they read them. */
static bool tensor_cores_take(const dt_call *call, const shape &s, int inputs)
{
    bool takes = s.width % 8 == 0 && s.width <= DT_MMA_WIDTH && s.scale > 0 && s.seq < INT32_MAX / 2 &&
                 !asked_for("simple");
    for (int i = 0; i < inputs; i++) takes &= call->in[i].type == DT_TYPE_ACT && (uintptr_t)call->in[i].data % 16 == 0;
    for (int i = 0; i < call->nout; i++) takes &= (uintptr_t)call->out[i].data % 16 == 0;
    return takes;
}

static bool warpgroups_take(const dt_call *call)
{
    return asked_for("wgmma") && dt_cuda_of(call->device)->capability == 90;
}
#endif

dt_status DT_CUDA_KERNEL(attention)(const dt_call *call)
{
    shape s;
    DT_TRY(shape_of(call, &call->in[0], &call->in[1], &s));
    if (call->out[0].data == NULL) return dt_fail(DT_ERR_INTERNAL, "attention: its log-sum-exp alone");
    const int64_t sequences = call->in[0].dim[0] / s.seq;
    if (sequences == 0) return DT_OK;
#ifndef DT_ACT_F32
    if (tensor_cores_take(call, s, 3)) {
#ifdef DT_CUDNN
        bool taken = false;
        DT_TRY(dt_cuda_attention_cudnn(call, &s, &taken));
        if (taken) return DT_OK;
#endif
        if (warpgroups_take(call)) return dt_cuda_attention_wgmma(call, &s);
        return dt_cuda_attention_mma(call, &s);
    }
#endif
    const size_t bytes = shared_bytes(s, 3);
    DT_TRY(allow_shared(attend, bytes));
    dim3 grid((unsigned)((s.seq + QUERIES - 1) / QUERIES), (unsigned)s.count, (unsigned)sequences);
    attend<<<grid, THREADS, bytes, stream_of(call)>>>(s, DT_IN(call, 0), DT_IN(call, 1), DT_IN(call, 2),
                                                      DT_IN_I32(call, 3), s.seq, NULL, DT_OUT(call, 0),
                                                      DT_OUT(call, 1));
    return launched();
}

/* New rows of k or v to their places in the cache. */
static __global__ void append(int64_t count, int64_t width, const int32_t *start, floats rows, floats cache)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x)
        cache.set(start[0] * width + i, rows[i]);
}

dt_status DT_CUDA_KERNEL(attention_cached)(const dt_call *call)
{
    shape s;
    DT_TRY(shape_of(call, &call->in[0], &call->in[1], &s));
    const int64_t tokens = call->in[0].dim[0], count = tokens * s.ldk;
    const int32_t *start = DT_IN_I32(call, 5);
    if (tokens == 0) return DT_OK;
    for (int i = 0; i < 2; i++)
        append<<<blocks_for(call, count, 256), 256, 0, stream_of(call)>>>(count, s.ldk, start, DT_IN(call, 1 + i),
                                                                          DT_IN(call, 3 + i));
    DT_TRY(launched());
    if (call->out[0].data == NULL) return DT_OK;
    const size_t bytes = shared_bytes(s, 3);
    DT_TRY(allow_shared(attend, bytes));
    dim3 grid((unsigned)((tokens + QUERIES - 1) / QUERIES), (unsigned)s.count, 1);
    floats none = {NULL, false, false};
    attend<<<grid, THREADS, bytes, stream_of(call)>>>(s, DT_IN(call, 0), DT_IN(call, 3), DT_IN(call, 4), NULL, tokens,
                                                      start, DT_OUT(call, 0), none);
    return launched();
}

/* ---- gradient ---- */

/* delta[n, h] = sum_D do o, a warp each. */
static __global__ void row_deltas(shape s, int64_t rows, floats dout, floats o, float *delta)
{
    const int64_t row = blockIdx.x * (int64_t)WARPS + threadIdx.x / 32, at = row * s.width;
    if (row >= rows) return;
    float sum = 0;
    for (int64_t d = threadIdx.x % 32; d < s.width; d += 32) sum += dout[at + d] * o[at + d];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) delta[row] = sum;
}

/* dq of QUERIES queries of a head: dq = scale sum_j p_j (dp_j - delta) k_j. */
static __global__ void backward_queries(shape s, floats dout, floats q, floats k, floats v, floats lse,
                                        const int32_t *pos, const float *delta, floats dq)
{
    extern __shared__ float shared[];
    const int64_t tile = 32 * (s.width + 1);
    float *keys = shared, *values = keys + tile, *queries = values + tile, *douts = queries + tile;
    const int64_t head = blockIdx.y, token = blockIdx.z * s.seq, at = blockIdx.x * (int64_t)QUERIES;
    const int64_t kv = (s.first + head) / s.group - s.kv_first;
    const int64_t rows = s.seq - at < QUERIES ? s.seq - at : QUERIES;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, each = (int)((s.width + 31) / 32);
    const int64_t qbase = token * s.ldq + head * s.width, kbase = token * s.ldk + kv * s.width;
    float acc[QUERIES / WARPS][MAX_EACH];

    load_rows(s, q, qbase, s.ldq, at, rows, QUERIES, queries);
    load_rows(s, dout, qbase, s.ldq, at, rows, QUERIES, douts);
    for (int i = 0; i < QUERIES / WARPS; i++)
        for (int e = 0; e < MAX_EACH; e++) acc[i][e] = 0;
    int64_t low = at;
    for (int64_t i = 0; i < rows; i++) {
        int64_t f = first_key(s, pos + token, at + i);
        low = f < low ? f : low;
    }
    for (int64_t key = low; key < at + rows; key += KEYS) {
        const int64_t n = at + rows - key < KEYS ? at + rows - key : KEYS;
        __syncthreads();
        load_rows(s, k, kbase, s.ldk, key, n, KEYS, keys);
        load_rows(s, v, kbase, s.ldk, key, n, KEYS, values);
        __syncthreads();
        for (int i = 0; i < QUERIES / WARPS; i++) {
            const int64_t row = warp + i * WARPS, own = at + row;
            if (row >= rows) break;
            const int64_t stat = (token + own) * s.count + head;
            const bool seen = key + lane <= own && key + lane >= first_key(s, pos + token, own);
            float ds = 0;
            if (seen) {
                float w = expf(s.scale * dot(queries + row * (s.width + 1), keys + lane * (s.width + 1), s.width) -
                               lse[stat]);
                float dp = dot(douts + row * (s.width + 1), values + lane * (s.width + 1), s.width);
                ds = s.scale * w * (dp - delta[stat]);
            }
            for (int j = 0; j < n; j++) {
                const float dj = __shfl_sync(0xffffffffu, ds, j);
                for (int e = 0; e < each; e++) {
                    const int64_t d = lane + 32 * e;
                    if (d < s.width) acc[i][e] += dj * keys[j * (s.width + 1) + d];
                }
            }
        }
    }
    for (int i = 0; i < QUERIES / WARPS; i++) {
        const int64_t row = warp + i * WARPS;
        if (row >= rows) break;
        for (int e = 0; e < each; e++)
            if (lane + 32 * e < s.width) dq.set(qbase + (at + row) * s.ldq + lane + 32 * e, acc[i][e]);
    }
}

/* dk and dv of KEYS keys of a kv head, over the query heads that read it and the queries behind: dv = sum_i p_i do_i,
 * dk = scale sum_i p_i (dp_i - delta_i) q_i. A warp takes every WARPS'th key; a lane weighs one query. */
static __global__ void backward_keys(shape s, floats dout, floats q, floats k, floats v, floats lse, const int32_t *pos,
                                     const float *delta, floats dk, floats dv)
{
    extern __shared__ float shared[];
    const int64_t tile = 32 * (s.width + 1);
    float *keys = shared, *values = keys + tile, *queries = values + tile, *douts = queries + tile;
    const int64_t kv = blockIdx.y, token = blockIdx.z * s.seq, at = blockIdx.x * (int64_t)KEYS;
    const int64_t rows = s.seq - at < KEYS ? s.seq - at : KEYS;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, each = (int)((s.width + 31) / 32);
    const int64_t kbase = token * s.ldk + kv * s.width;
    float acc_k[KEYS / WARPS][MAX_EACH], acc_v[KEYS / WARPS][MAX_EACH];

    load_rows(s, k, kbase, s.ldk, at, rows, KEYS, keys);
    load_rows(s, v, kbase, s.ldk, at, rows, KEYS, values);
    for (int i = 0; i < KEYS / WARPS; i++)
        for (int e = 0; e < MAX_EACH; e++) acc_k[i][e] = acc_v[i][e] = 0;
    for (int64_t head = 0; head < s.count; head++) {
        if ((s.first + head) / s.group - s.kv_first != kv) continue;
        const int64_t qbase = token * s.ldq + head * s.width;
        for (int64_t row = at; row < s.seq; row += QUERIES) {
            const int64_t n = s.seq - row < QUERIES ? s.seq - row : QUERIES;
            if (s.window > 0 && row - s.window + 1 > at + rows - 1) break; // all later ones see less
            __syncthreads();
            load_rows(s, q, qbase, s.ldq, row, n, QUERIES, queries);
            load_rows(s, dout, qbase, s.ldq, row, n, QUERIES, douts);
            __syncthreads();
            const int64_t own = row + lane;
            const int64_t low = lane < n ? first_key(s, pos + token, own) : s.seq;
            const float l = lane < n ? lse[(token + own) * s.count + head] : 0;
            const float mine = lane < n ? delta[(token + own) * s.count + head] : 0;
            for (int i = 0; i < KEYS / WARPS; i++) {
                const int64_t r = warp + i * WARPS, key = at + r;
                if (r >= rows) break;
                float w = 0, ds = 0;
                if (lane < n && key <= own && key >= low) {
                    w = expf(s.scale * dot(queries + lane * (s.width + 1), keys + r * (s.width + 1), s.width) - l);
                    ds = s.scale * w * (dot(douts + lane * (s.width + 1), values + r * (s.width + 1), s.width) - mine);
                }
                for (int j = 0; j < n; j++) {
                    const float wj = __shfl_sync(0xffffffffu, w, j), dj = __shfl_sync(0xffffffffu, ds, j);
                    for (int e = 0; e < each; e++) {
                        const int64_t d = lane + 32 * e;
                        if (d >= s.width) continue;
                        acc_v[i][e] += wj * douts[j * (s.width + 1) + d];
                        acc_k[i][e] += dj * queries[j * (s.width + 1) + d];
                    }
                }
            }
        }
    }
    for (int i = 0; i < KEYS / WARPS; i++) {
        const int64_t r = warp + i * WARPS;
        if (r >= rows) break;
        for (int e = 0; e < each; e++) {
            if (lane + 32 * e >= s.width) continue;
            const int64_t to = kbase + (at + r) * s.ldk + lane + 32 * e;
            if (dk.data != NULL) dk.set(to, acc_k[i][e]);
            if (dv.data != NULL) dv.set(to, acc_v[i][e]);
        }
    }
}

extern "C" size_t DT_CUDA_WORKSPACE(attention_grad)(const dt_call *call)
{
    const size_t simple = (size_t)count_of(&call->in[5]) * sizeof(float);
#ifdef DT_ACT_F32
    return simple;
#else
    const size_t mma = dt_cuda_attention_mma_workspace(call);
    return mma > simple ? mma : simple;
#endif
}

dt_status DT_CUDA_KERNEL(attention_grad)(const dt_call *call)
{
    shape s;
    DT_TRY(shape_of(call, &call->in[1], &call->in[2], &s));
    floats dout = DT_IN(call, 0), q = DT_IN(call, 1), k = DT_IN(call, 2), v = DT_IN(call, 3), o = DT_IN(call, 4),
           lse = DT_IN(call, 5), dq = DT_OUT(call, 0), dk = DT_OUT(call, 1), dv = DT_OUT(call, 2);
    const int32_t *pos = DT_IN_I32(call, 6);
    const int64_t tokens = call->in[1].dim[0], sequences = tokens / s.seq, blocks = (s.seq + 31) / 32;
    float *delta = (float *)call->workspace;
    if (sequences == 0) return DT_OK;
#ifndef DT_ACT_F32
    if (tensor_cores_take(call, s, 5))
        return warpgroups_take(call) ? dt_cuda_attention_wgmma_grad(call, &s) : dt_cuda_attention_mma_grad(call, &s);
#endif
    row_deltas<<<(unsigned)((tokens * s.count + WARPS - 1) / WARPS), THREADS, 0, stream_of(call)>>>(s, tokens * s.count,
                                                                                                    dout, o, delta);
    DT_TRY(launched());
    const size_t bytes = shared_bytes(s, 4);
    DT_TRY(allow_shared(backward_queries, bytes));
    DT_TRY(allow_shared(backward_keys, bytes));
    if (dq.data != NULL) {
        dim3 grid((unsigned)blocks, (unsigned)s.count, (unsigned)sequences);
        backward_queries<<<grid, THREADS, bytes, stream_of(call)>>>(s, dout, q, k, v, lse, pos, delta, dq);
        DT_TRY(launched());
    }
    if (dk.data == NULL && dv.data == NULL) return DT_OK;
    dim3 grid((unsigned)blocks, (unsigned)s.kv_count, (unsigned)sequences);
    backward_keys<<<grid, THREADS, bytes, stream_of(call)>>>(s, dout, q, k, v, lse, pos, delta, dk, dv);
    return launched();
}
