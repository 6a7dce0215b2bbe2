/* Attention on Hopper's warpgroups, forward (FlashAttention-3: Shah et al. 2024, sections 3.1 and 3.2).
 *
 * An item of work is 128 queries of one head (D 128; 192 for D up to 64): 64 to each of two (three) warpgroups that
 * compute, beside one of which a single warp lets the copy engine fetch. Keys and values pass through shared memory,
 * 128 at a time, the last first, two tiles of each on the way. A warpgroup multiplies 64 x 128 scores out of shared
 * memory into registers, makes weights of them there, and multiplies these, still in registers, with the values. Every
 * query has one owner that sees the keys in order: nothing is added up across warps, and a run repeats bit by bit.
 *
 * What keeps the tensor cores busy while weights are made, half as long as the products take (D 128; D 64: as long):
 * a warpgroup asks for the next scores before it adds up the values of these, so that it makes weights while the values
 * are multiplied; warpgroups take turns at asking, so that one makes weights while another's products run; and blocks
 * stay, one on a multiprocessor, taking item after item, so that the next one's queries and keys come while this one's
 * results leave. Which block takes an item decides nothing but when it is done.
 *
 * Hidden keys: an item starts at its last query's and ends at the lowest key that any of its queries sees; a warpgroup
 * looks at single keys only in tiles hidden in part from it.
 *
 * Work: 4 D FLOPs a visible pair of query and key. Bytes: q, k, v, o and lse once; out of the L2 cache K and V once for
 * each item. At T = 4096, D = 128, 32 heads on 8: 137 GFLOP, 0.14 ms of a Hopper's 989 TFLOP/s, against 84 MB, 0.02 ms
 * at 4.8 TB/s: bound by arithmetic. Shared memory delivers 6144 bytes to a product of 64 x 128 x 16 out of it and 4096
 * (D 64: 2048 to half as much) to one with the weights: 80 bytes a clock at the full rate of 4096 FLOPs, of 128.
 *
 * By ptxas, for sm_90a, without spills and without a product that waits for another: 168 registers at entry, 232 where
 * there is computing, and 194 KB of shared memory (D 128); 128, 160 and 114 KB (D 64). */
#ifndef DT_ACT_F32
#include "op/attention_wgmma.cuh"

/* How a block divides its work. */
template <int D>
struct plan {
    static constexpr int groups = D <= 64 ? 3 : 2; /* warpgroups that compute, of 64 queries each; one more fetches */
    static constexpr int queries = GROUP_ROWS * groups;
    static constexpr int threads = GROUP * (groups + 1);
    static constexpr int keys = 128; /* at once */
    static constexpr int stages = 2;
    static constexpr int fetching = groups == 3 ? 32 : 40, computing = groups == 3 ? 160 : 232; /* registers */
    static constexpr int own = swizzled_bytes(GROUP_ROWS, D), query_bytes = groups * own;
    static constexpr int tile = swizzled_bytes(keys, D);
    static constexpr int outputs = query_bytes + 2 * stages * tile; /* behind the tiles: a place for o */
    static constexpr int items = outputs + query_bytes;
    static constexpr int barriers = items + 2 * (int)sizeof(item);
    static constexpr int bytes = TILES_SLACK + barriers + ring<2>::bytes + ring<1>::bytes + 2 * ring<stages>::bytes;
};

/* Softmax of the calling thread's two rows so far: maximum, and sum of the weights in its own columns. */
struct softmax {
    float max[2], sum[2];
};

/* Scores to weights 2^(c (score - maximum)); correction: what brings earlier sums to the new maximum. */
template <int N>
static __device__ inline void weigh(softmax &w, float (&score)[N][4], float (&correction)[2], float c)
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float max = w.max[h];
#pragma unroll
        for (int n = 0; n < N; n++) max = fmaxf(max, fmaxf(score[n][2 * h], score[n][2 * h + 1]));
        max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1)); // four lanes share a row
        max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
        correction[h] = exp2_of((w.max[h] - max) * c);
        const float base = max * c;
        float sum = w.sum[h] * correction[h];
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 2 * h; i < 2 * h + 2; i++) {
                score[n][i] = exp2_of(score[n][i] * c - base);
                sum += score[n][i];
            }
        w.sum[h] = sum;
        w.max[h] = max;
    }
}

/* Warpgroups take turns at asking for products: while one's run, the others compute weights. */
static __device__ inline void turn_take(int group)
{
    named_wait(1 + group, 2 * GROUP);
}
template <int GROUPS>
static __device__ inline void turn_give(int group)
{
    named_arrive(1 + (group + 1 == GROUPS ? 0 : group + 1), 2 * GROUP);
}

/* Where a block's tiles lie, and the rings of what passes by. */
template <int D>
struct places {
    typedef plan<D> p;
    shared_at queries, keys, values;
    item *items;
    ring<2> ir;
    ring<1> qr;
    ring<p::stages> kr, vr;

    __device__ places(char *memory)
        : queries(shared_address(memory)), keys(queries + p::query_bytes), values(keys + p::stages * p::tile),
          items((item *)(memory + p::items)), ir(queries + p::barriers), qr(ir.full + ring<2>::bytes),
          kr(qr.full + ring<1>::bytes), vr(kr.full + ring<p::stages>::bytes)
    {
    }
};

/* A warp takes items, tells of them, and fetches: of the keys and values of one the rest, when it has told of the next,
 * whose queries and first keys it then fetches. */
template <int D>
static __device__ inline void fetch(const shape &s, places<D> &to, const int32_t *pos, const work &all,
                                    const CUtensorMap *q, const CUtensorMap *k, const CUtensorMap *v)
{
    typedef plan<D> p;
    const bool first = threadIdx.x % 32 == 0;
    int sequence = 0, last = 0, count = 0, kv = 0;
    auto fetch_keys = [&](int i) {
        to.kr.wait_empty();
        barrier_expect(to.kr.filling(), p::tile);
        fetch_tile<D, p::keys>(to.keys + (shared_at)(to.kr.stage() * p::tile), k, kv, (last - i) * p::keys, sequence,
                               to.kr.filling());
        to.kr.next();
    };
    unsigned number = blockIdx.x;
    if (first) {
        map_prefetch(q);
        map_prefetch(k);
        map_prefetch(v);
    }
#pragma unroll 1
    for (;;) {
        tell<p::queries, p::keys>(s, pos, all, number, to.items, to.ir);
#pragma unroll 1
        for (int i = 1; first && i <= count; i++) { // values one tile behind the keys, as they are used
            if (i < count) fetch_keys(i);
            to.vr.wait_empty();
            barrier_expect(to.vr.filling(), p::tile);
            fetch_tile<D, p::keys>(to.values + (shared_at)(to.vr.stage() * p::tile), v, kv, (last - i + 1) * p::keys,
                                   sequence, to.vr.filling());
            to.vr.next();
        }
        __syncwarp();
        const item *now = &to.items[to.ir.stage() ^ 1]; // told of just now
        const int head = now->head, at = now->at;
        sequence = now->sequence, last = now->last, count = now->count;
        if (count == 0) break;
        kv = ((int)s.first + head) / (int)s.group - (int)s.kv_first;
        if (first) {
            number = take_item();
            to.qr.wait_empty();
            barrier_expect(to.qr.filling(), p::query_bytes);
            for (int i = 0; i < p::groups; i++)
                fetch_tile<D, GROUP_ROWS>(to.queries + (shared_at)(i * p::own), q, head, at + GROUP_ROWS * i, sequence,
                                          to.qr.filling());
            to.qr.next();
            fetch_keys(0);
        }
        number = __shfl_sync(0xffffffffu, number, 0);
    }
    if (first) no_item_left();
}

/* grid: as many blocks as multiprocessors. */
template <int D>
static __global__ void __launch_bounds__(plan<D>::threads, 1)
    attend(shape s, float c, work all, const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k,
           const __grid_constant__ CUtensorMap v, const int32_t *pos, bf16 *o, float *lse)
{
    extern __shared__ uint4 shared[];
    typedef plan<D> p;
    char *memory = tiles_begin(shared);
    places<D> to(memory);

    if (threadIdx.x == 0) {
        to.ir.init(4 * p::groups);
        to.qr.init(4 * p::groups);
        to.kr.init(4 * p::groups);
        to.vr.init(4 * p::groups);
        barrier_init_done();
    }
    __syncthreads();
    if (group_number() == p::groups) {
        registers_give<p::fetching>();
        if (threadIdx.x % GROUP < 32) fetch<D>(s, to, pos, all, &q, &k, &v);
        return;
    }
    registers_take<p::computing>();
    const int group = group_number();
    const uint64_t queries = operand(to.queries + (shared_at)(group * p::own), 0), keys = operand(to.keys, 0);
    const uint64_t values = operand(to.values, p::keys * TILE_ROW);
    float acc[D / 8][4], score[p::keys / 8][4], correction[2];
    uint32_t weights[p::keys / 16][4];

    for (;;) {
        to.ir.wait_full();
        const item *now = &to.items[to.ir.stage()];
        const int head = now->head, last = now->last, count = now->count, highest = now->highest[group];
        const int mine = now->at + GROUP_ROWS * group;
        const int64_t token = now->sequence * s.seq;
        to.ir.release(to.ir.stage());
        to.ir.next();
        if (count == 0) return;
        int first[2], row[2];
        softmax w;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            row[h] = mine + group_row(h);
            first[h] = row[h] < s.seq ? (int)first_key(s, pos + token, row[h]) : 0;
            w.max[h] = -1e30f, w.sum[h] = 0; // finite: a tile may hide all its keys
        }
#pragma unroll
        for (int n = 0; n < D / 8; n++) acc[n][0] = acc[n][1] = acc[n][2] = acc[n][3] = 0;
        auto hide_some = [&](int key) {
            if (key + p::keys - 1 <= mine && key >= highest) return;
            const int low[2] = {first[0] - key, first[1] - key}, high[2] = {row[0] - key, row[1] - key};
            hide(score, low, high);
        };

        int key = last * p::keys;
        to.qr.wait_full();
        to.kr.wait_full();
        wgmma_fence();
        group_scores<D, GROUP_ROWS, p::keys>(score, queries, operand_at(keys, to.kr.stage() * p::tile));
        wgmma_commit();
        wgmma_wait<0>();
        hold(score);
        if (count == 1) to.qr.release(0);
        to.kr.release(to.kr.stage());
        to.kr.next();
        hide_some(key);
        weigh(w, score, correction, c);
        group_round(score, weights);

        if (group == p::groups - 1 && count > 1) turn_give<p::groups>(group);
        if (count > 1) to.kr.wait_full();
        for (int i = 1; i < count; i++) {
            key -= p::keys;
            turn_take(group);
            hold(acc);
            wgmma_fence();
            group_scores<D, GROUP_ROWS, p::keys>(score, queries, operand_at(keys, to.kr.stage() * p::tile));
            wgmma_commit();
            to.vr.wait_full();
            wgmma_fence();
            group_accumulate(acc, weights, operand_at(values, to.vr.stage() * p::tile));
            wgmma_commit();
            if (group != p::groups - 1 || i < count - 1) turn_give<p::groups>(group);
            wgmma_wait<1>(); // the scores are there
            hold(score);
            if (i == count - 1) to.qr.release(0);
            to.kr.release(to.kr.stage());
            to.kr.next();
            hide_some(key);
            weigh(w, score, correction, c);
            if (i + 1 < count) to.kr.wait_full(); // here, as a branch keeps what is above it above the next wait
            wgmma_wait<0>();                      // and the sums
            hold(acc);
            to.vr.release(to.vr.stage());
            to.vr.next();
            group_round(score, weights);
#pragma unroll
            for (int n = 0; n < D / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) acc[n][i] *= correction[i / 2];
        }
        to.qr.next();
        to.vr.wait_full();
        hold(acc);
        wgmma_fence();
        group_accumulate(acc, weights, operand_at(values, to.vr.stage() * p::tile));
        wgmma_commit();

        float over_sum[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float sum = w.sum[h];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            over_sum[h] = 1 / sum;
            if (lse != NULL && threadIdx.x % 4 == 0 && row[h] < s.seq)
                lse[(token + row[h]) * s.count + head] = w.max[h] * s.scale + logf(sum);
        }
        wgmma_wait<0>();
        hold(acc);
        to.vr.release(to.vr.stage());
        to.vr.next();
        group_store(acc, over_sum, (bf16 *)(memory + p::outputs + group * p::own),
                    o + (token + mine) * s.ldq + head * s.width, s.ldq, (int)s.seq - mine, (int)s.width);
    }
}

template <int D>
static dt_status launch(const dt_call *call, const shape *s)
{
    typedef plan<D> p;
    const int64_t sequences = call->in[0].dim[0] / s->seq;
    CUtensorMap q, k, v;
    DT_TRY(tensor_map(call->in[0].data, s->width, s->count, s->seq, sequences, GROUP_ROWS, &q));
    DT_TRY(tensor_map(call->in[1].data, s->width, s->kv_count, s->seq, sequences, p::keys, &k));
    DT_TRY(tensor_map(call->in[2].data, s->width, s->kv_count, s->seq, sequences, p::keys, &v));
    const work all = {(unsigned)(s->count * sequences), (int)((s->seq + p::queries - 1) / p::queries)};
    DT_TRY(allow_shared(attend<D>, p::bytes));
    attend<D><<<blocks_to_stay(call, all), p::threads, p::bytes, stream_of(call)>>>(
        *s, s->scale * LOG2_E, all, q, k, v, DT_IN_I32(call, 3), (bf16 *)call->out[0].data, (float *)call->out[1].data);
    return launched();
}

dt_status dt_cuda_attention_wgmma(const dt_call *call, const shape *s)
{
    return s->width <= 64 ? launch<64>(call, s) : launch<128>(call, s);
}
#endif
