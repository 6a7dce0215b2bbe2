/* Products of matrices on the GPU: cuBLASLt, an algorithm for each shape, chosen by measuring the candidates that its
 * heuristic proposes. What was measured is kept in the user's cache folder, by kind of GPU and version of the library,
 * and in checkpoints: another algorithm may round otherwise. */
#ifndef DT_DEVICE_GEMM_H
#define DT_DEVICE_GEMM_H

#include "device/cuda.h" // dt_cuda

/** C[m,n] = alpha op(A) op(B) + beta C, row-major, ld the length of a row; sums in fp32. With an addend, which lies as
 * C does, beta multiplies that instead. */
typedef struct dt_cuda_product {
    int ta, tb; /* op transposes */
    int64_t m, n, k;
    float alpha;
    const void *a;
    int64_t lda;
    const void *b;
    int64_t ldb;
    float beta;
    void *c;
    int64_t ldc;
    cudaDataType_t ab, to;          /* types of A and B, and of C */
    const float *scale_a, *scale_b; /* of CUDA_R_8F_E4M3 (A as it is, B transposed): factors of A's rows, of op(B)'s
                                     * columns */
    const void *addend;             /* NULL: C itself */
} dt_cuda_product;

/** Enqueues a product; while the device considers (dt_cuda.considers), only notes its shape and addresses. A shape that
 *  nobody considered takes the heuristic's first proposal. */
dt_status dt_cuda_gemm(dt_cuda *cuda, const dt_cuda_product *product) DT_WARN_UNUSED;

/** Measures the candidates of every shape noted and not chosen yet; C is never written, the operands are read where
 * they are. Waits for the device. */
dt_status dt_cuda_gemm_choose(dt_cuda *cuda) DT_WARN_UNUSED;
/** All choices as text: a line that names GPU and library, then a line a shape, in the order of their keys, then those
 *  of device/ways.h. Freed with free(). */
dt_status dt_cuda_gemm_choices(const dt_cuda *cuda, char **text) DT_WARN_UNUSED;
/** Takes what such a text has chosen; one of another GPU or library, and shapes that this library refuses, are left. */
dt_status dt_cuda_gemm_adopt(dt_cuda *cuda, const char *text) DT_WARN_UNUSED;
/** The choices of earlier jobs of this user, if there are any. */
dt_status dt_cuda_gemm_recall(dt_cuda *cuda) DT_WARN_UNUSED;
/** Writes all choices to where dt_cuda_gemm_recall finds them. */
dt_status dt_cuda_gemm_remember(const dt_cuda *cuda) DT_WARN_UNUSED;
void dt_cuda_gemm_free(dt_cuda *cuda);

#endif
