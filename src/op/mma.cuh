/* Tensor cores of sm_80 and later in bf16: one instruction each for a product of 16 x 16 by 16 x 8, for loading its
 * operands out of shared memory and for filling shared memory behind the program's back. On top of them the two
 * products of attention, both over tiles of rows in shared memory.
 *
 * A tile has D features a row and MMA_PAD unused ones behind: rows start 4 banks apart, so the eight rows that one
 * ldmatrix fetches never meet in a bank. D is a multiple of 16, a tile starts at a multiple of 16 bytes.
 *
 * A warp's result c[M][N][4] is M x N pieces of 16 x 8 (PTX ISA, m16n8k16): lane l has of each the elements
 * (l / 4 + 8 (i / 2), 2 (l % 4) + i % 2). Two such pieces side by side are, rounded to bf16, the left factor of the
 * next product: scores become weights without leaving their registers (Dao 2023, section 3.2). */
#ifndef DT_OP_MMA_CUH
#define DT_OP_MMA_CUH

#include "op/cuda.cuh"
#include <string.h>

typedef __nv_bfloat16 bf16;
enum { MMA_PAD = 8 };

/* ---- instructions ---- */

#ifdef __CUDACC__

/** An address in shared memory, in bytes. */
typedef uint32_t shared_at;

static __device__ inline shared_at shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/** c[16,8] += a[16,16] b[16,8]. */
static __device__ inline void mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/** Four matrices of 8 x 8: lane l names row l % 8 of matrix l / 8, and gets elements (l / 4, 2 (l % 4) + {0, 1}). */
static __device__ inline void ldmatrix(uint32_t r[4], shared_at row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

/** The same with each matrix transposed: elements (2 (l % 4) + {0, 1}, l / 4). */
static __device__ inline void ldmatrix_t(uint32_t r[4], shared_at row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

/** 16 bytes to shared memory, zeros if not `there`; they arrive by the time of copy_wait. */
static __device__ inline void copy16(shared_at to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}

/** Waits until the calling thread's own copies have arrived; a barrier tells the others. */
static __device__ inline void copy_wait(void)
{
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/** 2^x. */
static __device__ inline float exp2_of(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#else
#include "ptx.h" // tests/emulate: the same in words
#endif

static __device__ inline uint32_t pack(float low, float high)
{
    __nv_bfloat162 two = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &two, sizeof bits);
    return bits;
}

/* ---- places in a result ---- */

/** Row of element i of piece m, column of element i of piece n, for the calling lane. */
static __device__ inline int mma_row(int m, int i)
{
    return 16 * m + 8 * (i / 2) + (int)(threadIdx.x % 32 / 4);
}
static __device__ inline int mma_column(int n, int i)
{
    return 8 * n + (int)(threadIdx.x % 4) * 2 + i % 2;
}

/* ---- tiles ---- */

/** Bytes of a tile of `rows` rows. */
static constexpr int tile_bytes(int rows, int d)
{
    return rows * (d + MMA_PAD) * (int)sizeof(bf16);
}

/** Starts to fetch a tile: rows `ld` apart, of which `there` exist, with `width` features each, a multiple of 8; the
 *  rest becomes zero. All THREADS threads call it. */
template <int ROWS, int D, int THREADS>
static __device__ inline void tile_load(bf16 *tile, const bf16 *from, int ld, int there, int width)
{
    constexpr int lanes = D <= 64 ? 8 : 16, step = THREADS / lanes; // to a row; rows at a time
    const int first = (int)threadIdx.x / lanes, d = (int)threadIdx.x % lanes * 8;
    const shared_at to = shared_address(tile + first * (D + MMA_PAD) + d);
    const bf16 *x = from + first * ld + d;
    const int end = d < width ? there : 0;
    if (D % (8 * lanes) != 0 && d >= D) return;
#pragma unroll
    for (int r = 0; r < ROWS; r += step, x += step * ld)
        copy16(to + (shared_at)(r * (D + MMA_PAD) * sizeof(bf16)), first + r < end ? x : from, first + r < end);
}

/* Of the first 16 x 16 elements, as four matrices of 8 x 8 one column after the other, the row that the calling lane
 * names to ldmatrix. */
template <int D>
static __device__ inline shared_at piece_of_lane(const bf16 *tile)
{
    return shared_address(tile + threadIdx.x % 16 * (D + MMA_PAD) + threadIdx.x % 32 / 16 * 8);
}

/** c[M*16, N*8] = A B^T: M * 16 rows of one tile by N * 8 rows of another. */
template <int M, int N, int D>
static __device__ inline void tile_scores(float (&c)[M][N][4], const bf16 *a, const bf16 *b)
{
    const int ld = D + MMA_PAD;
    const shared_at row_a = piece_of_lane<D>(a), row_b = piece_of_lane<D>(b);
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++) c[m][n][0] = c[m][n][1] = c[m][n][2] = c[m][n][3] = 0;
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        uint32_t fa[M][4], fb[4];
#pragma unroll
        for (int m = 0; m < M; m++) ldmatrix(fa[m], row_a + (shared_at)((16 * m * ld + k) * sizeof(bf16)));
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            ldmatrix(fb, row_b + (shared_at)((8 * n * ld + k) * sizeof(bf16)));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma(c[m][n], fa[m], fb[0], fb[2]);
                mma(c[m][n + 1], fa[m], fb[1], fb[3]);
            }
        }
    }
}

/** A result in bf16, as the left factor of tile_accumulate. */
template <int M, int N>
struct left_factor {
    uint32_t piece[M][N / 2][4];
};

template <int M, int N>
static __device__ inline left_factor<M, N> tile_round(const float (&c)[M][N][4])
{
    left_factor<M, N> f;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int h = 0; h < 2; h++) f.piece[m][n / 2][n % 2 * 2 + h] = pack(c[m][n][2 * h], c[m][n][2 * h + 1]);
    return f;
}

/** c[M*16, D] += A B: A[M*16, N*8] in registers by N * 8 rows of a tile. */
template <int M, int N, int D>
static __device__ inline void tile_accumulate(float (&c)[M][D / 8][4], const left_factor<M, N> &a, const bf16 *b)
{
    const int ld = D + MMA_PAD;
    const shared_at row_b = piece_of_lane<D>(b);
#pragma unroll
    for (int k = 0; k < N / 2; k++) {
        uint32_t fb[4];
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
            ldmatrix_t(fb, row_b + (shared_at)((16 * k * ld + 8 * n) * sizeof(bf16)));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma(c[m][n], a.piece[m][k], fb[0], fb[1]);
                mma(c[m][n + 1], a.piece[m][k], fb[2], fb[3]);
            }
        }
    }
}

/** Writes c[M*16, D], each row times its factor, by way of a tile's M * 16 rows that no other warp uses: rows `ld`
 *  apart, of which `there` exist. */
template <int M, int D>
static __device__ inline void tile_store(const float (&c)[M][D / 8][4], const float (&factor)[M][2], bf16 *rows,
                                         bf16 *to, int64_t ld, int there, int width)
{
    const int lane = threadIdx.x % 32, stride = D + MMA_PAD;
    __syncwarp();
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i += 2)
                *(uint32_t *)(rows + mma_row(m, i) * stride + mma_column(n, i)) =
                    pack(c[m][n][i] * factor[m][i / 2], c[m][n][i + 1] * factor[m][i / 2]);
    __syncwarp();
    for (int i = lane; i < 16 * M * D / 8; i += 32) {
        const int r = i / (D / 8), d = i % (D / 8) * 8;
        if (r < there && d < width) *(uint4 *)(to + r * ld + d) = *(const uint4 *)(rows + r * stride + d);
    }
}

#endif
