/* Hopper's own instructions (sm_90a): products of a warpgroup, four warps together, out of shared memory; barriers that
 * count bytes; copies by the copy engine; registers that move between warpgroups.
 *
 * A tile in shared memory has rows of 64 features, 128 bytes; of wider heads, one such tile after the other. It starts
 * at a multiple of 1024 bytes, and of its row r the 16-byte chunk c lies at chunk c ^ (r % 8): the copy engine puts it
 * there (CU_TENSOR_MAP_SWIZZLE_128B), wgmma finds it there, and neither eight rows of a chunk nor the chunks of a row
 * meet in a bank. The same tile serves both ways (PTX ISA, "Canonical Layouts" of wgmma, 128-byte swizzling):
 *
 *   - its features are summed over ("K-major"), for scores: groups of 8 rows are 1024 bytes apart (the stride offset),
 *     16 features further is 32 bytes further, the leading offset is not used;
 *   - its rows are summed over ("MN-major"), for sums of rows: 8 rows further is 1024 bytes further (the stride
 *     offset), 64 features further is a tile further (the leading offset), 16 rows further 2048 bytes.
 *
 * A result c[N/8][4] of 64 x N: warp w of the warpgroup has rows 16 w .. 16 w + 15, in the places of mma.cuh's pieces.
 *
 * Products are asynchronous: between a product and the wait that covers it nobody touches its result, its left factor
 * or what it reads in shared memory. */
#ifndef DT_OP_WGMMA_CUH
#define DT_OP_WGMMA_CUH

#include "op/mma.cuh"
#include <cuda.h> // CUtensorMap

enum { GROUP = 128, /* threads of a warpgroup */ GROUP_ROWS = 64, TILE_FEATURES = 64, TILE_ROW = 128 /* bytes */ };

#ifdef __CUDACC__

/** What a descriptor says of an address. */
static __device__ inline uint32_t descriptor_address(shared_at at)
{
    return (at & 0x3ffff) >> 4;
}

/* ---- products ---- */

#define DT_FOUR(c, n) "+f"((c)[n][0]), "+f"((c)[n][1]), "+f"((c)[n][2]), "+f"((c)[n][3])
#define DT_SIXTEEN(c, n) DT_FOUR(c, n), DT_FOUR(c, (n) + 1), DT_FOUR(c, (n) + 2), DT_FOUR(c, (n) + 3)
#define DT_32                                                                                                          \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"              \
    "%27,%28,%29,%30,%31"
#define DT_64                                                                                                          \
    DT_32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,"              \
          "%55,%56,%57,%58,%59,%60,%61,%62,%63"

/** c[64,64] = a b^T (ADD: += instead) of 16 features, both in shared memory: `a` 64 rows, `b` 64. */
template <bool ADD>
static __device__ inline void wgmma(float (&c)[8][4], uint64_t a, uint64_t b)
{
    asm volatile("{ .reg .pred add; setp.ne.b32 add, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " DT_32 "}, %32, %33, add, 1, 1, 0, 0; }"
                 : DT_SIXTEEN(c, 0), DT_SIXTEEN(c, 4)
                 : "l"(a), "l"(b), "n"(ADD ? 1 : 0));
}

/** The same with 128 rows of `b`. */
template <bool ADD>
static __device__ inline void wgmma(float (&c)[16][4], uint64_t a, uint64_t b)
{
    asm volatile("{ .reg .pred add; setp.ne.b32 add, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " DT_64 "}, %64, %65, add, 1, 1, 0, 0; }"
                 : DT_SIXTEEN(c, 0), DT_SIXTEEN(c, 4), DT_SIXTEEN(c, 8), DT_SIXTEEN(c, 12)
                 : "l"(a), "l"(b), "n"(ADD ? 1 : 0));
}

/** c[64,64] = a b^T (ADD: +=): `a` of 64 x 16 in registers, `b` 64 rows of 16 features. */
template <bool ADD>
static __device__ inline void wgmma(float (&c)[8][4], const uint32_t (&a)[4], uint64_t b)
{
    asm volatile("{ .reg .pred add; setp.ne.b32 add, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " DT_32
                 "}, {%32,%33,%34,%35}, %36, add, 1, 1, 0; }"
                 : DT_SIXTEEN(c, 0), DT_SIXTEEN(c, 4)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(ADD ? 1 : 0));
}

/** c[64,64] += a b: `a` of 64 x 16 in registers, `b` 16 rows of 64 features. */
static __device__ inline void wgmma_rows(float (&c)[8][4], const uint32_t (&a)[4], uint64_t b)
{
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " DT_32 "}, {%32,%33,%34,%35}, %36, 1, 1, 1, 1;"
                 : DT_SIXTEEN(c, 0), DT_SIXTEEN(c, 4)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

/** The same with 128 features. */
static __device__ inline void wgmma_rows(float (&c)[16][4], const uint32_t (&a)[4], uint64_t b)
{
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " DT_64 "}, {%64,%65,%66,%67}, %68, 1, 1, 1, 1;"
                 : DT_SIXTEEN(c, 0), DT_SIXTEEN(c, 4), DT_SIXTEEN(c, 8), DT_SIXTEEN(c, 12)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

/** Before the first product, and whenever registers that one uses were written by anything else. */
static __device__ inline void wgmma_fence(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/** Makes a group of the products since the last one. */
static __device__ inline void wgmma_commit(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/** Waits until all but the last LEFT groups are done. */
template <int LEFT>
static __device__ inline void wgmma_wait(void)
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}

/** Behind a wait, or before a fence: keeps the compiler from moving what is done with a result across it. */
template <int N>
static __device__ inline void hold(float (&c)[N][4])
{
#pragma unroll
    for (int n = 0; n < N; n++) asm volatile("" : DT_FOUR(c, n)::"memory");
}

/* ---- barriers of shared memory, 8 bytes each ---- */

/** A phase ends when `count` arrivals and the bytes expected in it have come; the next one begins then. */
static __device__ inline void barrier_init(shared_at barrier, int count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

/** Shows the copy engine what was initialised. */
static __device__ inline void barrier_init_done(void)
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

static __device__ inline void barrier_arrive(shared_at barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/** Arrives, and lets the phase end only when so many bytes more have come. */
static __device__ inline void barrier_expect(shared_at barrier, int bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

/** Waits for the end of the phase of this parity: of the first, 0; of the one before the first, 1. */
static __device__ inline void barrier_wait(shared_at barrier, int parity)
{
    uint32_t ended;
    do {
        asm volatile("{ .reg .pred ended; mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, ended; }"
                     : "=r"(ended)
                     : "r"(barrier), "r"(parity)
                     : "memory");
    } while (ended == 0);
}

/** One of 15 barriers of `threads` threads, from 1 on: of those that wait and of those that only arrive. */
static __device__ inline void named_wait(int barrier, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
static __device__ inline void named_arrive(int barrier, int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/* ---- the copy engine; one thread asks ---- */

/** Has the map at hand when it will be needed. */
static __device__ inline void map_prefetch(const CUtensorMap *map)
{
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/** A box of the map's size from these coordinates on, zeros where the tensor has none; its bytes count all the same. */
static __device__ inline void fetch_box(shared_at to, const CUtensorMap *map, int feature, int head, int token,
                                        int sequence, shared_at barrier)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
                 "[%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
                 "l"(map), "r"(feature), "r"(head), "r"(token), "r"(sequence), "r"(barrier)
                 : "memory");
}

/** A piece of memory; all three multiples of 16. */
static __device__ inline void fetch_piece(shared_at to, const void *from, int bytes, shared_at barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier)
                 : "memory");
}

/* ---- registers: a warpgroup gives some away, another takes them ---- */

template <int N>
static __device__ inline void registers_give(void)
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
static __device__ inline void registers_take(void)
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

#else
#include "hopper.h" // tests/emulate: the same in words
#endif

/* ---- operands ---- */

/** The descriptor of a tile. `leading`: bytes from one 64 features to the next, where rows are summed over. */
static __device__ inline uint64_t operand(shared_at tile, int leading)
{
    return (uint64_t)descriptor_address(tile) | (uint64_t)(leading >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 |
           (uint64_t)1 << 62; // 128-byte swizzling
}

/** So many bytes further. */
static __device__ inline uint64_t operand_at(uint64_t tile, int bytes)
{
    return tile + (uint64_t)(bytes >> 4);
}

/** Bytes of `rows` rows of D features. */
static constexpr int swizzled_bytes(int rows, int d)
{
    return rows * d * (int)sizeof(bf16);
}

/** Asks for c[64, N*8] = A B^T: 64 rows of a tile whose 64 features are A_TILE rows long, and N * 8 rows of another,
 *  B_TILE rows long. */
template <int D, int A_TILE, int B_TILE, int N>
static __device__ inline void group_scores(float (&c)[N][4], uint64_t a, uint64_t b)
{
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        const int within = k % TILE_FEATURES * (int)sizeof(bf16), before = k / TILE_FEATURES * TILE_ROW;
        const uint64_t ak = operand_at(a, within + before * A_TILE), bk = operand_at(b, within + before * B_TILE);
        if (k == 0) wgmma<false>(c, ak, bk);
        else wgmma<true>(c, ak, bk);
    }
}

/** The same with A in registers. */
template <int D, int B_TILE, int N>
static __device__ inline void group_scores(float (&c)[N][4], const uint32_t (&a)[D / 16][4], uint64_t b)
{
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        const int within = k % TILE_FEATURES * (int)sizeof(bf16), before = k / TILE_FEATURES * TILE_ROW;
        const uint64_t bk = operand_at(b, within + before * B_TILE);
        if (k == 0) wgmma<false>(c, a[k / 16], bk);
        else wgmma<true>(c, a[k / 16], bk);
    }
}

/** Loads A for that: the calling warp's 16 of 64 rows of a tile that is as long as they are. */
template <int D>
static __device__ inline void group_load(uint32_t (&a)[D / 16][4], shared_at tile)
{
    const int lane = threadIdx.x % 32, row = (int)(threadIdx.x % GROUP / 32) * 16 + lane % 16;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        const int chunk = k % 4 * 2 + lane / 16, at = (k / 4 * GROUP_ROWS + row) * TILE_ROW;
        ldmatrix(a[k], tile + (shared_at)(at + (chunk ^ row % 8) * 16));
    }
}

/** A result of 64 x N * 8 in bf16, as the left factor of group_accumulate. */
template <int N>
static __device__ inline void group_round(const float (&c)[N][4], uint32_t (&to)[N / 2][4])
{
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int h = 0; h < 2; h++) to[n / 2][n % 2 * 2 + h] = pack(c[n][2 * h], c[n][2 * h + 1]);
}

/** Asks for c[64, D] += A B: A[64, K*16] in registers, B K * 16 rows of a tile. */
template <int K, int N>
static __device__ inline void group_accumulate(float (&c)[N][4], const uint32_t (&a)[K][4], uint64_t b)
{
#pragma unroll
    for (int k = 0; k < K; k++) wgmma_rows(c, a[k], operand_at(b, k * 16 * TILE_ROW));
}

/** Writes c[64, N*8], each row times its factor, by way of a place for 64 rows of them that nobody else uses: to rows
 * `ld` apart, of which `there` exist, with `width` features each. */
template <int N>
static __device__ inline void group_store(const float (&c)[N][4], const float (&factor)[2], bf16 *place, bf16 *to,
                                          int64_t ld, int there, int width)
{
    const int lane = threadIdx.x % 32, first = (int)(threadIdx.x % GROUP / 32) * 16; // row of the warp
    char *rows = (char *)place;
    __syncwarp();
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int r = first + 8 * h + lane / 4, at = n / 8 * GROUP_ROWS * TILE_ROW + r * TILE_ROW;
            *(uint32_t *)(rows + at + (n % 8 ^ r % 8) * 16 + lane % 4 * 4) =
                pack(c[n][2 * h] * factor[h], c[n][2 * h + 1] * factor[h]);
        }
    __syncwarp();
#pragma unroll
    for (int i = lane; i < 16 * N; i += 32) {
        const int r = first + i / N, d = i % N, at = d / 8 * GROUP_ROWS * TILE_ROW + r * TILE_ROW;
        if (r < there && 8 * d < width)
            *(uint4 *)(to + r * ld + 8 * d) = *(const uint4 *)(rows + at + (d % 8 ^ r % 8) * 16);
    }
}

#endif
