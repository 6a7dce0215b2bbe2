/* Weights and activations in e4m3. Floor: a row is read twice (the second time from the cache) and written once at half
 * its size: 3 bytes an element. */
#include <cublasLt.h> // C++ headers, which must not come first out of ours
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>
extern "C" {
#include "base/memory.h" // dt_alloc
#include "device/fp8.h"
}
#include <stdlib.h>

#define LARGEST 448.0f // of e4m3

enum { THREADS = 256, TILE = 32 };

static __device__ float scale_of(float largest)
{
    return largest > 0 ? largest / LARGEST : 1.0f;
}

static __device__ __nv_fp8_e4m3 rounded(float x)
{
    return __nv_fp8_e4m3(x); // saturates
}

/* The largest of a block's values, known to all its threads. */
static __device__ float block_largest(float x)
{
    __shared__ float of_warp[THREADS / 32];
    for (int d = 16; d > 0; d /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, d));
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = x;
    __syncthreads();
    for (int w = 0; w < THREADS / 32; w++) x = fmaxf(x, of_warp[w]);
    return x;
}

/* A block to a row, eight elements a thread at a time: columns are a multiple of 16, rows start where that leads. */
static __global__ void quantise_rows(int64_t columns, const __nv_bfloat16 *x, __nv_fp8_e4m3 *value, float *scale)
{
    const int64_t row = blockIdx.x;
    const uint4 *from = (const uint4 *)(x + row * columns);
    uint2 *to = (uint2 *)(value + row * columns);
    float largest = 0;
    for (int64_t i = threadIdx.x; i < columns / 8; i += THREADS) {
        const uint4 raw = from[i];
        const __nv_bfloat16 *eight = (const __nv_bfloat16 *)&raw;
#pragma unroll
        for (int k = 0; k < 8; k++) largest = fmaxf(largest, fabsf(__bfloat162float(eight[k])));
    }
    const float s = scale_of(block_largest(largest)), inverse = 1.0f / s;
    for (int64_t i = threadIdx.x; i < columns / 8; i += THREADS) {
        const uint4 raw = from[i];
        const __nv_bfloat16 *eight = (const __nv_bfloat16 *)&raw;
        uint2 packed;
        __nv_fp8_e4m3 *out = (__nv_fp8_e4m3 *)&packed;
#pragma unroll
        for (int k = 0; k < 8; k++) out[k] = rounded(__bfloat162float(eight[k]) * inverse);
        to[i] = packed;
    }
    if (threadIdx.x == 0) scale[row] = s;
}

dt_status dt_cuda_fp8_quantise(dt_cuda *cuda, const void *x, int64_t rows, int64_t columns, void *value, float *scale)
{
    if (rows == 0) return DT_OK;
    quantise_rows<<<(unsigned)rows, THREADS, 0, cuda->stream>>>(columns, (const __nv_bfloat16 *)x,
                                                                (__nv_fp8_e4m3 *)value, scale);
    return dt_cuda_check(cudaGetLastError(), "a kernel's launch");
}

/* ---- of the transpose: once a weight, when a job begins ---- */

/* A thread to a column of w [rows, columns]. */
static __global__ void column_scales(int64_t rows, int64_t columns, const __nv_bfloat16 *w, float *scale)
{
    const int64_t c = blockIdx.x * (int64_t)THREADS + threadIdx.x;
    float largest = 0;
    if (c >= columns) return;
    for (int64_t r = 0; r < rows; r++) largest = fmaxf(largest, fabsf(__bfloat162float(w[r * columns + c])));
    scale[c] = scale_of(largest);
}

static __global__ void quantise_transposed(int64_t rows, int64_t columns, const __nv_bfloat16 *w, const float *scale,
                                           __nv_fp8_e4m3 *value)
{
    __shared__ float tile[TILE][TILE + 1];
    const int64_t r0 = blockIdx.y * (int64_t)TILE, c0 = blockIdx.x * (int64_t)TILE;
    for (int i = threadIdx.y; i < TILE; i += blockDim.y)
        if (r0 + i < rows && c0 + threadIdx.x < columns)
            tile[i][threadIdx.x] = __bfloat162float(w[(r0 + i) * columns + c0 + threadIdx.x]);
    __syncthreads();
    for (int i = threadIdx.y; i < TILE; i += blockDim.y)
        if (c0 + i < columns && r0 + threadIdx.x < rows)
            value[(c0 + i) * rows + r0 + threadIdx.x] = rounded(tile[threadIdx.x][i] / scale[c0 + i]);
}

static dt_status make(dt_cuda *cuda, dt_cuda_fp8 *w)
{
    const __nv_bfloat16 *of = (const __nv_bfloat16 *)w->of;
    w->made = true;
    if (!w->transposed) return dt_cuda_fp8_quantise(cuda, of, w->rows, w->columns, w->value, w->scale);
    const int64_t rows = w->columns, columns = w->rows; // of the weight
    const dim3 grid((unsigned)((columns + TILE - 1) / TILE), (unsigned)((rows + TILE - 1) / TILE)), block(TILE, 8);
    column_scales<<<(unsigned)((columns + THREADS - 1) / THREADS), THREADS, 0, cuda->stream>>>(rows, columns, of,
                                                                                               w->scale);
    quantise_transposed<<<grid, block, 0, cuda->stream>>>(rows, columns, of, w->scale, (__nv_fp8_e4m3 *)w->value);
    return dt_cuda_check(cudaGetLastError(), "a kernel's launch");
}

/* ---- the list ---- */

dt_status dt_cuda_fp8_of(dt_cuda *cuda, const void *weight, int64_t rows, int64_t columns, int transposed,
                         const dt_cuda_fp8 **out)
{
    dt_cuda_fp8 *w = cuda->fp8_weights;
    while (w != NULL && (w->of != weight || w->transposed != transposed)) w = w->next;
    if (w == NULL) {
        DT_TRY(dt_alloc(1, sizeof *w, &w));
        w->of = weight;
        w->transposed = transposed;
        w->rows = transposed ? columns : rows;
        w->columns = transposed ? rows : columns;
        w->next = cuda->fp8_weights;
        cuda->fp8_weights = w;
        DT_TRY(dt_cuda_check(cudaMalloc(&w->value, (size_t)(rows * columns)), "a weight in 8 bits"));
        DT_TRY(dt_cuda_check(cudaMalloc((void **)&w->scale, (size_t)w->rows * sizeof(float)), "a weight in 8 bits"));
    }
    if (!w->made && !cuda->considers) DT_TRY(make(cuda, w));
    *out = w;
    return DT_OK;
}

void dt_cuda_fp8_forget(dt_cuda *cuda, const void *weight)
{
    for (dt_cuda_fp8 **at = &cuda->fp8_weights, *w; (w = *at) != NULL;) {
        if (weight != NULL && w->of != weight) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        cudaFree(w->value);
        cudaFree(w->scale);
        free(w);
    }
}
