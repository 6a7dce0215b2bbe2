/* Attention's forward pass by cuDNN, where DTRAIN_ATTENTION=cudnn asks for it: a graph of elementary operations which
 * cuDNN recognises and runs as one kernel,
 *
 *     o = softmax(mask(scale q k^T)) v,   stats = logarithm of the softmax denominators,
 *
 * with mask: key <= query, and key >= low[query], which is what documents and windows leave visible. The library is
 * opened when first asked for (its headers are all that the build needs), and a plan made for each shape; a shape that
 * it does not take goes to our own kernel, with one line in the log. Backward is always ours: on Hopper cuDNN's either
 * adds dq up in an order that no two runs share, or stores a T x T matrix for each head. */
#if defined(DT_CUDNN) && !defined(DT_ACT_F32)
#include "op/attention.cuh"
#include <cudnn.h>
#include <dlfcn.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>
extern "C" {
#include "base/log.h"
}

typedef cudnnBackendDescriptor_t descriptor;

#define FUNCTIONS(X)                                                                                                   \
    X(cudnnCreate)                                                                                                     \
    X(cudnnDestroy)                                                                                                    \
    X(cudnnSetStream)                                                                                                  \
    X(cudnnGetVersion)                                                                                                 \
    X(cudnnGetErrorString)                                                                                             \
    X(cudnnGetLastErrorString)                                                                                         \
    X(cudnnBackendCreateDescriptor)                                                                                    \
    X(cudnnBackendDestroyDescriptor)                                                                                   \
    X(cudnnBackendSetAttribute)                                                                                        \
    X(cudnnBackendGetAttribute)                                                                                        \
    X(cudnnBackendFinalize)                                                                                            \
    X(cudnnBackendExecute)

enum { MOST_MADE = 96, MOST_OPERATIONS = 24, MOST_PLANS = 32, CANDIDATES = 8 };

/* What makes a plan. Heads: those of this rank. */
struct key {
    int64_t sequences, seq, width, heads, kv_heads;
};

struct plan {
    key of;
    descriptor made[MOST_MADE], operation[MOST_OPERATIONS], execution;
    int makes, operations;
    void *workspace, *scratch; /* cuDNN's; low [sequences, seq] and stats [sequences, heads, seq] */
    dt_status status;          /* of its making: the first failure stays, what comes after does nothing */
};

struct dt_cuda_attention {
    void *library;
#define X(name) decltype(&::name) name;
    FUNCTIONS(X)
#undef X
    cudnnHandle_t handle;
    dt_status opened;
    plan *plans[MOST_PLANS];
    int count;
};
typedef struct dt_cuda_attention cudnn;

static dt_status check(const cudnn *c, cudnnStatus_t code, const char *what)
{
    if (code == CUDNN_STATUS_SUCCESS) return DT_OK;
    char text[512] = "";
    c->cudnnGetLastErrorString(text, sizeof text);
    return dt_fail(DT_ERR_DEVICE, "%s: %s (%s)", what, c->cudnnGetErrorString(code), text);
}

/* ---- the library ---- */

static dt_status open_library(cudnn *c)
{
    c->library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (c->library == NULL) return dt_fail(DT_ERR_DEVICE, "%s", dlerror());
#define X(name)                                                                                                        \
    c->name = (decltype(&::name))dlsym(c->library, #name);                                                             \
    if (c->name == NULL) return dt_fail(DT_ERR_DEVICE, "libcudnn.so.9 has no " #name);
    FUNCTIONS(X)
#undef X
    return check(c, c->cudnnCreate(&c->handle), "cudnnCreate");
}

static void plan_free(cudnn *c, plan *p)
{
    while (p->makes > 0) c->cudnnBackendDestroyDescriptor(p->made[--p->makes]);
    cudaFree(p->workspace);
    cudaFree(p->scratch);
    free(p);
}

static void close_library(dt_cuda_attention *c)
{
    for (int i = 0; i < c->count; i++) plan_free(c, c->plans[i]);
    if (c->handle != NULL) c->cudnnDestroy(c->handle);
    if (c->library != NULL) dlclose(c->library);
    free(c);
}

/* ---- descriptors ---- */

static descriptor make(cudnn *c, plan *p, cudnnBackendDescriptorType_t type)
{
    descriptor d = NULL;
    if (p->status != DT_OK) return NULL;
    if (p->makes == MOST_MADE) p->status = dt_fail(DT_ERR_INTERNAL, "more than %d descriptors", MOST_MADE);
    else p->status = check(c, c->cudnnBackendCreateDescriptor(type, &d), "a descriptor");
    if (p->status == DT_OK) p->made[p->makes++] = d;
    return d;
}

static void set(cudnn *c, plan *p, descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t count, const void *values)
{
    if (p->status == DT_OK)
        p->status = check(c, c->cudnnBackendSetAttribute(d, name, type, count, values), "an attribute");
}

static void set_descriptor(cudnn *c, plan *p, descriptor d, cudnnBackendAttributeName_t name, descriptor value)
{
    set(c, p, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static descriptor finish(cudnn *c, plan *p, descriptor d)
{
    if (p->status == DT_OK) p->status = check(c, c->cudnnBackendFinalize(d), "a descriptor's end");
    return d;
}

/* The tensors that a call brings, by number; those between operations follow. */
enum { Q, K, V, O, STATS, LOW, SCALE, HIDDEN, BETWEEN };

static descriptor tensor(cudnn *c, plan *p, int64_t id, cudnnDataType_t type, int n, const int64_t *dim,
                         const int64_t *stride, bool by_value)
{
    const bool between = id >= BETWEEN;
    const int64_t align = 16, unique = between ? BETWEEN + p->makes : id;
    descriptor d = make(c, p, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(c, p, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &unique);
    set(c, p, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(c, p, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, n, dim);
    set(c, p, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, n, stride);
    set(c, p, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    set(c, p, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &between);
    set(c, p, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    return finish(c, p, d);
}

/* [sequences, heads, rows, columns]. */
static descriptor tensor4(cudnn *c, plan *p, int64_t id, cudnnDataType_t type, int64_t heads, int64_t rows,
                          int64_t columns, int64_t per_sequence, int64_t per_head, int64_t per_row, int64_t per_column)
{
    const int64_t dim[] = {p->of.sequences, heads, rows, columns};
    const int64_t stride[] = {per_sequence, per_head, per_row, per_column};
    return tensor(c, p, id, type, 4, dim, stride, false);
}

static descriptor scalar(cudnn *c, plan *p, int64_t id)
{
    const int64_t one[] = {1, 1, 1, 1};
    return tensor(c, p, id, CUDNN_DATA_FLOAT, 4, one, one, true);
}

/* Of scores, and of one number a query. */
static descriptor scores(cudnn *c, plan *p, cudnnDataType_t type)
{
    const int64_t t = p->of.seq;
    return tensor4(c, p, BETWEEN, type, p->of.heads, t, t, p->of.heads * t * t, t * t, t, 1);
}
static descriptor column(cudnn *c, plan *p, int64_t id)
{
    const int64_t t = p->of.seq;
    return tensor4(c, p, id, CUDNN_DATA_FLOAT, p->of.heads, t, 1, p->of.heads * t, t, 1, 1);
}

/* ---- operations ---- */

static void push(cudnn *c, plan *p, descriptor d)
{
    finish(c, p, d);
    if (p->operations < MOST_OPERATIONS) p->operation[p->operations++] = d;
    else if (p->status == DT_OK) p->status = dt_fail(DT_ERR_INTERNAL, "more than %d operations", MOST_OPERATIONS);
}

static descriptor product(cudnn *c, plan *p, descriptor a, descriptor b, descriptor to)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    descriptor how = make(c, p, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    set(c, p, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &f32);
    finish(c, p, how);
    descriptor d = make(c, p, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    set_descriptor(c, p, d, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    set_descriptor(c, p, d, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    set_descriptor(c, p, d, CUDNN_ATTR_OPERATION_MATMUL_CDESC, to);
    set_descriptor(c, p, d, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    push(c, p, d);
    return to;
}

/* to = mode(x, b; t); axis: of GEN_INDEX, -1 otherwise. */
static descriptor pointwise(cudnn *c, plan *p, cudnnPointwiseMode_t mode, cudnnDataType_t precision, int64_t axis,
                            descriptor x, descriptor b, descriptor t, descriptor to)
{
    descriptor how = make(c, p, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(c, p, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(c, p, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    if (axis >= 0) set(c, p, how, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis);
    finish(c, p, how);
    descriptor d = make(c, p, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_descriptor(c, p, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    set_descriptor(c, p, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b != NULL) set_descriptor(c, p, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    if (t != NULL) set_descriptor(c, p, d, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, t);
    set_descriptor(c, p, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, to);
    push(c, p, d);
    return to;
}

static descriptor reduction(cudnn *c, plan *p, cudnnReduceTensorOp_t mode, descriptor x, descriptor to)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    descriptor how = make(c, p, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    set(c, p, how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &mode);
    set(c, p, how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &f32);
    finish(c, p, how);
    descriptor d = make(c, p, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    set_descriptor(c, p, d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    set_descriptor(c, p, d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, to);
    set_descriptor(c, p, d, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
    push(c, p, d);
    return to;
}

/* The whole of it, in the order in which cuDNN's engines look for it. */
static void describe(cudnn *c, plan *p)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT, bf = CUDNN_DATA_BFLOAT16, i32 = CUDNN_DATA_INT32,
                          truth = CUDNN_DATA_BOOLEAN;
    const int64_t t = p->of.seq, w = p->of.width, h = p->of.heads, hk = p->of.kv_heads;
    descriptor q = tensor4(c, p, Q, bf, h, t, w, t * h * w, w, h * w, 1);
    descriptor k = tensor4(c, p, K, bf, hk, w, t, t * hk * w, w, 1, hk * w); // transposed
    descriptor v = tensor4(c, p, V, bf, hk, t, w, t * hk * w, w, hk * w, 1);
    descriptor o = tensor4(c, p, O, bf, h, t, w, t * h * w, w, h * w, 1);
    descriptor low = tensor4(c, p, LOW, i32, 1, t, 1, t, t, 1, 1);
    descriptor scale = scalar(c, p, SCALE), hidden = scalar(c, p, HIDDEN), stats = column(c, p, STATS), none = NULL;

    descriptor x = product(c, p, q, k, scores(c, p, f32));
    x = pointwise(c, p, CUDNN_POINTWISE_MUL, f32, -1, x, scale, none, scores(c, p, f32));
    descriptor query = pointwise(c, p, CUDNN_POINTWISE_GEN_INDEX, f32, 2, x, none, none, scores(c, p, i32));
    descriptor at = pointwise(c, p, CUDNN_POINTWISE_GEN_INDEX, f32, 3, x, none, none, scores(c, p, i32));
    descriptor past = pointwise(c, p, CUDNN_POINTWISE_CMP_GE, truth, -1, query, at, none, scores(c, p, truth));
    x = pointwise(c, p, CUDNN_POINTWISE_BINARY_SELECT, f32, -1, x, hidden, past, scores(c, p, f32));
    descriptor same = pointwise(c, p, CUDNN_POINTWISE_CMP_GE, truth, -1, at, low, none, scores(c, p, truth));
    x = pointwise(c, p, CUDNN_POINTWISE_BINARY_SELECT, f32, -1, x, hidden, same, scores(c, p, f32));
    descriptor max = reduction(c, p, CUDNN_REDUCE_TENSOR_MAX, x, column(c, p, BETWEEN));
    x = pointwise(c, p, CUDNN_POINTWISE_SUB, f32, -1, x, max, none, scores(c, p, f32));
    x = pointwise(c, p, CUDNN_POINTWISE_EXP, f32, -1, x, none, none, scores(c, p, f32));
    descriptor sum = reduction(c, p, CUDNN_REDUCE_TENSOR_ADD, x, column(c, p, BETWEEN));
    descriptor log = pointwise(c, p, CUDNN_POINTWISE_LOG, f32, -1, sum, none, none, column(c, p, BETWEEN));
    pointwise(c, p, CUDNN_POINTWISE_ADD, f32, -1, max, log, none, stats);
    x = pointwise(c, p, CUDNN_POINTWISE_DIV, f32, -1, x, sum, none, scores(c, p, bf));
    product(c, p, x, v, o);
}

/* The first of the proposed engines that can. */
static void choose(cudnn *c, plan *p)
{
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    descriptor graph = make(c, p, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR), engine[CANDIDATES] = {};
    set(c, p, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, p->operations, p->operation);
    set(c, p, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &c->handle);
    finish(c, p, graph);
    descriptor heuristic = make(c, p, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_descriptor(c, p, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(c, p, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    finish(c, p, heuristic);
    for (int i = 0; i < CANDIDATES; i++) engine[i] = make(c, p, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    int64_t found = 0, one = 0, bytes = 0;
    if (p->status == DT_OK)
        p->status = check(c,
                          c->cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                      CUDNN_TYPE_BACKEND_DESCRIPTOR, CANDIDATES, &found, engine),
                          "engines");
    if (p->status == DT_OK && found == 0) p->status = dt_fail(DT_ERR_DEVICE, "no engine takes the graph");
    for (int64_t i = 0; i < found && p->execution == NULL && (i == 0 || p->status != DT_OK); i++) {
        p->status = DT_OK;
        descriptor d = make(c, p, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        set_descriptor(c, p, d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, engine[i]);
        set(c, p, d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &c->handle);
        finish(c, p, d);
        if (p->status == DT_OK) p->execution = d;
    }
    if (p->execution == NULL) return;
    p->status = check(c,
                      c->cudnnBackendGetAttribute(p->execution, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                                  CUDNN_TYPE_INT64, 1, &one, &bytes),
                      "a plan's workspace");
    if (p->status == DT_OK && bytes > 0) p->status = dt_cuda_check(cudaMalloc(&p->workspace, bytes), "cudaMalloc");
    const size_t queries = (size_t)(p->of.sequences * p->of.seq);
    if (p->status == DT_OK)
        p->status = dt_cuda_check(cudaMalloc(&p->scratch, 4 * queries * (1 + (size_t)p->of.heads)), "cudaMalloc");
}

static plan *plan_for(cudnn *c, const key *k)
{
    for (int i = 0; i < c->count; i++)
        if (memcmp(&c->plans[i]->of, k, sizeof *k) == 0) return c->plans[i];
    plan *p = c->count < MOST_PLANS ? (plan *)calloc(1, sizeof *p) : NULL;
    if (p == NULL) return NULL;
    c->plans[c->count++] = p;
    p->of = *k;
    describe(c, p);
    if (p->status == DT_OK) choose(c, p);
    if (p->status == DT_OK)
        dt_log(DT_LOG_INFO, "attention of %lld tokens, heads of %lld features: cuDNN %zu", (long long)k->seq,
               (long long)k->width, c->cudnnGetVersion());
    else
        dt_log(DT_LOG_WARN, "attention of %lld tokens, heads of %lld features: own kernel, as cuDNN gives no plan: %s",
               (long long)k->seq, (long long)k->width, dt_error_text());
    dt_error_clear();
    return p;
}

/* ---- a call ---- */

static __global__ void lowest_keys(shape s, int64_t tokens, const int32_t *pos, int *low)
{
    const int64_t n = blockIdx.x * (int64_t)blockDim.x + threadIdx.x, t = n % s.seq;
    if (n < tokens) low[n] = (int)first_key(s, pos + n - t, t);
}

/* lse[n, h] of stats[sequence, h, t]. */
static __global__ void by_tokens(shape s, int64_t count, const float *stats, float *lse)
{
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x, n = i / s.count, head = i % s.count;
    if (i < count) lse[i] = stats[(n / s.seq * s.count + head) * s.seq + n % s.seq];
}

static dt_status run(const dt_call *call, const shape *s, cudnn *c, const plan *p)
{
    const int64_t tokens = call->in[0].dim[0], count = tokens * s->count;
    int *low = (int *)p->scratch;
    float *stats = (float *)(low + tokens), scale = s->scale, hidden = -FLT_MAX;
    const int64_t id[] = {Q, K, V, O, STATS, LOW, SCALE, HIDDEN};
    void *data[] = {call->in[0].data, call->in[1].data, call->in[2].data, call->out[0].data, stats, low,
                    &scale,           &hidden};
    lowest_keys<<<(unsigned)((tokens + 255) / 256), 256, 0, stream_of(call)>>>(*s, tokens, DT_IN_I32(call, 3), low);
    DT_TRY(launched());
    DT_TRY(check(c, c->cudnnSetStream(c->handle, stream_of(call)), "cudnnSetStream"));
    plan of = {};
    descriptor pack = make(c, &of, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(c, &of, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, BETWEEN, id);
    set(c, &of, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, BETWEEN, data);
    set(c, &of, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &p->workspace);
    finish(c, &of, pack);
    if (of.status == DT_OK)
        of.status = check(c, c->cudnnBackendExecute(c->handle, p->execution, pack), "cudnnBackendExecute");
    if (pack != NULL) c->cudnnBackendDestroyDescriptor(pack);
    DT_TRY(of.status);
    if (call->out[1].data == NULL) return DT_OK;
    by_tokens<<<(unsigned)((count + 255) / 256), 256, 0, stream_of(call)>>>(*s, count, stats,
                                                                            (float *)call->out[1].data);
    return launched();
}

dt_status dt_cuda_attention_cudnn(const dt_call *call, const shape *s, bool *taken)
{
    dt_cuda *cuda = dt_cuda_of(call->device);
    const char *chosen = getenv("DTRAIN_ATTENTION");
    *taken = false;
    /* This rank's query heads must be all those of its kv heads. */
    if (chosen == NULL || strcmp(chosen, "cudnn") != 0 || s->first != s->kv_first * s->group ||
        s->count != s->kv_count * s->group)
        return DT_OK;
    if (cuda->attention == NULL) {
        cuda->attention = (cudnn *)calloc(1, sizeof *cuda->attention);
        if (cuda->attention == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
        cuda->attention_free = close_library;
        cuda->attention->opened = open_library(cuda->attention);
        if (cuda->attention->opened != DT_OK)
            dt_log(DT_LOG_WARN, "attention: own kernel, as cuDNN cannot be opened: %s", dt_error_text());
        dt_error_clear();
    }
    if (cuda->attention->opened != DT_OK) return DT_OK;
    key k;
    memset(&k, 0, sizeof k);
    k.sequences = call->in[0].dim[0] / s->seq, k.seq = s->seq, k.width = s->width, k.heads = s->count;
    k.kv_heads = s->kv_count;
    const plan *p = plan_for(cuda->attention, &k);
    if (p == NULL || p->status != DT_OK) return DT_OK;
    *taken = true;
    return run(call, s, cuda->attention, p);
}
#endif
