/* A copy in another type. */
#include "op/cast.h"
#include "op/op.h"

static void shape(dt_graph *g, dt_node *n)
{
    const dt_value x = *dt_value_of(g, n->in[0]);
    n->out[0] = dt_graph_temp(g, DT_ATTR(dt_cast_attr, n)->type, x.ndim, x.dim);
}

static void grad(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    din[0] = dt_cast(g, dout[0], dt_value_of(g, n->in[0])->type);
}

static bool example(dt_graph *g, int variant, dt_val *result)
{
    static const int64_t size[][2] = {{3, 7}, {1, 1}};
    if (variant > 1) return false;
    *result = dt_cast(g, dt_graph_param(g, "x", 2, size[variant], NULL), variant == 0 ? DT_TYPE_ACT : DT_TYPE_ACC);
    return true;
}

const dt_op dt_op_cast = {
    .name = "cast",
    .nin_min = 1,
    .nin_max = 1,
    .nout = 1,
    .shape = shape,
    .grad = grad,
    .place = dt_place_linear,
    .example = example,
};

dt_val dt_cast(dt_graph *g, dt_val x, dt_type type)
{
    dt_cast_attr attr = {type};
    if (x == DT_NONE) return DT_NONE;
    return dt_graph_out(g, dt_graph_node(g, &dt_op_cast, &attr, sizeof attr, 1, &x), 0);
}
