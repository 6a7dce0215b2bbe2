/* Attention on tensor cores, backward (FlashAttention-2: Dao 2023), with every sum in one place and one order.
 *
 * With p_ij = exp(scale q_i k_j - lse_i), dp_ij = do_i v_j and ds_ij = p_ij (dp_ij - delta_i):
 *
 *     dv_j = sum_i p_ij do_i       dk_j = scale sum_i ds_ij q_i       dq_i = scale sum_j ds_ij k_j
 *
 * where delta_i = do_i o_i. Three kernels:
 *
 *   query_facts    delta, lse in base 2 and the first visible key of each query, laid out head by head;
 *   grad_queries   dq: a block of 4 warps takes 128 queries, a warp 32; tiles of 32 keys and values pass by;
 *   grad_keys      dk and dv: a block takes 128 keys of a kv head; tiles of 64 queries pass by, those of all query
 *                  heads that read it. It computes the scores transposed, keys by queries: so p and ds are where the
 *                  sums over queries need them. A warp has 32 keys (D up to 64, 4 warps) or 16 (8 warps): the two sums
 *                  take 128 registers of a thread.
 *
 * Of what passes by, one tile is fetched while the other is computed with. Scores are computed twice: 7 products of 2 D
 * FLOPs a visible pair instead of 5, the price of having neither atomic additions, which no two runs would make in the
 * same order, nor a copy of dq for each block of keys. At T = 4096, D = 128, 32 heads on 8: 481 GFLOP (344 of them
 * needed), 0.49 ms of a Hopper's 989 TFLOP/s, against 168 MB (q, k, v, o, do, dq, dk, dv once), 0.04 ms at 4.8 TB/s:
 * bound by arithmetic. Shared memory delivers 210 bytes to a mma of 4096 FLOPs in grad_queries, 290 (D 128) or 190
 * (D 64) in grad_keys.
 *
 * By ptxas, for sm_90, without spills: grad_queries 200 registers and 56 KB of shared memory (D 64), 250 and 105 KB
 * (D 128), two blocks on a multiprocessor; grad_keys 243 and 75 KB, two blocks (D 64), 252 and 141 KB, one (D 128). */
#ifndef DT_ACT_F32
#include "op/attention_facts.cuh"
#include "op/attention_mma.cuh"

enum {
    QUERY_WARPS = 4,
    QUERIES = 32 * QUERY_WARPS,     /* of a block of grad_queries, */
    PASSING_KEYS = 32,              /* and of what passes by it */
    KEYS = 128,                     /* of a block of grad_keys, */
    PASSING_QUERIES = SPAN_QUERIES, /* and of what passes by it */
};

/* ---- dq ---- */

static size_t queries_shared(int d)
{
    return (size_t)tile_bytes(2 * QUERIES + 4 * PASSING_KEYS, d) + QUERIES * sizeof(int);
}

/* grid: heads of all sequences x blocks of queries, the last and longest first. */
template <int D>
static __global__ void __launch_bounds__(32 * QUERY_WARPS, 2)
    grad_queries(shape s, float c, const bf16 *dout, const bf16 *q, const bf16 *k, const bf16 *v, const int32_t *pos,
                 facts f, bf16 *dq)
{
    extern __shared__ uint4 shared[];
    const int ld = D + MMA_PAD, threads = 32 * QUERY_WARPS, tile = PASSING_KEYS * ld, width = (int)s.width;
    bf16 *queries = (bf16 *)shared, *douts = queries + QUERIES * ld, *passing = douts + QUERIES * ld; // k, v; k, v
    int *low = (int *)(passing + 4 * tile);
    const int seq = (int)s.seq, head = (int)(blockIdx.x % s.count), warp = warp_number();
    const int64_t sequence = blockIdx.x / s.count, token = sequence * s.seq;
    const int at = (int)(gridDim.y - 1 - blockIdx.y) * QUERIES, mine = at + 32 * warp;
    const int end = at + QUERIES < seq ? at + QUERIES : seq;
    const int64_t kv = (s.first + head) / s.group - s.kv_first, own = token * s.ldq + head * s.width;
    const bf16 *k_head = k + token * s.ldk + kv * s.width, *v_head = v + token * s.ldk + kv * s.width;
    float acc[2][D / 8][4] = {}, p[2][PASSING_KEYS / 8][4], dp[2][PASSING_KEYS / 8][4], lse[2][2], delta[2][2];

    const sight see = sight_of(s, pos + token, mine, low + 32 * warp);
    const int2 *span = f.span + (sequence * f.padded + at) / PASSING_QUERIES;
    int key = INT32_MAX;
    for (int i = 0; i < QUERIES / PASSING_QUERIES; i++) key = min(key, span[i].x);
    key -= key % PASSING_KEYS;
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int64_t row = (sequence * s.count + head) * f.padded + mine + mma_row(m, 2 * h);
            lse[m][h] = f.lse[row], delta[m][h] = f.delta[row];
        }

    tile_load<QUERIES, D, threads>(queries, q + own + at * s.ldq, s.ldq, seq - at, width);
    tile_load<QUERIES, D, threads>(douts, dout + own + at * s.ldq, s.ldq, seq - at, width);
    tile_load<PASSING_KEYS, D, threads>(passing, k_head + key * s.ldk, s.ldk, seq - key, width);
    tile_load<PASSING_KEYS, D, threads>(passing + tile, v_head + key * s.ldk, s.ldk, seq - key, width);
    for (int b = 0; key < end; key += PASSING_KEYS, b ^= 1) {
        const bf16 *keys = passing + b * 2 * tile, *values = keys + tile;
        copy_wait();
        __syncthreads(); // this tile is there, and nobody reads the other any more
        const int next = key + PASSING_KEYS;
        if (next < end) {
            bf16 *other = passing + (b ^ 1) * 2 * tile;
            tile_load<PASSING_KEYS, D, threads>(other, k_head + next * s.ldk, s.ldk, seq - next, width);
            tile_load<PASSING_KEYS, D, threads>(other + tile, v_head + next * s.ldk, s.ldk, seq - next, width);
        }
        if (key >= mine + 32 || key + PASSING_KEYS <= see.lowest) continue;
        tile_scores<2, PASSING_KEYS / 8, D>(p, queries + 32 * warp * ld, keys);
        if (key + PASSING_KEYS - 1 > mine || key < see.highest) hide(p, low + 32 * warp, mine, key);
        tile_scores<2, PASSING_KEYS / 8, D>(dp, douts + 32 * warp * ld, values);
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int n = 0; n < PASSING_KEYS / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    p[m][n][i] = exp2_of(p[m][n][i] * c - lse[m][i / 2]) * (dp[m][n][i] - delta[m][i / 2]);
        tile_accumulate<2, PASSING_KEYS / 8, D>(acc, tile_round(p), keys);
    }
    const float factor[2][2] = {{s.scale, s.scale}, {s.scale, s.scale}};
    tile_store<2, D>(acc, factor, queries + 32 * warp * ld, dq + own + mine * s.ldq, s.ldq, seq - mine, width);
}

/* ---- dk and dv ---- */

/* How a block of grad_keys divides its work. */
template <int D>
struct keys_plan {
    static constexpr int pieces = D <= 64 ? 2 : 1; /* of 16 keys, a warp's */
    static constexpr int threads = 32 * KEYS / (16 * pieces);
    static constexpr int blocks = D <= 64 ? 2 : 1;        /* on a multiprocessor */
    static constexpr int part = PASSING_QUERIES / pieces; /* queries at once: 32 registers of scores */
};

static size_t keys_shared(int d)
{
    return (size_t)tile_bytes(2 * KEYS + 4 * PASSING_QUERIES, d) + 2 * 3 * PASSING_QUERIES * sizeof(float);
}

/* A tile of queries of one head, of those that pass by. */
struct passing {
    int head, tile;
};

/* The next tile of which some query sees a key up to `last`; head == end: none. */
static __device__ inline passing next_tile(passing at, int first, int tiles, int end, const int2 *span, int last)
{
    do {
        if (++at.tile >= tiles) at.tile = first, at.head++;
    } while (at.head < end && span[at.tile].x > last);
    return at;
}

/* grid: kv heads of all sequences x blocks of keys, the first and longest first. */
template <int D>
static __global__ void __launch_bounds__(keys_plan<D>::threads, keys_plan<D>::blocks)
    grad_keys(shape s, float c, const bf16 *dout, const bf16 *q, const bf16 *k, const bf16 *v, facts f, bf16 *dk,
              bf16 *dv)
{
    extern __shared__ uint4 shared[];
    typedef keys_plan<D> plan;
    const int ld = D + MMA_PAD, tile = PASSING_QUERIES * ld, width = (int)s.width, N = plan::part / 8;
    bf16 *keys = (bf16 *)shared, *values = keys + KEYS * ld, *tiles = values + KEYS * ld; // q, do; q, do
    float *known = (float *)(tiles + 4 * tile);                                           // lse, delta, low; ...
    const int seq = (int)s.seq, warp = warp_number(), at = (int)blockIdx.y * KEYS;
    const int own = 16 * plan::pieces * warp, mine = at + own;
    const int64_t sequence = blockIdx.x / s.kv_count, kv = blockIdx.x % s.kv_count, token = sequence * s.seq;
    const int64_t head_at = token * s.ldk + kv * s.width;
    const int2 *span = f.span + sequence * f.padded / PASSING_QUERIES;
    const int first = at / PASSING_QUERIES, count = (seq + PASSING_QUERIES - 1) / PASSING_QUERIES;
    float acc_k[plan::pieces][D / 8][4] = {}, acc_v[plan::pieces][D / 8][4] = {};
    float p[plan::pieces][N][4], ds[plan::pieces][N][4];

    auto fetch = [&](passing x, int buffer) {
        const int query = x.tile * PASSING_QUERIES;
        const int64_t from = (token + query) * s.ldq + x.head * s.width;
        const int64_t row = (sequence * s.count + x.head) * f.padded + query, low = sequence * f.padded + query;
        bf16 *to = tiles + buffer * 2 * tile;
        tile_load<PASSING_QUERIES, D, plan::threads>(to, q + from, s.ldq, seq - query, width);
        tile_load<PASSING_QUERIES, D, plan::threads>(to + tile, dout + from, s.ldq, seq - query, width);
        const int i = (int)threadIdx.x % 16 * 4, what = (int)threadIdx.x / 16;
        const void *fact = what == 0   ? (const void *)(f.lse + row + i)
                           : what == 1 ? (const void *)(f.delta + row + i)
                                       : (const void *)(f.low + low + i);
        if (what < 3) copy16(shared_address(known + (buffer * 3 + what) * PASSING_QUERIES + i), fact, true);
    };

    passing now = {0, first - 1};
    int end = 0;
    heads_of_kv(s, kv, &now.head, &end);
    now = next_tile(now, first, count, end, span, at + KEYS - 1);
    tile_load<KEYS, D, plan::threads>(keys, k + head_at + at * s.ldk, s.ldk, seq - at, width);
    tile_load<KEYS, D, plan::threads>(values, v + head_at + at * s.ldk, s.ldk, seq - at, width);
    if (now.head < end) fetch(now, 0);
    for (int b = 0; now.head < end; b ^= 1) {
        copy_wait();
        __syncthreads(); // this tile is there, and nobody reads the other any more
        const passing next = next_tile(now, first, count, end, span, at + KEYS - 1);
        if (next.head < end) fetch(next, b ^ 1);
        const float *lse = known + b * 3 * PASSING_QUERIES, *delta = lse + PASSING_QUERIES;
        const int *low = (const int *)(delta + PASSING_QUERIES), highest = span[now.tile].y;
        for (int part = 0; part < PASSING_QUERIES; part += plan::part) {
            const int query = now.tile * PASSING_QUERIES + part;
            if (query + plan::part <= mine) continue; // all before these keys
            const bf16 *queries = tiles + b * 2 * tile + part * ld, *douts = queries + tile;
            const bool some_hidden = query < mine + 16 * plan::pieces - 1 || highest > mine;
            tile_scores<plan::pieces, N, D>(p, keys + own * ld, queries);
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    const int column = mma_column(n, j);
                    const float base = lse[part + column];
                    const int from = some_hidden ? low[part + column] : 0;
#pragma unroll
                    for (int m = 0; m < plan::pieces; m++)
#pragma unroll
                        for (int i = j; i < 4; i += 2) {
                            const int key = mine + mma_row(m, i);
                            const bool hidden = some_hidden && (key > query + column || key < from);
                            p[m][n][i] = hidden ? 0.0f : exp2_of(p[m][n][i] * c - base);
                        }
                }
            if (dv != NULL) tile_accumulate<plan::pieces, N, D>(acc_v, tile_round(p), douts);
            if (dk == NULL) continue;
            tile_scores<plan::pieces, N, D>(ds, values + own * ld, douts);
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    const float base = delta[part + mma_column(n, j)];
#pragma unroll
                    for (int m = 0; m < plan::pieces; m++)
#pragma unroll
                        for (int i = j; i < 4; i += 2) ds[m][n][i] = p[m][n][i] * (ds[m][n][i] - base);
                }
            tile_accumulate<plan::pieces, N, D>(acc_k, tile_round(ds), queries);
        }
        now = next;
    }
    copy_wait();
    __syncthreads(); // keys and values that met no query must have arrived before their place is used
    float whole[plan::pieces][2], scaled[plan::pieces][2];
#pragma unroll
    for (int m = 0; m < plan::pieces; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) whole[m][h] = 1, scaled[m][h] = s.scale;
    const int64_t to = head_at + mine * s.ldk;
    if (dv != NULL) tile_store<plan::pieces, D>(acc_v, whole, values + own * ld, dv + to, s.ldk, seq - mine, width);
    if (dk != NULL) tile_store<plan::pieces, D>(acc_k, scaled, keys + own * ld, dk + to, s.ldk, seq - mine, width);
}

/* ---- the call: do, q, k, v, o, lse, pos -> dq, dk, dv ---- */

template <int D>
static dt_status launch(const dt_call *call, const shape *s, int64_t sequences, facts f)
{
    const bf16 *dout = (const bf16 *)call->in[0].data, *q = (const bf16 *)call->in[1].data;
    const bf16 *k = (const bf16 *)call->in[2].data, *v = (const bf16 *)call->in[3].data;
    const float c = s->scale * LOG2_E;
    bf16 *dq = (bf16 *)call->out[0].data, *dk = (bf16 *)call->out[1].data, *dv = (bf16 *)call->out[2].data;
    if (dq != NULL) {
        dim3 grid((unsigned)(s->count * sequences), (unsigned)((s->seq + QUERIES - 1) / QUERIES));
        DT_TRY(allow_shared(grad_queries<D>, queries_shared(D)));
        grad_queries<D><<<grid, 32 * QUERY_WARPS, queries_shared(D), stream_of(call)>>>(*s, c, dout, q, k, v,
                                                                                        DT_IN_I32(call, 6), f, dq);
        DT_TRY(launched());
    }
    if (dk == NULL && dv == NULL) return DT_OK;
    dim3 grid((unsigned)(s->kv_count * sequences), (unsigned)((s->seq + KEYS - 1) / KEYS));
    DT_TRY(allow_shared(grad_keys<D>, keys_shared(D)));
    grad_keys<D><<<grid, keys_plan<D>::threads, keys_shared(D), stream_of(call)>>>(*s, c, dout, q, k, v, f, dk, dv);
    return launched();
}

size_t dt_cuda_attention_mma_workspace(const dt_call *call)
{
    return facts_bytes(call);
}

dt_status dt_cuda_attention_mma_grad(const dt_call *call, const shape *s)
{
    const int64_t sequences = call->in[1].dim[0] / s->seq;
    facts f;
    DT_TRY(find_facts(call, s, &f));
    return s->width <= 64   ? launch<64>(call, s, sequences, f)
           : s->width <= 96 ? launch<96>(call, s, sequences, f)
                            : launch<128>(call, s, sequences, f);
}
#endif
