/* Rewrites on whole graphs: sums become products in place, FISH's scatter leaves the forward, its gradient is taken at
 * the chosen entries only. */
#include "op/matmul.h"
#include "op/sparse.h"
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
    cr_assert_eq(sums_in_products(), 2 * 2 + 2 * 5);
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
