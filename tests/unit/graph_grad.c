/* Reverse mode: backward nodes for what leads to a trainable value and for nothing else; gradients of values used
 * twice, of squares, and across the boundary of the prologue. */
#include "graph/emit.h"
#include "graph/exec.h"
#include "op/add.h"
#include "op/matmul.h"
#include "op/swiglu.h"
#include "op/xent.h"
#include "unit/tiny.h"
#include <math.h>
#include <stdlib.h>

static tiny t;

static void open_tiny(tiny_model m, const char *config, dt_purpose purpose)
{
    tiny_open(&t, m, config);
    tiny_build(&t, purpose);
}

static const dt_site *site_named(const char *role)
{
    for (int64_t i = 0; i < t.g->sites; i++)
        if (strcmp(t.g->site[i].role, role) == 0) return &t.g->site[i];
    cr_assert(false, "no site %s", role);
    return NULL;
}

/* Marks every activation that is there before the last of the three blocks begins: what its first norm reads, and all
 * that came before. */
static bool *values_below_last_block(void)
{
    int32_t last = t.g->value[site_named("block.2.norm1")->x].producer;
    bool *below = calloc((size_t)t.g->values, sizeof *below);
    for (int32_t i = t.g->head; i != t.g->node[last].next; i = t.g->node[i].next)
        for (int k = 0; k < t.g->node[i].nout; k++)
            if (t.g->node[i].out[k] != DT_NONE) below[t.g->node[i].out[k]] = t.g->node[i].op != &dt_op_rope_table;
    return below;
}

/* Does the gradient of `below` reach what it stands for? It would have to read an activation or a weight of there: the
 * blocks below hold no chain of additions that goes without. */
static void check_nothing_goes_below(void)
{
    bool *below = values_below_last_block();
    DT_FOR_NODES (t.g, i) {
        const dt_node *n = &t.g->node[i];
        for (int k = 0; n->backward && k < n->nin; k++) {
            if (n->in[k] == DT_NONE) continue;
            const char *name = t.g->value[n->in[k]].name;
            cr_assert(!below[n->in[k]], "%s reads %s, which comes before the last block", n->op->name, name);
            cr_assert(strncmp(name, "model.layers.0.", 15) != 0 && strncmp(name, "model.layers.1.", 15) != 0 &&
                          strncmp(name, "model.embed", 11) != 0,
                      "%s reads %s", n->op->name, name);
        }
    }
    free(below);
}

/* No backward node has an output of the shape of a frozen weight. */
static void check_no_gradient_of_weights(void)
{
    const dt_graph *g = t.g;
    DT_FOR_NODES (g, i) {
        const dt_node *n = &g->node[i];
        for (int k = 0; n->backward && k < n->nout; k++) {
            if (n->out[k] == DT_NONE || g->value[n->out[k]].dim[0] == g->tokens || g->value[n->out[k]].base != DT_NONE)
                continue;
            for (dt_val w = 0; w < g->values; w++)
                cr_assert(g->value[w].kind != DT_KIND_WEIGHT || !dt_shape_equal(g, w, n->out[k]),
                          "%s computes a gradient of the shape of %s", n->op->name, g->value[w].name);
        }
    }
}

#define LAST_DOWN "delta { lora { rank: 2 } target: \"model.layers.2.mlp.down_proj\" }"
#define LAST_Q "delta { lora { rank: 2 } target: \"model.layers.2.self_attn.q_proj\" }"

Test(graph_grad, a_delta_of_the_last_linear_has_nine_backward_nodes)
{
    open_tiny((tiny_model){.layers = 3}, LAST_DOWN, DT_FOR_TRAINING);
    const dt_graph *g = t.g;
    check_nothing_goes_below();
    check_no_gradient_of_weights();
    cr_assert_eq(count_nodes(g, &dt_op_broadcast, true), 1);
    cr_assert_eq(count_nodes(g, &dt_op_nll_grad, true), 1);
    cr_assert_eq(count_nodes(g, &dt_op_xent_dh, true), 1, "from what the forward pass kept of the frozen head");
    cr_assert_eq(count_nodes(g, &dt_op_xent_grad, true), 0);
    cr_assert_eq(count_nodes(g, &dt_op_rmsnorm_grad, true), 1, "the final norm");
    cr_assert_eq(count_nodes(g, &dt_op_matmul, true), 3, "dB, du, dA; not the input");
    cr_assert_eq(count_nodes(g, &dt_op_accumulate, true), 2);
    cr_assert_eq(count_nodes(g, NULL, true), 9);
    DT_FOR_NODES (g, i)
        if (g->node[i].op == &dt_op_rmsnorm_grad)
            cr_assert_eq(g->node[i].out[1], DT_NONE, "the gradient of a frozen weight");
    tiny_close(&t);
}

Test(graph_grad, a_delta_of_the_last_query_goes_no_further_than_its_input)
{
    open_tiny((tiny_model){.layers = 3}, LAST_Q, DT_FOR_TRAINING);
    const dt_graph *g = t.g;
    check_nothing_goes_below();
    check_no_gradient_of_weights();
    cr_assert_eq(count_nodes(g, &dt_op_matmul, true), 7, "down, gate, up, o; dB, du, dA");
    cr_assert_eq(count_nodes(g, &dt_op_rmsnorm_grad, true), 2, "final_norm and norm2, not norm1");
    cr_assert_eq(count_nodes(g, &dt_op_rope, true), 1, "of q, not of k");
    cr_assert_eq(count_nodes(g, &dt_op_attention_grad, true), 1);
    cr_assert_eq(count_nodes(g, NULL, true), 19);
    DT_FOR_NODES (g, i) {
        if (g->node[i].op != &dt_op_attention_grad) continue;
        cr_assert_neq(g->node[i].out[0], DT_NONE);
        cr_assert_eq(g->node[i].out[1], DT_NONE, "dk leads to nothing trainable");
        cr_assert_eq(g->node[i].out[2], DT_NONE, "dv leads to nothing trainable");
    }
    tiny_close(&t);
}

/* What is accumulated into the gradient of `param`; DT_NONE unless exactly one node does. */
static dt_val contribution(const dt_graph *g, dt_val param)
{
    dt_val acc = dt_grad_of(g, param), x = DT_NONE;
    int writers = 0;
    DT_FOR_NODES (g, i) {
        if (g->node[i].op != &dt_op_accumulate || g->node[i].in[0] != acc) continue;
        x = g->node[i].in[1];
        writers++;
    }
    return acc != DT_NONE && writers == 1 ? x : DT_NONE;
}

Test(graph_grad, every_factor_has_one_product_and_no_weight_has_one)
{
    open_tiny((tiny_model){.layers = 3}, "delta { lora { rank: 2 } target: \"" ALL_LINEARS "\" }", DT_FOR_TRAINING);
    const dt_graph *g = t.g;
    int params = 0, products = 0;
    for (dt_val v = 0; v < g->values; v++) {
        if (g->value[v].kind != DT_KIND_PARAM) continue;
        dt_val product = contribution(g, v);
        cr_assert_neq(product, DT_NONE, "%s", g->value[v].name);
        const dt_op *op = g->node[g->value[product].producer].op;
        cr_assert(op == &dt_op_matmul || op == &dt_op_parts, "%s", op->name);
        cr_assert(dt_shape_equal(g, product, v));
        params++;
    }
    cr_assert_eq(params, 3 * 7 * 2);
    DT_FOR_NODES (g, i) {
        const dt_node *n = &g->node[i];
        products += n->backward && n->op == &dt_op_matmul && g->value[n->out[0]].dim[0] != g->tokens;
    }
    cr_assert_eq(products, params - 3 * 3,
                 "gradients of other things than tokens: the factors' alone; one for the A "
                 "of q, k and v, one for those of gate and up");
    check_no_gradient_of_weights();
    cr_assert_eq(count_nodes(g, &dt_op_embed_grad, true), 0);
    /* each linear passes its gradient on once, but for q, k and v of the first block, which read nothing trainable;
     * each adapter has dB and du, each of the four groups that read one value dA, and dx but there */
    cr_assert_eq(count_nodes(g, &dt_op_matmul, true), (3 * 7 - 3) + 3 * 7 * 2 + 3 * 4 * 2 - 1);
    tiny_close(&t);
}

Test(graph_grad, a_forward_graph_gets_nothing_backward)
{
    open_tiny((tiny_model){.layers = 3}, LAST_DOWN, DT_FOR_EVAL);
    cr_assert_eq(count_nodes(t.g, NULL, true), 0);
    dt_graph_prune(t.g);
    DT_FOR_NODES (t.g, i)
        if (t.g->node[i].op == &dt_op_xent)
            cr_assert(t.g->node[i].out[2] == DT_NONE && t.g->node[i].out[3] == DT_NONE, "only a gradient needs them");
    tiny_close(&t);
}

Test(graph_grad, squares_are_taken_of_whole_gradients)
{
    open_tiny((tiny_model){.tied = true}, "delta { fish { keep: 0.1 } }", DT_FOR_FISHER);
    const dt_graph *g = t.g;
    int params = 0;
    for (dt_val v = 0; v < g->values; v++) {
        if (g->value[v].kind != DT_KIND_PARAM) continue;
        dt_val x = contribution(g, v);
        cr_assert_neq(x, DT_NONE, "%s", g->value[v].name);
        cr_assert_eq(g->node[g->value[x].producer].op, &dt_op_square, "%s", g->value[v].name);
        params++;
    }
    cr_assert_eq(params, 2 * 9 + 2);
    cr_assert_eq(count_nodes(g, &dt_op_square, true), params);
    dt_val sum = g->node[g->value[contribution(g, value_named(g, "model.embed_tokens.weight"))].producer].in[0];
    cr_assert_eq(g->node[g->value[sum].producer].op, &dt_op_add, "embedding and head are one weight");
    tiny_close(&t);
}

/* ---- Toys that run: p = (1, 2, 4) in float64. ---- */

static dt_graph *g;
static dt_val p;
static const dt_mesh alone = {0, 1, {1, 1, 1}, {0, 0, 0}};

static void begin(void)
{
    OK(dt_graph_create(&g));
    p = dt_graph_param(g, "p", 1, (int64_t[]){3}, NULL);
}

static void end(void)
{
    dt_graph_destroy(g);
}

/* The gradient of p after `micro_batches`. */
static void differentiate(dt_val loss, dt_grad_mode mode, int micro_batches, double grad[3])
{
    static const float at[] = {1, 2, 4};
    dt_device device;
    dt_comm comm;
    dt_store *store;
    dt_exec *exec;
    void *data;
    OK(dt_pass_grad(g, loss, mode));
    OK(dt_pass_shard(g, &alone));
    OK(dt_device_cpu_f64(1, &device));
    OK(dt_comm_create_host(&alone, &comm));
    OK(dt_store_create(&device, &store));
    OK(dt_store_new(store, "p", 3 * sizeof(double), &data));
    OK(device.ops->put(&device, data, sizeof(double), at, 3));
    OK(dt_exec_create(g, &device, &comm, store, &exec));
    OK(dt_exec_run(exec, DT_PROLOGUE));
    for (int m = 0; m < micro_batches; m++) OK(dt_exec_run(exec, DT_MICRO));
    OK(dt_exec_run(exec, DT_EPILOGUE));
    memcpy(grad, dt_exec_data(exec, dt_grad_of(g, p)), 3 * sizeof *grad);
    dt_exec_destroy(exec);
    dt_store_destroy(store);
    dt_comm_destroy(&comm);
    dt_device_destroy(&device);
}

/* loss = sum of silu(b) b + b, b = 2 p: b is read three times, twice by one node. */
static dt_val loss_of(dt_val b)
{
    return dt_sum(g, dt_add(g, dt_swiglu(g, b, b), b));
}

static double slope(double b)
{
    double s = 1 / (1 + exp(-b));
    return 2 * b * s + b * b * s * (1 - s) + 1;
}

static void check(const double *grad, double (*expected)(double p))
{
    static const double at[] = {1, 2, 4};
    for (int i = 0; i < 3; i++)
        cr_assert(fabs(grad[i] - expected(at[i])) <= 1e-12 * fabs(expected(at[i])), "%g is not %g", grad[i],
                  expected(at[i]));
}

static double once(double x)
{
    return 2 * slope(2 * x);
}
static double twice(double x)
{
    return 2 * once(x);
}
static double squared_twice(double x)
{
    return 2 * pow(5 * slope(5 * x), 2);
}

Test(graph_grad, gradients_of_a_value_used_twice_are_summed, .init = begin, .fini = end)
{
    double grad[3];
    differentiate(loss_of(dt_scale(g, p, 2)), DT_GRAD_SUM, 1, grad);
    check(grad, once);
}

Test(graph_grad, micro_batches_are_summed, .init = begin, .fini = end)
{
    double grad[3];
    differentiate(loss_of(dt_scale(g, p, 2)), DT_GRAD_SUM, 2, grad);
    check(grad, twice);
}

Test(graph_grad, squares_are_taken_behind_all_uses_of_a_parameter, .init = begin, .fini = end)
{
    double grad[3]; /* b = 2 p + 3 p: two uses of p, one square of their sum; two micro-batches, two squares */
    differentiate(loss_of(dt_add(g, dt_scale(g, p, 2), dt_scale(g, p, 3))), DT_GRAD_SQUARES, 2, grad);
    check(grad, squared_twice);
}

Test(graph_grad, what_the_prologue_computes_hands_its_gradient_on_in_the_epilogue, .init = begin, .fini = end)
{
    double grad[3];
    g->program = DT_PROLOGUE;
    dt_val b = dt_scale(g, p, 2);
    g->program = DT_MICRO;
    differentiate(loss_of(b), DT_GRAD_SUM, 2, grad);
    check(grad, twice);
    dt_val collected = dt_grad_of(g, b), acc = dt_grad_of(g, p);
    cr_assert_neq(collected, DT_NONE);
    DT_FOR_NODES (g, i) {
        const dt_node *n = &g->node[i];
        if (n->op != &dt_op_accumulate) continue;
        cr_assert_eq(n->program, n->in[0] == acc ? DT_EPILOGUE : DT_MICRO);
        cr_assert(n->in[0] == acc || n->in[0] == collected);
    }
}

static double prologue_slope(double x)
{
    /* b = silu(2 x) x */
    double s = 1 / (1 + exp(-2 * x)), b = 2 * x * s * x;
    return 2 * slope(b) * (4 * x * s + 4 * x * x * s * (1 - s));
}

Test(graph_grad, a_chain_in_the_prologue_is_differentiated_once_a_step, .init = begin, .fini = end)
{
    double grad[3];
    g->program = DT_PROLOGUE;
    dt_val b = dt_swiglu(g, dt_scale(g, p, 2), p);
    g->program = DT_MICRO;
    differentiate(loss_of(b), DT_GRAD_SUM, 2, grad);
    check(grad, prologue_slope);
    int grads[DT_PROGRAM_COUNT] = {0};
    DT_FOR_NODES (g, i) grads[g->node[i].program] += g->node[i].op == &dt_op_swiglu_grad;
    cr_assert_eq(grads[DT_MICRO], 1, "of the loss");
    cr_assert_eq(grads[DT_EPILOGUE], 1, "of the prologue");
}

Test(graph_grad, a_loss_of_nothing_trainable_has_no_gradient, .init = begin, .fini = end)
{
    dt_val w = dt_graph_weight(g, "w", 1, (int64_t[]){3}, DT_NO_SPLIT), loss = dt_sum(g, dt_scale(g, w, 2));
    dt_graph_mark_output(g, loss);
    OK(dt_pass_grad(g, loss, DT_GRAD_SUM));
    cr_assert_eq(count_nodes(g, NULL, true), 0);
    cr_assert_eq(count_nodes(g, NULL, false), 2);
    cr_assert_eq(dt_grad_of(g, p), DT_NONE);
}

Test(graph_grad, what_cannot_be_differentiated_is_named, .init = begin, .fini = end)
{
    cr_assert_eq(dt_pass_grad(g, dt_sum(g, dt_square(g, p)), DT_GRAD_SUM), DT_ERR_INTERNAL);
    cr_assert_str_eq(dt_error_text(), "op square has no gradient");
}

Test(graph_grad, squares_do_not_pass_the_prologue, .init = begin, .fini = end)
{
    g->program = DT_PROLOGUE;
    dt_val b = dt_scale(g, p, 2);
    g->program = DT_MICRO;
    cr_assert_eq(dt_pass_grad(g, dt_sum(g, b), DT_GRAD_SQUARES), DT_ERR_INTERNAL);
    cr_assert_str_eq(dt_error_text(), "op scale: squares of gradients do not pass the prologue");
}
