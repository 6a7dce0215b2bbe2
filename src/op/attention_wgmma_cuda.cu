/* Attention on Hopper's warpgroups, forward (FlashAttention-3: Shah et al. 2024, sections 3.1 and 3.2).
 *
 * A block takes 128 queries of one head (D 128; 192 for D up to 64): 64 to each of two (three) warpgroups that compute,
 * beside one of which a single thread lets the copy engine fetch. Keys and values pass through shared memory, 128 at a
 * time, the last first, two tiles of each on the way. A warpgroup multiplies 64 x 128 scores out of shared memory into
 * registers, makes weights of them there, and multiplies these, still in registers, with the values. Every query has
 * one owner that sees the keys in order: nothing is added up across warps, and a run repeats bit by bit.
 *
 * What keeps the tensor cores busy while weights are made, half as long as the products take (D 128; D 64: as long):
 * a warpgroup asks for the next scores before it adds up the values of these, so that it makes weights while the values
 * are multiplied; and warpgroups take turns at asking, so that one makes weights while another's products run.
 *
 * Hidden keys: the block starts at its last query and ends at the lowest key that any of its queries sees; a warpgroup
 * looks at single keys only in tiles hidden in part from it.
 *
 * Work: 4 D FLOPs a visible pair of query and key. Bytes: q, k, v, o and lse once; out of the L2 cache K and V once for
 * each block. At T = 4096, D = 128, 32 heads on 8: 137 GFLOP, 0.14 ms of a Hopper's 989 TFLOP/s, against 84 MB, 0.02 ms
 * at 4.8 TB/s: bound by arithmetic. Shared memory delivers 6144 bytes to a product of 64 x 128 x 16 out of it and 4096
 * (D 64: 2048 to half as much) to one with the weights: 80 bytes a clock at the full rate of 4096 FLOPs, of 128.
 *
 * By ptxas, for sm_90a, without spills and without a product that waits for another: 168 registers at entry, 240 where
 * there is computing, and 162 KB of shared memory (D 128); 128, 160 and 90 KB (D 64): one block on a multiprocessor. */
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
    static constexpr int fetching = groups == 3 ? 32 : 24, computing = groups == 3 ? 160 : 240; /* registers */
    static constexpr int own = swizzled_bytes(GROUP_ROWS, D), query_bytes = groups * own;
    static constexpr int tile = swizzled_bytes(keys, D);
    static constexpr int barriers = query_bytes + 2 * stages * tile; /* behind the tiles */
    static constexpr int sights = barriers + 8 + 2 * ring<stages>::bytes;
    static constexpr int bytes = TILES_SLACK + sights + queries / 32 * (int)sizeof(int2);
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
template <int GROUPS>
static __device__ inline void turn_take(int group)
{
    named_wait(1 + group, 2 * GROUP);
}
template <int GROUPS>
static __device__ inline void turn_give(int group)
{
    named_arrive(1 + (group + 1 == GROUPS ? 0 : group + 1), 2 * GROUP);
}

/* Of a block: its queries `at` .. `end`, and how many tiles of keys they see, the last first. */
struct span {
    int at, end, last, tiles;
};

template <int D>
static __device__ inline span span_of(const shape &s, const int2 *sights)
{
    span b;
    b.at = (int)(gridDim.y - 1 - blockIdx.y) * plan<D>::queries;
    b.end = min(b.at + plan<D>::queries, (int)s.seq);
    int lowest = sights[0].x;
    for (int i = 1; i < plan<D>::queries / 32; i++) lowest = min(lowest, sights[i].x);
    b.last = (b.end - 1) / plan<D>::keys;
    b.tiles = b.last - lowest / plan<D>::keys + 1;
    return b;
}

/* One thread fetches. */
template <int D>
static __device__ inline void fetch(const shape &s, const span &b, shared_at tiles, const CUtensorMap *q,
                                    const CUtensorMap *k, const CUtensorMap *v)
{
    typedef plan<D> p;
    const int head = (int)(blockIdx.x % s.count), sequence = (int)(blockIdx.x / s.count);
    const int kv = (int)((s.first + head) / s.group - s.kv_first);
    const shared_at ready = tiles + p::barriers, keys = tiles + p::query_bytes, values = keys + p::stages * p::tile;
    ring<p::stages> kr(ready + 8), vr(ready + 8 + ring<p::stages>::bytes);
    barrier_expect(ready, p::query_bytes);
    for (int i = 0; i < p::groups; i++)
        fetch_tile<D, GROUP_ROWS>(tiles + (shared_at)(i * p::own), q, head, b.at + GROUP_ROWS * i, sequence, ready);
    for (int i = 0; i <= b.tiles; i++) { // values one tile behind the keys, as they are used
        if (i < b.tiles) {
            kr.wait_empty();
            barrier_expect(kr.filling(), p::tile);
            fetch_tile<D, p::keys>(keys + (shared_at)(kr.stage * p::tile), k, kv, (b.last - i) * p::keys, sequence,
                                   kr.filling());
            kr.next();
        }
        if (i > 0) {
            vr.wait_empty();
            barrier_expect(vr.filling(), p::tile);
            fetch_tile<D, p::keys>(values + (shared_at)(vr.stage * p::tile), v, kv, (b.last - i + 1) * p::keys,
                                   sequence, vr.filling());
            vr.next();
        }
    }
}

/* grid: heads of all sequences x blocks of queries, the last and longest first. */
template <int D>
static __global__ void __launch_bounds__(plan<D>::threads, 1)
    attend(shape s, float c, const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k,
           const __grid_constant__ CUtensorMap v, const int32_t *pos, bf16 *o, float *lse)
{
    extern __shared__ uint4 shared[];
    typedef plan<D> p;
    char *memory = tiles_begin(shared);
    int2 *sights = (int2 *)(memory + p::sights);
    const shared_at tiles = shared_address(memory), ready = tiles + p::barriers;
    const int head = (int)(blockIdx.x % s.count), warp = (int)threadIdx.x / 32;
    const int64_t token = blockIdx.x / s.count * s.seq;
    ring<p::stages> kr(ready + 8), vr(ready + 8 + ring<p::stages>::bytes);

    if (threadIdx.x == 0) {
        barrier_init(ready, 1);
        kr.init(4 * p::groups);
        vr.init(4 * p::groups);
        barrier_init_done();
    }
    if (warp < p::queries / 32) {
        const int2 see = sight_of(s, pos + token, (int)(gridDim.y - 1 - blockIdx.y) * p::queries + 32 * warp);
        if (threadIdx.x % 32 == 0) sights[warp] = see;
    }
    __syncthreads();
    const span b = span_of<D>(s, sights);

    if (group_number() == p::groups) {
        registers_give<p::fetching>();
        if (threadIdx.x % GROUP == 0) fetch<D>(s, b, tiles, &q, &k, &v);
        return;
    }
    registers_take<p::computing>();
    const int group = group_number(), mine = b.at + GROUP_ROWS * group;
    const int highest = max(sights[2 * group].y, sights[2 * group + 1].y);
    const uint64_t queries = operand(tiles + (shared_at)(group * p::own), 0);
    const uint64_t keys = operand(tiles + p::query_bytes, 0);
    const uint64_t values = operand(tiles + p::query_bytes + p::stages * p::tile, p::keys * TILE_ROW);
    int first[2], row[2];
    float acc[D / 8][4], score[p::keys / 8][4], correction[2];
    uint32_t weights[p::keys / 16][4];
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
        const int from[2] = {first[0] - key, first[1] - key}, to[2] = {row[0] - key, row[1] - key};
        hide(score, from, to);
    };

    int key = b.last * p::keys;
    barrier_wait(ready, 0);
    kr.wait_full();
    wgmma_fence();
    group_scores<D, GROUP_ROWS, p::keys>(score, queries, keys);
    wgmma_commit();
    wgmma_wait<0>();
    hold(score);
    kr.release(kr.stage);
    kr.next();
    hide_some(key);
    weigh(w, score, correction, c);
    group_round(score, weights);

    if (group == p::groups - 1 && b.tiles > 1) turn_give<p::groups>(group);
    if (b.tiles > 1) kr.wait_full();
    for (int i = 1; i < b.tiles; i++) {
        key -= p::keys;
        turn_take<p::groups>(group);
        hold(acc);
        wgmma_fence();
        group_scores<D, GROUP_ROWS, p::keys>(score, queries, operand_at(keys, kr.stage * p::tile));
        wgmma_commit();
        vr.wait_full();
        wgmma_fence();
        group_accumulate(acc, weights, operand_at(values, vr.stage * p::tile));
        wgmma_commit();
        if (group != p::groups - 1 || i < b.tiles - 1) turn_give<p::groups>(group);
        wgmma_wait<1>(); // the scores are there
        hold(score);
        kr.release(kr.stage);
        kr.next();
        hide_some(key);
        weigh(w, score, correction, c);
        if (i + 1 < b.tiles) kr.wait_full(); // here, as a branch keeps what is above it above the next wait
        wgmma_wait<0>();                     // and the sums
        hold(acc);
        vr.release(vr.stage);
        vr.next();
        group_round(score, weights);
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) acc[n][i] *= correction[i / 2];
    }
    vr.wait_full();
    hold(acc);
    wgmma_fence();
    group_accumulate(acc, weights, operand_at(values, vr.stage * p::tile));
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
    named_wait(1 + p::groups + group, GROUP); // no warp of the group reads its queries any more
    group_store(acc, over_sum, (bf16 *)(memory + group * p::own), o + (token + mine) * s.ldq + head * s.width, s.ldq,
                (int)s.seq - mine, (int)s.width);
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
    dim3 grid((unsigned)(s->count * sequences), (unsigned)((s->seq + p::queries - 1) / p::queries));
    DT_TRY(allow_shared(attend<D>, p::bytes));
    attend<D><<<grid, p::threads, p::bytes, stream_of(call)>>>(*s, s->scale * LOG2_E, q, k, v, DT_IN_I32(call, 3),
                                                               (bf16 *)call->out[0].data, (float *)call->out[1].data);
    return launched();
}

dt_status dt_cuda_attention_wgmma(const dt_call *call, const shape *s)
{
    return s->width <= 64 ? launch<64>(call, s) : launch<128>(call, s);
}
#endif
