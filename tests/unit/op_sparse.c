/* Selected entries of a matrix: kernels against plain loops, and the rewrites that keep dense gradients short-lived. */
#include "graph/passes.h"
#include "kernel.h"
#include "op/add.h"
#include "op/layernorm.h"
#include "op/matmul.h"
#include "op/sparse.h"
#include "op/xent.h" // dt_sum

enum { N = 1100, O = 9, I = 21, MOST = O * I }; /* more tokens than the kernel takes at a time */
static double dy[N * O], x[N * I], w[MOST], val[MOST], want[MOST];
static int32_t idx[MOST];

/* Every `step`-th entry of a matrix of `count`, the last one always. */
static int64_t choose(int64_t count, int64_t step)
{
    int64_t k = 0;
    for (int64_t i = 0; i < count; i++)
        if (i % step == 0 || i == count - 1) idx[k++] = (int32_t)i;
    return k;
}

Test(sparse, kernels_touch_the_chosen_entries_alone)
{
    fill(w, MOST, 1);
    fill(val, MOST, 2);
    for (int64_t step = 1; step <= MOST; step += 47) {
        int64_t k = choose(MOST, step);
        for (int64_t i = 0; i < k; i++) want[i] = w[idx[i]];
        check_kernel(&(kernel_test){KERNEL(gather), .nin = 2, .in = {MATRIX(O, I, w), integers(k, idx)}, .nout = 1,
                                    .out = {VECTOR(k, want)}});
        memcpy(want, w, sizeof want);
        for (int64_t i = 0; i < k; i++) want[idx[i]] += val[i];
        check_kernel(&(kernel_test){KERNEL(scatter_add), .nin = 3,
                                    .in = {MATRIX(O, I, w), integers(k, idx), VECTOR(k, val)}, .nout = 1,
                                    .out = {MATRIX(O, I, want)}});
        memcpy(want, w, sizeof want);
        for (int64_t i = 0; i < k; i++) want[idx[i]] = val[i];
        check_kernel(&(kernel_test){KERNEL(scatter_copy), .nin = 3,
                                    .in = {MATRIX(O, I, w), integers(k, idx), VECTOR(k, val)}, .nout = 1,
                                    .out = {MATRIX(O, I, want)}});
    }
}

Test(sparse, sampled_gradient_is_that_of_the_whole_product)
{
    static const int64_t tokens[] = {1, 15, 16, 33, N};
    fill(dy, N * O, 3);
    fill(x, N * I, 4);
    for (size_t t = 0; t < sizeof tokens / sizeof *tokens; t++) {
        for (int64_t step = 1; step <= MOST; step += 47) {
            int64_t k = choose(MOST, step);
            for (int64_t i = 0; i < k; i++) {
                want[i] = 0;
                for (int64_t n = 0; n < tokens[t]; n++) want[i] += dy[n * O + idx[i] / I] * x[n * I + idx[i] % I];
            }
            check_kernel(&(kernel_test){KERNEL(sampled_wgrad), .nin = 3,
                                        .in = {MATRIX(tokens[t], O, dy), MATRIX(tokens[t], I, x), integers(k, idx)},
                                        .nout = 1, .out = {VECTOR(k, want)}});
        }
    }
}

Test(sparse, a_rank_without_entries_does_nothing)
{
    static float some[4];
    dt_tensor matrix = {.data = some, .ndim = 2, .dim = {2, 2}}, none = {.data = some, .ndim = 1, .dim = {0}};
    dt_call call = {.nin = 3, .in = {matrix, none, none}, .nout = 1, .out = {none}, .threads = 2};
    cr_assert_eq(dt_cpu_f32_gather(&call), DT_OK);
    call.out[0] = matrix;
    cr_assert_eq(dt_cpu_f32_scatter_copy(&call), DT_OK);
    call.in[1] = matrix;
    call.in[2] = call.out[0] = none;
    call.workspace = malloc(2 * 4 * 1024 * sizeof(float));
    cr_assert_eq(dt_cpu_f32_sampled_wgrad(&call), DT_OK);
    free(call.workspace);
}

/* ---- fuse ---- */

static dt_val matrix(dt_graph *g, const char *name, int64_t rows, int64_t cols)
{
    return dt_graph_input(g, name, DT_TYPE_ACT, 2, (int64_t[]){rows, cols}, DT_NO_SPLIT);
}

static dt_val entries(dt_graph *g, const char *name, int64_t k)
{
    return dt_graph_state(g, name, DT_TYPE_I32, 1, &k, DT_NO_SPLIT);
}

static int count_nodes(const dt_graph *g, const dt_op *op)
{
    int n = 0;
    DT_FOR_NODES (g, i) n += g->node[i].op == op;
    return n;
}

/* dy[8,10]^T x[8,20] gathered at k of its 200 entries, something else in between. */
typedef struct sampled {
    dt_graph *g;
    dt_val product, v, later;
} sampled;

static sampled begin(int64_t k)
{
    sampled s = {0};
    cr_assert_eq(dt_graph_create(&s.g), DT_OK);
    dt_val a = matrix(s.g, "dy", 8, 10), b = matrix(s.g, "x", 8, 20);
    s.product = dt_matmul(s.g, a, b, true, false, 1, DT_TYPE_ACC);
    s.later = dt_square(s.g, a);
    dt_graph_mark_output(s.g, s.later);
    s.v = dt_gather(s.g, s.product, entries(s.g, "idx", k));
    dt_graph_mark_output(s.g, s.v);
    return s;
}

static void fuse(const sampled *s)
{
    cr_assert_eq(dt_pass_fuse(s->g), DT_OK, "%s", dt_error_text());
}

Test(sparse, few_entries_are_sampled_where_the_product_was)
{
    sampled s = begin(15);
    fuse(&s);
    const dt_node *n = &s.g->node[dt_value_of(s.g, s.v)->producer];
    cr_assert_eq(n->op, &dt_op_sampled_wgrad);
    cr_assert_eq(n->out[0], s.v);
    cr_assert_eq(count_nodes(s.g, &dt_op_matmul) + count_nodes(s.g, &dt_op_gather), 0);
    cr_assert_eq(&s.g->node[s.g->head], n, "operands are read where the product read them");
    dt_graph_destroy(s.g);
}

Test(sparse, many_entries_are_gathered_right_behind_the_product)
{
    sampled s = begin(16);
    fuse(&s);
    cr_assert_eq(s.g->node[s.g->head].op, &dt_op_matmul);
    int32_t behind = s.g->node[s.g->head].next;
    cr_assert_eq(s.g->node[behind].op, &dt_op_gather);
    cr_assert_eq(s.g->node[behind].out[0], s.v);
    cr_assert_eq(count_nodes(s.g, &dt_op_gather), 1);
    dt_graph_destroy(s.g);
}

Test(sparse, a_product_that_something_else_reads_stays)
{
    sampled s = begin(15);
    dt_graph_mark_output(s.g, dt_square(s.g, s.product));
    fuse(&s);
    cr_assert_eq(count_nodes(s.g, &dt_op_matmul), 1);
    cr_assert_eq(count_nodes(s.g, &dt_op_sampled_wgrad), 0);
    dt_graph_destroy(s.g);
}

Test(sparse, two_samples_of_one_product_need_no_product)
{
    sampled s = begin(3);
    dt_val more = dt_gather(s.g, s.product, entries(s.g, "more", 5));
    dt_graph_mark_output(s.g, more);
    fuse(&s);
    cr_assert_eq(count_nodes(s.g, &dt_op_matmul) + count_nodes(s.g, &dt_op_gather), 0);
    cr_assert_eq(count_nodes(s.g, &dt_op_sampled_wgrad), 2);
    dt_graph_destroy(s.g);

    s = begin(100); /* dense: both gathers move up, and the pass comes to an end */
    more = dt_gather(s.g, s.product, entries(s.g, "more", 150));
    dt_graph_mark_output(s.g, more);
    fuse(&s);
    cr_assert_eq(count_nodes(s.g, &dt_op_gather), 2);
    cr_assert_eq(dt_value_of(s.g, s.later)->producer, s.g->tail);
    dt_graph_destroy(s.g);
}

/* As of the gain and the bias of a normalisation, both trained. */
Test(sparse, gathers_of_two_outputs_of_one_node_stand_behind_it)
{
    dt_graph *g = NULL;
    const int64_t width = 20;
    const char *const name[] = {"gain", "bias"};
    dt_val vector[2];
    cr_assert_eq(dt_graph_create(&g), DT_OK);
    dt_val rows = matrix(g, "x", 8, width);
    for (int i = 0; i < 2; i++)
        vector[i] = dt_scatter_add(g, dt_graph_weight(g, name[i], 1, &width, DT_NO_SPLIT),
                                   entries(g, i == 0 ? "of gain" : "of bias", 5),
                                   dt_graph_param(g, i == 0 ? "gains" : "biases", 1, (int64_t[]){5}, NULL));
    dt_val y = dt_layernorm(g, rows, vector[0], vector[1], 1e-5);
    cr_assert_eq(dt_pass_grad(g, dt_sum(g, y), DT_GRAD_SUM), DT_OK, "%s", dt_error_text());
    cr_assert_eq(dt_pass_fuse(g), DT_OK, "%s", dt_error_text());
    cr_assert_eq(count_nodes(g, &dt_op_gather), 2);
    DT_FOR_NODES (g, i)
        if (g->node[i].op == &dt_op_layernorm_grad) {
            cr_assert_eq(g->node[g->node[i].next].op, &dt_op_gather);
            cr_assert_eq(g->node[g->node[g->node[i].next].next].op, &dt_op_gather);
        }
    dt_graph_destroy(g);
}

Test(sparse, a_frozen_weight_is_updated_in_place_of_the_forward_copy)
{
    enum { ALONE, READ, TRAINED, STACKED };
    for (int how = ALONE; how <= STACKED; how++) {
        dt_graph *g;
        cr_assert_eq(dt_graph_create(&g), DT_OK);
        dt_val weight = dt_graph_weight(g, "w", 2, (int64_t[]){10, 20}, DT_NO_SPLIT), a = matrix(g, "a", 8, 20);
        dt_val i = entries(g, "idx", 3), v = dt_graph_param(g, "val", 1, (int64_t[]){3}, NULL);
        if (how == TRAINED) dt_graph_make_trainable(g, weight);
        dt_val y = dt_scatter_add(g, weight, i, v);
        dt_val v2 = dt_graph_param(g, "val2", 1, (int64_t[]){3}, NULL);
        if (how == STACKED) y = dt_scatter_add(g, y, i, v2);
        dt_graph_mark_output(g, dt_linear(g, a, y, DT_NONE));
        if (how == READ) dt_graph_mark_output(g, dt_linear(g, a, weight, DT_NONE));
        cr_assert_eq(dt_pass_fuse(g), DT_OK);
        bool gone = how == ALONE || how == STACKED;
        cr_assert_eq(count_nodes(g, &dt_op_scatter_add), !gone, "case %d", how);
        cr_assert_eq(g->updates, how == ALONE ? 1 : how == STACKED ? 2 : 0);
        if (gone) {
            cr_assert_eq(g->node[g->head].in[1], weight, "the linear layer reads the weight itself");
            cr_assert_eq(g->update[0].w, weight);
            cr_assert_eq(g->update[0].idx, i);
            cr_assert_eq(g->update[0].val, v);
            if (how == STACKED) cr_assert_eq(g->update[1].val, v2);
        }
        dt_graph_destroy(g);
    }
}
