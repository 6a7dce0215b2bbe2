/* Building and editing a graph: the list of nodes and its cursor, names, uses, pruning, errors that stick. */
#include "graph/emit.h"
#include "op/add.h"
#include "op/matmul.h"
#include "op/op.h"
#include "op/rmsnorm.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static dt_graph *g;
static dt_val x; /* an input [2,3] */

static void begin(void)
{
    cr_assert_eq(dt_graph_create(&g), DT_OK);
    x = dt_graph_input(g, "x", DT_TYPE_ACT, 2, (int64_t[]){2, 3}, DT_NO_SPLIT);
}

static void end(void)
{
    dt_graph_destroy(g);
}

/* The list read forwards is `expected`, and read backwards its reverse. */
static void check_list(const int32_t *expected, int n)
{
    int k = 0;
    DT_FOR_NODES (g, i) {
        cr_assert_lt(k, n);
        cr_assert_eq(i, expected[k], "node %d of the list is %d, not %d", k, i, expected[k]);
        k++;
    }
    cr_assert_eq(k, n);
    for (int32_t i = g->tail; i != DT_NONE; i = g->node[i].prev) cr_assert_eq(i, expected[--k]);
    cr_assert_eq(k, 0);
}
#define CHECK_LIST(...) check_list((const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / 4)

static int32_t node_of(dt_val v)
{
    return dt_value_of(g, v)->producer;
}

Test(graph_build, nodes_go_in_behind_the_cursor, .init = begin, .fini = end)
{
    int32_t a = node_of(dt_scale(g, x, 1)), b = node_of(dt_scale(g, x, 2));
    CHECK_LIST(a, b);
    dt_graph_seek(g, a);
    int32_t c = node_of(dt_scale(g, x, 3)), d = node_of(dt_scale(g, x, 4));
    CHECK_LIST(a, c, d, b);
    dt_graph_seek(g, DT_NONE);
    int32_t e = node_of(dt_scale(g, x, 5));
    CHECK_LIST(e, a, c, d, b);
    dt_graph_seek_end(g);
    int32_t f = node_of(dt_scale(g, x, 6));
    CHECK_LIST(e, a, c, d, b, f);
}

Test(graph_build, a_removed_node_leaves_the_list_and_the_cursor_in_order, .init = begin, .fini = end)
{
    int32_t n[5];
    for (int i = 0; i < 5; i++) n[i] = node_of(dt_scale(g, x, i));
    dt_graph_remove(g, n[2]);
    CHECK_LIST(n[0], n[1], n[3], n[4]);
    dt_graph_remove(g, n[0]);
    CHECK_LIST(n[1], n[3], n[4]);
    dt_graph_seek_end(g);
    dt_graph_remove(g, n[4]); /* under the cursor */
    dt_graph_remove(g, n[4]); /* nothing the second time */
    int32_t more = node_of(dt_scale(g, x, 7));
    CHECK_LIST(n[1], n[3], more);
    dt_graph_seek(g, n[1]);
    dt_graph_remove(g, n[1]);
    int32_t first = node_of(dt_scale(g, x, 8));
    CHECK_LIST(first, n[3], more);
}

Test(graph_build, large_graphs_keep_their_links, .init = begin, .fini = end)
{
    dt_val v = x;
    for (int i = 0; i < 3000; i++) v = dt_scale(g, v, 1);
    cr_assert_eq(dt_graph_status(g), DT_OK);
    int n = 0;
    dt_val before = x;
    DT_FOR_NODES (g, i) {
        cr_assert_eq(g->node[i].in[0], before);
        before = g->node[i].out[0];
        n++;
    }
    cr_assert_eq(n, 3000);
    cr_assert_eq(before, v);
}

Test(graph_build, a_value_takes_the_shape_of_another_one, .init = begin, .fini = end)
{
    dt_val v = x;
    for (int i = 0; i < 3000; i++) v = dt_graph_temp(g, DT_TYPE_ACC, 2, dt_value_of(g, v)->dim);
    cr_assert_eq(dt_value_of(g, v)->dim[0], 2);
    cr_assert_eq(dt_value_of(g, v)->dim[1], 3);
}

Test(graph_build, uses_are_replaced_behind_a_node_only, .init = begin, .fini = end)
{
    dt_val a = dt_scale(g, x, 1), b = dt_scale(g, a, 2), c = dt_scale(g, a, 3), d = dt_add(g, a, a);
    dt_graph_mark_output(g, a);
    cr_assert_eq(dt_graph_use_count(g, a), 5);
    dt_graph_replace_uses(g, a, x, node_of(b));
    cr_assert_eq(g->node[node_of(b)].in[0], a);
    cr_assert_eq(g->node[node_of(c)].in[0], x);
    cr_assert_eq(g->node[node_of(d)].in[0], x);
    cr_assert_eq(g->node[node_of(d)].in[1], x);
    cr_assert_eq(g->output[0], x, "what the host reads moves too");
    cr_assert_eq(dt_graph_use_count(g, a), 1);
    dt_graph_replace_uses(g, a, x, DT_NONE);
    cr_assert_eq(dt_graph_use_count(g, a), 0);
}

Test(graph_build, names_find_persistent_values_and_stand_for_one, .init = begin, .fini = end)
{
    dt_val w = dt_graph_weight(g, "w", 1, (int64_t[]){3}, DT_NO_SPLIT), t = dt_scale(g, x, 1);
    cr_assert_eq(dt_graph_find(g, "w"), w);
    cr_assert_eq(dt_graph_find(g, "nobody"), DT_NONE);
    cr_assert_eq(dt_graph_find(g, dt_value_of(g, t)->name), DT_NONE, "temporaries are not found by name");
    cr_assert_eq(dt_graph_state(g, "w", DT_TYPE_ACC, 1, (int64_t[]){3}, DT_NO_SPLIT), DT_NONE);
    cr_assert_eq(dt_graph_status(g), DT_ERR_CONFIG);
    cr_assert_str_eq(dt_error_text(), "the name w stands for two values");
}

Test(graph_build, sites_and_constants_are_copied, .init = begin, .fini = end)
{
    char path[] = "model.x", role[] = "x";
    int32_t data[] = {4, 5};
    dt_graph_add_site(g, (dt_site){.path = path, .role = role});
    dt_val c = dt_graph_const(g, "c", DT_TYPE_I32, 1, (int64_t[]){2}, data);
    path[0] = role[0] = '?';
    data[1] = 0;
    cr_assert_str_eq(g->site[0].path, "model.x");
    cr_assert_str_eq(g->site[0].role, "x");
    cr_assert_eq(((const int32_t *)dt_value_of(g, c)->host)[1], 5);
}

Test(graph_build, only_weights_become_trainable, .init = begin, .fini = end)
{
    dt_val w = dt_graph_weight(g, "w", 1, (int64_t[]){3}, DT_NO_SPLIT);
    dt_graph_make_trainable(g, w);
    dt_graph_make_trainable(g, w);
    dt_graph_make_trainable(g, DT_NONE);
    cr_assert_eq(dt_value_of(g, w)->kind, DT_KIND_PARAM);
    cr_assert_eq(dt_graph_status(g), DT_OK);
    dt_graph_make_trainable(g, x);
    cr_assert_eq(dt_graph_status(g), DT_ERR_INTERNAL);
    cr_assert(strstr(dt_error_text(), "x is no weight") != NULL, "%s", dt_error_text());
}

Test(graph_build, the_first_error_sticks, .init = begin, .fini = end)
{
    dt_val other = dt_graph_input(g, "other", DT_TYPE_ACT, 2, (int64_t[]){3, 2}, DT_NO_SPLIT), ok = dt_scale(g, x, 1);
    int64_t nodes = g->nodes;
    cr_assert_eq(dt_add(g, x, other), DT_NONE);
    cr_assert_eq(dt_scale(g, ok, 1), DT_NONE, "nothing is built on after an error");
    cr_assert_eq(dt_graph_input(g, "late", DT_TYPE_ACT, 1, (int64_t[]){1}, DT_NO_SPLIT), DT_NONE);
    cr_assert_eq(dt_matmul(g, x, x, false, false, 1, DT_TYPE_ACT), DT_NONE);
    cr_assert_eq(dt_graph_out(g, DT_NONE, 0), DT_NONE);
    cr_assert_eq(g->nodes, nodes);
    dt_graph_fail(g, DT_ERR_CONFIG, "a second error");
    dt_error_clear();
    cr_assert_eq(dt_graph_status(g), DT_ERR_INTERNAL);
    cr_assert_str_eq(dt_error_text(), "add: x and other differ in shape");
}

Test(graph_build, builders_given_nothing_build_nothing, .init = begin, .fini = end)
{
    cr_assert_eq(dt_add(g, x, DT_NONE), DT_NONE);
    cr_assert_eq(dt_rmsnorm(g, DT_NONE, x, 1), DT_NONE);
    cr_assert_eq(g->nodes, 0);
    cr_assert_eq(dt_graph_status(g), DT_OK);
}

Test(graph_build, a_rank_may_hold_nothing_of_a_delta_but_not_of_the_backbone, .init = begin, .fini = end)
{
    cr_assert_neq(dt_graph_param(g, "p", 1, (int64_t[]){0}, NULL), DT_NONE);
    dt_val state = dt_graph_state(g, "s", DT_TYPE_ACC, 1, (int64_t[]){0}, DT_NO_SPLIT);
    cr_assert_neq(dt_all_reduce(g, state, DT_AXES_DATA, DT_COMM_SUM), DT_NONE);
    cr_assert_eq(dt_graph_weight(g, "w", 2, (int64_t[]){4, 0}, DT_NO_SPLIT), DT_NONE);
    cr_assert_eq(dt_graph_status(g), DT_ERR_INTERNAL);
    cr_assert(strstr(dt_error_text(), "w: dimension 1 is 0") != NULL, "%s", dt_error_text());
}

Test(graph_build, a_value_that_is_larger_than_memory_can_be_is_an_error, .init = begin, .fini = end)
{
    cr_assert_neq(dt_graph_weight(g, "large", 3, (int64_t[]){1 << 20, 1 << 20, 1 << 19}, DT_NO_SPLIT), DT_NONE);
    cr_assert_eq(dt_graph_weight(g, "larger", 3, (int64_t[]){1 << 20, 1 << 20, 1 << 20}, DT_NO_SPLIT), DT_NONE);
    cr_assert_eq(dt_graph_status(g), DT_ERR_CONFIG);
    cr_assert_str_eq(dt_error_text(), "value larger is larger than memory can be");
}

Test(graph_build, prune_takes_away_what_nobody_reads, .init = begin, .fini = end)
{
    dt_val kept = dt_scale(g, x, 1), dead = dt_scale(g, x, 2);
    dt_scale(g, dead, 3); /* read by a node that is dead itself */
    dt_val result = dt_scale(g, kept, 4);
    dt_graph_mark_output(g, result);
    dt_graph_prune(g);
    CHECK_LIST(node_of(kept), node_of(result));
    cr_assert(g->node[node_of(dead)].dead);
}

Test(graph_build, prune_keeps_who_writes_a_persistent_value, .init = begin, .fini = end)
{
    const int64_t two[] = {2, 2};
    dt_val acc = dt_graph_state(g, "acc", DT_TYPE_ACC, 2, two, DT_NO_SPLIT);
    dt_val a = dt_scale(g, x, 1), sum = dt_accumulate(g, acc, dt_matmul(g, a, x, false, true, 1, DT_TYPE_ACC));
    /* added to what the first one wrote: the same storage, two steps away */
    dt_val again = dt_accumulate(g, sum, dt_matmul(g, x, x, false, true, 1, DT_TYPE_ACC));
    dt_val aside = dt_matmul(g, x, x, false, true, 1, DT_TYPE_ACC); /* a temporary of its own */
    dt_val lost = dt_matmul_add(g, x, x, aside, false, true, 1);
    dt_graph_prune(g);
    cr_assert(!g->node[node_of(again)].dead);
    cr_assert(!g->node[node_of(sum)].dead);
    cr_assert(!g->node[node_of(a)].dead);
    cr_assert(g->node[node_of(lost)].dead, "a sum with a temporary that nobody reads");
    cr_assert(g->node[node_of(aside)].dead);
}

Test(graph_build, prune_clears_optional_outputs_that_nobody_reads, .init = begin, .fini = end)
{
    dt_val gain = dt_graph_weight(g, "gain", 1, (int64_t[]){3}, DT_NO_SPLIT);
    dt_val y = dt_rmsnorm(g, x, gain, 1e-5), z = dt_rmsnorm(g, x, gain, 1e-5);
    dt_val rstd = g->node[node_of(z)].out[1];
    dt_graph_mark_output(g, y);
    dt_graph_mark_output(g, rstd);
    dt_graph_prune(g);
    cr_assert_eq(g->node[node_of(y)].out[0], y);
    cr_assert_eq(g->node[node_of(y)].out[1], DT_NONE);
    cr_assert_eq(g->node[node_of(z)].out[0], DT_NONE, "the first output is as optional as the second");
    cr_assert_eq(g->node[node_of(z)].out[1], rstd);
}

Test(graph_build, an_update_of_the_same_values_is_recorded_once, .init = begin, .fini = end)
{
    dt_graph_add_update(g, 1, 2, 3);
    dt_graph_add_update(g, 1, 2, 3);
    dt_graph_add_update(g, 1, 2, 4);
    cr_assert_eq(g->updates, 2);
    cr_assert_eq(g->update[1].val, 4);
}
