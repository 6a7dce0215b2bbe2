/* Placement rules of the ops: what each needs of its operands, and where its results then are. */
#include "op/add.h"
#include "op/bias.h"
#include "op/dropout.h"
#include "op/embed.h"
#include "op/op.h"
#include "op/rmsnorm.h"
#include "op/rope.h"
#include "op/swiglu.h"
#include "place.h"

enum { N = 4, C = 6, V = 10 };

static dt_graph *g;
static dt_val x, y, tokens, gain, w;

static void begin(void)
{
    cr_assert_eq(dt_graph_create(&g), DT_OK);
    x = dt_graph_input(g, "x", DT_TYPE_ACT, 2, (int64_t[]){N, C}, DT_NO_SPLIT);
    y = dt_graph_input(g, "y", DT_TYPE_ACT, 2, (int64_t[]){N, C}, DT_NO_SPLIT);
    tokens = dt_graph_input(g, "tokens", DT_TYPE_I32, 1, (int64_t[]){N}, DT_NO_SPLIT);
    gain = dt_graph_weight(g, "gain", 1, (int64_t[]){C}, DT_NO_SPLIT);
    w = dt_graph_weight(g, "w", 2, (int64_t[]){V, C}, DT_NO_SPLIT);
    g->tokens = N;
}

static void end(void)
{
    dt_graph_destroy(g);
}

static int32_t node_of(dt_val v)
{
    return dt_value_of(g, v)->producer;
}

/* The node that op's gradient emits for its last result. */
static int32_t gradient_node(dt_val of, const dt_op *expected)
{
    const dt_node n = g->node[node_of(of)];
    dt_val din[DT_MAX_IN], dout[DT_MAX_OUT] = {y};
    bool want[DT_MAX_IN];
    for (int i = 0; i < DT_MAX_IN; i++) {
        din[i] = DT_NONE;
        want[i] = i < n.nin && g->value[n.in[i]].type != DT_TYPE_I32;
    }
    n.op->grad(g, &n, dout, want, din);
    cr_assert_eq(dt_graph_status(g), DT_OK);
    cr_assert_eq(g->node[g->cursor].op, expected);
    return g->cursor;
}

Test(place, sums_keep_partial_only_where_all_is_partial, .init = begin, .fini = end)
{
    CHECK(node_of(dt_add(g, x, y)), {"rr", "rr", "r"}, {"00", "00", "0"}, {"11", "11", "1"}, {"pp", "pp", "p"},
          {"pr", "rr", "r"}, {"rp", "rr", "r"}, {"p1", "11", "1"}, {"0p", "00", "0"}, {"r1", "11", "1"},
          {"01", "00", "0"}, {"lp", "rr", "r"}, {"ll", "rr", "r"});
    CHECK(node_of(dt_scale(g, x, 2)), {"r", "r", "r"}, {"1", "1", "1"}, {"p", "p", "p"}, {"l", "r", "r"});
    CHECK(node_of(dt_square(g, x)), {"r", "r", "r"}, {"0", "0", "0"}, {"p", "r", "r"}, {"l", "r", "r"});
    CHECK(node_of(dt_swiglu(g, x, y)), {"11", "11", "1"}, {"pp", "rr", "r"}, {"r1", "11", "1"}, {"0r", "00", "0"});
}

Test(place, sequence_parallel_resolves_token_major_values_to_split_tokens, .init = begin, .fini = end)
{
    g->sequence = true;
    CHECK(node_of(dt_square(g, x)), {"p", "0", "0"}, {"l", "0", "0"}, {"r", "r", "r"});
    CHECK(node_of(dt_add(g, x, y)), {"pp", "pp", "p"}, {"pr", "00", "0"}, {"p1", "11", "1"});
    CHECK(node_of(dt_rmsnorm(g, x, gain, 1e-5)), {"pr", "0r", "00"}, {"rr", "rr", "rr"});
    dt_val no_tokens = dt_graph_input(g, "z", DT_TYPE_ACT, 2, (int64_t[]){C, N}, DT_NO_SPLIT);
    CHECK(node_of(dt_square(g, no_tokens)), {"p", "r", "r"});
    const dt_place in[] = {DT_PLACE_P};
    const dt_node *n = &g->node[node_of(dt_square(g, x))];
    cr_assert_eq(dt_place_resolved(&(dt_placing){g, n, DT_AXIS_DATA, in, NULL, NULL}, 0).kind, DT_REPLICATED,
                 "the data axis has no sequence parallelism");
}

Test(place, the_first_contribution_places_an_accumulator, .init = begin, .fini = end)
{
    dt_val acc = dt_graph_state(g, "acc", DT_TYPE_ACC, 2, (int64_t[]){N, C}, DT_NO_SPLIT);
    CHECK(node_of(dt_accumulate(g, acc, x)), {"ur", "ur", "r"}, {"up", "up", "p"}, {"u1", "ur", "r"}, {"ul", "ur", "r"},
          {"rp", "rr", "r"}, {"r1", "rr", "r"}, {"1p", "11", "1"}, {"pp", "pp", "p"},
          {"pr", "pr", "r"} /* differs from acc's: the pass reports it */);
}

Test(place, bias_follows_the_features, .init = begin, .fini = end)
{
    dt_val out = dt_bias(g, x, gain);
    CHECK(node_of(out), {"rr", "rr", "r"}, {"0r", "0r", "0"}, {"1r", "10", "1"}, {"10", "10", "1"}, {"pr", "rr", "r"},
          {"p0", "10", "1"}, {"r0", "10", "1"}, {"00", "0r", "0"}, {"rp", "rr", "r"});
    CHECK(gradient_node(out, &dt_op_bias_grad), {"r", "r", "r"}, {"0", "0", "p"}, {"1", "1", "0"}, {"p", "p", "p"});
}

Test(place, embedding_by_vocabulary_is_partial, .init = begin, .fini = end)
{
    dt_val out = dt_embed(g, tokens, w);
    CHECK(node_of(out), {"rr", "rr", "r"}, {"0r", "0r", "0"}, {"r0", "r0", "p"}, {"00", "r0", "p"}, {"r1", "r1", "1"},
          {"01", "r1", "1"}, {"rp", "rp", "p"}, {"0p", "0r", "0"});
    CHECK(gradient_node(out, &dt_op_embed_grad), {"rrr", "rrr", "r"}, {"00r", "00r", "p"}, {"0rr", "00r", "p"},
          {"r0r", "00r", "p"}, {"rpr", "rrr", "r"}, {"rp0", "rr0", "0"}, {"000", "rr0", "0"}, {"r11", "r11", "1"},
          {"rr1", "r11", "1"}, {"r1r", "rrr", "r"});
    g->sequence = true;
    CHECK(gradient_node(out, &dt_op_embed_grad), {"rpr", "00r", "p"}, {"rp0", "rr0", "0"});
}

Test(place, rows_of_rmsnorm_stay_together, .init = begin, .fini = end)
{
    dt_val out = dt_rmsnorm(g, x, gain, 1e-5);
    CHECK(node_of(out), {"rr", "rr", "rr"}, {"0r", "0r", "00"}, {"1r", "rr", "rr"}, {"pr", "rr", "rr"},
          {"00", "0r", "00"}, {"rp", "rr", "rr"});
    CHECK(gradient_node(out, &dt_op_rmsnorm_grad), {"rrrr", "rrrr", "rr"}, {"00r0", "00r0", "0p"},
          {"p0r0", "00r0", "0p"}, {"prrr", "rrrr", "rr"}, {"1rrr", "rrrr", "rr"}, {"r0r0", "00r0", "0p"});
    g->sequence = true;
    CHECK(gradient_node(out, &dt_op_rmsnorm_grad), {"prrr", "00r0", "0p"});
}

Test(place, rope_keeps_its_operand_where_it_is, .init = begin, .fini = end)
{
    dt_val f = dt_graph_const(g, "f", DT_TYPE_ACC, 1, (int64_t[]){1}, (const float[]){1});
    dt_val table = dt_rope_table(g, tokens, f);
    CHECK(node_of(table), {"rr", "rr", "r"}, {"0r", "0r", "0"});
    CHECK(node_of(dt_rope(g, x, table, 2)), {"rr", "rr", "r"}, {"00", "00", "0"}, {"0r", "00", "0"}, {"1r", "1r", "1"},
          {"10", "1r", "1"}, {"pr", "pr", "p"}, {"p0", "pr", "p"}, {"r0", "rr", "r"});
}

Test(place, dropout_is_linear, .init = begin, .fini = end)
{
    dt_val step = dt_graph_input(g, "step", DT_TYPE_I32, 1, (int64_t[]){1}, DT_NO_SPLIT);
    cr_assert_eq(dt_dropout(g, x, tokens, step, 0.5, 1, 2), x, "nothing is dropped but in training");
    g->train = true;
    cr_assert_eq(dt_dropout(g, x, tokens, step, 0, 1, 2), x);
    CHECK(node_of(dt_dropout(g, x, tokens, step, 0.5, 1, 2)), {"rrr", "rrr", "r"}, {"0rr", "00r", "0"},
          {"10r", "1rr", "1"}, {"prr", "prr", "p"}, {"r0r", "rrr", "r"});
}

Test(place, every_op_has_its_number)
{
    for (int i = 0; i < DT_OP_COUNT; i++) cr_assert_eq(dt_op_index(dt_ops[i]), i);
    const dt_op stranger = {.name = "stranger"};
    cr_assert_eq(dt_op_index(&stranger), DT_NONE);
}

/* Shapes that do not fit are errors that name the values. */
Test(shape, misfits_are_named)
{
    for (int i = 0; i < 7; i++) {
        begin();
        dt_val odd = dt_graph_input(g, "odd", DT_TYPE_ACT, 2, (int64_t[]){N, C + 1}, DT_NO_SPLIT), v = 0;
        dt_val f = dt_graph_const(g, "f", DT_TYPE_ACC, 1, (int64_t[]){1}, (const float[]){1});
        if (i == 0) v = dt_add(g, x, odd);
        if (i == 1) v = dt_bias(g, odd, gain);
        if (i == 2) v = dt_embed(g, odd, w);
        if (i == 3) v = dt_rmsnorm(g, odd, gain, 1e-5);
        if (i == 4) v = dt_rope(g, odd, dt_rope_table(g, tokens, f), 2);
        if (i == 5) v = dt_swiglu(g, x, odd);
        if (i == 6) v = dt_rope_table(g, odd, f);
        cr_assert_eq(v, DT_NONE);
        cr_assert_eq(dt_graph_status(g), DT_ERR_INTERNAL);
        cr_assert(strstr(dt_error_text(), "odd") != NULL, "%s", dt_error_text());
        end();
    }
}
