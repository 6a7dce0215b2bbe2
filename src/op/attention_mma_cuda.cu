/* Attention on tensor cores, forward (FlashAttention-2: Dao 2023).
 *
 * A block of 4 warps takes 128 queries of one head, a warp 32 of them: its scores against 64 keys, the weights made of
 * them and its 32 x D sums stay in its registers. Keys and values pass through shared memory, 64 at a time; while the
 * scores are computed the values come, while the values are summed the next keys come. Every query has one owner that
 * sees the keys in order: nothing is added up across warps, and a run repeats bit by bit.
 *
 * Hidden keys: the block starts at the lowest key that any of its queries sees and ends at its last query; a warp
 * leaves out tiles hidden from all its queries, and looks at single keys only in tiles hidden in part.
 *
 * Work: 4 D FLOPs a visible pair of query and key. Bytes: q, k, v, o and lse once; out of the L2 cache K and V once for
 * each 128 queries, 4 D bytes to 512 D FLOPs. At T = 4096, D = 128, 32 heads on 8: 137 GFLOP, 0.14 ms of a Hopper's 989
 * TFLOP/s (of which mma.sync, used here, reaches about 60%), against 84 MB, 0.02 ms at 4.8 TB/s: bound by arithmetic.
 * Shared memory delivers 160 bytes to a mma of 4096 FLOPs.
 *
 * By ptxas, for sm_90: 210 registers and 37 KB of shared memory (D 64), 254 and 70 KB (D 128; one pair of registers
 * spilled): two blocks on a multiprocessor. */
#ifndef DT_ACT_F32
#include "op/attention.cuh"
#include "op/attention_mma.cuh"

enum { WARPS = 4, THREADS = 32 * WARPS, QUERIES = 32 * WARPS, KEYS = 64 };

static size_t shared_bytes(int d)
{
    return (size_t)tile_bytes(QUERIES + 2 * KEYS, d) + (QUERIES + WARPS) * sizeof(int);
}

/* Softmax of a row so far: maximum and sum of the weights, the sum of the calling lane's columns only. */
struct softmax {
    float max[2][2], sum[2][2];
};

/* Scores to weights 2^(c (score - maximum)); what was summed before is brought to the new maximum. */
template <int N, int D>
static __device__ inline void weigh(softmax &w, float (&score)[2][N][4], float (&acc)[2][D / 8][4], float c)
{
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float max = w.max[m][h];
#pragma unroll
            for (int n = 0; n < N; n++) max = fmaxf(max, fmaxf(score[m][n][2 * h], score[m][n][2 * h + 1]));
            max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1)); // four lanes share a row
            max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
            const float correction = exp2_of((w.max[m][h] - max) * c), base = max * c;
#pragma unroll
            for (int n = 0; n < D / 8; n++)
#pragma unroll
                for (int i = 2 * h; i < 2 * h + 2; i++) acc[m][n][i] *= correction;
            w.sum[m][h] *= correction;
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 2 * h; i < 2 * h + 2; i++) {
                    score[m][n][i] = exp2_of(score[m][n][i] * c - base);
                    w.sum[m][h] += score[m][n][i];
                }
            w.max[m][h] = max;
        }
}

/* grid: heads of all sequences x blocks of queries, the last and longest first. */
template <int D>
static __global__ void __launch_bounds__(THREADS, 2)
    attend(shape s, float c, const bf16 *q, const bf16 *k, const bf16 *v, const int32_t *pos, bf16 *o, float *lse)
{
    extern __shared__ uint4 shared[];
    bf16 *queries = (bf16 *)shared, *keys = queries + QUERIES * (D + MMA_PAD), *values = keys + KEYS * (D + MMA_PAD);
    int *low = (int *)(values + KEYS * (D + MMA_PAD)), *lowest = low + QUERIES; // of each query; of each warp's
    const int seq = (int)s.seq, head = (int)(blockIdx.x % s.count), warp = warp_number();
    const int64_t token = blockIdx.x / s.count * s.seq;
    const int at = (int)(gridDim.y - 1 - blockIdx.y) * QUERIES, mine = at + 32 * warp;
    const int end = at + QUERIES < seq ? at + QUERIES : seq;
    const int64_t kv = (s.first + head) / s.group - s.kv_first;
    bf16 *own = queries + 32 * warp * (D + MMA_PAD);
    const int64_t head_at = token * s.ldk + kv * s.width;
    float acc[2][D / 8][4] = {}, score[2][KEYS / 8][4];
    softmax w;

    const sight see = sight_of(s, pos + token, mine, low + 32 * warp);
    if (threadIdx.x % 32 == 0) lowest[warp] = see.lowest;
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) w.max[m][h] = -1e30f, w.sum[m][h] = 0; // finite: a tile may hide all its keys
    __syncthreads();
    int key = lowest[0];
    for (int i = 1; i < WARPS; i++) key = lowest[i] < key ? lowest[i] : key;
    key -= key % KEYS;

    tile_load<QUERIES, D, THREADS>(queries, q + (token + at) * s.ldq + head * s.width, (int)s.ldq, seq - at,
                                   (int)s.width);
    tile_load<KEYS, D, THREADS>(keys, k + head_at + key * s.ldk, (int)s.ldk, seq - key, (int)s.width);
    for (; key < end; key += KEYS) {
        const bool seen = key < mine + 32 && key + KEYS > see.lowest;
        copy_wait();
        __syncthreads(); // the keys are there, and nobody reads the values any more
        tile_load<KEYS, D, THREADS>(values, v + head_at + key * s.ldk, (int)s.ldk, seq - key, (int)s.width);
        if (seen) tile_scores<2, KEYS / 8, D>(score, own, keys);
        copy_wait();
        __syncthreads(); // the values are there, and nobody reads the keys any more
        const int next = key + KEYS;
        if (seen) {
            if (key + KEYS - 1 > mine || key < see.highest) hide(score, low + 32 * warp, mine, key);
            weigh<KEYS / 8, D>(w, score, acc, c);
        }
        if (next < end)
            tile_load<KEYS, D, THREADS>(keys, k + head_at + next * s.ldk, (int)s.ldk, seq - next, (int)s.width);
        if (seen) tile_accumulate<2, KEYS / 8, D>(acc, tile_round(score), values);
    }

    float over_sum[2][2];
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float sum = w.sum[m][h];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            over_sum[m][h] = 1 / sum;
            const int row = mine + mma_row(m, 2 * h);
            if (lse != NULL && threadIdx.x % 4 == 0 && row < seq)
                lse[(token + row) * s.count + head] = w.max[m][h] * s.scale + logf(sum);
        }
    tile_store<2, D>(acc, over_sum, own, o + (token + mine) * s.ldq + head * s.width, (int)s.ldq, seq - mine,
                     (int)s.width);
}

template <int D>
static dt_status launch(const dt_call *call, const shape *s)
{
    const int64_t sequences = call->in[0].dim[0] / s->seq;
    dim3 grid((unsigned)(s->count * sequences), (unsigned)((s->seq + QUERIES - 1) / QUERIES));
    DT_TRY(allow_shared(attend<D>, shared_bytes(D)));
    attend<D><<<grid, THREADS, shared_bytes(D), stream_of(call)>>>(
        *s, s->scale * LOG2_E, (const bf16 *)call->in[0].data, (const bf16 *)call->in[1].data,
        (const bf16 *)call->in[2].data, DT_IN_I32(call, 3), (bf16 *)call->out[0].data, (float *)call->out[1].data);
    return launched();
}

dt_status dt_cuda_attention_mma(const dt_call *call, const shape *s)
{
    return s->width <= 64 ? launch<64>(call, s) : s->width <= 96 ? launch<96>(call, s) : launch<128>(call, s);
}
#endif
