/* For the kernels of the CUDA device (X_cuda.cu): compiled once with act = bf16 and once with act = float. All
 * arithmetic is in fp32; sums over many terms are taken in a fixed order, so that a run repeats bit by bit. */
#ifndef DT_OP_CUDA_CUH
#define DT_OP_CUDA_CUH

#include <cublasLt.h> // C++ headers, which must not come first out of ours
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>
extern "C" {
#include "device/gemm.h"
#include "op/op.h"
}

#ifdef DT_ACT_F32
typedef float act;
#define DT_CUDA_KERNEL(name) dt_cuda_f32_##name
#define DT_CUDA_WORKSPACE(name) dt_cuda_f32_workspace_##name
#else
typedef __nv_bfloat16 act;
#define DT_CUDA_KERNEL(name) dt_cuda_bf16_##name
#define DT_CUDA_WORKSPACE(name) dt_cuda_bf16_workspace_##name
#endif

extern "C" {
#define DT_OP(name) dt_status DT_CUDA_KERNEL(name)(const dt_call *call);
#include "op/ops.def"
#undef DT_OP
}

/* ---- operands ---- */

/** A tensor of floats, ACT or ACC, as a kernel reads and writes it: in fp32. */
struct floats {
    void *data;
    bool is_act;
    bool wide; /* starts at a multiple of 32 bytes: eight at a time */

    __device__ float operator[](int64_t i) const
    {
        return is_act ? (float)((const act *)data)[i] : ((const float *)data)[i];
    }
    __device__ void set(int64_t i, float x) const
    {
        if (is_act) ((act *)data)[i] = (act)x;
        else ((float *)data)[i] = x;
    }
    /** Elements i .. i + 7, i a multiple of 8, of a wide tensor. */
    __device__ void load8(int64_t i, float x[8]) const
    {
        if (is_act && sizeof(act) == 2) {
            uint4 raw = *(const uint4 *)((const char *)data + 2 * i);
            const __nv_bfloat162 *pair = (const __nv_bfloat162 *)&raw;
#pragma unroll
            for (int k = 0; k < 4; k++) {
                float2 two = __bfloat1622float2(pair[k]);
                x[2 * k] = two.x;
                x[2 * k + 1] = two.y;
            }
            return;
        }
#pragma unroll
        for (int k = 0; k < 2; k++) *(float4 *)(x + 4 * k) = *(const float4 *)((const float *)data + i + 4 * k);
    }
    __device__ void store8(int64_t i, const float x[8]) const
    {
        if (is_act && sizeof(act) == 2) {
            uint4 raw;
            __nv_bfloat162 *pair = (__nv_bfloat162 *)&raw;
#pragma unroll
            for (int k = 0; k < 4; k++) pair[k] = __floats2bfloat162_rn(x[2 * k], x[2 * k + 1]);
            *(uint4 *)((char *)data + 2 * i) = raw;
            return;
        }
#pragma unroll
        for (int k = 0; k < 2; k++) *(float4 *)((float *)data + i + 4 * k) = *(const float4 *)(x + 4 * k);
    }
};

static inline floats floats_of(const dt_tensor *t)
{
    floats f;
    f.data = t->data;
    f.is_act = t->type == DT_TYPE_ACT;
    f.wide = (uintptr_t)t->data % 32 == 0;
    return f;
}
#define DT_IN(call, i) floats_of(&(call)->in[i])
#define DT_OUT(call, i) floats_of(&(call)->out[i])
#define DT_IN_I32(call, i) ((const int32_t *)(call)->in[i].data)

static inline int64_t count_of(const dt_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->dim[i];
    return n;
}

/* ---- launching ---- */

static inline cudaStream_t stream_of(const dt_call *call)
{
    return dt_cuda_of(call->device)->stream;
}

/** Blocks of `threads` for n elements: no more than keep the GPU busy, kernels go on in strides. */
static inline unsigned blocks_for(const dt_call *call, int64_t n, int threads)
{
    int64_t need = (n + threads - 1) / threads, most = 32 * (int64_t)dt_cuda_of(call->device)->processors;
    return (unsigned)(need < 1 ? 1 : need < most ? need : most);
}

/** What a launch reports; what goes wrong while it runs is found by the next wait. */
static inline dt_status launched(void)
{
    return dt_cuda_check(cudaGetLastError(), "a kernel's launch");
}

/* ---- elementwise ---- */

enum { DT_MAP_THREADS = 256 };

/** y[i] = f(a[i], b[i], i), eight elements a thread where all three are wide. Each operand may be y itself. */
template <typename F>
static __global__ void map_kernel(int64_t n, bool wide, floats a, floats b, floats y, F f)
{
    int64_t first = blockIdx.x * (int64_t)blockDim.x + threadIdx.x, stride = (int64_t)gridDim.x * blockDim.x;
    int64_t packs = wide ? n / 8 : 0;
    for (int64_t p = first; p < packs; p += stride) {
        float u[8], v[8], r[8];
        a.load8(8 * p, u);
        b.load8(8 * p, v);
#pragma unroll
        for (int k = 0; k < 8; k++) r[k] = f(u[k], v[k], 8 * p + k);
        y.store8(8 * p, r);
    }
    for (int64_t i = 8 * packs + first; i < n; i += stride) y.set(i, f(a[i], b[i], i));
}

template <typename F>
static dt_status map(const dt_call *call, int64_t n, floats a, floats b, floats y, F f)
{
    if (n == 0) return DT_OK;
    bool wide = a.wide && b.wide && y.wide;
    map_kernel<<<blocks_for(call, wide ? (n + 7) / 8 : n, DT_MAP_THREADS), DT_MAP_THREADS, 0, stream_of(call)>>>(
        n, wide, a, b, y, f);
    return launched();
}

/** For map: a copy. */
struct identity {
    __device__ float operator()(float a, float b, int64_t i) const
    {
        return a;
    }
};

/* ---- sums within a block ---- */

static __device__ inline float warp_sum(float x)
{
#pragma unroll
    for (int d = 16; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
    return x;
}

static __device__ inline float warp_max(float x)
{
#pragma unroll
    for (int d = 16; d > 0; d /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, d));
    return x;
}

/** Sum (or maximum) over the block, known to every thread; `shared` has 32 floats. All threads call it. */
static __device__ inline float block_sum(float x, float *shared)
{
    x = warp_sum(x);
    __syncthreads(); // an earlier result may still be read
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
    __syncthreads();
    return warp_sum(threadIdx.x % 32 < blockDim.x / 32 ? shared[threadIdx.x % 32] : 0.0f);
}

static __device__ inline float block_max(float x, float *shared)
{
    x = warp_max(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
    __syncthreads();
    return warp_max(threadIdx.x % 32 < blockDim.x / 32 ? shared[threadIdx.x % 32] : -INFINITY);
}

/* ---- products: device/gemm.h ---- */

#define DT_CUDA_ACT (sizeof(act) == 2 ? CUDA_R_16BF : CUDA_R_32F)

static inline cudaDataType_t type_of(const dt_tensor *t)
{
    return t->type == DT_TYPE_ACT ? DT_CUDA_ACT : CUDA_R_32F;
}

static inline dt_status multiply(const dt_call *call, const dt_cuda_product &p)
{
    return dt_cuda_gemm(dt_cuda_of(call->device), &p);
}

#endif
