/* The matrix product: its kernel, its placements, and what the fuse pass makes of sums and factors behind it. */
#include "graph/passes.h"
#include "kernel.h"
#include "op/add.h"
#include "op/cpu.h"
#include "op/matmul.h"
#include "sizes.h"

/* c = alpha op(a) op(b) + c0 (c0 NULL: none). */
static void reference(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const double *a, const double *b,
                      const double *c0, double *c)
{
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double s = 0;
            for (int64_t l = 0; l < k; l++)
                s += (ta ? a[l * m + i] : a[i * k + l]) * (tb ? b[j * k + l] : b[l * n + j]);
            c[i * n + j] = alpha * s + (c0 != NULL ? c0[i * n + j] : 0);
        }
    }
}

Test(matmul, all_transpositions_and_shapes_with_and_without_c)
{
    static const int64_t size[][3] = {{1, 1, 1}, {3, 5, 4}, {1, 17, 9}, {33, 1, 70}, {65, 66, 131}, {8, 130, 64}};
    static double a[65 * 131], b[131 * 130], c[65 * 130], want[65 * 130];
    fill(a, 65 * 131, 1);
    fill(b, 131 * 130, 2);
    fill(c, 65 * 130, 3);
    for (size_t s = 0; s < sizeof size / sizeof *size; s++) {
        for (int v = 0; v < 8; v++) {
            int64_t m = size[s][0], n = size[s][1], k = size[s][2];
            dt_matmul_attr attr = {v & 1, v >> 1 & 1, 0.75, DT_TYPE_ACC};
            bool with_c = v >> 2 != 0;
            reference(attr.ta, attr.tb, m, n, k, attr.alpha, a, b, with_c ? c : NULL, want);
            check_kernel(&(kernel_test){
                KERNEL(matmul),
                ATTR_OF(attr),
                .nin = with_c ? 3 : 2,
                .in = {attr.ta ? MATRIX(k, m, a) : MATRIX(m, k, a), attr.tb ? MATRIX(n, k, b) : MATRIX(k, n, b),
                       MATRIX(m, n, c)},
                .nout = 1,
                .out = {MATRIX(m, n, want)},
            });
        }
    }
}

/* Large enough to be cut into tiles, one a thread. */
Test(matmul, tiles_of_many_threads_cover_the_product)
{
    const int64_t m = 150, n = 131, k = 129;
    double *a = calloc((size_t)(m * k), sizeof *a), *b = calloc((size_t)(k * n), sizeof *b);
    double *want = calloc((size_t)(m * n), sizeof *want);
    fill(a, m * k, 1);
    fill(b, k * n, 2);
    for (int v = 0; v < 4; v++) {
        dt_matmul_attr attr = {v & 1, v >> 1, -1, DT_TYPE_ACC};
        reference(attr.ta, attr.tb, m, n, k, -1, a, b, NULL, want);
        kernel_test t = {
            KERNEL(matmul),
            ATTR_OF(attr),
            .nin = 2,
            .in = {attr.ta ? MATRIX(k, m, a) : MATRIX(m, k, a), attr.tb ? MATRIX(n, k, b) : MATRIX(k, n, b)},
            .nout = 1,
            .out = {MATRIX(m, n, want)}};
        for (int f64 = 0; f64 < 2; f64++) {
            for (int threads = 1; threads <= 7; threads += 2) {
                dt_call call;
                run_kernel(&t, f64, threads, &call);
                for (int64_t i = 0; i < m * n; i++) {
                    double got = f64 ? ((double *)call.out[0].data)[i] : (double)((float *)call.out[0].data)[i];
                    cr_assert_float_eq(got, want[i], f64 ? 1e-12 : 1e-4);
                }
                free_call(&call);
            }
        }
    }
    free(a);
    free(b);
    free(want);
}

void dt_cpu_f64_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const double *a, int64_t lda,
                     const double *b, int64_t ldb, double beta, double *c, int64_t ldc, int threads);

Test(matmul, gemm_respects_row_lengths_and_beta_and_empty_sums)
{
    float a[2 * 5], b[3 * 4], c[2 * 7];
    double da[2 * 5], db[3 * 4], dc[2 * 7];
    for (int i = 0; i < 10; i++) da[i] = a[i] = (float)(i + 1);
    for (int i = 0; i < 12; i++) db[i] = b[i] = (float)(i - 5);
    for (int k = 3; k >= 0; k -= 3) {
        for (int i = 0; i < 14; i++) dc[i] = c[i] = (float)i;
        dt_cpu_f32_gemm(false, false, 2, 3, k, 2, a, 5, b, 4, 0.5f, c, 7, 1);
        dt_cpu_f64_gemm(false, false, 2, 3, k, 2, da, 5, db, 4, 0.5, dc, 7, 1);
        for (int i = 0; i < 2; i++) {
            for (int j = 0; j < 7; j++) {
                double want = i * 7 + j;
                if (j < 3) want *= 0.5;
                for (int l = 0; l < k && j < 3; l++) want += 2 * da[i * 5 + l] * db[l * 4 + j];
                cr_assert_eq(c[i * 7 + j], (float)want);
                cr_assert_eq(dc[i * 7 + j], want);
            }
        }
    }
}

/* ---- placement ---- */

static dt_graph *new_graph(void)
{
    dt_graph *g = NULL;
    cr_assert_eq(dt_graph_create(&g), DT_OK);
    return g;
}

static dt_val matrix(dt_graph *g, const char *name, int64_t rows, int64_t cols)
{
    return dt_graph_input(g, name, DT_TYPE_ACC, 2, (int64_t[]){rows, cols}, DT_NO_SPLIT);
}

/* Places as letters: r, p, l, and the role of the split dimension (m, k, n; for outputs 0, 1). */
static dt_place place_of(char letter, bool transposed, bool is_b)
{
    switch (letter) {
    case 'm': return DT_PLACE_S(transposed);
    case 'n': return DT_PLACE_S(!transposed);
    case 'k': return DT_PLACE_S(is_b ? transposed : !transposed);
    case '0': return DT_PLACE_S(0);
    case '1': return DT_PLACE_S(1);
    case 'p': return DT_PLACE_P;
    case 'l': return DT_PLACE_LSE;
    default: return DT_PLACE_R;
    }
}

static void check_place(dt_graph *g, int32_t node, const char *have, const char *want, char out)
{
    const dt_node *n = &g->node[node];
    const dt_matmul_attr *attr = DT_ATTR(dt_matmul_attr, n);
    const bool t[] = {attr->ta, attr->tb, false};
    dt_place in[DT_MAX_IN], need[DT_MAX_IN], res[DT_MAX_OUT];
    for (int i = 0; i < n->nin; i++) in[i] = need[i] = place_of(have[i], t[i], i == 1);
    n->op->place(&(dt_placing){g, n, DT_AXIS_TENSOR_MAJOR, in, need, res});
    for (int i = 0; i < n->nin; i++)
        cr_assert(dt_place_equal(need[i], place_of(want[i], t[i], i == 1)), "%s, ta %d tb %d: input %d is wanted %d %d",
                  have, t[0], t[1], i, need[i].kind, need[i].dim);
    cr_assert(dt_place_equal(res[0], place_of(out, false, false)), "%s: output %d %d", have, res[0].kind, res[0].dim);
}

Test(matmul, placement_of_every_pair_of_operands)
{
    static const struct {
        const char *have, *want;
        char out;
    } rule[] = {
        {"rr", "rr", 'r'}, {"rk", "kk", 'p'}, {"rn", "rn", '1'}, {"rp", "rp", 'p'}, {"mr", "mr", '0'},
        {"mk", "mr", '0'}, {"mn", "rn", '1'}, {"mp", "mr", '0'}, {"kr", "kk", 'p'}, {"kk", "kk", 'p'},
        {"kn", "rn", '1'}, {"kp", "kk", 'p'}, {"pr", "pr", 'p'}, {"pk", "kk", 'p'}, {"pn", "rn", '1'},
        {"pp", "rp", 'p'}, {"lr", "rr", 'r'}, {"ln", "rn", '1'},
    };
    for (int v = 0; v < 4; v++) {
        bool ta = v & 1, tb = v >> 1;
        dt_graph *g = new_graph();
        dt_val a = ta ? matrix(g, "a", 4, 2) : matrix(g, "a", 2, 4),
               b = tb ? matrix(g, "b", 6, 4) : matrix(g, "b", 4, 6);
        int32_t node = dt_value_of(g, dt_matmul(g, a, b, ta, tb, 1, DT_TYPE_ACT))->producer;
        for (size_t i = 0; i < sizeof rule / sizeof *rule; i++)
            check_place(g, node, rule[i].have, rule[i].want, rule[i].out);
        dt_value_of(g, a)->kind = DT_KIND_WEIGHT; /* the smaller one, but a weight */
        check_place(g, node, "mn", "mr", '0');
        check_place(g, node, "pp", "pr", 'p');
        dt_graph_destroy(g);
    }
}

Test(matmul, placement_of_c_agrees_with_the_product)
{
    static const struct {
        const char *have, *want;
        char out;
    } rule[] = {
        {"rrr", "rrr", 'r'}, {"rn1", "rn1", '1'}, {"rnr", "rn1", '1'}, {"rnp", "rn1", '1'}, {"kkp", "kkp", 'p'},
        {"kkr", "rrr", 'r'}, {"kk0", "mr0", '0'}, {"pr1", "rn1", '1'}, {"mr1", "mr0", '0'}, {"rrl", "rrr", 'r'},
    };
    for (int v = 0; v < 4; v++) {
        bool ta = v & 1, tb = v >> 1;
        dt_graph *g = new_graph();
        dt_val a = ta ? matrix(g, "a", 4, 2) : matrix(g, "a", 2, 4),
               b = tb ? matrix(g, "b", 6, 4) : matrix(g, "b", 4, 6);
        dt_val c = dt_scale(g, matrix(g, "c", 2, 6), 1);
        int32_t node = dt_value_of(g, dt_matmul_add(g, a, b, c, ta, tb, 1))->producer;
        for (size_t i = 0; i < sizeof rule / sizeof *rule; i++)
            check_place(g, node, rule[i].have, rule[i].want, rule[i].out);
        dt_graph_destroy(g);
    }
}

Test(matmul, misfitting_operands_are_named)
{
    dt_graph *g = new_graph();
    cr_assert_eq(dt_matmul(g, matrix(g, "left", 2, 3), matrix(g, "right", 4, 5), false, false, 1, DT_TYPE_ACT),
                 DT_NONE);
    cr_assert_eq(dt_graph_status(g), DT_ERR_INTERNAL);
    cr_assert(strstr(dt_error_text(), "left") != NULL && strstr(dt_error_text(), "3 and 4") != NULL);
    dt_graph_destroy(g);
    g = new_graph(); /* the result may lie where C does: that is no factor */
    dt_val c = matrix(g, "c", 2, 2);
    cr_assert_eq(dt_matmul_add(g, c, c, c, false, false, 1), DT_NONE);
    dt_graph_destroy(g);
}

/* ---- fuse ---- */

static int count_nodes(const dt_graph *g, const dt_op *op)
{
    int n = 0;
    DT_FOR_NODES (g, i) n += g->node[i].op == op;
    return n;
}

/* Plans the graph; do a and b lie at one place of the arena? */
static bool share_storage(dt_graph *g, dt_val a, dt_val b)
{
    dt_plan plan;
    cr_assert_eq(dt_pass_plan(g, &device_fp32, &plan), DT_OK);
    bool share = plan.offset[a] >= 0 && plan.offset[a] == plan.offset[b];
    dt_plan_free(&plan);
    return share;
}

Test(matmul, a_product_is_added_in_the_storage_of_a_temporary)
{
    for (int swap = 0; swap < 2; swap++) {
        dt_graph *g = new_graph();
        dt_val x = matrix(g, "x", 4, 3), w = matrix(g, "w", 5, 3);
        dt_val y = dt_linear(g, x, w, DT_NONE), z = dt_matmul(g, x, w, false, true, 0.5, DT_TYPE_ACC);
        dt_val sum = swap ? dt_add(g, z, y) : dt_add(g, y, z), end = dt_square(g, sum);
        dt_graph_mark_output(g, end);
        cr_assert_eq(dt_pass_fuse(g), DT_OK);
        cr_assert_eq(count_nodes(g, &dt_op_add), 0);
        cr_assert_eq(count_nodes(g, &dt_op_matmul), 2);
        const dt_node *last = &g->node[dt_value_of(g, sum)->producer];
        cr_assert_eq(last->op, &dt_op_matmul);
        cr_assert_eq(last->nin, 3);
        cr_assert_eq(last->out[0], sum);
        cr_assert(share_storage(g, sum, last->in[2]));
        dt_graph_destroy(g);
    }
}

/* Read later; by the host; an input; of another program: the sum has storage of its own. Only the last y is spare. */
Test(matmul, a_sum_leaves_what_is_still_needed_where_it_is)
{
    for (int reason = 0; reason < 5; reason++) {
        dt_graph *g = new_graph();
        dt_val x = matrix(g, "x", 4, 3), w = matrix(g, "w", 5, 3), u = matrix(g, "u", 3, 5);
        if (reason == 3) g->program = DT_PROLOGUE;
        dt_val y = reason == 2 ? matrix(g, "y", 4, 5) : dt_scale(g, dt_square(g, matrix(g, "y", 4, 5)), 2);
        g->program = DT_MICRO;
        dt_val inner = reason == 4 ? dt_matmul(g, y, w, false, false, 1, DT_TYPE_ACC) : x;
        dt_val sum = dt_add(g, y, dt_matmul(g, inner, u, false, false, 1, DT_TYPE_ACC));
        dt_graph_mark_output(g, dt_square(g, sum));
        if (reason == 0) dt_graph_mark_output(g, dt_square(g, y));
        if (reason == 1) dt_graph_mark_output(g, y);
        cr_assert_eq(dt_pass_fuse(g), DT_OK);
        cr_assert_eq(count_nodes(g, &dt_op_add), 0, "reason %d", reason);
        cr_assert_eq(share_storage(g, sum, y), reason == 4, "reason %d", reason);
        dt_graph_destroy(g);
    }
}

/* The product is read elsewhere; y is made behind it; y is a factor of it. */
Test(matmul, a_sum_stays_where_its_product_cannot_take_it)
{
    for (int reason = 0; reason < 3; reason++) {
        dt_graph *g = new_graph();
        dt_val x = matrix(g, "x", 4, 3), u = matrix(g, "u", 3, 5), y = dt_square(g, matrix(g, "y", 4, 5));
        dt_val z = reason == 2 ? dt_matmul(g, y, matrix(g, "v", 5, 5), false, false, 1, DT_TYPE_ACC)
                               : dt_matmul(g, x, u, false, false, 1, DT_TYPE_ACC);
        if (reason == 1) y = dt_square(g, y);
        dt_graph_mark_output(g, dt_square(g, dt_add(g, y, z)));
        if (reason == 0) dt_graph_mark_output(g, dt_square(g, z));
        cr_assert_eq(dt_pass_fuse(g), DT_OK);
        cr_assert_eq(count_nodes(g, &dt_op_add), 1, "reason %d", reason);
        dt_graph_destroy(g);
    }
}

/* h + (x W + u V): the first product takes h, though h is needed later. */
Test(matmul, a_sum_goes_into_the_first_of_a_chain_of_products)
{
    for (int swap = 0; swap < 2; swap++) {
        dt_graph *g = new_graph();
        dt_val h = dt_square(g, matrix(g, "h", 4, 5));
        dt_val y = dt_matmul(g, matrix(g, "x", 4, 3), matrix(g, "w", 3, 5), false, false, 1, DT_TYPE_ACC);
        dt_val v = dt_matmul(g, matrix(g, "u", 4, 2), matrix(g, "v", 2, 5), false, false, 1, DT_TYPE_ACC);
        dt_val z = dt_add(g, y, v), sum = swap ? dt_add(g, z, h) : dt_add(g, h, z);
        dt_graph_mark_output(g, dt_square(g, sum));
        dt_graph_mark_output(g, dt_square(g, h));
        cr_assert_eq(dt_pass_fuse(g), DT_OK);
        cr_assert_eq(count_nodes(g, &dt_op_add), 0);
        const dt_node *last = &g->node[dt_value_of(g, sum)->producer];
        const dt_node *first = &g->node[dt_value_of(g, last->in[2])->producer];
        cr_assert_eq(first->in[2], h);
        cr_assert_eq(first->out[0], y);
        cr_assert(!share_storage(g, y, h));
        cr_assert(share_storage(g, y, sum));
        dt_graph_destroy(g);
    }
}

/* What is added along the chain must have one type: sums in between are rounded to it. */
Test(matmul, a_sum_of_another_type_stays_behind_a_chain)
{
    dt_graph *g = new_graph();
    dt_val h = dt_square(g, matrix(g, "h", 4, 5));
    dt_val y = dt_matmul(g, matrix(g, "x", 4, 3), matrix(g, "w", 3, 5), false, false, 1, DT_TYPE_ACT);
    dt_val v = dt_matmul(g, matrix(g, "u", 4, 2), matrix(g, "v", 2, 5), false, false, 1, DT_TYPE_ACT);
    dt_graph_mark_output(g, dt_square(g, dt_add(g, h, dt_add(g, y, v))));
    cr_assert_eq(dt_pass_fuse(g), DT_OK);
    cr_assert_eq(count_nodes(g, &dt_op_add), 1);
    dt_graph_destroy(g);
}

Test(matmul, an_accumulator_is_added_to_by_the_product_itself)
{
    dt_graph *g = new_graph();
    dt_val x = matrix(g, "x", 4, 3), dy = matrix(g, "dy", 4, 5);
    dt_val acc = dt_graph_state(g, "acc", DT_TYPE_ACC, 2, (int64_t[]){5, 3}, DT_NO_SPLIT);
    dt_accumulate(g, acc, dt_scale(g, dt_matmul(g, dy, x, true, false, 3, DT_TYPE_ACC), 0.5));
    cr_assert_eq(dt_pass_fuse(g), DT_OK);
    cr_assert_eq(g->head, g->tail, "one node is left");
    const dt_node *n = &g->node[g->head];
    cr_assert_eq(n->op, &dt_op_matmul);
    cr_assert_eq(n->in[2], acc);
    cr_assert_eq(DT_ATTR(dt_matmul_attr, n)->alpha, 1.5);
    cr_assert_eq(dt_value_of(g, n->out[0])->base, acc);
    dt_graph_destroy(g);
}

Test(matmul, an_accumulator_of_another_placement_is_left_alone)
{
    dt_graph *g = new_graph();
    dt_val acc = dt_graph_state(g, "acc", DT_TYPE_ACC, 2, (int64_t[]){5, 3}, DT_NO_SPLIT);
    dt_val product = dt_matmul(g, matrix(g, "dy", 4, 5), matrix(g, "x", 4, 3), true, false, 1, DT_TYPE_ACC);
    dt_accumulate(g, acc, product);
    dt_value_of(g, product)->place[DT_AXIS_DATA] = DT_PLACE_P;
    cr_assert_eq(dt_pass_fuse(g), DT_OK);
    cr_assert_eq(count_nodes(g, &dt_op_accumulate), 1);
    dt_graph_destroy(g);
}

Test(matmul, an_accumulator_read_in_between_is_left_alone)
{
    dt_graph *g = new_graph();
    dt_val acc = dt_graph_state(g, "acc", DT_TYPE_ACC, 2, (int64_t[]){5, 3}, DT_NO_SPLIT);
    dt_val product = dt_matmul(g, matrix(g, "dy", 4, 5), matrix(g, "x", 4, 3), true, false, 1, DT_TYPE_ACC);
    dt_graph_mark_output(g, dt_square(g, acc));
    dt_accumulate(g, acc, product);
    cr_assert_eq(dt_pass_fuse(g), DT_OK);
    cr_assert_eq(count_nodes(g, &dt_op_accumulate), 1);
    dt_graph_destroy(g);
}
