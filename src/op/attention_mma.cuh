/* What a warp's 32 queries see, for the passes of attention that go by queries. */
#ifndef DT_OP_ATTENTION_MMA_CUH
#define DT_OP_ATTENTION_MMA_CUH

#include "op/attention.cuh"
#include "op/mma.cuh"

/** The lowest and the highest of the first keys that 32 queries see. Queries behind the sequence's end count for
 *  neither; nobody reads what they find. */
struct sight {
    int lowest, highest;
};

/** The warp's number in its block, in a register that the warp has but once. */
static __device__ inline int warp_number(void)
{
    return __shfl_sync(0xffffffffu, (int)(threadIdx.x / 32), 0);
}

/** Of a warp's queries, the first being `query`; the first key of each is left in low[32], in shared memory. */
static __device__ inline sight sight_of(const shape &s, const int32_t *pos, int query, int *low)
{
    const int lane = threadIdx.x % 32, t = query + lane;
    const bool exists = t < s.seq;
    const int key = exists ? (int)first_key(s, pos, t) : 0;
    sight see = {exists ? key : INT32_MAX, key};
    low[lane] = key;
    __syncwarp();
#pragma unroll
    for (int d = 16; d > 0; d /= 2) {
        see.lowest = min(see.lowest, __shfl_xor_sync(0xffffffffu, see.lowest, d));
        see.highest = max(see.highest, __shfl_xor_sync(0xffffffffu, see.highest, d));
    }
    see.lowest = __shfl_sync(0xffffffffu, see.lowest, 0); // tells the compiler that all lanes have the same
    see.highest = __shfl_sync(0xffffffffu, see.highest, 0);
    return see;
}

/** Scores of keys that their queries do not see become -infinity; `query` and `key`: of the first row and column. */
template <int N>
static __device__ inline void hide(float (&score)[2][N][4], const int *low, int query, int key)
{
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int row = mma_row(m, i), first = low[row] - key, last = query + row - key;
#pragma unroll
            for (int n = 0; n < N; n++)
                if (mma_column(n, i) > last || mma_column(n, i) < first) score[m][n][i] = -INFINITY;
        }
}

#endif
