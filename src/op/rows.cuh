/* Rows and columns of a matrix on CUDA: a team of threads to each row, and sums down the columns in a fixed order. */
#ifndef DT_OP_ROWS_CUH
#define DT_OP_ROWS_CUH

#include "op/cuda.cuh"

/* ---- rows: a warp to each narrow one, a block to each wide one ---- */

enum { DT_ROW_THREADS = 256, DT_ROW_NARROW = 1024 };

struct team {
    int lanes, lane;
    int64_t row;
};

/** The team of the calling thread; `narrow` as in the launch. */
static __device__ inline team team_of(bool narrow)
{
    team t;
    t.lanes = narrow ? 32 : blockDim.x;
    t.lane = threadIdx.x % t.lanes;
    t.row = (int64_t)blockIdx.x * (blockDim.x / t.lanes) + threadIdx.x / t.lanes;
    return t;
}

static __device__ inline float team_sum(const team &t, float x, float *shared)
{
    return t.lanes == 32 ? warp_sum(x) : block_sum(x, shared);
}

static inline bool rows_are_narrow(int64_t width)
{
    return width <= DT_ROW_NARROW;
}

static inline unsigned blocks_for_rows(int64_t rows, int64_t width)
{
    int64_t per_block = rows_are_narrow(width) ? DT_ROW_THREADS / 32 : 1;
    return (unsigned)((rows + per_block - 1) / per_block);
}

/** Packs of eight features that each thread of a team takes of a row, rounded up to 1, 2, 4 or 8, so that it can keep
 *  them in registers from one pass to the next. 0: more than that, or the row is not `wide`. */
static inline int packs_of_row(int64_t width, bool wide)
{
    const int64_t step = 8 * (rows_are_narrow(width) ? 32 : DT_ROW_THREADS);
    int packs = 1;
    while (packs * step < width) packs *= 2;
    return wide && width % 8 == 0 && packs <= 8 ? packs : 0;
}

/** Where the calling thread's pack p of a row begins. */
static __device__ inline int64_t pack_at(const team &t, int p)
{
    return 8 * (t.lane + (int64_t)p * t.lanes);
}

/* ---- columns ---- */

enum { DT_COLUMN_PIECES = 64, DT_COLUMN_LANES = 8 };

static inline int column_pieces(int64_t rows)
{
    int64_t need = (rows + 63) / 64;
    return need < DT_COLUMN_PIECES ? (int)(need > 0 ? need : 1) : DT_COLUMN_PIECES;
}

/** Workspace of sums down `columns` columns of `rows` rows. */
static inline size_t column_workspace(int64_t rows, int64_t columns)
{
    return (size_t)column_pieces(rows) * (size_t)columns * sizeof(float);
}

/* partial[piece, j]: the sum of f(n, j) over the piece's rows. */
template <typename F>
static __global__ void column_partial(int64_t rows, int64_t columns, F f, float *partial)
{
    __shared__ float sum[DT_COLUMN_LANES][33];
    int64_t j = blockIdx.x * (int64_t)32 + threadIdx.x;
    int64_t each = (rows + gridDim.y - 1) / gridDim.y, first = blockIdx.y * each;
    int64_t end = first + each < rows ? first + each : rows;
    float s = 0;
    if (j < columns)
        for (int64_t n = first + threadIdx.y; n < end; n += DT_COLUMN_LANES) s += f(n, j);
    sum[threadIdx.y][threadIdx.x] = s;
    __syncthreads();
    if (threadIdx.y != 0 || j >= columns) return;
    s = 0;
    for (int i = 0; i < DT_COLUMN_LANES; i++) s += sum[i][threadIdx.x];
    partial[blockIdx.y * columns + j] = s;
}

static __global__ void column_finish(int pieces, int64_t columns, const float *partial, floats out)
{
    int64_t j = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (j >= columns) return;
    float s = 0;
    for (int i = 0; i < pieces; i++) s += partial[i * columns + j];
    out.set(j, s);
}

/** The matrix x[., width] itself as the terms of column_sums. */
struct column_entry {
    int64_t width;
    floats x;
    __device__ float operator()(int64_t n, int64_t j) const
    {
        return x[n * width + j];
    }
};

/** out[j] = sum_n f(n, j); uses the call's workspace, column_workspace(rows, columns) bytes of it. */
template <typename F>
static dt_status column_sums(const dt_call *call, int64_t rows, int64_t columns, F f, floats out)
{
    int pieces = column_pieces(rows);
    float *partial = (float *)call->workspace;
    if (columns == 0) return DT_OK;
    dim3 grid((unsigned)((columns + 31) / 32), (unsigned)pieces), block(32, DT_COLUMN_LANES);
    column_partial<<<grid, block, 0, stream_of(call)>>>(rows, columns, f, partial);
    DT_TRY(launched());
    column_finish<<<(unsigned)((columns + 255) / 256), 256, 0, stream_of(call)>>>(pieces, columns, partial, out);
    return launched();
}

#endif
