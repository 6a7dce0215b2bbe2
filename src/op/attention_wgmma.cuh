/* What the passes of attention on Hopper's warpgroups share: what a warpgroup's queries see, and a ring of tiles that
 * one thread fills and warpgroups empty. */
#ifndef DT_OP_ATTENTION_WGMMA_CUH
#define DT_OP_ATTENTION_WGMMA_CUH

#include "op/attention.cuh"
#include "op/tensor_map.cuh"
#include "op/wgmma.cuh"

/** The warpgroup's number in its block, in a register that a warp has but once. */
static __device__ inline int group_number(void)
{
    return __shfl_sync(0xffffffffu, (int)(threadIdx.x / GROUP), 0);
}

/** Row, of its warpgroup's 64, of the calling thread's elements 2 h and 2 h + 1 of each piece. */
static __device__ inline int group_row(int h)
{
    return (int)(threadIdx.x % GROUP / 32) * 16 + mma_row(0, 2 * h);
}

/** The lowest and the highest first key of the 32 queries from `query` on, one to a lane; those behind the sequence's
 *  end count for neither. For lane 0. */
static __device__ inline int2 sight_of(const shape &s, const int32_t *pos, int query)
{
    const int t = query + (int)threadIdx.x % 32;
    const bool exists = t < s.seq;
    const int key = exists ? (int)first_key(s, pos, t) : 0;
    int2 see = make_int2(exists ? key : INT32_MAX, key);
#pragma unroll
    for (int d = 16; d > 0; d /= 2) {
        see.x = min(see.x, __shfl_xor_sync(0xffffffffu, see.x, d));
        see.y = max(see.y, __shfl_xor_sync(0xffffffffu, see.y, d));
    }
    return see;
}

/** Scores of keys that their queries do not see become -infinity. Of the calling thread's two rows: the first and the
 *  last key seen, counted from the first column. */
template <int N>
static __device__ inline void hide(float (&score)[N][4], const int (&first)[2], const int (&last)[2])
{
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int column = mma_column(n, i);
            if (column > last[i / 2] || column < first[i / 2]) score[n][i] = -INFINITY;
        }
}

/** Places of a ring of STAGES, taken in turn. Of each: a barrier `full`, which its bytes complete, and a barrier
 *  `empty`, at which each warp that reads arrives. */
template <int STAGES>
struct ring {
    shared_at full, empty; // 8 bytes a stage, one behind the other
    int turn;              // below 2 STAGES: which place, and of which parity its phase is

    __device__ ring(shared_at barriers) : full(barriers), empty(barriers + 8 * STAGES), turn(0)
    {
    }
    static constexpr int bytes = 2 * 8 * STAGES;

    /** By one thread; the block meets before anybody waits. */
    __device__ void init(int readers) const
    {
        for (int i = 0; i < STAGES; i++) {
            barrier_init(full + 8 * i, 1);
            barrier_init(empty + 8 * i, readers);
        }
    }
    __device__ int stage(void) const
    {
        return turn < STAGES ? turn : turn - STAGES;
    }
    __device__ void wait_full(void) const
    {
        barrier_wait(full + 8 * stage(), turn >= STAGES);
    }
    __device__ void wait_empty(void) const
    {
        barrier_wait(empty + 8 * stage(), turn < STAGES);
    }
    /** By all reading warps, when they need this place no more. */
    __device__ void release(int place) const
    {
        __syncwarp();
        if (threadIdx.x % 32 == 0) barrier_arrive(empty + 8 * place);
    }
    __device__ shared_at filling(void) const
    {
        return full + 8 * stage();
    }
    __device__ void next(void)
    {
        turn = turn + 1 < 2 * STAGES ? turn + 1 : 0;
    }
};

/** Asks for ROWS rows of a head from `token` on, 64 features after 64. */
template <int D, int ROWS>
static __device__ inline void fetch_tile(shared_at to, const CUtensorMap *map, int head, int token, int sequence,
                                         shared_at barrier)
{
#pragma unroll
    for (int d = 0; d < D; d += TILE_FEATURES)
        fetch_box(to + (shared_at)(d / TILE_FEATURES * ROWS * TILE_ROW), map, d, head, token, sequence, barrier);
}

/** Where tiles can begin: shared memory from a multiple of 1024 bytes on. */
static __device__ inline char *tiles_begin(void *shared)
{
    return (char *)shared + (1024 - shared_address(shared) % 1024) % 1024;
}
enum { TILES_SLACK = 1024 };

/* ---- items of work: queries of one head ---- */

/** What a block does next: queries from `at` on, and the tiles of keys that they see, from `last` on downwards. Of each
 *  warpgroup's queries the highest first key. */
struct item {
    int head, sequence, at, last, count, highest[3]; // count 0: nothing more
};

/** How many there are: heads of all sequences by blocks of queries, the last and longest first. */
struct work {
    unsigned columns;
    int blocks;
};

/** Items that blocks have taken beside their first ones, and blocks that have found none left. 0 between launches,
 * which come one after the other: a device has one stream. */
static __device__ unsigned items_taken, blocks_done;

/** Blocks for them: one on a multiprocessor. */
static inline unsigned blocks_to_stay(const dt_call *call, const work &all)
{
    const uint64_t items = (uint64_t)all.columns * (uint64_t)all.blocks;
    const uint64_t processors = (uint64_t)dt_cuda_of(call->device)->processors;
    return (unsigned)(items < processors ? items : processors);
}

/** The number of a block's next item. By one thread. */
static __device__ inline unsigned take_item(void)
{
    return gridDim.x + atomicAdd(&items_taken, 1u);
}

/** A block has found none left. By one thread. */
static __device__ inline void no_item_left(void)
{
    if (atomicAdd(&blocks_done, 1u) == gridDim.x - 1) items_taken = blocks_done = 0; // the last one
}

/** A warp tells the others of an item of QUERIES queries that see tiles of KEYS keys, by one of two places. */
template <int QUERIES, int KEYS>
static __device__ inline void tell(const shape &s, const int32_t *pos, const work &all, unsigned number, item *places,
                                   ring<2> &r)
{
    const bool first = threadIdx.x % 32 == 0;
    const unsigned column = number % all.columns, heads = (unsigned)s.count;
    const int row = (int)(number / all.columns), at = (all.blocks - 1 - row) * QUERIES;
    const int sequence = (int)(column / heads), last = (min(at + QUERIES, (int)s.seq) - 1) / KEYS;
    item *x = &places[r.stage()];
    int lowest = INT32_MAX;
    if (first) {
        r.wait_empty();
        x->head = (int)(column % heads), x->sequence = sequence, x->at = at, x->last = last, x->count = 0;
    }
    if (row < all.blocks) {
        int highest = 0;
#pragma unroll 1
        for (int i = 0; i < QUERIES / 32; i++) {
            const int2 see = sight_of(s, pos + sequence * s.seq, at + 32 * i);
            lowest = min(lowest, see.x), highest = max(highest, see.y);
            if (i % 2 == 0) continue;
            if (first) x->highest[i / 2] = highest;
            highest = 0;
        }
        if (first) x->count = last - lowest / KEYS + 1;
    }
    if (first) barrier_arrive(r.filling());
    r.next();
    __syncwarp(); // the warp itself reads it, too
}

#endif
