/* Rotary position embedding: the table of cosines and sines, and the rotation. */
#include "op/rope.h"
#include "op/op.h"

/* ---- rope_table ---- */

enum { POS, FREQUENCY };

static void table_shape(dt_graph *g, dt_node *n)
{
    const dt_value *pos = dt_value_of(g, n->in[POS]), *f = dt_value_of(g, n->in[FREQUENCY]);
    if (pos->ndim != 1 || pos->type != DT_TYPE_I32 || f->ndim != 1)
        dt_graph_fail(g, DT_ERR_INTERNAL, "rope_table: %s is no list of positions, or %s of frequencies", pos->name,
                      f->name);
    else n->out[0] = dt_graph_temp(g, DT_TYPE_ACC, 2, (int64_t[]){pos->dim[0], 2 * f->dim[0]});
}

static void table_place(const dt_placing *p)
{
    p->want[POS] = p->out[0] = p->in[POS];
    p->want[FREQUENCY] = DT_PLACE_R;
}

#define EXAMPLE_TOKENS 5
static dt_val example_table(dt_graph *g, int64_t head_dim)
{
    static const int32_t pos[EXAMPLE_TOKENS] = {0, 1, 2, 0, 1000};
    static const float frequency[] = {1.0f, 0.31622776f, 0.1f};
    dt_val f = dt_graph_const(g, "frequency", DT_TYPE_ACC, 1, (int64_t[]){head_dim / 2}, frequency);
    return dt_rope_table(g, dt_graph_const(g, "pos", DT_TYPE_I32, 1, (int64_t[]){EXAMPLE_TOKENS}, pos), f);
}

static bool table_example(dt_graph *g, int variant, dt_val *result)
{
    if (variant > 0) return false;
    *result = example_table(g, 6);
    return true;
}

const dt_op dt_op_rope_table = {
    .name = "rope_table",
    .nin_min = 2,
    .nin_max = 2,
    .nout = 1,
    .shape = table_shape,
    .place = table_place,
    .example = table_example,
};

dt_val dt_rope_table(dt_graph *g, dt_val pos, dt_val inverse_frequency)
{
    if (pos == DT_NONE || inverse_frequency == DT_NONE) return DT_NONE;
    const dt_val in[] = {pos, inverse_frequency};
    return dt_graph_out(g, dt_graph_node(g, &dt_op_rope_table, NULL, 0, 2, in), 0);
}

/* ---- rope ---- */

enum { X, TABLE };

static void shape(dt_graph *g, dt_node *n)
{
    const dt_value x = *dt_value_of(g, n->in[X]), *table = dt_value_of(g, n->in[TABLE]);
    const int64_t D = DT_ATTR(dt_rope_attr, n)->head_dim;
    if (D < 2 || D % 2 != 0 || x.ndim != 2 || x.dim[1] % D != 0 || table->ndim != 2 || table->dim[0] != x.dim[0] ||
        table->dim[1] != D)
        dt_graph_fail(g, DT_ERR_INTERNAL, "rope: %s has no heads of width %lld that fit the table %s", x.name,
                      (long long)D, table->name);
    else n->out[0] = dt_graph_temp(g, x.type, 2, x.dim);
}

static dt_val rotate(dt_graph *g, dt_val x, dt_val table, dt_rope_attr attr)
{
    return dt_graph_out(g, dt_graph_node(g, &dt_op_rope, &attr, sizeof attr, 2, (dt_val[]){x, table}), 0);
}

static void grad(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    dt_rope_attr back = *DT_ATTR(dt_rope_attr, n);
    back.inverse = !back.inverse;
    if (want[X]) din[X] = rotate(g, dout[0], n->in[TABLE], back);
}

static void place(const dt_placing *p)
{
    dt_place x = p->in[X].kind == DT_PARTIAL_LSE ? dt_place_resolved(p, X) : p->in[X];
    p->want[X] = p->out[0] = x;
    p->want[TABLE] = dt_place_equal(x, DT_PLACE_S(0)) ? x : DT_PLACE_R;
}

static void cost(const dt_call *call, size_t real_size, dt_cost *cost)
{
    cost->flops = 3.0 * (double)call->out[0].dim[0] * (double)call->out[0].dim[1];
}

static bool example(dt_graph *g, int variant, dt_val *result)
{
    if (variant > 2) return false;
    int64_t D = variant == 1 ? 2 : 6, heads = variant == 2 ? 1 : 3;
    dt_val x = dt_graph_param(g, "x", 2, (int64_t[]){EXAMPLE_TOKENS, heads * D}, NULL);
    *result = rotate(g, x, example_table(g, D), (dt_rope_attr){D, variant == 2});
    return true;
}

const dt_op dt_op_rope = {
    .name = "rope",
    .nin_min = 2,
    .nin_max = 2,
    .nout = 1,
    .reuse = {1},
    .shape = shape,
    .grad = grad,
    .place = place,
    .cost = cost,
    .example = example,
};

dt_val dt_rope(dt_graph *g, dt_val x, dt_val table, int64_t head_dim)
{
    if (x == DT_NONE || table == DT_NONE) return DT_NONE;
    return rotate(g, x, table, (dt_rope_attr){head_dim, false});
}
