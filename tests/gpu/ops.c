/* gpu_ops [cpu]: every op on a GPU against the CPU in float64, in fp32 within 1e-5 and in bf16 within 1e-2 of the
 * result's norm: results and gradients of every example of the table, and of shapes large and odd enough to reach all
 * paths of the kernels. Outputs are poisoned first. Exit code 77 where there is no GPU; "cpu" takes the CPU in fp32 in
 * its place, to test the test. A plain program, so that a machine without a test library can run it. */
#include "base/hash.h" // dt_hash_string
#include "base/rng.h"  // dt_rng_normal
#include "device/module.h"
#include "graph/exec.h"
#include "op/add.h"
#include "op/attention.h"
#include "op/bias.h"
#include "op/dropout.h"
#include "op/embed.h"
#include "op/gelu.h"
#include "op/layernorm.h"
#include "op/matmul.h"
#include "op/op.h"
#include "op/parts.h"
#include "op/rmsnorm.h"
#include "op/rope.h"
#include "op/sparse.h"
#include "op/swiglu.h"
#include "op/xent.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(dt_status st)
{
    if (st == DT_OK) return;
    fprintf(stderr, "gpu_ops: %s\n", dt_error_text());
    exit(1);
}

static const dt_mesh alone = {0, 1, {1, 1, 1}, {0, 0, 0}};
static uint64_t seed = 5;

/* Of eight significant bits: bf16 holds it exactly. */
static float short_normal(uint64_t stream, uint64_t i)
{
    union {
        float f;
        uint32_t u;
    } x = {.f = dt_rng_normal(seed, DT_RNG_INIT, stream, i)};
    x.u &= 0xffff0000u;
    return x.f;
}

/* ---- larger cases ---- */

typedef dt_val (*builder)(dt_graph *g);

static dt_val matrix(dt_graph *g, const char *name, int64_t rows, int64_t cols)
{
    return dt_graph_param(g, name, 2, (int64_t[]){rows, cols}, NULL);
}

/* A computed value of type ACT: parameters are ACC, activations are not. */
static dt_val activation(dt_graph *g, const char *name, int64_t rows, int64_t cols)
{
    return dt_graph_weight(g, name, 2, (int64_t[]){rows, cols}, DT_NO_SPLIT);
}

static dt_val integers(dt_graph *g, const char *name, int64_t n, int32_t (*at)(int64_t))
{
    int32_t *host = malloc((size_t)n * sizeof *host);
    for (int64_t i = 0; i < n; i++) host[i] = at(i);
    dt_val v = dt_graph_const(g, name, DT_TYPE_I32, 1, &n, host); /* copies */
    free(host);
    return v;
}

static int32_t packed_position(int64_t i)
{
    return (int32_t)(i % 200 < 70 ? i % 200 : i % 200 - 70);
}
static int32_t some_token(int64_t i)
{
    return (int32_t)(i * i % 97);
}
static int32_t some_target(int64_t i)
{
    return i % 7 == 0 ? -1 : (int32_t)(i * 31 % 5000);
}
static int32_t every_third(int64_t i)
{
    return (int32_t)(3 * i + i % 2);
}
static int32_t own_number(int64_t i)
{
    return (int32_t)i;
}

static dt_val large_matmul(dt_graph *g)
{
    return dt_matmul(g, activation(g, "a", 300, 264), matrix(g, "b", 72, 264), false, true, 0.5, DT_TYPE_ACT);
}
static dt_val odd_matmul(dt_graph *g)
{
    return dt_matmul(g, activation(g, "a", 37, 53), matrix(g, "b", 53, 5), false, false, 1, DT_TYPE_ACC);
}
static dt_val trained_matmul(dt_graph *g)
{
    return dt_matmul(g, matrix(g, "a", 64, 48), matrix(g, "b", 48, 80), false, false, 1, DT_TYPE_ACT);
}
static dt_val wide_rmsnorm(dt_graph *g)
{
    const int64_t c = 2048;
    dt_val x = dt_scale(g, activation(g, "x", 33, c), 1.5);
    return dt_rmsnorm(g, x, dt_graph_param(g, "gain", 1, &c, NULL), 1e-5);
}
static dt_val grouped_rmsnorm(dt_graph *g)
{
    const int64_t c = 64;
    return dt_rmsnorm(g, matrix(g, "x", 130, 8 * c), dt_graph_weight(g, "gain", 1, &c, DT_NO_SPLIT), 1e-5);
}
static dt_val odd_rmsnorm(dt_graph *g)
{
    const int64_t c = 1031;
    return dt_rmsnorm(g, matrix(g, "x", 5, c), dt_graph_param(g, "gain", 1, &c, NULL), 1e-5);
}
/* x + norm(x): backward adds to the norm's gradient. Widths by what a thread keeps of a row. */
static dt_val residual_rmsnorm(dt_graph *g, int64_t c)
{
    dt_val x = dt_scale(g, matrix(g, "x", 9, c), 1.5);
    return dt_add(g, x, dt_rmsnorm(g, x, dt_graph_param(g, "gain", 1, &c, NULL), 1e-5));
}
static dt_val residual_rmsnorm_1000(dt_graph *g)
{
    return residual_rmsnorm(g, 1000);
}
static dt_val residual_rmsnorm_3000(dt_graph *g)
{
    return residual_rmsnorm(g, 3000);
}
static dt_val residual_rmsnorm_8200(dt_graph *g)
{
    return residual_rmsnorm(g, 8200);
}
static dt_val residual_rmsnorm_16392(dt_graph *g)
{
    return residual_rmsnorm(g, 16392);
}
/* In bf16: a product is what makes activations of parameters. */
static dt_val residual_rmsnorm_act(dt_graph *g)
{
    const int64_t c = 520;
    dt_val x = dt_matmul(g, activation(g, "x", 70, 24), matrix(g, "w", c, 24), false, true, 0.2, DT_TYPE_ACT);
    return dt_add(g, x, dt_rmsnorm(g, x, dt_graph_param(g, "gain", 1, &c, NULL), 1e-5));
}
static dt_val residual_layernorm(dt_graph *g)
{
    const int64_t c = 520;
    dt_val x = dt_matmul(g, activation(g, "x", 70, 24), matrix(g, "w", c, 24), false, true, 0.2, DT_TYPE_ACT);
    return dt_add(
        g, x, dt_layernorm(g, x, dt_graph_param(g, "gain", 1, &c, NULL), dt_graph_param(g, "bias", 1, &c, NULL), 1e-5));
}
static dt_val wide_layernorm(dt_graph *g)
{
    const int64_t c = 1600;
    return dt_layernorm(g, matrix(g, "x", 33, c), dt_graph_param(g, "gain", 1, &c, NULL),
                        dt_graph_param(g, "bias", 1, &c, NULL), 1e-5);
}
static dt_val long_bias(dt_graph *g)
{
    const int64_t c = 100;
    return dt_bias(g, activation(g, "x", 5000, c), dt_graph_param(g, "b", 1, &c, NULL));
}
static dt_val large_swiglu(dt_graph *g)
{
    return dt_swiglu(g, matrix(g, "gate", 130, 264), matrix(g, "up", 130, 264));
}
static dt_val odd_gelu(dt_graph *g)
{
    return dt_gelu(g, matrix(g, "x", 131, 57));
}
/* x W^T and a product of `rank` terms beside it, as a delta makes it: the fuse pass takes that into the next op. */
static dt_val beside(dt_graph *g, const char *name, dt_val x, int64_t width, int64_t rank, bool ta, bool tb)
{
    char w[16], a[16], b[16];
    const int64_t c = dt_value_of(g, x)->dim[1];
    snprintf(w, sizeof w, "%s.w", name);
    snprintf(a, sizeof a, "%s.a", name);
    snprintf(b, sizeof b, "%s.b", name);
    dt_val wide = matrix(g, a, rank, c), y = dt_linear(g, x, activation(g, w, width, c), DT_NONE);
    dt_val u = ta ? dt_matmul(g, wide, x, false, true, 1 / sqrt((double)c), DT_TYPE_ACT)
                  : dt_matmul(g, x, wide, false, true, 1 / sqrt((double)c), DT_TYPE_ACT);
    return dt_add(
        g, y, dt_matmul(g, u, tb ? matrix(g, b, width, rank) : matrix(g, b, rank, width), ta, tb, 0.5, DT_TYPE_ACT));
}
/* Ranks on gate, up (0: none) and behind the unit. */
static dt_val gated_with_deltas(dt_graph *g, int64_t n, int64_t f, int64_t gate, int64_t up, int64_t down, bool odd)
{
    dt_val x = dt_scale(g, activation(g, "x", n, 72), 0.1);
    dt_val y = beside(g, "gate", x, f, gate, odd, !odd);
    dt_val z = up > 0 ? beside(g, "up", x, f, up, false, true) : dt_linear(g, x, matrix(g, "up", f, 72), DT_NONE);
    return beside(g, "down", dt_swiglu(g, y, z), 80, down, odd, !odd);
}
static dt_val gated_16(dt_graph *g)
{
    return gated_with_deltas(g, 130, 1032, 16, 16, 16, false);
}
static dt_val gated_32(dt_graph *g)
{
    return gated_with_deltas(g, 77, 136, 4, 24, 20, false);
}
static dt_val gated_64(dt_graph *g)
{
    return gated_with_deltas(g, 41, 72, 64, 0, 50, false);
}
static dt_val gated_odd(dt_graph *g)
{
    return gated_with_deltas(g, 41, 72, 5, 7, 33, true);
}
static dt_val gated_narrow(dt_graph *g)
{
    return gated_with_deltas(g, 67, 57, 12, 9, 6, true);
}
static dt_val gelu_with_deltas(dt_graph *g)
{
    dt_val x = dt_scale(g, activation(g, "x", 75, 72), 0.1);
    return beside(g, "down", dt_gelu(g, beside(g, "up", x, 200, 8, false, true)), 80, 16, false, true);
}
static dt_val attention_of(dt_graph *g, int64_t d, int64_t heads, int64_t kv, int64_t window)
{
    const int64_t n = 400, t = 200;
    return dt_attention(g, matrix(g, "q", n, heads * d), matrix(g, "k", n, kv * d), matrix(g, "v", n, kv * d),
                        integers(g, "pos", n, packed_position), t, d, heads, kv, 1 / sqrt((double)d), window);
}
/* q, k and v as a model has them, in bf16: products of what is trained. */
static dt_val attention_made(dt_graph *g, int64_t n, int64_t t, int64_t d, int64_t heads, int64_t kv, int64_t window)
{
    const int64_t c = 24;
    dt_val x = activation(g, "x", n, c), of[3];
    const char *name[] = {"wq", "wk", "wv"};
    for (int i = 0; i < 3; i++)
        of[i] = dt_matmul(g, x, matrix(g, name[i], (i == 0 ? heads : kv) * d, c), false, true, 1 / sqrt((double)c),
                          DT_TYPE_ACT);
    dt_val pos = integers(g, "pos", n, packed_position);
    return dt_attention(g, of[0], of[1], of[2], pos, t, d, heads, kv, 1 / sqrt((double)d), window);
}
static dt_val attention_made_64(dt_graph *g)
{
    return attention_made(g, 400, 200, 64, 4, 2, 0);
}
static dt_val attention_made_128(dt_graph *g)
{
    return attention_made(g, 333, 333, 128, 3, 1, 0);
}
static dt_val attention_made_80(dt_graph *g)
{
    return attention_made(g, 260, 130, 80, 2, 2, 37);
}
static dt_val attention_made_24(dt_graph *g)
{
    return attention_made(g, 129, 129, 24, 2, 1, 0);
}
static dt_val attention_64(dt_graph *g)
{
    return attention_of(g, 64, 4, 2, 0);
}
static dt_val attention_128(dt_graph *g)
{
    return attention_of(g, 128, 2, 2, 0);
}
static dt_val attention_window(dt_graph *g)
{
    return attention_of(g, 24, 6, 2, 50);
}
static dt_val long_rope(dt_graph *g)
{
    float f[32];
    const int64_t half = 32;
    for (int i = 0; i < half; i++) f[i] = (float)pow(10000, -i / 32.0);
    dt_val frequency = dt_graph_const(g, "frequency", DT_TYPE_ACC, 1, &half, f);
    return dt_rope(g, matrix(g, "x", 300, 256), dt_rope_table(g, integers(g, "pos", 300, own_number), frequency), 64);
}
static dt_val large_embed(dt_graph *g)
{
    return dt_embed(g, integers(g, "tokens", 700, some_token), matrix(g, "w", 97, 136));
}
static dt_val large_head(dt_graph *g)
{
    dt_val lse, target, targets = integers(g, "targets", 90, some_target);
    dt_xent(g, matrix(g, "h", 90, 96), matrix(g, "w", 5000, 96), targets, &lse, &target);
    return dt_nll(g, lse, target, targets);
}
static dt_val large_dropout(dt_graph *g)
{
    const int64_t one = 1;
    g->train = true;
    return dt_dropout(g, matrix(g, "x", 130, 134), integers(g, "key", 130, some_token),
                      integers(g, "step", one, own_number), 0.3, 11, 12345);
}
static dt_val sparse_weight(dt_graph *g)
{
    const int64_t k = 1000;
    dt_val idx = integers(g, "idx", k, every_third);
    dt_val w = dt_scatter_add(g, activation(g, "w", 64, 72), idx, dt_graph_param(g, "val", 1, &k, NULL));
    return dt_matmul(g, activation(g, "x", 264, 72), w, false, true, 1, DT_TYPE_ACT);
}

static int32_t every_three_hundredth(int64_t i)
{
    return (int32_t)(300 * i + 7);
}
static dt_val sparser_weight(dt_graph *g)
{
    const int64_t k = 61;
    dt_val idx = integers(g, "idx", k, every_three_hundredth);
    dt_val w = dt_scatter_add(g, activation(g, "w", 136, 136), idx, dt_graph_param(g, "val", 1, &k, NULL));
    return dt_matmul(g, activation(g, "x", 264, 136), w, false, true, 1, DT_TYPE_ACT);
}

static int32_t every_thirteenth(int64_t i)
{
    return (int32_t)(13 * i + 3);
}
/* More tokens than the kernel takes at a time, and no multiple of anything. */
static dt_val sparse_weight_of_many_tokens(dt_graph *g)
{
    const int64_t k = 40;
    dt_val idx = integers(g, "idx", k, every_thirteenth);
    dt_val w = dt_scatter_add(g, activation(g, "w", 27, 21), idx, dt_graph_param(g, "val", 1, &k, NULL));
    return dt_matmul(g, activation(g, "x", 2061, 21), w, false, true, 1, DT_TYPE_ACT);
}
/* Three low-rank updates of one x, of ranks that eight does not divide: merged to one product and its parts. */
static dt_val odd_products(dt_graph *g)
{
    const int64_t r = 5;
    dt_val x = dt_matmul(g, activation(g, "h", 70, 24), matrix(g, "below", 64, 24), false, true, 0.2, DT_TYPE_ACT),
           y = x;
    const char *name[] = {"a.0", "b.0", "a.1", "b.1", "a.2", "b.2"};
    for (int i = 0; i < 3; i++) {
        dt_val u = dt_matmul(g, x, matrix(g, name[2 * i], r + i, 64), false, true, 1, DT_TYPE_ACT);
        y = dt_add(g, y, dt_matmul(g, u, matrix(g, name[2 * i + 1], 64, r + i), false, true, 0.1, DT_TYPE_ACT));
    }
    return y;
}
static dt_val large_concat(dt_graph *g)
{
    const dt_parts_attr attr = {1, 4, DT_TYPE_ACT, {16, 8, 64, 16}};
    const char *name[] = {"a", "b", "c", "d"};
    dt_val x[4];
    for (int i = 0; i < 4; i++) x[i] = matrix(g, name[i], 300, attr.size[i]);
    return dt_concat(g, &attr, x);
}
static dt_val large_parts(dt_graph *g)
{
    const dt_parts_attr attr = {1, 3, DT_TYPE_ACT, {16, 32, 16}};
    dt_val part[DT_MAX_PARTS], x = matrix(g, "x", 300, 64);
    dt_parts(g, dt_matmul(g, x, activation(g, "w", 64, 64), false, false, 0.2, DT_TYPE_ACT), &attr, part);
    return dt_swiglu(g, part[0], part[2]);
}

/* The gradient reaches the parameter through the frozen layer. */
static dt_val frozen_linear(dt_graph *g)
{
    dt_val x = dt_matmul(g, activation(g, "x", 70, 48), matrix(g, "a", 48, 64), false, false, 1, DT_TYPE_ACT);
    return dt_linear(g, x, activation(g, "w", 96, 64), DT_NONE);
}

/* h + (x W^T + u B^T) with h read later: the first product reads h where it is and writes elsewhere. */
static dt_val residual_products(dt_graph *g)
{
    dt_val h = dt_scale(g, activation(g, "h", 70, 96), 0.5), x = activation(g, "x", 70, 64);
    dt_val u = dt_matmul(g, x, matrix(g, "a", 16, 64), false, true, 1, DT_TYPE_ACT);
    dt_val v = dt_matmul(g, u, matrix(g, "b", 96, 16), false, true, 0.5, DT_TYPE_ACT);
    dt_val sum = dt_add(g, h, dt_add(g, dt_linear(g, x, activation(g, "w", 96, 64), DT_NONE), v));
    return dt_swiglu(g, h, sum);
}

static const struct {
    const char *name;
    builder build;
} larger[] = {
    {"frozen linear", frozen_linear},
    {"products onto a residual stream", residual_products},
    {"matmul, tall", large_matmul},
    {"matmul, odd", odd_matmul},
    {"matmul, both trained", trained_matmul},
    {"products of one x, odd", odd_products},
    {"concat of columns", large_concat},
    {"parts of columns", large_parts},
    {"rmsnorm, wide", wide_rmsnorm},
    {"rmsnorm, of heads", grouped_rmsnorm},
    {"rmsnorm, odd", odd_rmsnorm},
    {"rmsnorm beside its residual, 1000", residual_rmsnorm_1000},
    {"rmsnorm beside its residual, 3000", residual_rmsnorm_3000},
    {"rmsnorm beside its residual, 8200", residual_rmsnorm_8200},
    {"rmsnorm beside its residual, 16392", residual_rmsnorm_16392},
    {"rmsnorm beside its residual, in bf16", residual_rmsnorm_act},
    {"layernorm, wide", wide_layernorm},
    {"layernorm beside its residual, in bf16", residual_layernorm},
    {"bias, long", long_bias},
    {"swiglu", large_swiglu},
    {"gelu, odd", odd_gelu},
    {"swiglu with addends of rank 16", gated_16},
    {"swiglu with addends up to rank 24", gated_32},
    {"swiglu with addends up to rank 64", gated_64},
    {"swiglu with addends, transposed, of odd ranks", gated_odd},
    {"swiglu with addends, odd", gated_narrow},
    {"gelu with addends", gelu_with_deltas},
    {"attention, D 64, packed, 4 heads on 2", attention_64},
    {"attention, D 128", attention_128},
    {"attention, D 24, window", attention_window},
    {"attention in bf16, D 64, packed, 4 heads on 2", attention_made_64},
    {"attention in bf16, D 128, 3 heads on 1", attention_made_128},
    {"attention in bf16, D 80, window", attention_made_80},
    {"attention in bf16, D 24", attention_made_24},
    {"rope", long_rope},
    {"embed", large_embed},
    {"head with cross-entropy", large_head},
    {"dropout", large_dropout},
    {"sparse update of a weight", sparse_weight},
    {"sparse update of few entries", sparser_weight},
    {"sparse update, many tokens", sparse_weight_of_many_tokens},
};
enum { LARGER = sizeof larger / sizeof *larger };

/* ---- one case on one device ---- */

typedef struct bench {
    dt_graph *g;
    dt_device *device;
    dt_comm host, own, *comm;
    dt_store *store;
    dt_exec *exec;
    dt_val result;
} bench;

/* The case's result weighed by silu of fixed random numbers, so that every element counts differently. */
static bool build(bench *b, int op, int variant, bool merge)
{
    *b = (bench){0};
    must(dt_graph_create(&b->g));
    if (op < DT_OP_COUNT) {
        if (dt_ops[op]->example == NULL || !dt_ops[op]->example(b->g, variant, &b->result)) {
            dt_graph_destroy(b->g);
            return false;
        }
    } else {
        if (variant > 0) return false;
        b->result = larger[op - DT_OP_COUNT].build(b->g);
    }
    must(dt_graph_status(b->g));
    dt_graph_mark_output(b->g, b->result);
    if (op < DT_OP_COUNT && dt_ops[op]->grad == NULL) return true;
    const dt_value y = *dt_value_of(b->g, b->result);
    int64_t count = dt_value_count(b->g, b->result);
    float *weight = calloc((size_t)count, sizeof *weight);
    for (int64_t i = 0; i < count; i++) weight[i] = short_normal(3, (uint64_t)i);
    dt_val c = dt_graph_const(b->g, "weights of the loss", DT_TYPE_ACC, y.ndim, y.dim, weight);
    free(weight);
    dt_val loss = dt_sum(b->g, dt_swiglu(b->g, c, b->result));
    if (merge) must(dt_pass_merge(b->g));
    must(dt_pass_grad(b->g, loss, DT_GRAD_SUM));
    return true;
}

static void prepare(bench *b, dt_device *device, bool fuse)
{
    b->device = device;
    must(dt_pass_shard(b->g, &alone));
    if (fuse) must(dt_pass_fuse(b->g));
    must(dt_comm_create_host(&alone, &b->host));
    must(dt_comm_create_device(&b->host, device, &b->own, &b->comm));
    must(dt_store_create(device, &b->store));
    for (dt_val v = 0; v < b->g->values; v++) {
        const dt_value *val = dt_value_of(b->g, v);
        if (val->kind != DT_KIND_PARAM && val->kind != DT_KIND_WEIGHT) continue;
        const int64_t count = dt_value_local_count(b->g, v);
        const size_t size = val->type == DT_TYPE_ACT ? device->ops->act_size : device->ops->acc_size;
        float *x = calloc((size_t)count + 1, sizeof *x);
        void *data = NULL;
        for (int64_t i = 0; i < count; i++) x[i] = short_normal(dt_hash_string(val->name), (uint64_t)i);
        must(dt_store_new(b->store, val->name, (size_t)count * size, &data));
        must(device->ops->put(device, data, size, x, (size_t)count));
        free(x);
    }
    must(dt_exec_create(b->g, device, b->comm, b->store, &b->exec));
}

/* Every temporary starts as NaN; a state starts as zeros, as an accumulator does. */
static void poison(bench *b)
{
    for (dt_val v = 0; v < b->g->values; v++) {
        const dt_value *val = dt_value_of(b->g, v);
        if (val->kind != DT_KIND_TEMP || val->type == DT_TYPE_I32 || val->base != DT_NONE) continue;
        if (dt_exec_data(b->exec, v) == NULL) continue;
        const int64_t count = dt_value_local_count(b->g, v);
        float *x = calloc((size_t)count + 1, sizeof *x);
        for (int64_t i = 0; i < count; i++) x[i] = NAN;
        must(dt_exec_put_f32(b->exec, v, x));
        free(x);
    }
}

static void finish(bench *b)
{
    dt_exec_destroy(b->exec);
    dt_store_destroy(b->store);
    if (b->own.ops != NULL) dt_comm_destroy(&b->own);
    dt_comm_destroy(&b->host);
    dt_graph_destroy(b->g);
}

static float *fetch(bench *b, dt_val v, int64_t *count)
{
    *count = dt_value_local_count(b->g, v);
    float *x = calloc((size_t)*count + 1, sizeof *x);
    if (dt_value_of(b->g, v)->type == DT_TYPE_I32) {
        int32_t *whole = calloc((size_t)*count + 1, sizeof *whole);
        must(b->device->ops->get_bytes(b->device, whole, dt_exec_data(b->exec, v), 4 * (size_t)*count));
        for (int64_t i = 0; i < *count; i++) x[i] = (float)whole[i];
        free(whole);
    } else {
        must(dt_exec_get_f32(b->exec, v, x));
    }
    return x;
}

/* ---- comparison ---- */

static double worst; /* of what was good, on this device */
static int failures;

static void compare(bench *want, bench *got, dt_val a, dt_val b, double tolerance, const char *what, const char *of)
{
    int64_t n = 0, m = 0;
    float *x = fetch(want, a, &n), *y = fetch(got, b, &m);
    double error = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        error += ((double)y[i] - x[i]) * ((double)y[i] - x[i]);
        norm += (double)x[i] * x[i];
    }
    double relative = norm > 0 ? sqrt(error / norm) : sqrt(error);
    bool good = n == m && relative <= tolerance; /* false for NaN */
    if (!good) {
        printf("FAIL  %s, %s: off by %.3g of the norm, allowed %.1g\n", what, of, relative, tolerance);
        failures++;
    } else if (relative > worst) {
        worst = relative;
    }
    free(x);
    free(y);
}

static int cases;

static void check(dt_device *reference, dt_device *device, int op, int variant, bool fuse, double tolerance)
{
    char what[128];
    const char *name = op < DT_OP_COUNT ? dt_ops[op]->name : larger[op - DT_OP_COUNT].name;
    bench want, got;
    build(&want, op, variant, fuse);
    build(&got, op, variant, fuse);
    snprintf(what, sizeof what, "%s %d%s", name, variant, fuse ? " fused" : "");
    prepare(&want, reference, fuse);
    prepare(&got, device, fuse);
    for (int round = 0; round < 3; round++) { /* run, recorded, replayed */
        poison(&got);
        for (dt_val v = 0; v < got.g->values; v++)
            if (dt_value_of(got.g, v)->kind == DT_KIND_STATE && dt_value_of(got.g, v)->base == DT_NONE)
                must(device->ops->zero(device, dt_exec_data(got.exec, v),
                                       (size_t)dt_value_local_count(got.g, v) * device->ops->acc_size));
        for (int pr = 0; pr < DT_PROGRAM_COUNT; pr++) {
            if (round == 0) must(dt_exec_run(want.exec, (dt_program)pr));
            must(dt_exec_run(got.exec, (dt_program)pr));
        }
        compare(&want, &got, want.result, got.result, tolerance, what, "result");
        for (dt_val v = 0; v < want.g->values; v++) {
            if (dt_value_of(want.g, v)->kind != DT_KIND_PARAM) continue;
            dt_val a = dt_grad_of(want.g, v), b = dt_grad_of(got.g, v);
            if (a != DT_NONE) compare(&want, &got, a, b, tolerance, what, dt_value_of(want.g, v)->name);
        }
    }
    cases++;
    finish(&want);
    finish(&got);
}

/* Ops that write over what they read give another result the second time: updates, caches. */
static bool repeats(int op)
{
    return op >= DT_OP_COUNT || dt_ops[op]->grad != NULL || dt_ops[op]->inplace[0] == 0;
}

/* What is multiplied in 8 bits: the first of the larger cases. */
static void check_8_bit(dt_device *device)
{
    dt_device reference;
    must(dt_device_cpu_f64(1, &reference));
    for (int fuse = 0; fuse < 2; fuse++) check(&reference, device, DT_OP_COUNT, 0, fuse, 5e-2);
    dt_device_destroy(&reference);
}

static void check_device(dt_device *device, double tolerance)
{
    dt_device reference;
    must(dt_device_cpu_f64(1, &reference));
    for (int op = 0; op < DT_OP_COUNT + LARGER; op++) {
        bench probe;
        for (int variant = 0; repeats(op) && build(&probe, op, variant, false); variant++) {
            dt_graph_destroy(probe.g);
            for (int fuse = 0; fuse < 2; fuse++) check(&reference, device, op, variant, fuse, tolerance);
        }
    }
    dt_device_destroy(&reference);
}

/* Where a kernel has several ways, and one was chosen for each size above: all of them. */
static void check_ways(dt_device *device, double tolerance)
{
    char *text = NULL;
    dt_device reference;
    if (device->ops->choices == NULL) return;
    must(dt_device_cpu_f64(1, &reference));
    must(device->ops->choices(device, &text));
    for (char way = '0'; way < '2'; way++) {
        for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
            if (strncmp(line, "way ", 4) == 0) end[-1] = way;
        must(device->ops->adopt(device, text));
        for (int op = DT_OP_COUNT; op < DT_OP_COUNT + LARGER; op++)
            if (strncmp(larger[op - DT_OP_COUNT].name, "sparse", 6) == 0)
                check(&reference, device, op, 0, true, tolerance);
    }
    free(text);
    dt_device_destroy(&reference);
}

int main(int argc, char **argv)
{
    bool on_cpu = argc > 1 && strcmp(argv[1], "cpu") == 0;
    if (argc > 2) seed = strtoull(argv[2], NULL, 10);
    must(dt_world_init(&argc, &argv));
    for (int precision = DT_CUDA_FP32; precision <= (on_cpu ? DT_CUDA_FP32 : DT_CUDA_FP8); precision++) {
        dt_device device;
        dt_status st = on_cpu ? dt_device_cpu(1, &device) : dt_device_cuda(0, (dt_cuda_precision)precision, &device);
        if (st == DT_ERR_DEVICE) {
            printf("skipped: %s\n", dt_error_text());
            if (precision == DT_CUDA_FP8) break;
            dt_world_finalize();
            return 77;
        }
        must(st);
        if (precision == DT_CUDA_FP8) check_8_bit(&device);
        else check_device(&device, precision == DT_CUDA_BF16 ? 1e-2 : 1e-5);
        if (precision == DT_CUDA_BF16) check_ways(&device, 1e-2);
        printf("%s: %d cases; worst %.2g of the norm\n", device.ops->name, cases, worst);
        cases = 0;
        worst = 0;
        dt_device_destroy(&device);
    }
    dt_world_finalize();
    return failures > 0;
}
