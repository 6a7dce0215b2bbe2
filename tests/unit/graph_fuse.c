/* Rewrites on whole graphs: sums become products in place, or addends of what reads them; FISH's scatter leaves the
 * forward, its gradient is taken at the chosen entries only. */
#include "op/add.h"
#include "op/gelu.h"
#include "op/lowrank.h"
#include "op/matmul.h"
#include "op/sparse.h"
#include "op/swiglu.h"
#include "unit/sizes.h"
#include "unit/tiny.h"

static tiny t;

static void open_tiny(tiny_model m, const char *config, dt_purpose purpose)
{
    tiny_open(&t, m, config);
    tiny_place(&t, 0, t.config->parallel->tensor);
    tiny_build(&t, purpose);
}

static int sums_in_products(void)
{
    int n = 0;
    DT_FOR_NODES (t.g, i) n += t.g->node[i].op == &dt_op_matmul && t.g->node[i].nin == 3;
    return n;
}

static int all_nodes(const dt_op *op)
{
    return count_nodes(t.g, op, false) + count_nodes(t.g, op, true);
}

#define COLUMNS "re:.*(q|k|v|gate|up)_proj"

Test(graph_fuse, evaluation_adds_in_products_only)
{
    open_tiny((tiny_model){0}, "delta { lora { rank: 2 } target: \"" COLUMNS "\" }", DT_FOR_EVAL);
    cr_assert_eq(all_nodes(&dt_op_add), 2 * 2 + 2 * 5, "two residual sums a block, one a delta");
    OK(dt_pass_fuse(t.g));
    cr_assert_eq(all_nodes(&dt_op_add), 0);
    cr_assert_eq(sums_in_products(), 2 * 2 + 2 * 3, "swiglu takes those of gate and up itself");
    dt_plan plan;
    OK(dt_pass_plan(t.g, &device_fp32, &plan));
    DT_FOR_NODES (t.g, i) { /* what a product is added to, it takes over */
        const dt_node *n = &t.g->node[i];
        if (n->op == &dt_op_matmul && n->nin == 3) cr_assert_eq(plan.offset[n->out[0]], plan.offset[n->in[2]]);
    }
    dt_plan_free(&plan);
    tiny_close(&t);
}

/* The norms' backward reads the residual stream again: its sums are written beside it. */
Test(graph_fuse, training_adds_in_products_too)
{
    open_tiny((tiny_model){0}, "delta { lora { rank: 2 } target: \"" COLUMNS "\" }", DT_FOR_TRAINING);
    cr_assert_eq(count_nodes(t.g, &dt_op_add, false), 2 * 2 + 2 * 5);
    OK(dt_pass_fuse(t.g));
    cr_assert_eq(count_nodes(t.g, &dt_op_add, false), 0);
    /* The residual stream's gradient goes on into the norms', but for the lowest one, which has none. */
    cr_assert_eq(count_nodes(t.g, &dt_op_add, true), 0);
    DT_FOR_NODES (t.g, i) {
        const dt_node *n = &t.g->node[i];
        if (n->op == &dt_op_rmsnorm_grad)
            cr_assert_eq(n->nin, n->in[2] == value_named(t.g, "model.norm.weight") ? 4 : 5);
    }
    /* Every gradient is a product into its accumulator; only the loss is added to, and, once a step, what the A of one
     * x have in common to theirs. */
    int merged = 0;
    DT_FOR_NODES (t.g, i)
        if (t.g->node[i].op == &dt_op_accumulate && t.g->node[i].in[0] != t.io.loss) {
            cr_assert_eq(t.g->node[i].program, DT_EPILOGUE);
            merged++;
        }
    cr_assert_eq(merged, 2 * 5);
    for (dt_val v = 0; v < t.g->values; v++) {
        if (strncmp(t.g->value[v].name, "grad:", 5) != 0 || t.g->value[v].kind != DT_KIND_STATE) continue;
        int products = 0, others = 0;
        DT_FOR_NODES (t.g, i) {
            const dt_node *n = &t.g->node[i];
            products += n->op == &dt_op_matmul && n->in[2] == v;
            others += n->op == &dt_op_accumulate && n->in[0] == v;
        }
        cr_assert_eq(products + others, 1, "%s", t.g->value[v].name);
    }
    tiny_close(&t);
}

/* Over four ranks a delta's product joins the partial sum in front of the all-reduce. */
Test(graph_fuse, a_delta_joins_the_partial_sum_of_its_site)
{
    open_tiny((tiny_model){0}, "delta { lora { rank: 2 } target: \"down_proj\" } parallel { tensor: 4 }",
              DT_FOR_TRAINING);
    OK(dt_pass_fuse(t.g));
    int joined = 0;
    DT_FOR_NODES (t.g, i) {
        const dt_node *n = &t.g->node[i];
        if (n->op != &dt_op_all_reduce || n->backward || t.g->value[n->in[0]].producer == DT_NONE) continue;
        const dt_node *from = &t.g->node[t.g->value[n->in[0]].producer];
        joined += from->op == &dt_op_matmul && from->nin == 3;
    }
    cr_assert_eq(joined, 2);
    tiny_close(&t);
}

/* ---- FISH ---- */

static void check_fish(const dt_op *gradient)
{
    const dt_graph *g = t.g;
    int params = 0;
    cr_assert_eq(all_nodes(&dt_op_scatter_add), 0, "the forward reads the weights where they are");
    for (dt_val v = 0; v < g->values; v++) {
        if (g->value[v].kind != DT_KIND_PARAM) continue;
        dt_val acc = dt_grad_of(g, v), idx = g->value[v].index;
        int writers = 0;
        cr_assert_eq(g->value[acc].ndim, 1);
        cr_assert_eq(g->value[acc].dim[0], g->value[v].dim[0], "as many gradients as chosen values");
        DT_FOR_NODES (g, i) {
            const dt_node *n = &g->node[i];
            if (n->op != &dt_op_accumulate || n->in[0] != acc) continue;
            const dt_node *from = &g->node[g->value[n->in[1]].producer];
            bool matrix = g->value[g->value[v].tie[0].like].ndim == 2 && gradient != &dt_op_gather &&
                          from->op == &dt_op_sampled_wgrad;
            cr_assert(matrix || from->op == &dt_op_gather, "%s comes from %s", g->value[v].name, from->op->name);
            cr_assert_eq(from->in[from->nin - 1], idx);
            writers++;
        }
        cr_assert_eq(writers, 1);
        params++;
    }
    cr_assert_eq(g->updates, params, "every parameter is written into its weight after a step");
}

Test(graph_fuse, few_chosen_entries_are_sampled)
{
    open_tiny((tiny_model){0}, "delta { fish { keep: 0.05 } target: \"" ALL_LINEARS "\" }", DT_FOR_TRAINING);
    cr_assert_eq(all_nodes(&dt_op_scatter_add), 2 * 7);
    cr_assert_eq(all_nodes(&dt_op_sampled_wgrad), 0);
    OK(dt_pass_fuse(t.g));
    check_fish(&dt_op_sampled_wgrad);
    cr_assert_eq(all_nodes(&dt_op_sampled_wgrad), 2 * 7, "no matrix of gradients anywhere");
    cr_assert_eq(all_nodes(&dt_op_gather), 0);
    cr_assert_eq(t.g->updates, 2 * 7);
    DT_FOR_NODES (t.g, i) {
        const dt_node *n = &t.g->node[i];
        cr_assert(n->op != &dt_op_matmul || t.g->value[n->out[0]].dim[0] == t.g->tokens, "a dense gradient");
    }
    tiny_close(&t);
}

/* A dense gradient is read as soon as it is there, so that there is never more than one. */
Test(graph_fuse, many_chosen_entries_are_gathered_at_once)
{
    open_tiny((tiny_model){.tied = true}, "delta { fish { keep: 0.5 } }", DT_FOR_TRAINING);
    OK(dt_pass_fuse(t.g));
    check_fish(&dt_op_gather);
    DT_FOR_NODES (t.g, i) {
        const dt_node *n = &t.g->node[i];
        if (n->op == &dt_op_gather) cr_assert_eq(n->prev, t.g->value[n->in[0]].producer);
    }
    tiny_close(&t);
}

Test(graph_fuse, two_masks_on_one_weight_are_two_updates)
{
    open_tiny((tiny_model){0},
              "delta { name: \"a\" fish { keep: 0.05 } target: \"attn.q\" } "
              "delta { name: \"b\" fish { keep: 0.03 } target: \"block.0.attn.q\" }",
              DT_FOR_TRAINING);
    OK(dt_pass_fuse(t.g));
    check_fish(&dt_op_sampled_wgrad);
    cr_assert_eq(t.g->updates, 3);
    tiny_close(&t);
}

/* A weight that is trained itself cannot hold the sum: the scatter stays. */
Test(graph_fuse, a_mask_on_a_trained_weight_stays_in_the_graph)
{
    open_tiny((tiny_model){0}, "delta { full {} target: \"attn.q\" } delta { fish { keep: 0.05 } target: \"attn.q\" }",
              DT_FOR_TRAINING);
    OK(dt_pass_fuse(t.g));
    cr_assert_eq(all_nodes(&dt_op_scatter_add), 2);
    cr_assert_eq(t.g->updates, 0);
    tiny_close(&t);
}

/* ---- low-rank addends ---- */

/* The only node of an op. */
static const dt_node *only(const dt_graph *g, const dt_op *op)
{
    const dt_node *found = NULL;
    DT_FOR_NODES (g, i) {
        if (g->node[i].op != op) continue;
        cr_assert_eq(found, NULL, "%s twice", op->name);
        found = &g->node[i];
    }
    cr_assert_neq(found, NULL, "no %s", op->name);
    return found;
}

/* A node's operand has U and B of `rank` for an addend (0: none). */
static void check_addend(const dt_graph *g, const dt_node *n, int operand, int64_t rank)
{
    const int at = n->op->nin_max + 2 * operand;
    dt_val u = n->nin > at ? n->in[at] : DT_NONE, b = n->nin > at ? n->in[at + 1] : DT_NONE;
    const dt_lowrank how = DT_ATTR(dt_lowrank_attr, n)->of[operand];
    if (rank == 0) {
        cr_assert(u == DT_NONE && b == DT_NONE, "%s: operand %d has an addend", n->op->name, operand);
        return;
    }
    cr_assert(u != DT_NONE && b != DT_NONE, "%s: operand %d has no addend", n->op->name, operand);
    const dt_value *x = dt_value_of(g, n->in[operand]), *left = dt_value_of(g, u), *right = dt_value_of(g, b);
    cr_assert_eq(left->local[how.ta], x->local[0]);
    cr_assert_eq(left->local[!how.ta], rank);
    cr_assert_eq(right->local[how.tb], rank);
    cr_assert_eq(right->local[!how.tb], x->local[1]);
}

static void check_gated(const dt_graph *g, int64_t down, int64_t gate, int64_t up)
{
    DT_FOR_NODES (g, i) {
        const dt_node *n = &g->node[i];
        const int first = n->op == &dt_op_swiglu_grad;
        if (n->op != &dt_op_swiglu && n->op != &dt_op_swiglu_grad) continue;
        if (first) check_addend(g, n, 0, down);
        check_addend(g, n, first, gate);
        check_addend(g, n, first + 1, up);
        for (int k = 0; k < n->op->nin_max; k++) {
            const dt_node *from = &g->node[g->value[n->in[k]].producer];
            cr_assert(from->op == &dt_op_matmul && from->nin == 2, "%s: operand %d is no plain product", n->op->name,
                      k);
        }
    }
}

Test(graph_fuse, the_gated_unit_adds_what_deltas_add_to_it)
{
    const char *const more[] = {"", "parallel { tensor: 4 }", "train { recompute: true }"};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        char config[256];
        snprintf(config, sizeof config, "delta { lora { rank: 2 } target: \"" ALL_LINEARS "\" } %s", more[i]);
        open_tiny((tiny_model){0}, config, DT_FOR_TRAINING);
        OK(dt_pass_fuse(t.g));
        cr_assert_eq(all_nodes(&dt_op_swiglu_grad), 2);
        check_gated(t.g, 2, 2, 2);
        tiny_close(&t);
    }
}

Test(graph_fuse, one_delta_alone_is_added_alone)
{
    open_tiny((tiny_model){0}, "delta { lora { rank: 2 } target: \"up_proj\" }", DT_FOR_TRAINING);
    OK(dt_pass_fuse(t.g));
    check_gated(t.g, 0, 0, 2);
    tiny_close(&t);
}

Test(graph_fuse, gelu_adds_what_deltas_add_to_it)
{
    open_tiny((tiny_model){.json = "{\"model_type\": \"gpt2\", \"n_embd\": 24, \"n_layer\": 1, \"n_head\": 4, "
                                   "\"n_positions\": 32, \"vocab_size\": 64}"},
              "delta { lora { rank: 2 } target: \"ffn.up\" target: \"ffn.down\" }", DT_FOR_TRAINING);
    OK(dt_pass_fuse(t.g));
    check_addend(t.g, only(t.g, &dt_op_gelu), 0, 2);
    check_addend(t.g, only(t.g, &dt_op_gelu_grad), 0, 2);
    check_addend(t.g, only(t.g, &dt_op_gelu_grad), 1, 2);
    tiny_close(&t);
}

/* gelu(0.5 x + u b) with `rank` terms; read by others too, or by the host. */
typedef struct unit_case {
    int64_t rank;
    bool read, output, other_program;
} unit_case;

static int addends_of(unit_case c)
{
    const int64_t n = 3, f = 80;
    dt_graph *g = NULL;
    OK(dt_graph_create(&g));
    dt_val x = dt_scale(g, dt_graph_param(g, "x", 2, (int64_t[]){n, f}, NULL), 0.5);
    dt_val u = dt_graph_param(g, "u", 2, (int64_t[]){n, c.rank}, NULL);
    dt_val b = dt_graph_param(g, "b", 2, (int64_t[]){c.rank, f}, NULL);
    dt_val sum = dt_add(g, x, dt_matmul(g, u, b, false, false, 1, DT_TYPE_ACC));
    if (c.output) dt_graph_mark_output(g, sum);
    if (c.read) dt_graph_mark_output(g, dt_square(g, sum));
    if (c.other_program) g->program = DT_EPILOGUE;
    dt_graph_mark_output(g, dt_gelu(g, sum));
    OK(dt_pass_fuse(g));
    const dt_node *gelu = only(g, &dt_op_gelu);
    const bool fused = gelu->nin > 1;
    int products = 0;
    DT_FOR_NODES (g, i) products += g->node[i].op == &dt_op_matmul;
    cr_assert_eq(products, !fused, "the product is in memory or in the op, never in both");
    if (fused) check_addend(g, gelu, 0, c.rank);
    dt_graph_destroy(g);
    return fused;
}

Test(graph_fuse, an_addend_has_few_terms_and_no_other_reader)
{
    cr_assert(addends_of((unit_case){.rank = 5}));
    cr_assert(addends_of((unit_case){.rank = DT_LOWRANK_MOST}));
    cr_assert_not(addends_of((unit_case){.rank = DT_LOWRANK_MOST + 1}));
    cr_assert_not(addends_of((unit_case){.rank = 5, .read = true}));
    cr_assert_not(addends_of((unit_case){.rank = 5, .output = true}));
    cr_assert_not(addends_of((unit_case){.rank = 5, .other_program = true}));
}

/* An output of swiglu_grad may take gate's storage or up's: neither may be what an addend is computed of. */
Test(graph_fuse, an_operand_is_no_factor_of_an_addend)
{
    const int64_t n = 6;
    dt_graph *g = NULL;
    OK(dt_graph_create(&g));
    dt_val gate = dt_scale(g, dt_graph_param(g, "gate", 2, (int64_t[]){n, n}, NULL), 2);
    dt_val up = dt_scale(g, dt_graph_param(g, "up", 2, (int64_t[]){n, n}, NULL), 2);
    dt_val b = dt_graph_param(g, "b", 2, (int64_t[]){n, n}, NULL);
    dt_val sum = dt_matmul_add(g, up, b, gate, false, false, 1);
    dt_graph_mark_output(g, dt_swiglu(g, sum, up));
    OK(dt_pass_fuse(g));
    cr_assert_eq(only(g, &dt_op_swiglu)->nin, 2);
    dt_graph_destroy(g);
}
