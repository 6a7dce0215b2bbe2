/* Placement on the mesh: how many collectives a block costs, where the factors of a delta lie, slices that make up the
 * whole, partial sums that meet no op that is not linear. */
#include "op/add.h"
#include "op/collective.h"
#include "op/matmul.h"
#include "unit/tiny.h"
#include <stdlib.h>

static tiny t;

#define EVERYWHERE "delta { lora { rank: 2 } target: \"" ALL_LINEARS "\" }"
#define TENSOR4 " parallel { tensor: 4 }"
#define SEQUENCE4 " parallel { tensor: 4 sequence: true }"

static void open_tiny(tiny_model m, const char *config, int ranks)
{
    tiny_open(&t, m, config);
    tiny_place(&t, 0, ranks);
    tiny_build(&t, DT_FOR_TRAINING);
}

/* Collectives of the micro-batch over the tensor ranks, by what they move: rows of C, of R (a delta's bottleneck), or
 * one number a token. */
typedef struct traffic {
    int reduce[3], gather[3], scatter[3];
} traffic;
enum { WIDE, NARROW, SCALAR };

static traffic traffic_of(const dt_graph *g, bool backward)
{
    traffic sum = {{0}, {0}, {0}};
    DT_FOR_NODES (g, i) {
        const dt_node *n = &g->node[i];
        if (n->backward != backward || n->program != DT_MICRO) continue;
        const dt_value *v = &g->value[n->out[0] != DT_NONE ? n->out[0] : n->in[0]];
        int kind = v->ndim == 1 ? SCALAR : v->dim[1] == TINY_WIDTH ? WIDE : NARROW;
        sum.reduce[kind] += n->op == &dt_op_all_reduce;
        sum.gather[kind] += n->op == &dt_op_all_gather;
        sum.scatter[kind] += n->op == &dt_op_reduce_scatter;
        if (n->op == &dt_op_slice) /* of what every rank has computed: only of the table of rotations */
            cr_assert_eq(g->node[g->value[n->in[0]].producer].op, &dt_op_rope_table);
    }
    return sum;
}

static const int kv_heads[] = {4, 2, 1}; /* tensor 4 = 4 x 1, 2 x 2, 1 x 4 */

/* Embedding, two a block, and for the loss maximum, sum and target logit; backward one for the head and two a block,
 * but for the first one's attention, below which there is nothing to train. With or without deltas, whatever the heads.
 */
Test(graph_shard, a_block_costs_two_all_reduces_each_way)
{
    for (int data = 1; data <= 2; data++) {
        for (int kv = 0; kv < 3; kv++) {
            for (int layers = 2; layers <= 3; layers++) {
                open_tiny((tiny_model){.layers = layers, .kv_heads = kv_heads[kv]}, EVERYWHERE TENSOR4, 4 * data);
                traffic f = traffic_of(t.g, false), b = traffic_of(t.g, true);
                cr_assert_eq(t.job.mesh.size[DT_AXIS_DATA], data);
                cr_assert_eq(t.job.mesh.size[DT_AXIS_TENSOR_MAJOR], kv_heads[kv]);
                cr_assert_eq(f.reduce[WIDE], 1 + 2 * layers);
                cr_assert_eq(f.reduce[SCALAR], 3);
                cr_assert_eq(b.reduce[WIDE], 1 + 2 * layers - 1);
                for (int kind = 0; kind < 3; kind++) {
                    cr_assert_eq(f.gather[kind] + f.scatter[kind] + b.gather[kind] + b.scatter[kind], 0);
                    cr_assert(kind == WIDE || b.reduce[kind] == 0);
                }
                cr_assert_eq(f.reduce[NARROW], 0, "a delta adds none");
                tiny_close(&t);
            }
        }
    }
}

/* Each all-reduce becomes a reduce-scatter and an all-gather. A delta adds narrow rows: what its bottleneck holds is
 * split along the tokens at a column-parallel linear (gathered forward, scattered backward) and partial at a
 * row-parallel one (both backward), so that the input of a linear is kept as this rank's tokens only. */
Test(graph_shard, sequence_parallelism_scatters_and_gathers)
{
    for (int kv = 0; kv < 2; kv++) {
        for (int layers = 2; layers <= 3; layers++) {
            open_tiny((tiny_model){.layers = layers, .kv_heads = kv_heads[kv]}, EVERYWHERE SEQUENCE4, 4);
            traffic f = traffic_of(t.g, false), b = traffic_of(t.g, true);
            cr_assert_eq(f.scatter[WIDE], 1 + 2 * layers, "embedding; o and down");
            cr_assert_eq(f.gather[WIDE], 2 * layers + 1, "both norms; the final one");
            cr_assert_eq(b.scatter[WIDE], 1 + 2 * layers - 1);
            cr_assert_eq(b.gather[WIDE], 2 * layers);
            cr_assert_eq(f.gather[NARROW], 5 * layers, "q, k, v, gate, up");
            cr_assert_eq(f.scatter[NARROW], 0);
            cr_assert_eq(b.scatter[NARROW], 4 * layers, "q, k and v; o; gate and up; down");
            cr_assert_eq(b.gather[NARROW], 2 * layers, "o, down");
            cr_assert_eq(f.reduce[WIDE] + f.reduce[NARROW] + b.reduce[WIDE] + b.reduce[NARROW], 0);
            tiny_close(&t);
        }
    }
}

Test(graph_shard, a_forward_graph_of_four_ranks_costs_the_same_forward)
{
    tiny_open(&t, (tiny_model){0}, "parallel { tensor: 4 }");
    tiny_place(&t, 3, 4);
    tiny_build(&t, DT_FOR_EVAL);
    traffic f = traffic_of(t.g, false);
    cr_assert_eq(f.reduce[WIDE], 1 + 2 * 2);
    cr_assert_eq(f.reduce[SCALAR], 3);
    tiny_close(&t);
}

/* r, 0, 1, p along the data axis, the kv groups and their replicas. */
static void check_place(dt_val v, const char *expected)
{
    char is[DT_AXIS_COUNT + 1] = "";
    for (int a = 0; a < DT_AXIS_COUNT; a++) {
        dt_place p = t.g->value[v].place[a];
        is[a] = p.kind == DT_SPLIT ? (char)('0' + p.dim) : p.kind == DT_PARTIAL ? 'p' : 'r';
    }
    cr_assert_str_eq(is, expected, "%s is placed %s, not %s", t.g->value[v].name, is, expected);
}

static void check_factors(const char *path, const char *w, const char *a, const char *da, const char *b, const char *db)
{
    char name[128];
    snprintf(name, sizeof name, "%s.weight", path);
    check_place(value_named(t.g, name), w);
    snprintf(name, sizeof name, "lora.%s.lora_A.weight", path);
    check_place(value_named(t.g, name), a);
    check_place(dt_grad_of(t.g, value_named(t.g, name)), da);
    snprintf(name, sizeof name, "lora.%s.lora_B.weight", path);
    check_place(value_named(t.g, name), b);
    check_place(dt_grad_of(t.g, value_named(t.g, name)), db);
}

/* At a column-parallel linear A is whole and its gradient partial, B is split as W's output; at a row-parallel one A is
 * split as W's input, B whole and its gradient partial. All gradients are partial along the data axis. */
Test(graph_shard, factors_follow_their_weight)
{
    for (int sequence = 0; sequence < 2; sequence++) {
        const char *config = sequence ? EVERYWHERE SEQUENCE4 : EVERYWHERE TENSOR4;
        open_tiny((tiny_model){.kv_heads = 2}, config, 8);
        check_factors("model.layers.1.self_attn.q_proj", "r00", "rrr", "ppp", "r00", "p00");
        check_factors("model.layers.0.mlp.up_proj", "r00", "rrr", "ppp", "r00", "p00");
        check_factors("model.layers.1.self_attn.o_proj", "r11", "r11", "p11", "rrr", "ppp");
        check_factors("model.layers.0.mlp.down_proj", "r11", "r11", "p11", "rrr", "ppp");
        /* Every replica of a kv head sees other query heads. */
        check_factors("model.layers.0.self_attn.k_proj", "r0r", "rrr", "ppp", "r0r", "p0p");
        check_factors("model.layers.1.self_attn.v_proj", "r0r", "rrr", "ppp", "r0r", "p0p");
        tiny_close(&t);
    }
}

Test(graph_shard, gradients_of_norms_are_partial_under_sequence_parallelism_only)
{
    for (int sequence = 0; sequence < 2; sequence++) {
        open_tiny((tiny_model){0}, sequence ? "delta { full {} }" SEQUENCE4 : "delta { full {} }" TENSOR4, 8);
        dt_val gain = value_named(t.g, "model.layers.1.input_layernorm.weight");
        check_place(gain, "rrr");
        check_place(dt_grad_of(t.g, gain), sequence ? "ppr" : "prr");
        check_place(dt_grad_of(t.g, value_named(t.g, "model.layers.0.mlp.down_proj.weight")), "p1r");
        check_place(dt_grad_of(t.g, value_named(t.g, "model.embed_tokens.weight")), "p0r");
        tiny_close(&t);
    }
}

Test(graph_shard, a_vocabulary_that_does_not_divide_is_replicated)
{
    open_tiny((tiny_model){.vocab = 63}, "delta { full {} }" TENSOR4, 4);
    dt_val embed = value_named(t.g, "model.embed_tokens.weight");
    check_place(embed, "rrr");
    cr_assert_eq(t.g->value[embed].local[0], 63);
    check_place(value_named(t.g, "lm_head.weight"), "rrr");
    traffic f = traffic_of(t.g, false);
    cr_assert_eq(f.reduce[WIDE], 2 * 2, "none for the embedding");
    cr_assert_eq(f.reduce[SCALAR], 0, "none for the loss");
    tiny_close(&t);
}

/* y = x w is partial; its square needs the sum, and then everybody behind reads that, linear or not. */
Test(graph_shard, what_was_summed_once_is_read_summed)
{
    dt_graph *g;
    OK(dt_graph_create(&g));
    const dt_split by_input = {1, DT_AXES_TENSOR};
    dt_val x = dt_graph_input(g, "x", DT_TYPE_ACT, 2, (int64_t[]){4, 8}, DT_NO_SPLIT);
    dt_val y = dt_linear(g, x, dt_graph_weight(g, "w", 2, (int64_t[]){6, 8}, by_input), DT_NONE);
    dt_val before = dt_scale(g, y, 2), square = dt_square(g, y), behind = dt_scale(g, y, 3);
    const dt_val outputs[] = {before, square, behind};
    for (int i = 0; i < 3; i++) dt_graph_mark_output(g, outputs[i]);
    dt_mesh mesh;
    OK(dt_mesh_make(1, 4, 4, 4, &mesh));
    OK(dt_pass_shard(g, &mesh));
    dt_val sum = g->node[g->value[square].producer].in[0];
    cr_assert_eq(g->node[g->value[sum].producer].op, &dt_op_all_reduce);
    cr_assert_eq(g->node[g->value[behind].producer].in[0], sum);
    cr_assert_eq(g->node[g->value[before].producer].in[0], y, "not summed where it need not be");
    cr_assert_eq(count_nodes(g, &dt_op_all_reduce, false), 2, "y, and what was scaled before");
    cr_assert_eq(count_nodes(g, &dt_op_slice, false), 1, "of x: each rank's part of the inner dimension");
    dt_graph_destroy(g);
}

/* ---- What holds of every graph ---- */

/* `what`: of the axes' ranks, this one's number along dimension d, and how many there are. */
static void parts_of(const dt_value *v, int d, int64_t *index, int64_t *parts)
{
    const dt_mesh *mesh = &t.job.mesh;
    *index = 0;
    *parts = 1;
    for (int a = 0; a < DT_AXIS_COUNT; a++) {
        if (v->place[a].kind != DT_SPLIT || v->place[a].dim != d) continue;
        *index = *index * mesh->size[a] + mesh->coord[a];
        *parts *= mesh->size[a];
    }
}

static void check_slices(void)
{
    for (dt_val id = 0; id < t.g->values; id++) {
        const dt_value *v = &t.g->value[id];
        for (int d = v->ragged ? 1 : 0; d < v->ndim && (v->producer == DT_NONE || !t.g->node[v->producer].dead); d++) {
            int64_t index, parts;
            parts_of(v, d, &index, &parts);
            cr_assert_eq(v->local[d] * parts, v->dim[d], "%s: dimension %d", v->name, d);
            cr_assert_eq(v->off[d], index * v->local[d], "%s: dimension %d", v->name, d);
        }
        for (int a = 0; a < DT_AXIS_COUNT; a++)
            if (t.job.mesh.size[a] == 1) cr_assert_neq(v->place[a].kind, DT_SPLIT, "%s: split in one", v->name);
    }
}

static bool is_partial(dt_val v, int axis)
{
    return v != DT_NONE && dt_place_is_partial(t.g->value[v].place[axis]);
}

/* A partial operand belongs to an op that is linear in it, with partners that let it. */
static void check_partial_sums(const dt_node *n, int a)
{
    static const dt_op *const linear[] = {&dt_op_scale,      &dt_op_rope,  &dt_op_dropout,       &dt_op_accumulate,
                                          &dt_op_gather,     &dt_op_sum,   &dt_op_sampled_wgrad, &dt_op_bias_grad,
                                          &dt_op_all_gather, &dt_op_slice, &dt_op_parts};
    int partial = 0;
    for (int k = 0; k < n->nin; k++) partial += is_partial(n->in[k], a);
    if (partial == 0) return;
    if (n->op == &dt_op_all_reduce || n->op == &dt_op_reduce_scatter || n->op == &dt_op_lse_finish) return;
    if (n->op == &dt_op_add) {
        cr_assert_eq(partial, 2, "a partial sum is added to one that is not");
        return;
    }
    if (n->op == &dt_op_concat) {
        for (int k = 0; k < n->nin; k++)
            cr_assert(n->in[k] == DT_NONE || is_partial(n->in[k], a), "a partial sum beside one that is not");
        cr_assert(is_partial(n->out[0], a));
        return;
    }
    if (n->op == &dt_op_matmul) {
        cr_assert(!(is_partial(n->in[0], a) && is_partial(n->in[1], a)), "a product of two partial sums");
        cr_assert(n->nin < 3 || n->in[2] == DT_NONE || is_partial(n->in[2], a));
        cr_assert(is_partial(n->out[0], a));
        return;
    }
    if (n->op == &dt_op_broadcast && !is_partial(n->in[0], a)) return; /* the other operand lends its shape only */
    if (n->op == &dt_op_xent_dh) { /* what each rank kept of its slice of the vocabulary, not terms of a sum */
        cr_assert(partial == 2 && is_partial(n->in[0], a) && is_partial(n->in[1], a) && is_partial(n->out[0], a));
        cr_assert(dt_place_equal(t.g->value[n->in[2]].place[a], DT_PLACE_S(0)), "the head is not split");
        return;
    }
    bool is_linear = false;
    for (size_t i = 0; i < sizeof linear / sizeof *linear; i++) is_linear |= n->op == linear[i];
    cr_assert(is_linear, "%s of a partial sum", n->op->name);
    cr_assert(is_partial(n->out[0], a), "%s makes a partial sum whole", n->op->name);
}

static void check_accumulators(void)
{
    for (dt_val v = 0; v < t.g->values; v++) {
        dt_val acc = t.g->value[v].kind == DT_KIND_PARAM ? dt_grad_of(t.g, v) : DT_NONE;
        for (int a = 0; acc != DT_NONE && a < DT_AXIS_COUNT; a++) {
            dt_place of = t.g->value[v].place[a], is = t.g->value[acc].place[a];
            cr_assert(dt_place_equal(of, is) || (of.kind == DT_REPLICATED && is.kind == DT_PARTIAL),
                      "%s is not placed as its parameter", t.g->value[acc].name);
            if (a == DT_AXIS_DATA && t.job.mesh.size[a] > 1)
                cr_assert_eq(is.kind, DT_PARTIAL, "%s: the data ranks reduce it once a step", t.g->value[acc].name);
        }
    }
}

/* What is put together over some ranks lies in their order: no inner axis outside of them splits the same dimension. */
static void check_order(const dt_node *n)
{
    if (n->op != &dt_op_all_gather && n->op != &dt_op_reduce_scatter && n->op != &dt_op_slice) return;
    const dt_collective_attr *attr = DT_ATTR(dt_collective_attr, n);
    int first = 0;
    while (!(attr->axes >> first & 1)) first++;
    for (int a = first + 1; a < DT_AXIS_COUNT; a++) {
        dt_place p = t.g->value[n->out[0]].place[a];
        cr_assert((attr->axes >> a & 1) || p.kind != DT_SPLIT || p.dim != attr->dim, "%s interleaves rows",
                  n->op->name);
    }
}

static const char *const deltas[] = {
    "delta { lora { rank: 2 } target: \"re:block.*\" }",
    "delta { lora { rank: 2 dropout: 0.5 } target: \"attn.k\" target: \"ffn.down\" } delta { name: \"b\" lora { rank: "
    "3 } }",
    "delta { lora { rank: 2 } target: \"re:.*[.](o|down)\" } delta { name: \"b\" lora { rank: 3 } target: "
    "\"re:.*[.](o|down|q)\" }",
    "delta { bitfit { add: true } }",
    "delta { full {} }",
    "delta { fish { keep: 0.05 } }",
    "delta { fish { keep: 0.3 } exclude: \"re:.*norm.*\" } delta { lora { rank: 2 } }",
};
static const char *const layouts[] = {"", TENSOR4, SEQUENCE4, " parallel { tensor: 8 }",
                                      " parallel { tensor: 8 sequence: true } train { recompute: true }"};
static const tiny_model models[] = {
    {0},
    {.kv_heads = 2, .bias = true},
    {.kv_heads = 1, .tied = true},
    {.vocab = 60, .tied = true, .kv_heads = 8},
    {.json = "{\"model_type\": \"gpt2\", \"n_embd\": 48, \"n_head\": 8, \"n_layer\": 2, \"n_positions\": 16, "
             "\"vocab_size\": 64}"},
    {.json = "{\"model_type\": \"qwen3\", \"hidden_size\": 20, \"intermediate_size\": 40, \"num_hidden_layers\": 2, "
             "\"num_attention_heads\": 8, \"num_key_value_heads\": 2, \"head_dim\": 6, \"vocab_size\": 64}"}};
enum {
    DELTAS = sizeof deltas / sizeof *deltas,
    LAYOUTS = sizeof layouts / sizeof *layouts,
    MODELS = sizeof models / sizeof *models
};

/* Every delta, mesh and model, on every rank: all ranks have one graph, but for their slices. */
Test(graph_shard, every_graph_is_sound)
{
    for (int c = 0; c < DELTAS * LAYOUTS * MODELS; c++) {
        char config[512];
        int64_t nodes = 0, values = 0;
        snprintf(config, sizeof config, "%s%s", deltas[c % DELTAS], layouts[c / DELTAS % LAYOUTS]);
        tiny_open(&t, models[c / (DELTAS * LAYOUTS)], config);
        int ranks = t.config->parallel->tensor * 2;
        for (int rank = 0; rank<ranks; rank += ranks> 4 ? 3 : 1) {
            for (int purpose = DT_FOR_TRAINING; purpose <= DT_FOR_FISHER; purpose++) {
                tiny_place(&t, rank, ranks);
                if (purpose == DT_FOR_FISHER) { /* data ranks on their own */
                    t.job.mesh.size[DT_AXIS_DATA] = 1;
                    t.job.mesh.coord[DT_AXIS_DATA] = 0;
                }
                tiny_build(&t, purpose);
                check_slices();
                if (purpose != DT_FOR_EVAL) check_accumulators();
                DT_FOR_NODES (t.g, i) {
                    for (int a = 0; a < DT_AXIS_COUNT; a++) check_partial_sums(&t.g->node[i], a);
                    check_order(&t.g->node[i]);
                }
                if (purpose == DT_FOR_TRAINING) {
                    cr_assert(rank == 0 || (t.g->nodes == nodes && t.g->values == values), "ranks differ");
                    nodes = t.g->nodes;
                    values = t.g->values;
                }
            }
        }
        tiny_close(&t);
    }
}

Test(graph_shard, squares_are_taken_of_sums_over_the_tensor_ranks)
{
    tiny_open(&t, (tiny_model){.kv_heads = 2}, "delta { fish { keep: 0.1 } target: \"attn.k\" }" SEQUENCE4);
    tiny_place(&t, 1, 4);
    tiny_build(&t, DT_FOR_FISHER);
    int squares = 0;
    DT_FOR_NODES (t.g, i) {
        const dt_node *n = &t.g->node[i];
        if (n->op != &dt_op_square) continue;
        check_place(n->in[0], "r0r");
        squares++;
    }
    cr_assert_eq(squares, 2);
    tiny_close(&t);
}
