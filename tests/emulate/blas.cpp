/* cuBLASLt on the host: fp32 products of oneDNN, whatever the operands' type. Candidates differ in nothing but a
 * number, and hold to what they were asked for: alignments, workspace. */
#include "cublasLt.h"
#include "cuda_bf16.h"
#include "cuda_fp8.h"
#include <cstring>
#include <oneapi/dnnl/dnnl.h>
#include <vector>

struct emulate_lt {
    int unused;
};
struct emulate_product {
    int32_t ta, tb;
    cublasLtMatmulMatrixScale_t mode_a, mode_b; // of 8-bit operands
    const float *scale_a, *scale_b;
    int8_t fast;
};
struct emulate_matrix {
    cudaDataType type;
    uint64_t rows, columns;
    int64_t ld, stride;
    int32_t batches;
};
struct emulate_wish {
    uint64_t workspace;
    uint32_t align[4]; // A, B, C, D
};

/* What a cublasLtMatmulAlgo_t holds. */
struct algorithm {
    uint64_t magic, number, workspace;
    uint32_t align[4];
};
static const uint64_t MAGIC = 0x656d756c61746564;

const char *cublasLtGetStatusName(cublasStatus_t code)
{
    switch (code) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "an error of cuBLASLt";
    }
}

const char *cublasLtGetStatusString(cublasStatus_t code)
{
    return cublasLtGetStatusName(code);
}

size_t cublasLtGetVersion(void)
{
    return 120000;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    *out = new emulate_lt();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- descriptions ---- */

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType_t scale)
{
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    *out = new emulate_product{CUBLAS_OP_N, CUBLAS_OP_N, {}, {}, nullptr, nullptr, 0};
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t set(void *field, size_t size, const void *value, size_t bytes)
{
    if (size != bytes) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(&desc->ta, sizeof desc->ta, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(&desc->tb, sizeof desc->tb, value, bytes);
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER: return set(&desc->scale_a, sizeof desc->scale_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER: return set(&desc->scale_b, sizeof desc->scale_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_A_SCALE_MODE: return set(&desc->mode_a, sizeof desc->mode_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_B_SCALE_MODE: return set(&desc->mode_b, sizeof desc->mode_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_FAST_ACCUM: return set(&desc->fast, sizeof desc->fast, value, bytes);
    }
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    delete desc;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld)
{
    if (rows == 0 || columns == 0 || ld < (int64_t)rows) return CUBLAS_STATUS_INVALID_VALUE;
    *out = new emulate_matrix{type, rows, columns, ld, 0, 1};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t matrix,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void *value,
                                                size_t bytes)
{
    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return set(&matrix->batches, sizeof matrix->batches, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return set(&matrix->stride, sizeof matrix->stride, value, bytes);
    }
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t matrix)
{
    delete matrix;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    *out = new emulate_wish{0, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t wish,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t bytes)
{
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return set(&wish->workspace, sizeof wish->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return CUBLAS_STATUS_SUCCESS;
    default: break;
    }
    const int operand = attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    if (operand < 0 || operand > 3) return CUBLAS_STATUS_NOT_SUPPORTED;
    return set(&wish->align[operand], sizeof wish->align[operand], value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t wish)
{
    delete wish;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- products ---- */

/* 8-bit operands: the summed dimension first in both, all dimensions multiples of 16, a factor for each row and column.
 */
static bool fits_8_bit(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                       cublasLtMatrixLayout_t d)
{
    return desc->ta == CUBLAS_OP_T && desc->tb == CUBLAS_OP_N && a->rows % 16 == 0 && a->columns % 16 == 0 &&
           a->ld % 16 == 0 && b->ld % 16 == 0 && desc->mode_a == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F &&
           desc->mode_b == desc->mode_a && (d->type == CUDA_R_16BF || d->type == CUDA_R_32F);
}

/* D(m x n) = op(A) op(B), columns first. */
static bool fits(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                 cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d)
{
    const bool ta = desc->ta != CUBLAS_OP_N, tb = desc->tb != CUBLAS_OP_N;
    const uint64_t m = ta ? a->columns : a->rows, k = ta ? a->rows : a->columns;
    const uint64_t n = tb ? b->rows : b->columns, k2 = tb ? b->columns : b->rows;
    return k == k2 && d->rows == m && d->columns == n && c->rows == m && c->columns == n && a->type == b->type &&
           c->type == d->type &&
           (a->type == CUDA_R_8F_E4M3 ? fits_8_bit(desc, a, b, d)
                                      : d->type == a->type || (a->type == CUDA_R_16BF && d->type == CUDA_R_32F)) &&
           a->batches == d->batches && b->batches == d->batches && c->batches == d->batches;
}

static void describe(const algorithm &x, cublasLtMatmulHeuristicResult_t *out)
{
    memset(out, 0, sizeof *out);
    memcpy(out->algo.data, &x, sizeof x);
    out->workspaceSize = x.workspace;
    out->state = CUBLAS_STATUS_SUCCESS;
    out->wavesCount = 1;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t wish, int most,
                                              cublasLtMatmulHeuristicResult_t found[], int *count)
{
    *count = 0;
    if (most < 1 || !fits(desc, a, b, c, d)) return CUBLAS_STATUS_INVALID_VALUE;
    for (; *count < most && *count < 3; ++*count) {
        algorithm x = {MAGIC, (uint64_t)*count, *count > 0 ? wish->workspace / 2 : 0, {}};
        memcpy(x.align, wish->align, sizeof x.align);
        describe(x, &found[*count]);
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *out)
{
    algorithm x;
    memcpy(&x, algo->data, sizeof x);
    if (x.magic != MAGIC || !fits(desc, a, b, c, d)) return CUBLAS_STATUS_INVALID_VALUE;
    describe(x, out);
    return CUBLAS_STATUS_SUCCESS;
}

/* One of the batch's matrices as floats, columns one behind the other. */
static std::vector<float> read(const emulate_matrix &m, const void *data, int batch)
{
    std::vector<float> x(m.rows * m.columns);
    for (uint64_t j = 0; j < m.columns; j++) {
        const size_t at = (size_t)(batch * m.stride + (int64_t)j * m.ld);
        if (m.type == CUDA_R_32F) memcpy(&x[j * m.rows], (const float *)data + at, m.rows * sizeof(float));
        else
            for (uint64_t i = 0; i < m.rows; i++)
                x[j * m.rows + i] = m.type == CUDA_R_8F_E4M3 ? (float)((const __nv_fp8_e4m3 *)data)[at + i]
                                                             : (float)((const __nv_bfloat16 *)data)[at + i];
    }
    return x;
}

static void write(const emulate_matrix &m, const std::vector<float> &x, void *data, int batch)
{
    for (uint64_t j = 0; j < m.columns; j++) {
        const size_t at = (size_t)(batch * m.stride + (int64_t)j * m.ld);
        for (uint64_t i = 0; i < m.rows; i++)
            if (m.type == CUDA_R_32F) ((float *)data)[at + i] = x[j * m.rows + i];
            else ((__nv_bfloat16 *)data)[at + i] = x[j * m.rows + i];
    }
}

struct operands {
    emulate_product op;
    emulate_matrix a, b, c, d;
    const void *a_data, *b_data, *c_data;
    void *d_data;
    float alpha, beta;
};

static void scale_columns(const emulate_matrix &m, const float *scale, std::vector<float> &x)
{
    for (size_t i = 0; i < x.size(); i++) x[i] *= scale[i / m.rows];
}

/* dnnl_sgemm counts rows first, in which D is D^T = op(B)^T op(A)^T. */
static void multiply(const operands &o)
{
    const bool ta = o.op.ta != CUBLAS_OP_N, tb = o.op.tb != CUBLAS_OP_N;
    const int64_t k = (int64_t)(ta ? o.a.rows : o.a.columns);
    for (int batch = 0; batch < o.d.batches; batch++) {
        std::vector<float> a = read(o.a, o.a_data, batch), b = read(o.b, o.b_data, batch);
        if (o.a.type == CUDA_R_8F_E4M3) {
            scale_columns(o.a, o.op.scale_a, a);
            scale_columns(o.b, o.op.scale_b, b);
        }
        std::vector<float> d(o.d.rows * o.d.columns);
        if (o.beta != 0) d = read(o.c, o.c_data, batch);
        if (dnnl_sgemm(tb ? 'T' : 'N', ta ? 'T' : 'N', (int64_t)o.d.columns, (int64_t)o.d.rows, k, o.alpha, b.data(),
                       (int64_t)o.b.rows, a.data(), (int64_t)o.a.rows, o.beta, d.data(),
                       (int64_t)o.d.rows) != dnnl_success)
            emulate::die("oneDNN refuses a product");
        write(o.d, d, o.d_data, batch);
    }
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream)
{
    const void *const data[4] = {a, b, c, d};
    if (!fits(desc, a_layout, b_layout, c_layout, d_layout)) return CUBLAS_STATUS_INVALID_VALUE;
    if (algo != nullptr) {
        algorithm x;
        memcpy(&x, algo->data, sizeof x);
        if (x.magic != MAGIC || x.workspace > workspace_bytes) return CUBLAS_STATUS_INVALID_VALUE;
        for (int i = 0; i < 4; i++)
            if ((uintptr_t)data[i] % x.align[i] != 0) return CUBLAS_STATUS_INVALID_VALUE;
    }
    for (int i = 0; i < 4; i++) emulate::check_argument("of cuBLASLt", data[i]);
    if (a_layout->type == CUDA_R_8F_E4M3) {
        emulate::check_argument("of cuBLASLt", desc->scale_a);
        emulate::check_argument("of cuBLASLt", desc->scale_b);
    }
    const operands o = {
        *desc, *a_layout, *b_layout, *c_layout, *d_layout, a, b, c, d, *(const float *)alpha, *(const float *)beta};
    emulate::submit(stream, [=] { multiply(o); });
    return CUBLAS_STATUS_SUCCESS;
}
