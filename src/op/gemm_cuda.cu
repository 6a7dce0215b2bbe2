/* Products of the CUDA device: cuBLASLt, with a plan for each shape kept. */
#include "op/cuda.cuh"
#include <stdlib.h>
#include <string.h>

/* What makes a plan: everything but the factors, and of the addresses their alignment. */
struct key {
    int64_t m, n, k, lda, ldb, ldc;
    int32_t ta, tb, ab_act, c_act;
    uint32_t align_a, align_b, align_c;
};

struct plan {
    key of;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algo;
};

#define SLOTS 1024

struct dt_cuda_plans {
    plan *slot[SLOTS]; /* open addressing */
    int used;
};

static void plan_free(plan *p)
{
    if (p == NULL) return;
    if (p->op != NULL) cublasLtMatmulDescDestroy(p->op);
    if (p->a != NULL) cublasLtMatrixLayoutDestroy(p->a);
    if (p->b != NULL) cublasLtMatrixLayoutDestroy(p->b);
    if (p->c != NULL) cublasLtMatrixLayoutDestroy(p->c);
    free(p);
}

#ifdef DT_ACT_F32 // once in the module: the two compilations keep their plans alike
extern "C" void dt_cuda_plans_free(dt_cuda_plans *plans)
{
    for (int i = 0; plans != NULL && i < SLOTS; i++) plan_free(plans->slot[i]);
    free(plans);
}
#endif

static cudaDataType_t type_of(bool is_act)
{
    return is_act && sizeof(act) == 2 ? CUDA_R_16BF : CUDA_R_32F;
}

static uint32_t alignment_of(const void *p)
{
    uint32_t align = 256;
    while ((uintptr_t)p % align != 0) align /= 2;
    return align;
}

#define BLAS(call) DT_TRY(dt_cuda_check_blas((call), #call))

/* cuBLASLt counts columns first: a row-major C[m,n] is its C^T[n,m], so A and B change places. */
static dt_status describe(const key *k, plan *p)
{
    cublasOperation_t first = k->tb ? CUBLAS_OP_T : CUBLAS_OP_N, second = k->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    cudaDataType_t ab = type_of(k->ab_act), c = type_of(k->c_act);
    BLAS(cublasLtMatmulDescCreate(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    BLAS(cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
    BLAS(cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));
    BLAS(cublasLtMatrixLayoutCreate(&p->a, ab, k->tb ? k->k : k->n, k->tb ? k->n : k->k, k->ldb));
    BLAS(cublasLtMatrixLayoutCreate(&p->b, ab, k->ta ? k->m : k->k, k->ta ? k->k : k->m, k->lda));
    BLAS(cublasLtMatrixLayoutCreate(&p->c, c, k->n, k->m, k->ldc));
    return DT_OK;
}

static dt_status choose(const dt_cuda *cuda, const dt_cuda_product *x, plan *p)
{
    cublasLtMatmulPreference_t wish = NULL;
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    const uint64_t workspace = DT_CUDA_LT_BYTES;
    const uint32_t align_a = p->of.align_b, align_b = p->of.align_a, align_c = p->of.align_c;
    BLAS(cublasLtMatmulPreferenceCreate(&wish));
    cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align_a, sizeof align_a);
    cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align_b, sizeof align_b);
    cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align_c, sizeof align_c);
    cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align_c, sizeof align_c);
    cublasStatus_t code = cublasLtMatmulAlgoGetHeuristic(cuda->lt, p->op, p->a, p->b, p->c, p->c, wish, 1, &found, &n);
    cublasLtMatmulPreferenceDestroy(wish);
    if (code != CUBLAS_STATUS_SUCCESS || n == 0)
        return dt_fail(DT_ERR_DEVICE, "cuBLASLt has no product of %lld x %lld x %lld (%s)", (long long)x->m,
                       (long long)x->n, (long long)x->k, cublasLtGetStatusString(code));
    p->algo = found.algo;
    return DT_OK;
}

static uint64_t hash_of(const key *k)
{
    uint64_t h = 14695981039346656037u;
    const unsigned char *at = (const unsigned char *)k;
    for (size_t i = 0; i < sizeof *k; i++) h = (h ^ at[i]) * 1099511628211u;
    return h;
}

static dt_status plan_for(dt_cuda *cuda, const dt_cuda_product *x, plan **out)
{
    key k;
    memset(&k, 0, sizeof k);
    k.m = x->m, k.n = x->n, k.k = x->k, k.lda = x->lda, k.ldb = x->ldb, k.ldc = x->ldc;
    k.align_a = alignment_of(x->a), k.align_b = alignment_of(x->b), k.align_c = alignment_of(x->c);
    k.ta = x->ta, k.tb = x->tb, k.ab_act = x->ab_act, k.c_act = x->c_act;
    /* The two compilations never share a device, so a key needs not tell their types apart. */
    if (cuda->plans == NULL) cuda->plans = (dt_cuda_plans *)calloc(1, sizeof *cuda->plans);
    if (cuda->plans == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    dt_cuda_plans *plans = cuda->plans;
    uint64_t i = hash_of(&k) % SLOTS;
    while (plans->slot[i] != NULL && memcmp(&plans->slot[i]->of, &k, sizeof k) != 0) i = (i + 1) % SLOTS;
    if (plans->slot[i] == NULL) {
        if (2 * plans->used >= SLOTS) return dt_fail(DT_ERR_INTERNAL, "more than %d shapes of products", SLOTS / 2);
        plan *p = (plan *)calloc(1, sizeof *p);
        if (p == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
        p->of = k;
        dt_status st = describe(&k, p);
        if (st == DT_OK) st = choose(cuda, x, p);
        if (st != DT_OK) {
            plan_free(p);
            return st;
        }
        plans->slot[i] = p;
        plans->used++;
    }
    *out = plans->slot[i];
    return DT_OK;
}

static __global__ void scale_rows(int64_t m, int64_t n, float beta, floats c, int64_t ldc)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < m * n; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t at = i / n * ldc + i % n;
        c.set(at, beta != 0 ? beta * c[at] : 0.0f);
    }
}

dt_status DT_CUDA_KERNEL(gemm)(const dt_call *call, const dt_cuda_product *x)
{
    dt_cuda *cuda = dt_cuda_of(call->device);
    plan *p = NULL;
    if (x->m <= 0 || x->n <= 0) return DT_OK;
    if (x->k <= 0) { // an empty sum
        floats c = {x->c, x->c_act, false};
        scale_rows<<<blocks_for(call, x->m * x->n, 256), 256, 0, cuda->stream>>>(x->m, x->n, x->beta, c, x->ldc);
        return launched();
    }
    DT_TRY(plan_for(cuda, x, &p));
    return dt_cuda_check_blas(cublasLtMatmul(cuda->lt, p->op, &x->alpha, x->b, p->a, x->a, p->b, &x->beta, x->c, p->c,
                                             x->c, p->c, &p->algo, cuda->lt_workspace, DT_CUDA_LT_BYTES, cuda->stream),
                              "cublasLtMatmul");
}
