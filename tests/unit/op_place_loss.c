/* Placement rules of attention, of the head, of losses and of selected entries. */
#include "op/attention.h"
#include "op/op.h"
#include "op/sparse.h"
#include "op/update.h"
#include "op/xent.h"
#include "place.h"

enum { N = 4, H = 4, HK = 2, D = 2, V = 6, K = 3 };

static dt_graph *g;
static dt_val q, k, v, pos, h, w, targets, x, idx;

static dt_val input(const char *name, dt_type type, int ndim, int64_t rows, int64_t cols)
{
    return dt_graph_input(g, name, type, ndim, (int64_t[]){rows, cols}, DT_NO_SPLIT);
}

static void begin(void)
{
    cr_assert_eq(dt_graph_create(&g), DT_OK);
    g->tokens = N;
    q = input("q", DT_TYPE_ACT, 2, N, H * D);
    k = input("k", DT_TYPE_ACT, 2, N, HK * D);
    v = input("v", DT_TYPE_ACT, 2, N, HK * D);
    pos = input("pos", DT_TYPE_I32, 1, N, 1);
    h = input("h", DT_TYPE_ACT, 2, N, D);
    w = dt_graph_weight(g, "w", 2, (int64_t[]){V, D}, DT_NO_SPLIT);
    targets = input("targets", DT_TYPE_I32, 1, N, 1);
    x = input("x", DT_TYPE_ACC, 1, N, 1);
    idx = input("idx", DT_TYPE_I32, 1, K, 1);
}

static void end(void)
{
    dt_graph_destroy(g);
}

static int32_t node_of(dt_val of)
{
    return dt_value_of(g, of)->producer;
}

/* The node that the gradient of `of` emits, all derivatives being there and those of the first `wanted` inputs asked
 * for. */
static int32_t gradient_of_first(dt_val of, int wanted, const dt_op *expected)
{
    const dt_node n = g->node[node_of(of)];
    dt_val din[DT_MAX_IN], dout[DT_MAX_OUT] = {DT_NONE, DT_NONE, DT_NONE, DT_NONE};
    bool want[DT_MAX_IN] = {false};
    for (int i = 0; i < wanted; i++) want[i] = true;
    dout[0] = n.out[0];
    if (n.op == &dt_op_xent) dout[1] = n.out[1];
    n.op->grad(g, &n, dout, want, din);
    cr_assert_eq(dt_graph_status(g), DT_OK, "%s", dt_error_text());
    cr_assert_eq(g->node[g->cursor].op, expected);
    return g->cursor;
}

static int32_t gradient_node(dt_val of, const dt_op *expected)
{
    return gradient_of_first(of, 3, expected);
}

Test(place_loss, attention_splits_heads_over_tensor_axes_and_tokens_over_data, .init = begin, .fini = end)
{
    dt_val o = dt_attention(g, q, k, v, pos, N, D, H, HK, 1, 0);
    int32_t node = node_of(o), grad = gradient_node(o, &dt_op_attention_grad);
    CHECK(node, {"rrrr", "rrrr", "rr"}, {"111r", "111r", "11"}, {"1rrr", "1rrr", "11"}, {"11rr", "111r", "11"},
          {"r11r", "rrrr", "rr"}, {"000r", "rrrr", "rr"}, {"pppr", "rrrr", "rr"}, {"1ppr", "1rrr", "11"},
          {"1110", "111r", "11"});
    CHECK_DATA(node, {"0000", "0000", "00"}, {"rrr0", "rrrr", "rr"}, {"000r", "0000", "00"}, {"r0r0", "0000", "00"},
               {"p000", "0000", "00"}, {"rrrr", "rrrr", "rr"});
    /* do, q, k, v, o, lse, pos */
    CHECK(grad, {"rrrrrrr", "rrrrrrr", "rrr"}, {"111111r", "111111r", "111"}, {"11rr11r", "11rr11r", "1pp"},
          {"p11111r", "111111r", "111"}, {"r1rrr1r", "11rr11r", "1pp"}, {"0r11rrr", "rrrrrrr", "rrr"});
    CHECK_DATA(grad, {"0000000", "0000000", "000"}, {"p000000", "0000000", "000"}, {"rrrrrrr", "rrrrrrr", "rrr"});
    g->sequence = true; /* tokens are whole here all the same */
    CHECK(node, {"pppr", "rrrr", "rr"}, {"000r", "rrrr", "rr"});
}

Test(place_loss, caches_stay_where_they_are, .init = begin, .fini = end)
{
    dt_val kc = dt_graph_state(g, "kc", DT_TYPE_ACT, 2, (int64_t[]){9, HK * D}, DT_NO_SPLIT);
    dt_val vc = dt_graph_state(g, "vc", DT_TYPE_ACT, 2, (int64_t[]){9, HK * D}, DT_NO_SPLIT);
    dt_val o = dt_attention_cached(g, q, k, v, kc, vc, input("start", DT_TYPE_I32, 1, 1, 1), D, H, HK, 1, 0);
    CHECK(node_of(o), {"rrrrrr", "rrrrrr", "rrr"}, {"11111r", "11111r", "111"}, {"111rrr", "1rrrrr", "1rr"},
          {"rrr11r", "11111r", "111"}, {"ppprrr", "rrrrrr", "rrr"});
}

Test(place_loss, the_head_splits_the_vocabulary_or_the_tokens, .init = begin, .fini = end)
{
    dt_val lse, target;
    dt_xent(g, h, w, targets, &lse, &target);
    int32_t node = node_of(lse), grad = gradient_node(lse, &dt_op_xent_grad);
    /* lse, target; expected, own */
    CHECK(node, {"rrr", "rrr", "rrrr"}, {"r0r", "r0r", "lppp"}, {"00r", "r0r", "lppp"}, {"0rr", "0r0", "0000"},
          {"prr", "rrr", "rrrr"}, {"p0r", "r0r", "lppp"}, {"11r", "rrr", "rrrr"}, {"rr0", "rrr", "rrrr"});
    CHECK_DATA(node, {"0r0", "0r0", "0000"}, {"rr0", "rrr", "rrrr"});
    /* expected, own, W, targets, lse, dlse, dtarget */
    CHECK(gradient_of_first(lse, 1, &dt_op_xent_dh), {"rrrrrrr", "rrrrrrr", "r"}, {"pp0rlpr", "pp0rrrr", "p"},
          {"00r0000", "00r0000", "0"}, {"00rrrrr", "00r0000", "0"}, {"rrrrllp", "rrrrrrr", "r"});
    /* h, W, targets, lse, dlse, dtarget */
    CHECK(grad, {"rrrrrr", "rrrrrr", "rr"}, {"r0rlrp", "r0rrrr", "p0"}, {"00rlpr", "r0rrrr", "p0"},
          {"0r0000", "0r0000", "0p"}, {"0rrrrr", "0r0000", "0p"}, {"prrrrr", "rrrrrr", "rr"});
    g->sequence = true;
    CHECK(node, {"prr", "0r0", "0000"}, {"p0r", "r0r", "lppp"});
    CHECK(grad, {"p0rlpr", "r0rrrr", "p0"});
}

Test(place_loss, losses_follow_the_tokens, .init = begin, .fini = end)
{
    dt_val nll = dt_nll(g, x, x, targets), s = dt_sum(g, nll);
    CHECK(node_of(nll), {"rrr", "rrr", "r"}, {"lpr", "rrr", "r"}, {"000", "000", "0"}, {"rr0", "000", "0"},
          {"l00", "000", "0"});
    CHECK(gradient_node(nll, &dt_op_nll_grad), {"rr", "rr", "rr"}, {"0r", "00", "00"}, {"pr", "rr", "rr"},
          {"r0", "00", "00"});
    CHECK(node_of(s), {"r", "r", "r"}, {"0", "0", "p"}, {"p", "p", "p"}, {"l", "r", "r"});
    CHECK(gradient_node(s, &dt_op_broadcast), {"rr", "rr", "r"}, {"r0", "r0", "0"}, {"pp", "rp", "r"},
          {"p0", "r0", "0"}, {"rl", "rl", "r"});
    dt_val logits = input("logits", DT_TYPE_ACC, 2, N, V);
    CHECK(node_of(dt_sample(g, logits, targets, pos, 1)), {"rrr", "rrr", "r"}, {"1rr", "rrr", "r"}, {"000", "000", "0"},
          {"0rr", "000", "0"}, {"prr", "rrr", "r"});
}

Test(place_loss, selected_entries_lie_where_their_matrix_does, .init = begin, .fini = end)
{
    dt_val val = input("val", DT_TYPE_ACC, 1, K, 1), dy = input("dy", DT_TYPE_ACT, 2, N, V);
    dt_val trained = dt_scatter_add(g, w, idx, val);
    CHECK(node_of(dt_gather(g, w, idx)), {"rr", "rr", "r"}, {"00", "00", "0"}, {"10", "10", "0"}, {"pr", "pr", "p"},
          {"lr", "rr", "r"});
    CHECK(node_of(trained), {"rrr", "rrr", "r"}, {"000", "000", "0"}, {"100", "100", "1"}, {"prr", "rrr", "r"});
    dt_val weight = dt_graph_state(g, "state", DT_TYPE_ACT, 2, (int64_t[]){V, D}, DT_NO_SPLIT);
    CHECK(node_of(dt_scatter_copy(g, weight, idx, val)), {"rrr", "rrr", "r"}, {"100", "100", "1"});
    /* dy[N,O], x[N,I], idx */
    CHECK(node_of(dt_sampled_wgrad(g, dy, h, idx)), {"rrr", "rrr", "r"}, {"00r", "00r", "p"}, {"0rr", "00r", "p"},
          {"r0r", "00r", "p"}, {"1r0", "1r0", "0"}, {"100", "1r0", "0"}, {"r10", "r10", "0"}, {"010", "r10", "0"},
          {"p10", "r10", "0"}, {"1p0", "1r0", "0"}, {"prr", "prr", "p"}, {"rpr", "rpr", "p"}, {"ppr", "rpr", "p"},
          {"p0r", "00r", "p"});
}

Test(place_loss, updates_take_flat_buffers_as_they_are, .init = begin, .fini = end)
{
    dt_val state[4], hyper = input("hyper", DT_TYPE_ACC, 1, DT_HYPER_COUNT, 1);
    static const char *const names[] = {"p", "m", "s", "grad"};
    for (int i = 0; i < 4; i++) state[i] = dt_graph_state(g, names[i], DT_TYPE_ACC, 1, (int64_t[]){K}, DT_NO_SPLIT);
    dt_val norm = dt_grad_norm(g, state[3], DT_NONE, 1);
    CHECK(node_of(norm), {"rr", "rr", "r"});
    dt_adamw(g, state[0], state[1], state[2], state[3], hyper, norm, (dt_adamw_attr){0.9, 0.99, 1e-8, 0, 1});
    CHECK(g->cursor, {"rrrrrr", "rrrrrr", "rrr"}, {"0000rr", "0000rr", "000"});
    dt_sgd(g, state[0], DT_NONE, state[3], hyper, norm, (dt_sgd_attr){0, 0, 1});
    cr_assert_eq(g->node[g->cursor].out[1], DT_NONE);
    cr_assert_eq(g->node[g->cursor].out[2], DT_NONE);
    cr_assert_eq(dt_value_of(g, g->node[g->cursor].out[0])->base, state[0]);
    dt_sgd(g, state[0], state[1], state[3], hyper, norm, (dt_sgd_attr){0.9, 0, 1});
    CHECK(g->cursor, {"rrrrr", "rrrrr", "rrr"});
    cr_assert_eq(dt_value_of(g, g->node[g->cursor].out[2])->base, state[1]);
    cr_assert_eq(dt_graph_status(g), DT_OK, "%s", dt_error_text());
}

/* Shapes that do not fit are errors that name the op or the value. */
Test(place_loss, misfits_are_named)
{
    static const char *const expected[] = {"attention", "whole sequences", "3 query heads", "odd",  "odd",
                                           "nll",       "scatter_add",     "sampled_wgrad", "adamw"};
    for (int i = 0; i < 9; i++) {
        begin();
        dt_val odd = input("odd", DT_TYPE_ACT, 2, N, H * D + 1), few = input("few", DT_TYPE_ACC, 1, N - 1, 1), lse;
        dt_val hyper = input("hyper", DT_TYPE_ACC, 1, DT_HYPER_COUNT, 1);
        dt_val p = dt_graph_state(g, "p", DT_TYPE_ACC, 1, (int64_t[]){K}, DT_NO_SPLIT);
        if (i == 0) dt_attention(g, odd, k, v, pos, N, D, H, HK, 1, 0);
        if (i == 1) dt_attention(g, q, k, v, pos, N - 1, D, H, HK, 1, 0);
        if (i == 2) dt_attention(g, input("q3", DT_TYPE_ACT, 2, N, 6), k, v, pos, N, 2, 3, 2, 1, 0);
        if (i == 3) dt_xent(g, odd, w, targets, &lse, &lse);
        if (i == 4) dt_xent(g, h, w, input("odd targets", DT_TYPE_ACC, 1, N, 1), &lse, &lse);
        if (i == 5) dt_nll(g, x, few, targets);
        if (i == 6) dt_scatter_add(g, w, idx, x);
        if (i == 7) dt_sampled_wgrad(g, x, h, idx);
        if (i == 8) dt_adamw(g, p, p, p, x, hyper, few, (dt_adamw_attr){0});
        cr_assert_eq(dt_graph_status(g), DT_ERR_INTERNAL, "misfit %d", i);
        cr_assert_not_null(strstr(dt_error_text(), expected[i]), "%s", dt_error_text());
        end();
    }
}
