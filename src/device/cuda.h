/* What the parts of the CUDA module share: a device's stream, its libraries, and how their errors become ours. */
#ifndef DT_DEVICE_CUDA_H
#define DT_DEVICE_CUDA_H

#include "device/device.h" // dt_device
#include <cublasLt.h>      // cublasLtHandle_t
#include <cuda_runtime.h>  // cudaStream_t

/** A ring of pinned pieces through which host memory comes and goes without making the host wait for the device: a
 *  piece is written again once the copy that left it is done. */
enum { DT_CUDA_PIECES = 4, DT_CUDA_PIECE_BYTES = 8 << 20 };

typedef struct dt_cuda {
    int index;           /* of the GPU */
    char name[256];      /* of the GPU: "NVIDIA H200" */
    int processors;      /* streaming multiprocessors */
    cudaStream_t stream; /* of what is asked for now: that of everything that a step does, or, aside, the other one */
    cudaStream_t other;  /* the one of the two streams that is not `stream` */
    cudaEvent_t between; /* from one of them to the other */
    int capability;      /* compute capability: 90 is 9.0 */
    cublasLtHandle_t lt;
    void *lt_workspace;                  /* [DT_CUDA_LT_BYTES] */
    struct dt_cuda_plans *plans;         /* of products, by shape: device/gemm.h */
    struct dt_cuda_ways *ways;           /* of other kernels, by size: device/ways.h */
    int fp8;                             /* frozen weights are multiplied in 8 bits */
    struct dt_cuda_fp8 *fp8_weights;     /* device/fp8.h */
    struct dt_cuda_attention *attention; /* NULL, or what cuDNN is asked for: op/attention_cudnn_cuda.cu */
    void (*attention_free)(struct dt_cuda_attention *attention);
    int considers; /* calls are only looked at: dt_device_ops.consider */
    struct {
        void *data;
        cudaEvent_t done;
    } piece[DT_CUDA_PIECES];
    int next_piece;
    struct dt_cuda_timeline *timeline; /* device/timeline.h */
    float *ticket;                     /* [DT_TICKETS][DT_TICKET_COUNT] pinned */
    cudaEvent_t asked[DT_TICKETS];
    /* How the host waits for an event (NULL: for the stream) where the device may wait for other ranks: comm/cuda.cu.
     * NULL: nobody else is waited for. */
    dt_status (*wait)(struct dt_cuda *cuda, cudaEvent_t event, const char *what);
    void *waiter;
} dt_cuda;

enum { DT_CUDA_LT_BYTES = 32 << 20 };

static inline dt_cuda *dt_cuda_of(const dt_device *device)
{
    return (dt_cuda *)device->impl;
}

/** DT_OK, or DT_ERR_DEVICE (DT_ERR_MEMORY where memory ran out) with the library's own words behind `what`. */
dt_status dt_cuda_check(cudaError_t code, const char *what) DT_WARN_UNUSED;
dt_status dt_cuda_check_blas(cublasStatus_t code, const char *what) DT_WARN_UNUSED;

#endif
