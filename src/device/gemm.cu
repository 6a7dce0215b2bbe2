/* Products of the CUDA device: a table of plans by shape. A plan begins as a noted shape, gets an algorithm by
 * measurement, from a text, or from the heuristic, and its descriptors at its first use. */
#include <cublasLt.h> // C++ headers, which must not come first out of ours
#include <cuda_bf16.h>
#include <cuda_runtime.h>
extern "C" {
#include "base/file.h"   // dt_file_read, dt_file_write_atomic
#include "base/hash.h"   // dt_hash_bytes
#include "base/log.h"    // dt_log
#include "base/memory.h" // dt_alloc
#include "device/gemm.h"
#include "device/ways.h"
}
#include <float.h>
#include <limits.h> // PATH_MAX
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What an algorithm depends on: everything but the factors, and of the addresses their alignment. */
struct key {
    int64_t m, n, k, lda, ldb, ldc;
    int32_t ta, tb, ab, to;
    uint32_t align_a, align_b, align_c, unused;
};

enum { FIELDS = 13 }; /* of a key that a text tells */

struct plan {
    key of;
    bool noted; /* its example's addresses hold */
    bool chosen, described;
    cublasLtMatmulAlgo_t algo;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t a, b, c;
    dt_cuda_product example; /* as it was noted: for measuring */
};

struct dt_cuda_plans {
    plan **slot; /* [slots], open addressing; slots a power of two */
    size_t slots, used;
};

enum { CANDIDATES = 8, ROUNDS = 3, ALGO_WORDS = sizeof(cublasLtMatmulAlgo_t) / sizeof(uint64_t) };

#define BLAS(call) DT_TRY(dt_cuda_check_blas((call), #call))

/* ---- the table ---- */

static void undescribe(plan *p)
{
    if (p->op != NULL) cublasLtMatmulDescDestroy(p->op);
    if (p->a != NULL) cublasLtMatrixLayoutDestroy(p->a);
    if (p->b != NULL) cublasLtMatrixLayoutDestroy(p->b);
    if (p->c != NULL) cublasLtMatrixLayoutDestroy(p->c);
}

void dt_cuda_gemm_free(dt_cuda *cuda)
{
    dt_cuda_plans *t = cuda->plans;
    for (size_t i = 0; t != NULL && i < t->slots; i++) {
        if (t->slot[i] == NULL) continue;
        undescribe(t->slot[i]);
        free(t->slot[i]);
    }
    if (t != NULL) free(t->slot);
    free(t);
    cuda->plans = NULL;
}

static plan **place_of(plan **slot, size_t slots, const key *k)
{
    size_t i = (size_t)dt_hash_bytes(k, sizeof *k, 0) & (slots - 1);
    while (slot[i] != NULL && memcmp(&slot[i]->of, k, sizeof *k) != 0) i = (i + 1) & (slots - 1);
    return &slot[i];
}

/* At most half of the slots are used. */
static dt_status grow(dt_cuda_plans *t)
{
    if (2 * (t->used + 1) <= t->slots) return DT_OK;
    size_t slots = t->slots > 0 ? 2 * t->slots : 256;
    plan **wider = NULL;
    DT_TRY(dt_alloc(slots, sizeof *wider, &wider));
    for (size_t i = 0; i < t->slots; i++)
        if (t->slot[i] != NULL) *place_of(wider, slots, &t->slot[i]->of) = t->slot[i];
    free(t->slot);
    t->slot = wider;
    t->slots = slots;
    return DT_OK;
}

static dt_status plan_of(dt_cuda *cuda, const key *k, plan **out)
{
    if (cuda->plans == NULL) DT_TRY(dt_alloc(1, sizeof *cuda->plans, &cuda->plans));
    DT_TRY(grow(cuda->plans));
    plan **at = place_of(cuda->plans->slot, cuda->plans->slots, k);
    if (*at == NULL) {
        DT_TRY(dt_alloc(1, sizeof **at, at));
        (*at)->of = *k;
        cuda->plans->used++;
    }
    *out = *at;
    return DT_OK;
}

static uint32_t alignment_of(const void *p)
{
    uint32_t align = 256;
    while ((uintptr_t)p % align != 0) align /= 2;
    return align;
}

static const void *addend_of(const dt_cuda_product *x)
{
    return x->addend != NULL ? x->addend : x->c;
}

static key key_of(const dt_cuda_product *x)
{
    key k;
    memset(&k, 0, sizeof k);
    k.m = x->m, k.n = x->n, k.k = x->k, k.lda = x->lda, k.ldb = x->ldb, k.ldc = x->ldc;
    k.ta = x->ta, k.tb = x->tb, k.ab = x->ab, k.to = x->to;
    k.align_a = alignment_of(x->a), k.align_b = alignment_of(x->b), k.align_c = alignment_of(x->c);
    if (alignment_of(addend_of(x)) < k.align_c) k.align_c = alignment_of(addend_of(x));
    return k;
}

/* ---- cuBLASLt's view ---- */

/* Factors of the first and the second operand as the library counts them; each call has its own, but the heuristic may
 * want to see that there are some. */
static cublasStatus_t point_to_scales(const plan *p, const void *first, const void *second)
{
    cublasStatus_t code =
        cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &first, sizeof first);
    if (code != CUBLAS_STATUS_SUCCESS) return code;
    return cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &second, sizeof second);
}

/* It counts columns first: a row-major C[m,n] is its C^T[n,m], so A and B change places. */
static dt_status describe(const dt_cuda *cuda, plan *p)
{
    const key *k = &p->of;
    cublasOperation_t first = k->tb ? CUBLAS_OP_T : CUBLAS_OP_N, second = k->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cudaDataType_t ab = (cudaDataType_t)k->ab, to = (cudaDataType_t)k->to;
    if (p->described) return DT_OK;
    BLAS(cublasLtMatmulDescCreate(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    BLAS(cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
    BLAS(cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));
    if (ab == CUDA_R_8F_E4M3) {
        const cublasLtMatmulMatrixScale_t by_row = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
        const int8_t fast = 1; // sums over 128 products, not each of them, go to full registers
        BLAS(cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &by_row, sizeof by_row));
        BLAS(cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &by_row, sizeof by_row));
        BLAS(cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast, sizeof fast));
        BLAS(point_to_scales(p, cuda->lt_workspace, cuda->lt_workspace));
    }
    BLAS(cublasLtMatrixLayoutCreate(&p->a, ab, k->tb ? k->k : k->n, k->tb ? k->n : k->k, k->ldb));
    BLAS(cublasLtMatrixLayoutCreate(&p->b, ab, k->ta ? k->m : k->k, k->ta ? k->k : k->m, k->lda));
    BLAS(cublasLtMatrixLayoutCreate(&p->c, to, k->n, k->m, k->ldc));
    p->described = true;
    return DT_OK;
}

/* What the heuristic proposes, its favourite first. */
static dt_status propose(const dt_cuda *cuda, plan *p, int most, cublasLtMatmulHeuristicResult_t *out, int *n)
{
    cublasLtMatmulPreference_t wish = NULL;
    const uint64_t workspace = DT_CUDA_LT_BYTES;
    const struct {
        cublasLtMatmulPreferenceAttributes_t what;
        uint32_t value;
    } align[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p->of.align_b},
                 {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p->of.align_a},
                 {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p->of.align_c},
                 {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p->of.align_c}};
    DT_TRY(describe(cuda, p));
    BLAS(cublasLtMatmulPreferenceCreate(&wish));
    cublasStatus_t code = cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                               &workspace, sizeof workspace);
    for (size_t i = 0; i < sizeof align / sizeof *align && code == CUBLAS_STATUS_SUCCESS; i++)
        code = cublasLtMatmulPreferenceSetAttribute(wish, align[i].what, &align[i].value, sizeof align[i].value);
    if (code == CUBLAS_STATUS_SUCCESS)
        code = cublasLtMatmulAlgoGetHeuristic(cuda->lt, p->op, p->a, p->b, p->c, p->c, wish, most, out, n);
    cublasLtMatmulPreferenceDestroy(wish);
    if (code == CUBLAS_STATUS_SUCCESS && *n > 0) return DT_OK;
    return dt_fail(DT_ERR_DEVICE, "cuBLASLt has no product of %lld x %lld x %lld (%s)", (long long)p->of.m,
                   (long long)p->of.n, (long long)p->of.k, cublasLtGetStatusString(code));
}

static dt_status take_first(const dt_cuda *cuda, plan *p)
{
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    DT_TRY(propose(cuda, p, 1, &found, &n));
    p->algo = found.algo;
    p->chosen = true;
    return DT_OK;
}

static cublasStatus_t multiply(dt_cuda *cuda, const plan *p, const cublasLtMatmulAlgo_t *algo, const dt_cuda_product *x,
                               const void *addend, void *c)
{
    cublasStatus_t code = x->scale_a != NULL ? point_to_scales(p, x->scale_b, x->scale_a) : CUBLAS_STATUS_SUCCESS;
    if (code != CUBLAS_STATUS_SUCCESS) return code;
    return cublasLtMatmul(cuda->lt, p->op, &x->alpha, x->b, p->a, x->a, p->b, &x->beta, addend, p->c, c, p->c, algo,
                          cuda->lt_workspace, DT_CUDA_LT_BYTES, cuda->stream);
}

/* ---- products ---- */

static __global__ void scale_rows(int64_t m, int64_t n, float beta, const void *addend, void *c, bool is_float,
                                  int64_t ldc)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < m * n; i += (int64_t)gridDim.x * blockDim.x) {
        const int64_t at = i / n * ldc + i % n;
        if (is_float) ((float *)c)[at] = beta != 0 ? beta * ((const float *)addend)[at] : 0.0f;
        else
            ((__nv_bfloat16 *)c)[at] =
                __float2bfloat16(beta != 0 ? beta * __bfloat162float(((const __nv_bfloat16 *)addend)[at]) : 0.0f);
    }
}

/* An empty sum. */
static dt_status scale(dt_cuda *cuda, const dt_cuda_product *x)
{
    const int64_t need = (x->m * x->n + 255) / 256, most = 32 * (int64_t)cuda->processors;
    scale_rows<<<(unsigned)(need < most ? need : most), 256, 0, cuda->stream>>>(x->m, x->n, x->beta, addend_of(x), x->c,
                                                                                x->to == CUDA_R_32F, x->ldc);
    return dt_cuda_check(cudaGetLastError(), "a kernel's launch");
}

dt_status dt_cuda_gemm(dt_cuda *cuda, const dt_cuda_product *x)
{
    if (x->m <= 0 || x->n <= 0) return DT_OK;
    if (x->k <= 0) return scale(cuda, x);
    const key k = key_of(x);
    plan *p = NULL;
    DT_TRY(plan_of(cuda, &k, &p));
    if (cuda->considers) {
        p->example = *x;
        p->noted = true;
        return DT_OK;
    }
    if (!p->chosen) DT_TRY(take_first(cuda, p));
    DT_TRY(describe(cuda, p));
    return dt_cuda_check_blas(multiply(cuda, p, &p->algo, x, addend_of(x), x->c), "cublasLtMatmul");
}

/* ---- measuring ---- */

static size_t bytes_of_c(const plan *p)
{
    return (size_t)(p->of.m * p->of.ldc) * (p->of.to == CUDA_R_32F ? sizeof(float) : sizeof(__nv_bfloat16));
}

static dt_status time_once(dt_cuda *cuda, const plan *p, const cublasLtMatmulAlgo_t *algo, void *c, cudaEvent_t begin,
                           cudaEvent_t end, float *ms)
{
    *ms = FLT_MAX;
    DT_TRY(dt_cuda_check(cudaEventRecord(begin, cuda->stream), "cudaEventRecord"));
    const void *addend = p->example.addend != NULL ? p->example.addend : c;
    if (multiply(cuda, p, algo, &p->example, addend, c) != CUBLAS_STATUS_SUCCESS)
        return DT_OK; // a proposal that does not run
    DT_TRY(dt_cuda_check(cudaEventRecord(end, cuda->stream), "cudaEventRecord"));
    DT_TRY(dt_cuda_check(cudaEventSynchronize(end), "a product"));
    return dt_cuda_check(cudaEventElapsedTime(ms, begin, end), "cudaEventElapsedTime");
}

/* The candidates take turns; the shortest time of each counts, the first round warms up. Equal ones: the favourite. */
static dt_status measure(dt_cuda *cuda, plan *p, void *c, cudaEvent_t begin, cudaEvent_t end)
{
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    float best[CANDIDATES], ms;
    int n = 0, winner = 0;
    DT_TRY(propose(cuda, p, CANDIDATES, found, &n));
    for (int i = 0; i < n; i++) best[i] = FLT_MAX;
    for (int round = 0; round <= ROUNDS && n > 1; round++) {
        for (int i = 0; i < n; i++) {
            DT_TRY(time_once(cuda, p, &found[i].algo, c, begin, end, &ms));
            if (round > 0 && ms < best[i]) best[i] = ms;
        }
    }
    for (int i = 1; i < n; i++)
        if (best[i] < best[winner]) winner = i;
    p->algo = found[winner].algo;
    p->chosen = true;
    dt_log(DT_LOG_DEBUG, "product %lld x %lld x %lld: candidate %d of %d, %.3f ms (the favourite %.3f)",
           (long long)p->of.m, (long long)p->of.n, (long long)p->of.k, winner + 1, n, (double)best[winner],
           (double)best[0]);
    return DT_OK;
}

static bool is_open(const plan *p)
{
    return p != NULL && p->noted && !p->chosen;
}

static dt_status measure_all(dt_cuda *cuda, void *c, cudaEvent_t begin, cudaEvent_t end)
{
    const dt_cuda_plans *t = cuda->plans;
    for (size_t i = 0; i < t->slots; i++)
        if (is_open(t->slot[i])) DT_TRY(measure(cuda, t->slot[i], c, begin, end));
    return DT_OK;
}

static dt_status measure_with(dt_cuda *cuda, size_t bytes)
{
    cudaEvent_t begin = NULL, end = NULL;
    void *c = NULL;
    if (cudaMalloc(&c, bytes) != cudaSuccess) { // no room to try: the heuristic's word is good
        cudaGetLastError();
        return DT_OK;
    }
    dt_status st = dt_cuda_check(cudaMemsetAsync(c, 0, bytes, cuda->stream), "cudaMemsetAsync");
    if (st == DT_OK) st = dt_cuda_check(cudaEventCreate(&begin), "cudaEventCreate");
    if (st == DT_OK) st = dt_cuda_check(cudaEventCreate(&end), "cudaEventCreate");
    if (st == DT_OK) st = measure_all(cuda, c, begin, end);
    if (begin != NULL) cudaEventDestroy(begin);
    if (end != NULL) cudaEventDestroy(end);
    cudaFree(c);
    return st == DT_OK ? dt_cuda_gemm_remember(cuda) : st;
}

dt_status dt_cuda_gemm_choose(dt_cuda *cuda)
{
    const dt_cuda_plans *t = cuda->plans;
    size_t bytes = 0;
    for (size_t i = 0; t != NULL && i < t->slots; i++)
        if (is_open(t->slot[i]) && bytes_of_c(t->slot[i]) > bytes) bytes = bytes_of_c(t->slot[i]);
    dt_status st = bytes > 0 ? measure_with(cuda, bytes) : DT_OK;
    for (size_t i = 0; t != NULL && i < t->slots; i++)
        if (t->slot[i] != NULL) t->slot[i]->noted = false;
    return st;
}

/* ---- choices as text ---- */

static int by_key(const void *a, const void *b)
{
    return memcmp(&(*(plan *const *)a)->of, &(*(plan *const *)b)->of, sizeof(key));
}

static void print_plan(FILE *to, const plan *p)
{
    const key *k = &p->of;
    uint64_t word[ALGO_WORDS];
    memcpy(word, &p->algo, sizeof word);
    fprintf(to, "%lld %lld %lld %lld %lld %lld %d %d %d %d %u %u %u", (long long)k->m, (long long)k->n, (long long)k->k,
            (long long)k->lda, (long long)k->ldb, (long long)k->ldc, k->ta, k->tb, k->ab, k->to, k->align_a, k->align_b,
            k->align_c);
    for (int i = 0; i < ALGO_WORDS; i++) fprintf(to, " %llx", (unsigned long long)word[i]);
    fputc('\n', to);
}

static void print_kind(FILE *to, const dt_cuda *cuda)
{
    fprintf(to, "products: %s, cuBLASLt %zu\n", cuda->name, cublasLtGetVersion());
}

dt_status dt_cuda_gemm_choices(const dt_cuda *cuda, char **text)
{
    const dt_cuda_plans *t = cuda->plans;
    plan **sorted = NULL;
    size_t n = 0, bytes = 0;
    DT_TRY(dt_alloc(t != NULL ? t->used + 1 : 1, sizeof *sorted, &sorted));
    for (size_t i = 0; t != NULL && i < t->slots; i++)
        if (t->slot[i] != NULL && t->slot[i]->chosen) sorted[n++] = t->slot[i];
    qsort(sorted, n, sizeof *sorted, by_key);
    *text = NULL;
    FILE *to = open_memstream(text, &bytes);
    if (to != NULL) {
        print_kind(to, cuda);
        for (size_t i = 0; i < n; i++) print_plan(to, sorted[i]);
        dt_cuda_ways_print(cuda, to);
    }
    free(sorted);
    if (to != NULL && fclose(to) == 0) return DT_OK;
    free(*text);
    *text = NULL;
    return dt_fail(DT_ERR_MEMORY, "out of memory");
}

/* A line of print_plan. */
static bool parse_plan(const char *line, key *k, cublasLtMatmulAlgo_t *algo)
{
    uint64_t field[FIELDS + ALGO_WORDS], *word = field + FIELDS;
    for (int i = 0; i < FIELDS + ALGO_WORDS; i++) {
        char *end = NULL;
        field[i] = strtoull(line, &end, i < FIELDS ? 10 : 16);
        if (end == line) return false;
        line = end;
    }
    memset(k, 0, sizeof *k);
    k->m = (int64_t)field[0], k->n = (int64_t)field[1], k->k = (int64_t)field[2];
    k->lda = (int64_t)field[3], k->ldb = (int64_t)field[4], k->ldc = (int64_t)field[5];
    k->ta = (int32_t)field[6], k->tb = (int32_t)field[7], k->ab = (int32_t)field[8], k->to = (int32_t)field[9];
    k->align_a = (uint32_t)field[10], k->align_b = (uint32_t)field[11], k->align_c = (uint32_t)field[12];
    memcpy(algo, word, sizeof *algo);
    return *line == '\n';
}

/* Does the library take an algorithm that a file names? */
static bool runs(const dt_cuda *cuda, plan *p, const cublasLtMatmulAlgo_t *algo)
{
    cublasLtMatmulHeuristicResult_t found = {}; // a check need not fill in its state
    if (describe(cuda, p) != DT_OK) {
        dt_error_clear();
        return false;
    }
    return cublasLtMatmulAlgoCheck(cuda->lt, p->op, p->a, p->b, p->c, p->c, algo, &found) == CUBLAS_STATUS_SUCCESS &&
           found.state == CUBLAS_STATUS_SUCCESS && found.workspaceSize <= DT_CUDA_LT_BYTES;
}

dt_status dt_cuda_gemm_adopt(dt_cuda *cuda, const char *text)
{
    char *kind = NULL;
    size_t bytes = 0;
    FILE *to = open_memstream(&kind, &bytes);
    if (to != NULL) print_kind(to, cuda);
    if (to == NULL || fclose(to) != 0) return dt_fail(DT_ERR_MEMORY, "out of memory");
    const bool same = strncmp(text, kind, bytes) == 0;
    free(kind);
    const char *line = same ? text + bytes : "";
    while (*line != '\0') {
        key k;
        cublasLtMatmulAlgo_t algo;
        plan *p = NULL;
        const char *end = strchr(line, '\n');
        if (end == NULL || !parse_plan(line, &k, &algo)) break;
        DT_TRY(plan_of(cuda, &k, &p));
        if (runs(cuda, p, &algo)) {
            p->algo = algo;
            p->chosen = true;
        }
        line = end + 1;
    }
    return dt_cuda_ways_adopt(cuda, line);
}

/* ---- what jobs of this user remember ---- */

/* $XDG_CACHE_HOME/dtrain/products-<GPU>-<version>.txt, or under ~/.cache; false: there is no place. */
static bool find_file(const dt_cuda *cuda, char folder[PATH_MAX], char path[PATH_MAX])
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const bool given = cache != NULL && cache[0] == '/';
    if (!given && (home == NULL || home[0] != '/')) return false;
    int n = snprintf(folder, PATH_MAX, "%s%s/dtrain", given ? cache : home, given ? "" : "/.cache");
    if (n < 0 || n >= PATH_MAX) return false;
    int m = snprintf(path, PATH_MAX, "%s/products-%s-%zu.txt", folder, cuda->name, cublasLtGetVersion());
    if (m < 0 || m >= PATH_MAX) return false;
    for (char *c = path + n + 1; *c != '\0'; c++)
        if (*c == ' ' || *c == '/') *c = '-';
    return true;
}

dt_status dt_cuda_gemm_recall(dt_cuda *cuda)
{
    char folder[PATH_MAX], path[PATH_MAX], *text = NULL;
    size_t bytes;
    if (!find_file(cuda, folder, path) || !dt_path_exists(path)) return DT_OK;
    DT_TRY(dt_file_read(path, &text, &bytes));
    dt_status st = dt_cuda_gemm_adopt(cuda, text);
    free(text);
    return st;
}

/* A cache that cannot be written is no reason to stop. */
dt_status dt_cuda_gemm_remember(const dt_cuda *cuda)
{
    char folder[PATH_MAX], path[PATH_MAX], *text = NULL;
    if (!find_file(cuda, folder, path)) return DT_OK;
    DT_TRY(dt_cuda_gemm_choices(cuda, &text));
    dt_status st = dt_dir_make(folder);
    if (st == DT_OK) st = dt_file_write_atomic(path, text, strlen(text));
    if (st != DT_OK) dt_log(DT_LOG_DEBUG, "measured products are not remembered: %s", dt_error_text());
    dt_error_clear();
    free(text);
    return DT_OK;
}
