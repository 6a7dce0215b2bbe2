/* Sums of many terms on CUDA, in double and in a fixed order: a fixed number of blocks each leave a partial sum, one
 * block adds those up and finishes. */
#ifndef DT_OP_TOTAL_CUH
#define DT_OP_TOTAL_CUH

#include "op/cuda.cuh"

enum { DT_TOTAL_BLOCKS = 256, DT_TOTAL_THREADS = 256 };

/** Workspace of a sum. */
static inline size_t total_workspace(void)
{
    return DT_TOTAL_BLOCKS * sizeof(double);
}

static __device__ inline double block_total(double x)
{
    __shared__ double shared[DT_TOTAL_THREADS];
    shared[threadIdx.x] = x;
    for (int d = DT_TOTAL_THREADS / 2; d > 0; d /= 2) {
        __syncthreads();
        if (threadIdx.x < d) shared[threadIdx.x] += shared[threadIdx.x + d];
    }
    __syncthreads();
    return shared[0];
}

static __global__ void total_partial(int64_t n, bool squares, floats x, double *partial)
{
    double s = 0;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x) {
        double v = (double)x[i];
        s += squares ? v * v : v;
    }
    s = block_total(s);
    if (threadIdx.x == 0) partial[blockIdx.x] = s;
}

template <typename F>
static __global__ void total_finish(const double *partial, F finish)
{
    double s = block_total(partial[threadIdx.x]);
    if (threadIdx.x == 0) finish(s);
}

/** finish(sum of x[n] or of its squares) on the device; in the call's workspace. */
template <typename F>
static dt_status total(const dt_call *call, floats x, int64_t n, bool squares, F finish)
{
    static_assert((int)DT_TOTAL_BLOCKS == (int)DT_TOTAL_THREADS, "a partial sum for each thread that finishes");
    double *partial = (double *)call->workspace;
    total_partial<<<DT_TOTAL_BLOCKS, DT_TOTAL_THREADS, 0, stream_of(call)>>>(n, squares, x, partial);
    DT_TRY(launched());
    total_finish<<<1, DT_TOTAL_THREADS, 0, stream_of(call)>>>(partial, finish);
    return launched();
}

#endif
