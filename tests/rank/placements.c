/* rank_placements TENSOR KV_HEADS [sequence]: every op with its operands in every placement, over the tensor axes and
 * over the data axis: the loss and every gradient, in float64, against the same graph on one rank. */
#include "base/hash.h"
#include "base/rng.h"
#include "graph/exec.h"
#include "op/add.h"
#include "op/attention.h"
#include "op/bias.h"
#include "op/dropout.h"
#include "op/embed.h"
#include "op/gelu.h"
#include "op/layernorm.h"
#include "op/matmul.h"
#include "op/parts.h"
#include "op/rmsnorm.h"
#include "op/rope.h"
#include "op/swiglu.h"
#include "op/xent.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 8, WIDTH = 8 }; /* tokens, and every other dimension: what four ranks divide */

static const dt_mesh alone = {0, 1, {1, 1, 1}, {0, 0, 0}};

/* Integer inputs, by name. */
static const struct {
    const char *name;
    int32_t data[N];
} inputs[] = {
    {"numbers", {5, 0, 7, 2, 5, 1, 3, 6}}, /* tokens, positions of rope, keys */
    {"targets", {5, -1, 7, 2, 5, 1, -1, 6}},
    {"starts", {0, 1, 0, 0, 0, 1, 0, 1}}, /* positions in rows packed into sequences of two */
};
static int checks, failures;

static void must(dt_status st)
{
    if (st != DT_OK) dt_world_abort(st);
}

/* One case: an op, and its operands' placements as letters: r replicated, 0 and 1 split along that dimension, p
 * partial;
 * '-': no such operand. */
typedef struct setting {
    dt_graph *g;
    const char *place;
    dt_axes axes;
    int variant;
} setting;

static dt_split split_of(const setting *s, char letter)
{
    return letter == '0' || letter == '1' ? (dt_split){letter - '0', s->axes} : DT_NO_SPLIT;
}

static dt_val trained(const setting *s, const char *name, int ndim, dt_split split)
{
    dt_val v = dt_graph_weight(s->g, name, ndim, (int64_t[]){WIDTH, WIDTH}, split);
    dt_graph_make_trainable(s->g, v);
    return v;
}

/* Operand i, [N, WIDTH], in its placement; a partial one is a product whose inner dimension is split. */
static dt_val matrix(const setting *s, int i)
{
    char name[2][16];
    for (int k = 0; k < 2; k++) snprintf(name[k], sizeof name[k], "m%d.%d", i, k);
    if (s->place[i] != 'p') return trained(s, name[0], 2, split_of(s, s->place[i]));
    dt_val a = trained(s, name[0], 2, (dt_split){1, s->axes}), b = trained(s, name[1], 2, (dt_split){0, s->axes});
    return dt_matmul(s->g, a, b, false, false, 0.3, DT_TYPE_ACT);
}

static dt_val vector(const setting *s, int i)
{
    return trained(s, "vector", 1, split_of(s, s->place[i]));
}

static dt_val integers(const setting *s, const char *name, int i)
{
    return dt_graph_input(s->g, name, DT_TYPE_I32, 1, (int64_t[]){N}, split_of(s, s->place[i]));
}

/* Tokens split where operand i's rows are. */
static dt_split tokens_like(const setting *s, int i)
{
    return s->place[i] == '0' ? split_of(s, '0') : DT_NO_SPLIT;
}

static dt_val make_matmul(const setting *s)
{
    bool ta = s->variant & 1, tb = s->variant >> 1;
    dt_val a = matrix(s, 0), b = matrix(s, 1);
    if (s->place[2] == '-') return dt_matmul(s->g, a, b, ta, tb, 0.5, DT_TYPE_ACT);
    return dt_matmul_add(s->g, a, b, dt_scale(s->g, matrix(s, 2), 2), ta, tb, 0.5);
}

static dt_val make_add(const setting *s)
{
    return dt_add(s->g, matrix(s, 0), matrix(s, 1));
}

/* Two operands one behind the other; parts of one: along the dimension that the variant says. */
static dt_val make_concat(const setting *s)
{
    const dt_parts_attr attr = {s->variant, 2, DT_TYPE_ACT, {WIDTH, WIDTH}};
    return dt_concat(s->g, &attr, (dt_val[]){matrix(s, 0), matrix(s, 1)});
}

static dt_val make_parts(const setting *s)
{
    const dt_parts_attr attr = {s->variant, 2, DT_TYPE_ACT, {WIDTH / 2, WIDTH / 2}};
    dt_val part[DT_MAX_PARTS];
    dt_parts(s->g, matrix(s, 0), &attr, part);
    return dt_swiglu(s->g, part[0], part[1]);
}

static dt_val make_swiglu(const setting *s)
{
    return dt_swiglu(s->g, matrix(s, 0), matrix(s, 1));
}

static dt_val make_bias(const setting *s)
{
    return dt_bias(s->g, matrix(s, 0), vector(s, 1));
}

static dt_val make_rmsnorm(const setting *s)
{
    return dt_rmsnorm(s->g, matrix(s, 0), vector(s, 1), 1e-5);
}

static dt_val make_layernorm(const setting *s)
{
    dt_val bias = dt_graph_weight(s->g, "bias", 1, (int64_t[]){WIDTH}, DT_NO_SPLIT);
    dt_graph_make_trainable(s->g, bias);
    return dt_layernorm(s->g, matrix(s, 0), vector(s, 1), bias, 1e-5);
}

static dt_val make_gelu(const setting *s)
{
    return dt_gelu(s->g, matrix(s, 0));
}

/* Groups of two features each: four ranks hold one. */
static dt_val make_grouped_rmsnorm(const setting *s)
{
    dt_val gain = dt_graph_weight(s->g, "vector", 1, (int64_t[]){2}, split_of(s, s->place[1]));
    dt_graph_make_trainable(s->g, gain);
    return dt_rmsnorm(s->g, matrix(s, 0), gain, 1e-5);
}

static dt_val make_embed(const setting *s)
{
    return dt_embed(s->g, integers(s, "numbers", 0), matrix(s, 1));
}

static dt_val make_rope(const setting *s)
{
    const float frequency = 0.7f;
    dt_val f = dt_graph_const(s->g, "frequency", DT_TYPE_ACC, 1, (int64_t[]){1}, &frequency);
    return dt_rope(s->g, matrix(s, 0), dt_rope_table(s->g, integers(s, "numbers", 1), f), 2);
}

static dt_val make_dropout(const setting *s)
{
    const int32_t step = 3;
    s->g->train = true;
    dt_val at = dt_graph_const(s->g, "step", DT_TYPE_I32, 1, (int64_t[]){1}, &step);
    return dt_dropout(s->g, matrix(s, 0), integers(s, "numbers", 1), at, 0.4, 1, 2);
}

static dt_val make_xent(const setting *s)
{
    dt_val targets = integers(s, "targets", 2), lse = DT_NONE, target = DT_NONE;
    dt_xent(s->g, matrix(s, 0), matrix(s, 1), targets, &lse, &target);
    return dt_nll(s->g, lse, target, targets);
}

/* Four query heads of width 2; as many kv heads, or (variant 1) two, which only the groups of ranks split. */
static dt_val make_attention(const setting *s)
{
    enum { D = 2, H = WIDTH / D };
    const int64_t kv_heads = s->variant == 0 ? H : H / 2;
    dt_val kv[2], pos = dt_graph_input(s->g, "starts", DT_TYPE_I32, 1, (int64_t[]){N}, tokens_like(s, 0));
    for (int i = 1; i <= 2; i++) {
        dt_split split = split_of(s, s->place[i]);
        if (s->variant == 1 && split.dim == 1) split.axes &= 1u << DT_AXIS_TENSOR_MAJOR;
        kv[i - 1] = dt_graph_weight(s->g, i == 1 ? "k" : "v", 2, (int64_t[]){N, kv_heads * D}, split);
        dt_graph_make_trainable(s->g, kv[i - 1]);
    }
    return dt_attention(s->g, matrix(s, 0), kv[0], kv[1], pos, 2, D, H, kv_heads, 0.8, 0);
}

static const struct {
    const char *name;
    dt_val (*make)(const setting *s);
    int variants;
    const char *letters[3]; /* placements of each operand */
} cases[] = {
    {"matmul", make_matmul, 4, {"r01p", "r01p", "-r01p"}},
    {"add", make_add, 1, {"r01p", "r01p", "-"}},
    {"concat", make_concat, 2, {"r01p", "r01p", "-"}},
    {"parts", make_parts, 2, {"r01p", "-", "-"}},
    {"swiglu", make_swiglu, 1, {"r01p", "r01p", "-"}},
    {"bias", make_bias, 1, {"r01p", "r0", "-"}},
    {"rmsnorm", make_rmsnorm, 1, {"r01p", "r0", "-"}},
    {"layernorm", make_layernorm, 1, {"r01p", "r0", "-"}},
    {"gelu", make_gelu, 1, {"r01p", "-", "-"}},
    {"rmsnorm of groups", make_grouped_rmsnorm, 1, {"r01p", "r0", "-"}},
    {"embed", make_embed, 1, {"r0", "r01p", "-"}},
    {"rope", make_rope, 1, {"r01p", "r0", "-"}},
    {"xent", make_xent, 1, {"r01p", "r01p", "r0"}},
    {"attention", make_attention, 2, {"r01p", "r01", "r01"}},
    {"dropout", make_dropout, 1, {"r01p", "r0", "-"}},
};

/* A graph, differentiated, placed and run. */
typedef struct outcome {
    dt_graph *g;
    dt_device device;
    dt_comm comm;
    dt_store *store;
    dt_exec *exec;
    dt_val loss;
} outcome;

/* Global row-major index of element i of this rank's slice. */
static int64_t global_index(const dt_value *v, int64_t i)
{
    int64_t index = 0, stride = 1;
    for (int d = v->ndim - 1; d >= 0; d--) {
        index += (v->off[d] + i % v->local[d]) * stride;
        i /= v->local[d];
        stride *= v->dim[d];
    }
    return index;
}

static void fill_parameters(outcome *o)
{
    for (dt_val v = 0; v < o->g->values; v++) {
        const dt_value *val = dt_value_of(o->g, v);
        if (val->kind != DT_KIND_PARAM) continue;
        int64_t count = dt_value_local_count(o->g, v);
        void *data = NULL;
        must(dt_store_new(o->store, val->name, (size_t)count * sizeof(double), &data));
        for (int64_t i = 0; i < count; i++)
            ((double *)data)[i] =
                (double)dt_rng_normal(1, DT_RNG_INIT, dt_hash_string(val->name), (uint64_t)global_index(val, i));
    }
}

static void run(outcome *o, size_t which, setting s, const dt_mesh *mesh, bool sequence, bool fuse)
{
    *o = (outcome){0};
    float weight[2 * N * WIDTH]; /* of the largest result */
    for (int i = 0; i < 2 * N * WIDTH; i++) weight[i] = dt_rng_normal(2, DT_RNG_INIT, 0, (uint64_t)i);
    must(dt_graph_create(&o->g));
    o->g->tokens = N;
    o->g->sequence = sequence;
    s.g = o->g;
    dt_val y = cases[which].make(&s);
    must(dt_graph_status(o->g));
    const dt_value shape = *dt_value_of(o->g, y);
    dt_val c = dt_graph_const(o->g, "weights", DT_TYPE_ACC, shape.ndim, shape.dim, weight);
    o->loss = dt_sum(o->g, dt_swiglu(o->g, c, y));
    dt_graph_mark_output(o->g, o->loss);
    must(dt_pass_grad(o->g, o->loss, DT_GRAD_SUM));
    must(dt_pass_shard(o->g, mesh));
    if (fuse) must(dt_pass_fuse(o->g));
    o->loss = o->g->output[0];
    must(dt_device_cpu_f64(1, &o->device));
    must(dt_comm_create_host(mesh, &o->comm));
    must(dt_store_create(&o->device, &o->store));
    fill_parameters(o);
    must(dt_exec_create(o->g, &o->device, &o->comm, o->store, &o->exec));
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        dt_val v = dt_graph_find(o->g, inputs[i].name);
        if (v != DT_NONE) must(dt_exec_put_i32(o->exec, v, inputs[i].data + dt_value_of(o->g, v)->off[0]));
    }
    for (int p = 0; p < DT_PROGRAM_COUNT; p++) must(dt_exec_run(o->exec, (dt_program)p));
}

static void finish(outcome *o)
{
    dt_exec_destroy(o->exec);
    dt_store_destroy(o->store);
    dt_comm_destroy(&o->comm);
    dt_device_destroy(&o->device);
    dt_graph_destroy(o->g);
}

/* This rank's slice of a value, partial sums added up. */
static void fetch(outcome *o, dt_val v, double *out)
{
    const dt_value *val = dt_value_of(o->g, v);
    int64_t count = dt_value_local_count(o->g, v);
    dt_axes partial = 0;
    memcpy(out, dt_exec_data(o->exec, v), (size_t)count * sizeof *out);
    for (int a = 0; a < DT_AXIS_COUNT; a++)
        if (val->place[a].kind == DT_PARTIAL) partial |= 1u << a;
    if (partial != 0) must(o->comm.ops->all_reduce(&o->comm, partial, out, count, DT_COMM_F64, DT_COMM_SUM));
}

static void compare(outcome *here, outcome *reference, dt_val v, dt_val ref, const char *what)
{
    const dt_value *val = dt_value_of(here->g, v);
    int64_t count = dt_value_local_count(here->g, v);
    double got[N * WIDTH], error = 0, norm = 0;
    const double *want = dt_exec_data(reference->exec, ref);
    fetch(here, v, got);
    for (int64_t i = 0; i < count; i++) {
        double x = want[global_index(val, i)];
        error += (got[i] - x) * (got[i] - x);
        norm += x * x;
    }
    checks++;
    if (sqrt(error) <= 1e-12 * (1 + sqrt(norm))) return;
    if (failures++ < 10) fprintf(stderr, "%s: %s is off by %g of %g\n", what, val->name, sqrt(error), sqrt(norm));
}

static void check_case(size_t which, setting s, const dt_mesh *mesh, bool sequence)
{
    char what[96];
    bool fuse = checks % 2 != 0; /* every other case */
    snprintf(what, sizeof what, "rank %d: %s %d, operands %s over axes %u", mesh->rank, cases[which].name, s.variant,
             s.place, s.axes);
    outcome here, reference; /* exec points into them */
    run(&here, which, s, mesh, sequence, fuse);
    run(&reference, which, s, &alone, false, false);
    compare(&here, &reference, here.loss, reference.loss, what);
    for (dt_val v = 0; v < reference.g->values; v++) {
        if (dt_value_of(reference.g, v)->kind != DT_KIND_PARAM) continue;
        dt_val mine = dt_graph_find(here.g, dt_value_of(reference.g, v)->name);
        compare(&here, &reference, dt_grad_of(here.g, mine), dt_grad_of(reference.g, v), what);
    }
    finish(&here);
    finish(&reference);
}

int main(int argc, char **argv)
{
    dt_mesh mesh;
    must(dt_world_init(&argc, &argv));
    if (argc < 3) must(dt_fail(DT_ERR_CONFIG, "usage: rank_placements TENSOR KV_HEADS [sequence]"));
    must(dt_mesh_make(dt_world_rank(), dt_world_size(), atoi(argv[1]), atoi(argv[2]), &mesh));
    const dt_axes axes[] = {DT_AXES_TENSOR, DT_AXES_DATA};
    for (size_t which = 0; which < sizeof cases / sizeof *cases; which++) {
        const char *const *letters = cases[which].letters;
        for (int set = 0; set < 2; set++) {
            if (dt_mesh_group_size(&mesh, axes[set]) == 1) continue;
            /* Two kv heads are not there on a mesh of more groups. */
            bool groups = mesh.size[DT_AXIS_TENSOR_MAJOR] > 2 && cases[which].make == make_attention;
            for (int variant = 0; variant < (groups ? 1 : cases[which].variants); variant++)
                for (const char *a = letters[0]; *a != '\0'; a++)
                    for (const char *b = letters[1]; *b != '\0'; b++)
                        for (const char *c = letters[2]; *c != '\0'; c++) {
                            const char place[] = {*a, *b, *c, '\0'};
                            check_case(which, (setting){NULL, place, axes[set], variant}, &mesh, argc > 3);
                        }
        }
    }
    int64_t all[2] = {checks, failures};
    must(dt_world_all_reduce(all, 2, DT_COMM_I64, DT_COMM_SUM));
    if (mesh.rank == 0) printf("%lld comparisons, %lld differ\n", (long long)all[0], (long long)all[1]);
    dt_world_finalize();
    return all[1] != 0;
}
