/* What the implementations of attention on CUDA share: how heads lie in the tensors, what a query sees, and who takes
 * which call. */
#ifndef DT_OP_ATTENTION_CUH
#define DT_OP_ATTENTION_CUH

#include "op/cuda.cuh"
extern "C" {
#include "op/attention.h"
}

#define LOG2_E 1.4426950408889634f

/** How this rank's heads lie in the tensors, and what a query sees. */
struct shape {
    int64_t seq, width;   /* T, D */
    int64_t count, first; /* query heads here, global number of the first */
    int64_t kv_count, kv_first, group;
    int64_t ldq, ldk;
    int64_t window;
    float scale;
};

/** The lowest key that the query at `t` of its sequence sees; the highest is its own. `pos` is the sequence's, or NULL:
 *  one document. */
static __device__ inline int64_t first_key(const shape &s, const int32_t *pos, int64_t t)
{
    int64_t key = pos != NULL ? t - pos[t] : 0;
    if (s.window > 0 && t - s.window + 1 > key) key = t - s.window + 1;
    return key > 0 ? key : 0;
}

/** The query heads [first, end) of this rank that read its kv head `kv`. */
static __device__ inline void heads_of_kv(const shape &s, int64_t kv, int *first, int *end)
{
    int64_t low = (s.kv_first + kv) * s.group - s.first, high = low + s.group;
    *first = (int)(low > 0 ? low : 0);
    *end = (int)(high < s.count ? high : s.count);
}

/** A kernel may use more than 48 KiB of shared memory only if it says so first. */
template <typename K>
static dt_status allow_shared(K kernel, size_t bytes)
{
    return dt_cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
                         "cudaFuncSetAttribute");
}

#ifndef DT_ACT_F32
/** attention_mma_cuda.cu, attention_mma_grad_cuda.cu: on tensor cores, where everything is bf16 and heads are a
 *  multiple of 8 and at most DT_MMA_WIDTH features wide. */
enum { DT_MMA_WIDTH = 128 };
dt_status dt_cuda_attention_mma(const dt_call *call, const shape *s);
dt_status dt_cuda_attention_mma_grad(const dt_call *call, const shape *s);
size_t dt_cuda_attention_mma_workspace(const dt_call *call);
/** attention_wgmma_cuda.cu, attention_wgmma_grad_cuda.cu: the same calls on warpgroups, where the GPU is a Hopper
 *  (compute capability 9.0 and no other: these instructions have no successors). The workspace is the same. */
dt_status dt_cuda_attention_wgmma(const dt_call *call, const shape *s);
dt_status dt_cuda_attention_wgmma_grad(const dt_call *call, const shape *s);
#ifdef DT_CUDNN
/** attention_cudnn_cuda.cu: forward by cuDNN if DTRAIN_ATTENTION=cudnn asks for it and cuDNN has a plan; taken: it did.
 *  For what tensor cores take. */
dt_status dt_cuda_attention_cudnn(const dt_call *call, const shape *s, bool *taken);
#endif
#endif

#endif
