/* Low-rank addends on CUDA: y = f(x_0 + alpha_0 op(U_0) op(B_0), ...), elementwise.
 *
 * In bf16 the sums come from tensor cores: a block keeps the B of 64 features in shared memory and goes down the rows,
 * a warp takes 16 rows and 32 features at a time. Columns of its products are features in an order in which a lane owns
 * eight that lie side by side, of two rows: it reads and writes 16 bytes at once, and the sums stay in fp32 between
 * tensor core and f. Bytes of U and B are few: U once for each 64 features, B once for each block, out of the L2 cache.
 *
 * Else (fp32, operands or a U that are ACC, a transposed U, a width that is no multiple of 8) a thread takes four rows
 * of one feature. */
#ifndef DT_OP_LOWRANK_CUH
#define DT_OP_LOWRANK_CUH

#include "op/mma.cuh"
extern "C" {
#include "op/lowrank.h"
}

/** op(U)[n,rank] and op(B)[rank,f]; no addend: rank 0. */
struct lowrank_addend {
    floats u, b;
    int64_t ldu, ldb;
    bool ta, tb;
    int rank;
    float alpha;

    __device__ float u_at(int64_t row, int k) const
    {
        return u[ta ? k * ldu + row : row * ldu + k];
    }
    __device__ float b_at(int k, int64_t column) const
    {
        return b[tb ? column * ldb + k : k * ldb + column];
    }
};

template <int IN, int OUT>
struct lowrank_operands {
    int64_t n, f;
    floats in[IN], out[OUT];
    lowrank_addend add[IN];
};

/** 1 / (1 + e^-x). In bf16 without the steps that make its last bits right: beside tensor cores instructions are what
 *  there is least of, and the result is rounded to 8 bits. */
static __device__ inline float logistic(float x)
{
    return sizeof(act) == 2 ? __fdividef(1.0f, 1.0f + __expf(-x)) : 1 / (1 + expf(-x));
}

/* ---- a thread to a feature ---- */

enum { LOWRANK_LANES = 32, LOWRANK_TEAMS = 8, LOWRANK_EACH = 4 /* rows of a thread */ };

template <int IN, int OUT, typename F>
static __global__ void lowrank_plain(lowrank_operands<IN, OUT> o, F f)
{
    __shared__ float b[IN][DT_LOWRANK_MOST][LOWRANK_LANES];
    const int64_t first = blockIdx.x * (int64_t)LOWRANK_LANES, column = first + threadIdx.x;
    const int thread = threadIdx.y * LOWRANK_LANES + threadIdx.x;
#pragma unroll
    for (int i = 0; i < IN; i++)
        for (int e = thread; e < o.add[i].rank * LOWRANK_LANES; e += LOWRANK_LANES * LOWRANK_TEAMS) {
            const int k = o.add[i].tb ? e % o.add[i].rank : e / LOWRANK_LANES;
            const int j = o.add[i].tb ? e / o.add[i].rank : e % LOWRANK_LANES;
            b[i][k][j] = first + j < o.f ? o.add[i].b_at(k, first + j) : 0.0f;
        }
    __syncthreads();
    if (column >= o.f) return;
    const int64_t step = (int64_t)gridDim.y * LOWRANK_TEAMS * LOWRANK_EACH;
    for (int64_t row = (blockIdx.y * (int64_t)LOWRANK_TEAMS + threadIdx.y) * LOWRANK_EACH; row < o.n; row += step) {
        float sum[IN][LOWRANK_EACH] = {};
#pragma unroll
        for (int i = 0; i < IN; i++)
            for (int k = 0; k < o.add[i].rank; k++) {
                const float w = b[i][k][threadIdx.x];
#pragma unroll
                for (int r = 0; r < LOWRANK_EACH; r++) sum[i][r] += o.add[i].u_at(row + r < o.n ? row + r : row, k) * w;
            }
#pragma unroll
        for (int r = 0; r < LOWRANK_EACH; r++) {
            float x[IN], y[OUT];
            if (row + r >= o.n) break;
            const int64_t at = (row + r) * o.f + column;
#pragma unroll
            for (int i = 0; i < IN; i++) x[i] = o.in[i][at] + o.add[i].alpha * sum[i][r];
            f(x, y);
#pragma unroll
            for (int k = 0; k < OUT; k++)
                if (o.out[k].data != NULL) o.out[k].set(at, y[k]);
        }
    }
}

template <int IN, int OUT, typename F>
static dt_status lowrank_by_feature(const dt_call *call, const lowrank_operands<IN, OUT> &o, F f)
{
    const int64_t across = (o.f + LOWRANK_LANES - 1) / LOWRANK_LANES, each = LOWRANK_TEAMS * LOWRANK_EACH;
    const int64_t down = blocks_for(call, (o.n + each - 1) / each * across, 1) / across;
    dim3 grid((unsigned)across, (unsigned)(down < 1 ? 1 : down)), block(LOWRANK_LANES, LOWRANK_TEAMS);
    lowrank_plain<IN, OUT><<<grid, block, 0, stream_of(call)>>>(o, f);
    return launched();
}

/* ---- tensor cores ---- */

#ifndef DT_ACT_F32
enum { LOWRANK_THREADS = 256, LOWRANK_GROUP = 32, LOWRANK_FEATURES = 2 * LOWRANK_GROUP, LOWRANK_ROWS = 64 };

/** Feature 8 t + 2 j + i of a group is column 2 t + i of its j-th piece of eight: the lane's own eight features are
 *  those that it holds of the product. */
static __device__ inline unsigned lowrank_column(unsigned feature)
{
    return feature % 8 / 2 * 8 + feature / 8 * 2 + feature % 2;
}

/** op(B) of a block's features as tiles [K, LOWRANK_GROUP], rounded as a product rounds it. */
template <int K>
static __device__ inline void lowrank_stage(bf16 *tile, const lowrank_addend &a, int64_t first, int64_t f)
{
    const unsigned ld = LOWRANK_GROUP + MMA_PAD;
    for (unsigned e = threadIdx.x; e < K * LOWRANK_FEATURES; e += LOWRANK_THREADS) {
        const unsigned k = a.tb ? e % K : e / LOWRANK_FEATURES, j = a.tb ? e / K : e % LOWRANK_FEATURES;
        const bool there = (int)k < a.rank && first + j < f;
        tile[(j / LOWRANK_GROUP * K + k) * ld + lowrank_column(j % LOWRANK_GROUP)] =
            (bf16)(there ? a.b_at((int)k, first + j) : 0.0f);
    }
}

/** 16 rows of U for a lane that has two of them, zeros outside; `pairs`: rows start at multiples of 4 bytes. */
template <int K>
static __device__ inline left_factor<1, K / 8> lowrank_left(const lowrank_addend &a, bool pairs, const int64_t row[2],
                                                            int64_t n)
{
    left_factor<1, K / 8> u;
    const int first = threadIdx.x % 4 * 2;
    const bf16 *of_row[2] = {(const bf16 *)a.u.data + row[0] * a.ldu, (const bf16 *)a.u.data + row[1] * a.ldu};
#pragma unroll
    for (int k = 0; k < K / 16; k++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int at = first + 16 * k + e / 2 * 8;
            const bool there = row[e % 2] < n && at < a.rank;
            uint32_t two = 0;
            if (pairs) {
                if (there) two = *(const uint32_t *)(of_row[e % 2] + at);
            } else if (there) {
                two = pack((float)of_row[e % 2][at], at + 1 < a.rank ? (float)of_row[e % 2][at + 1] : 0.0f);
            }
            u.piece[0][k][e] = two;
        }
    return u;
}

static __device__ inline void unpack8(const uint4 &raw, float x[8])
{
    const __nv_bfloat162 *pair = (const __nv_bfloat162 *)&raw;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const float2 two = __bfloat1622float2(pair[k]);
        x[2 * k] = two.x;
        x[2 * k + 1] = two.y;
    }
}

/* Ranks up to K; grid: features x rows. */
template <int K, int IN, int OUT, typename F>
static __global__ void __launch_bounds__(LOWRANK_THREADS, IN < 3 ? 3 : 2) lowrank_mma(lowrank_operands<IN, OUT> o, F f)
{
    constexpr int TILE = K * (LOWRANK_GROUP + MMA_PAD);
    __shared__ uint4 shared[IN * 2 * TILE * sizeof(bf16) / sizeof(uint4)];
    bf16 *const b = (bf16 *)shared;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = warp % 2;
    const int64_t first = blockIdx.x * (int64_t)LOWRANK_FEATURES;
    const int64_t column = first + group * LOWRANK_GROUP + lane % 4 * 8;
    bool pairs[IN];
#pragma unroll
    for (int i = 0; i < IN; i++) {
        const lowrank_addend &a = o.add[i];
        pairs[i] = a.rank % 2 == 0 && (uintptr_t)a.u.data % 4 == 0;
        if (a.rank > 0) lowrank_stage<K>(b + 2 * i * TILE, a, first, o.f);
    }
    __syncthreads();
    for (int64_t top = blockIdx.y * (int64_t)LOWRANK_ROWS + warp / 2 * 16; top < o.n;
         top += gridDim.y * (int64_t)LOWRANK_ROWS) {
        const int64_t row[2] = {top + lane / 4, top + lane / 4 + 8};
        uint4 raw[IN][2];
        float sum[IN][1][LOWRANK_GROUP / 8][4] = {};
#pragma unroll
        for (int i = 0; i < IN; i++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                if (row[h] < o.n && column < o.f)
                    raw[i][h] = *(const uint4 *)((const bf16 *)o.in[i].data + row[h] * o.f + column);
#pragma unroll
        for (int i = 0; i < IN; i++) {
            if (o.add[i].rank == 0) continue;
            const left_factor<1, K / 8> u = lowrank_left<K>(o.add[i], pairs[i], row, o.n);
            tile_accumulate<1, K / 8, LOWRANK_GROUP>(sum[i], u, b + (2 * i + group) * TILE);
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            if (row[h] >= o.n || column >= o.f) continue;
            float x[IN][8], y[OUT][8];
#pragma unroll
            for (int i = 0; i < IN; i++) unpack8(raw[i][h], x[i]);
#pragma unroll
            for (int e = 0; e < 8; e++) {
                float of[IN], to[OUT];
#pragma unroll
                for (int i = 0; i < IN; i++) of[i] = x[i][e] + o.add[i].alpha * sum[i][0][e / 2][2 * h + e % 2];
                f(of, to);
#pragma unroll
                for (int k = 0; k < OUT; k++) y[k][e] = to[k];
            }
#pragma unroll
            for (int k = 0; k < OUT; k++)
                if (o.out[k].data != NULL) o.out[k].store8(row[h] * o.f + column, y[k]);
        }
    }
}

template <int K, int IN, int OUT, typename F>
static dt_status lowrank_by_tile(const dt_call *call, const lowrank_operands<IN, OUT> &o, F f)
{
    const int64_t across = (o.f + LOWRANK_FEATURES - 1) / LOWRANK_FEATURES;
    const int64_t tiles = (o.n + LOWRANK_ROWS - 1) / LOWRANK_ROWS;
    const int64_t most = 16 * (int64_t)dt_cuda_of(call->device)->processors / across;
    dim3 grid((unsigned)across, (unsigned)(most < 1 ? 1 : most < tiles ? most : tiles));
    lowrank_mma<K, IN, OUT><<<grid, LOWRANK_THREADS, 0, stream_of(call)>>>(o, f);
    return launched();
}
#endif

/** y = f(x) on a call with addends: f(const float x[IN], float y[OUT]) sees one element. An output may be absent, or be
 *  the operand that it is computed of. */
template <int IN, int OUT, typename F>
static dt_status lowrank_map(const dt_call *call, F f)
{
    lowrank_operands<IN, OUT> o;
    int rank = 0;
    bool tiles = true;
    o.n = call->in[0].dim[0], o.f = call->in[0].dim[1];
    for (int i = 0; i < IN; i++) {
        lowrank_addend &a = o.add[i];
        a = lowrank_addend();
        o.in[i] = DT_IN(call, i);
        tiles = tiles && o.in[i].is_act && o.in[i].wide;
        if (!dt_lowrank_has(call, i)) continue;
        const dt_tensor *u = dt_lowrank_u(call, i), *b = dt_lowrank_b(call, i);
        const dt_lowrank how = DT_ATTR(dt_lowrank_attr, call)->of[i];
        a.u = floats_of(u), a.b = floats_of(b);
        a.ldu = u->dim[1], a.ldb = b->dim[1];
        a.ta = how.ta, a.tb = how.tb;
        a.rank = (int)dt_lowrank_rank(call, i);
        a.alpha = (float)how.alpha;
        if (a.rank > rank) rank = a.rank;
        tiles = tiles && a.u.is_act && !a.ta;
    }
    for (int k = 0; k < OUT; k++) {
        o.out[k] = DT_OUT(call, k);
        tiles = tiles && (o.out[k].data == NULL || (o.out[k].is_act && o.out[k].wide));
    }
    if (o.n == 0 || o.f == 0) return DT_OK;
#ifndef DT_ACT_F32
    if (tiles && o.f % 8 == 0)
        return rank <= 16   ? lowrank_by_tile<16>(call, o, f)
               : rank <= 32 ? lowrank_by_tile<32>(call, o, f)
                            : lowrank_by_tile<64>(call, o, f);
#endif
    return lowrank_by_feature(call, o, f);
}

#endif
