/* A vector added to every row, and its gradient. */
#include "op/bias.h"
#include "op/op.h"

enum { X, B };

static void shape(dt_graph *g, dt_node *n)
{
    const dt_value x = *dt_value_of(g, n->in[X]), *b = dt_value_of(g, n->in[B]);
    if (x.ndim != 2 || b->ndim != 1 || b->dim[0] != x.dim[1])
        dt_graph_fail(g, DT_ERR_INTERNAL, "bias: %s does not fit the rows of %s", b->name, x.name);
    else n->out[0] = dt_graph_temp(g, x.type, 2, x.dim);
}

static void grad(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    if (want[X]) din[X] = dout[0];
    if (want[B]) din[B] = dt_graph_out(g, dt_graph_node(g, &dt_op_bias_grad, NULL, 0, 1, &dout[0]), 0);
}

static void place(const dt_placing *p)
{
    dt_place x = dt_place_is_partial(p->in[X]) ? dt_place_resolved(p, X) : p->in[X];
    /* A split bias belongs to a linear whose outputs are split: x is scattered or sliced rather than b gathered. */
    if (p->in[B].kind == DT_SPLIT && x.kind != DT_SPLIT) x = DT_PLACE_S(1);
    p->want[X] = p->out[0] = x;
    p->want[B] = x.kind == DT_SPLIT && x.dim == 1 ? DT_PLACE_S(0) : DT_PLACE_R;
}

static bool example(dt_graph *g, int variant, dt_val *result)
{
    static const int64_t size[][2] = {{5, 7}, {1, 3}, {4, 1}};
    if (variant > 2) return false;
    dt_val x = dt_graph_param(g, "x", 2, size[variant], NULL);
    *result = dt_bias(g, x, dt_graph_param(g, "b", 1, &size[variant][1], NULL));
    return true;
}

const dt_op dt_op_bias = {
    .name = "bias",
    .nin_min = 2,
    .nin_max = 2,
    .nout = 1,
    .reuse = {1},
    .shape = shape,
    .grad = grad,
    .place = place,
    .example = example,
};

dt_val dt_bias(dt_graph *g, dt_val x, dt_val b)
{
    if (x == DT_NONE || b == DT_NONE) return DT_NONE;
    return dt_graph_out(g, dt_graph_node(g, &dt_op_bias, NULL, 0, 2, (dt_val[]){x, b}), 0);
}

static void grad_shape(dt_graph *g, dt_node *n)
{
    const dt_value dy = *dt_value_of(g, n->in[0]);
    if (dy.ndim != 2) dt_graph_fail(g, DT_ERR_INTERNAL, "bias_grad: %s is no matrix", dy.name);
    else n->out[0] = dt_graph_temp(g, DT_TYPE_ACC, 1, &dy.dim[1]);
}

static void grad_place(const dt_placing *p)
{
    dt_place dy = p->in[0].kind == DT_PARTIAL_LSE ? dt_place_resolved(p, 0) : p->in[0];
    p->want[0] = p->out[0] = dy;
    if (dy.kind == DT_SPLIT) p->out[0] = dy.dim == 0 ? DT_PLACE_P : DT_PLACE_S(0);
}

const dt_op dt_op_bias_grad = {
    .name = "bias_grad",
    .nin_min = 1,
    .nin_max = 1,
    .nout = 1,
    .shape = grad_shape,
    .place = grad_place,
};
