/* Attention on Hopper's warpgroups, backward: the equations and the order of every sum are those of
 * attention_mma_grad_cuda.cu, the facts of the queries those of attention_facts.cuh.
 *
 *   grad_queries   dq: an item of work is 128 queries of a head, 64 to each of two warpgroups that compute; tiles of
 * keys and values pass by, 64 of each at a time (D 128; 128 for D up to 64), the last first. Blocks stay and take item
 * after item, as in the forward pass; grad_keys      dk and dv: a block takes 128 keys of a kv head, 64 to a warpgroup;
 * tiles of 64 (128) queries pass by, those of all query heads that read it. Scores are computed transposed, keys by
 * queries.
 *
 * So p and ds are made in registers as the left factors of the sums over keys or queries, and what products read out of
 * shared memory is what the copy engine fetched: a warp of a third warpgroup asks it for up to three tiles in
 * advance, and hands on what it found out about them, so that nobody else looks for the next tile.
 *
 * What keeps the tensor cores busy: a warpgroup of grad_queries asks for a tile's scores and dp before it adds up ds of
 * the tile before; one of grad_keys makes p while dp, and ds while dv is multiplied; and the other warpgroup's products
 * run in between. At full rate a tile's 64 x 64 take 768 clocks in grad_queries and 1024 in grad_keys (D 128), its
 * exponentials 256.
 *
 * Work: as there 7 products of 2 D FLOPs a visible pair instead of 5. At T = 4096, D = 128, 32 heads on 8: 481 GFLOP
 * (344 of them needed), 0.49 ms of a Hopper's 989 TFLOP/s, against 168 MB, 0.04 ms at 4.8 TB/s: bound by arithmetic.
 * Shared memory delivers, of 128 bytes a clock, 85 at the full rate of 4096 FLOPs to grad_queries (107 if at D 128 the
 * queries were not in registers, with 21 that the copy engine stores: too many), and 96 (D 128) or 80 to grad_keys.
 *
 * By ptxas, for sm_90a, without spills and without a product that waits for another: 168 registers at entry;
 * grad_queries 232 where there is computing, 130 KB of shared memory (D 64), 178 (D 128); grad_keys 240, 134 and 164
 * KB: one block on a multiprocessor. */
#ifndef DT_ACT_F32
#include "op/attention_facts.cuh"
#include "op/attention_wgmma.cuh"

enum { GROUPS = 2, /* warpgroups that compute; one more fetches */ THREADS = GROUP * (GROUPS + 1) };

/* Weights of scores: 2^(c score - lse), lse in base 2. */
static __device__ inline float weight(float score, float c, float lse)
{
    return exp2_of(score * c - lse);
}

/* ---- dq ---- */

/* How a block of grad_queries divides its work: 64 queries to a warpgroup. */
template <int D>
struct queries_plan {
    static constexpr int queries = GROUP_ROWS * GROUPS;
    static constexpr int keys = D <= 64 ? 128 : 64;           /* at once: 64 or 32 registers of scores */
    static constexpr bool in_registers = D > 64;              /* the queries, too: see above */
    static constexpr int key_stages = 3, value_stages = 2;    /* keys are needed for longer */
    static constexpr int own = swizzled_bytes(GROUP_ROWS, D); /* of q, then of do; a warpgroup after the other */
    static constexpr int tile = swizzled_bytes(keys, D);      /* of k, then of v */
    static constexpr int outputs = 2 * GROUPS * own + (key_stages + value_stages) * tile;
    static constexpr int items = outputs + GROUPS * own;
    static constexpr int barriers = items + 2 * (int)sizeof(item);
    static constexpr int bytes =
        TILES_SLACK + barriers + ring<2>::bytes + ring<1>::bytes + ring<key_stages>::bytes + ring<value_stages>::bytes;
    static constexpr int fetching = 40, computing = 232; /* registers of a thread */
};

/* Where its tiles lie, and the rings of what passes by. */
template <int D>
struct queries_places {
    typedef queries_plan<D> p;
    shared_at own, keys, values;
    item *items;
    ring<2> ir;
    ring<1> qr;
    ring<p::key_stages> kr;
    ring<p::value_stages> vr;

    __device__ queries_places(char *memory)
        : own(shared_address(memory)), keys(own + 2 * GROUPS * p::own), values(keys + p::key_stages * p::tile),
          items((item *)(memory + p::items)), ir(own + p::barriers), qr(ir.full + ring<2>::bytes),
          kr(qr.full + ring<1>::bytes), vr(kr.full + ring<p::key_stages>::bytes)
    {
    }
};

/* A warp takes items, tells of them, and fetches: the keys and values of one behind the first, when it has told of the
 * next, whose queries and first tiles it then fetches. */
template <int D>
static __device__ inline void fetch(const shape &s, queries_places<D> &to, const int32_t *pos, const work &all,
                                    const CUtensorMap *dout, const CUtensorMap *q, const CUtensorMap *k,
                                    const CUtensorMap *v)
{
    typedef queries_plan<D> p;
    const bool first = threadIdx.x % 32 == 0;
    int sequence = 0, last = 0, count = 0, kv = 0;
    auto fetch_tiles = [&](int i) {
        to.kr.wait_empty();
        barrier_expect(to.kr.filling(), p::tile);
        fetch_tile<D, p::keys>(to.keys + (shared_at)(to.kr.stage() * p::tile), k, kv, (last - i) * p::keys, sequence,
                               to.kr.filling());
        to.kr.next();
        to.vr.wait_empty();
        barrier_expect(to.vr.filling(), p::tile);
        fetch_tile<D, p::keys>(to.values + (shared_at)(to.vr.stage() * p::tile), v, kv, (last - i) * p::keys, sequence,
                               to.vr.filling());
        to.vr.next();
    };
    unsigned number = blockIdx.x;
    if (first) {
        map_prefetch(q);
        map_prefetch(dout);
        map_prefetch(k);
        map_prefetch(v);
    }
#pragma unroll 1
    for (;;) {
        tell<p::queries, p::keys>(s, pos, all, number, to.items, to.ir);
#pragma unroll 1
        for (int i = 1; first && i < count; i++) fetch_tiles(i);
        __syncwarp();
        const item *now = &to.items[to.ir.stage() ^ 1]; // told of just now
        const int head = now->head, at = now->at;
        sequence = now->sequence, last = now->last, count = now->count;
        if (count == 0) break;
        kv = ((int)s.first + head) / (int)s.group - (int)s.kv_first;
        if (first) {
            number = take_item();
            to.qr.wait_empty();
            barrier_expect(to.qr.filling(), 2 * GROUPS * p::own);
            for (int i = 0; i < GROUPS; i++) {
                const shared_at x = to.own + (shared_at)(2 * i * p::own);
                fetch_tile<D, GROUP_ROWS>(x, q, head, at + GROUP_ROWS * i, sequence, to.qr.filling());
                fetch_tile<D, GROUP_ROWS>(x + p::own, dout, head, at + GROUP_ROWS * i, sequence, to.qr.filling());
            }
            to.qr.next();
            fetch_tiles(0);
        }
        number = __shfl_sync(0xffffffffu, number, 0);
    }
    if (first) no_item_left();
}

/* grid: as many blocks as multiprocessors. */
template <int D>
static __global__ void __launch_bounds__(THREADS, 1)
    grad_queries(shape s, float c, work all, const __grid_constant__ CUtensorMap dout,
                 const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k,
                 const __grid_constant__ CUtensorMap v, const int32_t *pos, facts f, bf16 *dq)
{
    extern __shared__ uint4 shared[];
    typedef queries_plan<D> p;
    char *memory = tiles_begin(shared);
    queries_places<D> to(memory);

    if (threadIdx.x == 0) {
        to.ir.init(4 * GROUPS);
        to.qr.init(4 * GROUPS);
        to.kr.init(4 * GROUPS);
        to.vr.init(4 * GROUPS);
        barrier_init_done();
    }
    __syncthreads();
    if (group_number() == GROUPS) {
        registers_give<p::fetching>();
        if (threadIdx.x % GROUP < 32) fetch<D>(s, to, pos, all, &dout, &q, &k, &v);
        return;
    }
    registers_take<p::computing>();
    const int group = group_number();
    const shared_at own = to.own + (shared_at)(2 * group * p::own);
    const uint64_t queries = operand(own, 0), douts = operand(own + p::own, 0), keys = operand(to.keys, 0);
    const uint64_t rows_of_keys = operand(to.keys, p::keys * TILE_ROW), values = operand(to.values, 0);
    uint32_t own_queries[D / 16][4], ds[p::keys / 16][4];
    float acc[D / 8][4], score[p::keys / 8][4], dp[p::keys / 8][4];

    for (;;) {
        to.ir.wait_full();
        const item *told = &to.items[to.ir.stage()];
        const int head = told->head, last = told->last, count = told->count, highest = told->highest[group];
        const int sequence = told->sequence, mine = told->at + GROUP_ROWS * group;
        const int64_t token = sequence * s.seq;
        to.ir.release(to.ir.stage());
        to.ir.next();
        if (count == 0) return;
        int first[2], row[2];
        float lse[2], delta[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            row[h] = mine + group_row(h);
            first[h] = row[h] < s.seq ? (int)first_key(s, pos + token, row[h]) : 0;
            const int64_t fact = ((int64_t)sequence * s.count + head) * f.padded + row[h];
            lse[h] = f.lse[fact], delta[h] = f.delta[fact];
        }
#pragma unroll
        for (int n = 0; n < D / 8; n++) acc[n][0] = acc[n][1] = acc[n][2] = acc[n][3] = 0;

        /* Asks for the scores and the dp of the tile that the rings stand at. */
        auto ask = [&] {
            wgmma_fence();
            if constexpr (p::in_registers)
                group_scores<D, p::keys>(score, own_queries, operand_at(keys, to.kr.stage() * p::tile));
            else group_scores<D, GROUP_ROWS, p::keys>(score, queries, operand_at(keys, to.kr.stage() * p::tile));
            wgmma_commit();
            group_scores<D, GROUP_ROWS, p::keys>(dp, douts, operand_at(values, to.vr.stage() * p::tile));
            wgmma_commit();
        };
        auto weigh = [&](int key) {
            if (key + p::keys - 1 > mine || key < highest) {
                const int low[2] = {first[0] - key, first[1] - key}, high[2] = {row[0] - key, row[1] - key};
                hide(score, low, high);
            }
#pragma unroll
            for (int n = 0; n < p::keys / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) score[n][i] = weight(score[n][i], c, lse[i / 2]);
        };
        auto derive = [&] {
#pragma unroll
            for (int n = 0; n < p::keys / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) score[n][i] *= dp[n][i] - delta[i / 2];
        };

        int key = last * p::keys, before = to.kr.stage(); // the keys' stage of the tile before
        to.qr.wait_full();
        if constexpr (p::in_registers) group_load<D>(own_queries, own);
        to.kr.wait_full();
        to.vr.wait_full();
        ask();
        wgmma_wait<1>();
        hold(score);
        weigh(key);
        wgmma_wait<0>();
        hold(dp);
        to.vr.release(to.vr.stage());
        if (count == 1) to.qr.release(0);
        derive();
        group_round(score, ds);
        to.kr.next();
        to.vr.next();
        if (count > 1) {
            to.kr.wait_full();
            to.vr.wait_full();
        }
        for (int i = 1; i < count; i++) {
            key -= p::keys;
            hold(acc);
            ask();
            group_accumulate(acc, ds, operand_at(rows_of_keys, before * p::tile));
            wgmma_commit();
            wgmma_wait<2>(); // the scores are there
            hold(score);
            weigh(key);
            const int now = to.kr.stage();
            to.kr.next();
            if (i + 1 < count) to.kr.wait_full(); // here, as a branch keeps what is above it above the next wait
            wgmma_wait<1>();                      // dp too
            hold(dp);
            to.vr.release(to.vr.stage());
            if (i + 1 == count) to.qr.release(0);
            derive();
            to.vr.next();
            if (i + 1 < count) to.vr.wait_full(); // as above
            wgmma_wait<0>();                      // and the sums
            hold(acc);
            to.kr.release(before);
            before = now;
            group_round(score, ds);
        }
        to.qr.next();
        hold(acc);
        wgmma_fence();
        group_accumulate(acc, ds, operand_at(rows_of_keys, before * p::tile));
        wgmma_commit();
        wgmma_wait<0>();
        hold(acc);
        to.kr.release(before);
        const float factor[2] = {s.scale, s.scale};
        group_store(acc, factor, (bf16 *)(memory + p::outputs + group * p::own),
                    dq + (token + mine) * s.ldq + head * s.width, s.ldq, (int)s.seq - mine, (int)s.width);
    }
}

/* ---- dk and dv ---- */

/* How a block of grad_keys divides its work: 64 keys to a warpgroup. */
template <int D>
struct keys_plan {
    static constexpr int keys = GROUP_ROWS * GROUPS;
    static constexpr int queries = D <= 64 ? 128 : 64; /* at once: 64 or 32 registers of scores */
    static constexpr int spans = queries / SPAN_QUERIES, stages = 3;
    static constexpr int own = swizzled_bytes(GROUP_ROWS, D); /* of k, then of v; a warpgroup after the other */
    static constexpr int tile = swizzled_bytes(queries, D);   /* of q, then of do */
    static constexpr int fact = queries * (int)sizeof(float); /* lse, then delta, then low */
    static constexpr int facts = 2 * GROUPS * own + 2 * stages * tile;
    static constexpr int passing = facts + 3 * stages * fact; /* int2 a stage */
    static constexpr int barriers = passing + stages * (int)sizeof(int2);
    static constexpr int bytes = TILES_SLACK + barriers + 8 + ring<stages>::bytes;
    static constexpr int fetching = 24, computing = 240; /* registers of a thread */
};

/* What passes by in a stage: its first query (-1: no more comes), and the highest of its queries' first keys. */
typedef int2 passing;

/* grid: kv heads of all sequences x blocks of keys, the first and longest first. */
template <int D, bool DK, bool DV>
static __global__ void __launch_bounds__(THREADS, 1)
    grad_keys(shape s, float c, const __grid_constant__ CUtensorMap dout, const __grid_constant__ CUtensorMap q,
              const __grid_constant__ CUtensorMap k, const __grid_constant__ CUtensorMap v, facts f, bf16 *dk, bf16 *dv)
{
    extern __shared__ uint4 shared[];
    typedef keys_plan<D> p;
    char *memory = tiles_begin(shared);
    const shared_at tiles = shared_address(memory), ready = tiles + p::barriers;
    const shared_at passing_tiles = tiles + 2 * GROUPS * p::own;
    passing *passes = (passing *)(memory + p::passing);
    const int kv = (int)(blockIdx.x % s.kv_count), sequence = (int)(blockIdx.x / s.kv_count);
    const int at = (int)blockIdx.y * p::keys;
    const int64_t token = sequence * s.seq;
    ring<p::stages> r(ready + 8);

    if (threadIdx.x == THREADS - GROUP) {
        barrier_init(ready, 1);
        r.init(4 * GROUPS);
        barrier_init_done();
        map_prefetch(&q);
        map_prefetch(&dout);
    }
    __syncthreads();

    if (group_number() == GROUPS) {
        registers_give<p::fetching>();
        if (threadIdx.x % GROUP >= 32) return;
        const int lane = threadIdx.x % 32;
        if (lane == 0) {
            barrier_expect(ready, 2 * GROUPS * p::own);
            for (int i = 0; i < GROUPS; i++) {
                const shared_at to = tiles + (shared_at)(2 * i * p::own);
                fetch_tile<D, GROUP_ROWS>(to, &k, kv, at + GROUP_ROWS * i, sequence, ready);
                fetch_tile<D, GROUP_ROWS>(to + p::own, &v, kv, at + GROUP_ROWS * i, sequence, ready);
            }
        }
        const int2 *span = f.span + (int64_t)sequence * f.padded / SPAN_QUERIES;
        const int count = ((int)s.seq + p::queries - 1) / p::queries;
        int head = 0, end = 0;
        heads_of_kv(s, kv, &head, &end);
#pragma unroll 1
        for (; head < end; head++)
#pragma unroll 1
            for (int first = at / p::queries; first < count; first += 32) { // a tile to each lane
                int2 see = make_int2(INT32_MAX, 0);
                if (first + lane < count) {
                    see = span[(first + lane) * p::spans];
                    if (p::spans == 2) {
                        const int2 second = span[(first + lane) * p::spans + 1];
                        see = make_int2(min(see.x, second.x), max(see.y, second.y));
                    }
                }
                unsigned seen = __ballot_sync(0xffffffffu, see.x < at + p::keys); // tiles that see some of these keys
#pragma unroll 1
                for (; seen != 0; seen &= seen - 1, r.next()) {
                    const int i = __ffs((int)seen) - 1, highest = __shfl_sync(0xffffffffu, see.y, i);
                    if (lane != 0) continue;
                    const int query = (first + i) * p::queries;
                    const int64_t low = (int64_t)sequence * f.padded + query;
                    const int64_t fact = ((int64_t)sequence * s.count + head) * f.padded + query;
                    const shared_at to = passing_tiles + (shared_at)(r.stage() * 2 * p::tile);
                    const shared_at known = tiles + (shared_at)(p::facts + r.stage() * 3 * p::fact);
                    r.wait_empty();
                    passes[r.stage()] = make_int2(query, highest);
                    barrier_expect(r.filling(), 2 * p::tile + 3 * p::fact);
                    fetch_tile<D, p::queries>(to, &q, head, query, sequence, r.filling());
                    fetch_tile<D, p::queries>(to + p::tile, &dout, head, query, sequence, r.filling());
                    fetch_piece(known, f.lse + fact, p::fact, r.filling());
                    fetch_piece(known + p::fact, f.delta + fact, p::fact, r.filling());
                    fetch_piece(known + 2 * p::fact, f.low + low, p::fact, r.filling());
                }
            }
        if (lane != 0) return;
        r.wait_empty();
        passes[r.stage()] = make_int2(-1, 0);
        barrier_arrive(r.filling());
        return;
    }
    registers_take<p::computing>();
    const int group = group_number(), mine = at + GROUP_ROWS * group;
    const shared_at own = tiles + (shared_at)(2 * group * p::own);
    const uint64_t keys = operand(own, 0), values = operand(own + p::own, 0);
    const uint64_t queries = operand(passing_tiles, 0), douts = operand(passing_tiles + p::tile, 0);
    const uint64_t rows_of_queries = operand(passing_tiles, p::queries * TILE_ROW);
    const uint64_t rows_of_douts = operand(passing_tiles + p::tile, p::queries * TILE_ROW);
    const int row[2] = {mine + group_row(0), mine + group_row(1)};
    float acc_k[D / 8][4], acc_v[D / 8][4], score[p::queries / 8][4], dp[p::queries / 8][4];
    uint32_t weights[p::queries / 16][4], ds[p::queries / 16][4];
#pragma unroll
    for (int n = 0; n < D / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) acc_k[n][i] = acc_v[n][i] = 0;

    barrier_wait(ready, 0);
    for (;; r.next()) {
        r.wait_full();
        const passing now = passes[r.stage()];
        if (now.x < 0) break;
        const float *lse = (const float *)(memory + p::facts + r.stage() * 3 * p::fact), *delta = lse + p::queries;
        const int *low = (const int *)(delta + p::queries);
        const int at_stage = r.stage() * 2 * p::tile;
        wgmma_fence();
        group_scores<D, GROUP_ROWS, p::queries>(score, keys, operand_at(queries, at_stage));
        wgmma_commit();
        if (DK) {
            group_scores<D, GROUP_ROWS, p::queries>(dp, values, operand_at(douts, at_stage));
            wgmma_commit();
        }
        wgmma_wait<DK ? 1 : 0>(); // the scores are there
        hold(score);
        if (now.x < mine + GROUP_ROWS - 1 || now.y > mine) { // some are hidden
#pragma unroll
            for (int n = 0; n < p::queries / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int column = mma_column(n, i), from = low[column];
                    if ((row[i / 2] > now.x + column) | (row[i / 2] < from)) score[n][i] = -INFINITY;
                }
        }
#pragma unroll
        for (int n = 0; n < p::queries / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) score[n][i] = weight(score[n][i], c, lse[mma_column(n, i)]);
        if (DV) {
            group_round(score, weights);
            hold(acc_v);
            wgmma_fence();
            group_accumulate(acc_v, weights, operand_at(rows_of_douts, at_stage));
            wgmma_commit();
        }
        if (DK) {
            wgmma_wait<DV ? 1 : 0>(); // dp is there
            hold(dp);
#pragma unroll
            for (int n = 0; n < p::queries / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) score[n][i] *= dp[n][i] - delta[mma_column(n, i)];
            group_round(score, ds);
            hold(acc_k);
            wgmma_fence();
            group_accumulate(acc_k, ds, operand_at(rows_of_queries, at_stage));
            wgmma_commit();
        }
        wgmma_wait<0>();
        if (DK) hold(acc_k);
        if (DV) hold(acc_v);
        r.release(r.stage());
    }
    named_wait(1 + group, GROUP); // no warp of the group reads its keys and values any more
    const float whole[2] = {1, 1}, scaled[2] = {s.scale, s.scale};
    bf16 *place = (bf16 *)(memory + 2 * group * p::own);
    const int64_t to = (token + mine) * s.ldk + kv * s.width;
    const int there = (int)s.seq - mine, width = (int)s.width;
    if (DK) group_store(acc_k, scaled, place, dk + to, s.ldk, there, width);
    if (DV) group_store(acc_v, whole, place + p::own / sizeof(bf16), dv + to, s.ldk, there, width);
}

/* ---- the call: do, q, k, v, o, lse, pos -> dq, dk, dv ---- */

template <int D, bool DK, bool DV>
static dt_status launch_keys(const dt_call *call, const shape *s, int64_t sequences, facts f)
{
    typedef keys_plan<D> p;
    CUtensorMap dout, q, k, v;
    DT_TRY(tensor_map(call->in[0].data, s->width, s->count, s->seq, sequences, p::queries, &dout));
    DT_TRY(tensor_map(call->in[1].data, s->width, s->count, s->seq, sequences, p::queries, &q));
    DT_TRY(tensor_map(call->in[2].data, s->width, s->kv_count, s->seq, sequences, GROUP_ROWS, &k));
    DT_TRY(tensor_map(call->in[3].data, s->width, s->kv_count, s->seq, sequences, GROUP_ROWS, &v));
    dim3 grid((unsigned)(s->kv_count * sequences), (unsigned)((s->seq + p::keys - 1) / p::keys));
    auto kernel = grad_keys<D, DK, DV>;
    DT_TRY(allow_shared(kernel, p::bytes));
    kernel<<<grid, THREADS, p::bytes, stream_of(call)>>>(*s, s->scale * LOG2_E, dout, q, k, v, f,
                                                         (bf16 *)call->out[1].data, (bf16 *)call->out[2].data);
    return launched();
}

template <int D>
static dt_status launch(const dt_call *call, const shape *s, int64_t sequences, facts f)
{
    typedef queries_plan<D> p;
    const bool has_dk = call->out[1].data != NULL, has_dv = call->out[2].data != NULL;
    if (call->out[0].data != NULL) {
        CUtensorMap dout, q, k, v;
        DT_TRY(tensor_map(call->in[0].data, s->width, s->count, s->seq, sequences, GROUP_ROWS, &dout));
        DT_TRY(tensor_map(call->in[1].data, s->width, s->count, s->seq, sequences, GROUP_ROWS, &q));
        DT_TRY(tensor_map(call->in[2].data, s->width, s->kv_count, s->seq, sequences, p::keys, &k));
        DT_TRY(tensor_map(call->in[3].data, s->width, s->kv_count, s->seq, sequences, p::keys, &v));
        const work all = {(unsigned)(s->count * sequences), (int)((s->seq + p::queries - 1) / p::queries)};
        DT_TRY(allow_shared(grad_queries<D>, p::bytes));
        grad_queries<D><<<blocks_to_stay(call, all), THREADS, p::bytes, stream_of(call)>>>(
            *s, s->scale * LOG2_E, all, dout, q, k, v, DT_IN_I32(call, 6), f, (bf16 *)call->out[0].data);
        DT_TRY(launched());
    }
    if (has_dk && has_dv) return launch_keys<D, true, true>(call, s, sequences, f);
    if (has_dk) return launch_keys<D, true, false>(call, s, sequences, f);
    if (has_dv) return launch_keys<D, false, true>(call, s, sequences, f);
    return DT_OK;
}

dt_status dt_cuda_attention_wgmma_grad(const dt_call *call, const shape *s)
{
    facts f;
    DT_TRY(find_facts(call, s, &f));
    const int64_t sequences = call->in[1].dim[0] / s->seq;
    return s->width <= 64 ? launch<64>(call, s, sequences, f) : launch<128>(call, s, sequences, f);
}
#endif
