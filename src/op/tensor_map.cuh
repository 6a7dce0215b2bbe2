/* How the copy engine is told of a tensor of heads: cuTensorMapEncodeTiled, asked of the driver through the runtime, as
 * nothing here is linked with the driver. */
#ifndef DT_OP_TENSOR_MAP_CUH
#define DT_OP_TENSOR_MAP_CUH

#include "op/cuda.cuh"
#include <cuda.h>

/** Of x[sequences * seq, heads * width] in bf16 boxes of `rows` tokens by 64 features of one head, swizzled by 128
 *  bytes. What a box has beyond the head's features or the sequence's tokens becomes zero. */
static inline dt_status tensor_map(const void *x, int64_t width, int64_t heads, int64_t seq, int64_t sequences,
                                   int rows, CUtensorMap *out)
{
    typedef CUresult encoder(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                             const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                             CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
    static encoder *encode; // the driver's; asked for once
    if (encode == NULL) {
        void *entry = NULL;
        cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
        DT_TRY(dt_cuda_check(
            cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found),
            "cudaGetDriverEntryPoint"));
        if (found != cudaDriverEntryPointSuccess || entry == NULL)
            return dt_fail(DT_ERR_DEVICE, "the driver has no cuTensorMapEncodeTiled");
        encode = (encoder *)entry;
    }
    /* In the order of growing strides. */
    const cuuint64_t row = (cuuint64_t)(heads * width) * 2;
    const cuuint64_t size[] = {(cuuint64_t)width, (cuuint64_t)heads, (cuuint64_t)seq, (cuuint64_t)sequences};
    const cuuint64_t stride[] = {(cuuint64_t)width * 2, row, row * (cuuint64_t)seq};
    const cuuint32_t box[] = {64, 1, (cuuint32_t)rows, 1}, step[] = {1, 1, 1, 1};
    const CUresult code = encode(out, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, (void *)x, size, stride, box, step,
                                 CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (code == CUDA_SUCCESS) return DT_OK;
    return dt_fail(DT_ERR_DEVICE, "cuTensorMapEncodeTiled: error %d for %lld x %lld x %lld x %lld", (int)code,
                   (long long)sequences, (long long)seq, (long long)heads, (long long)width);
}

#endif
