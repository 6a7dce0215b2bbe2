/* NCCL where there is one GPU: a communicator of one rank is never asked for anything, and ranks that share a GPU do
 * without. Everything fails. */
#ifndef DT_EMULATE_NCCL_H
#define DT_EMULATE_NCCL_H

#include "cuda_runtime.h"

typedef struct emulate_nccl *ncclComm_t;
typedef struct {
    char internal[128];
} ncclUniqueId;
typedef struct {
    int blocking;
} ncclConfig_t;
#define NCCL_CONFIG_INITIALIZER                                                                                        \
    {                                                                                                                  \
        1                                                                                                              \
    }
typedef enum { ncclSuccess = 0, ncclSystemError = 2, ncclInternalError = 3, ncclInProgress = 7 } ncclResult_t;
typedef enum { ncclUint8, ncclInt32, ncclInt64, ncclFloat32, ncclFloat64, ncclBfloat16 } ncclDataType_t;
typedef enum { ncclSum, ncclMax, ncclMin } ncclRedOp_t;

#define EMULATE_NCCL(name, ...)                                                                                        \
    static inline ncclResult_t name(__VA_ARGS__)                                                                       \
    {                                                                                                                  \
        return ncclInternalError;                                                                                      \
    }
#define NCCL_VERSION(major, minor, patch) ((major)*10000 + (minor)*100 + (patch))
EMULATE_NCCL(ncclGetVersion, int *)
EMULATE_NCCL(ncclGetUniqueId, ncclUniqueId *)
EMULATE_NCCL(ncclCommInitRankConfig, ncclComm_t *, int, ncclUniqueId, int, ncclConfig_t *)
EMULATE_NCCL(ncclCommGetAsyncError, ncclComm_t, ncclResult_t *)
EMULATE_NCCL(ncclCommDestroy, ncclComm_t)
EMULATE_NCCL(ncclCommAbort, ncclComm_t)
EMULATE_NCCL(ncclCommFinalize, ncclComm_t)
EMULATE_NCCL(ncclGroupStart)
EMULATE_NCCL(ncclGroupEnd)
EMULATE_NCCL(ncclAllReduce, const void *, void *, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t)
EMULATE_NCCL(ncclAllGather, const void *, void *, size_t, ncclDataType_t, ncclComm_t, cudaStream_t)
EMULATE_NCCL(ncclReduceScatter, const void *, void *, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t)
EMULATE_NCCL(ncclBroadcast, const void *, void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t)

static inline const char *ncclGetErrorString(ncclResult_t code)
{
    return "there is one GPU, and no NCCL";
}
static inline const char *ncclGetLastError(ncclComm_t comm)
{
    return "emulated";
}

#endif
