/* Layer normalisation. */
#include "op/layernorm.h"
#include "op/add.h" // dt_scale
#include "op/op.h"

enum { X, GAIN, BIAS, Y = 0, MEAN, RSTD };                             /* of layernorm */
enum { G_DY, G_X, G_GAIN, G_MEAN, G_RSTD, G_PLUS, G_NIN, G_NOUT = 3 }; /* of layernorm_grad */

static void shape(dt_graph *g, dt_node *n)
{
    const dt_value x = *dt_value_of(g, n->in[X]);
    for (int i = GAIN; i <= BIAS; i++) {
        const dt_value *v = dt_value_of(g, n->in[i]);
        if (x.ndim == 2 && v->ndim == 1 && v->dim[0] == x.dim[1]) continue;
        dt_graph_fail(g, DT_ERR_INTERNAL, "layernorm: %s does not fit the rows of %s", v->name, x.name);
        return;
    }
    n->out[Y] = dt_graph_temp(g, x.type, 2, x.dim);
    n->out[MEAN] = dt_graph_temp(g, DT_TYPE_ACC, 1, x.dim);
    n->out[RSTD] = dt_graph_temp(g, DT_TYPE_ACC, 1, x.dim);
}

static void grad(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    const dt_val in[] = {dout[Y], n->in[X], n->in[GAIN], n->out[MEAN], n->out[RSTD]};
    if (dout[Y] == DT_NONE) return;
    int32_t node = dt_graph_node(g, &dt_op_layernorm_grad, n->attr.byte, sizeof(dt_layernorm_attr), G_PLUS, in);
    for (int i = X; i <= BIAS; i++)
        if (want[i]) din[i] = dt_graph_out(g, node, i);
}

static void place(const dt_placing *p)
{
    dt_place x = dt_place_is_partial(p->in[X]) ? dt_place_resolved(p, X) : p->in[X];
    if (x.kind == DT_SPLIT && x.dim != 0) x = DT_PLACE_R;
    p->want[X] = p->out[Y] = p->out[MEAN] = p->out[RSTD] = x;
    p->want[GAIN] = p->want[BIAS] = DT_PLACE_R;
}

static bool example(dt_graph *g, int variant, dt_val *result)
{
    static const int64_t size[][2] = {{3, 7}, {1, 5}, {4, 2}, {3, 6}};
    if (variant > 3) return false;
    dt_val x = dt_graph_param(g, "x", 2, size[variant], NULL);
    if (variant == 3) x = dt_scale(g, x, 0.7); /* read by a residual sum as well */
    dt_val gain = dt_graph_param(g, "gain", 1, &size[variant][1], NULL);
    dt_val bias = dt_graph_param(g, "bias", 1, &size[variant][1], NULL);
    *result = dt_layernorm(g, x, gain, bias, variant == 2 ? 0.1 : 1e-5);
    if (variant == 3) *result = dt_add(g, x, *result);
    return true;
}

const dt_op dt_op_layernorm = {
    .name = "layernorm",
    .nin_min = 3,
    .nin_max = 3,
    .nout = 3,
    .optional_outputs = true,
    .reuse = {1},
    .shape = shape,
    .grad = grad,
    .place = place,
    .example = example,
};

dt_val dt_layernorm(dt_graph *g, dt_val x, dt_val gain, dt_val bias, double eps)
{
    dt_layernorm_attr attr = {eps};
    if (x == DT_NONE || gain == DT_NONE || bias == DT_NONE) return DT_NONE;
    const dt_val in[] = {x, gain, bias};
    return dt_graph_out(g, dt_graph_node(g, &dt_op_layernorm, &attr, sizeof attr, 3, in), Y);
}

static void grad_shape(dt_graph *g, dt_node *n)
{
    const dt_value x = *dt_value_of(g, n->in[G_X]), gain = *dt_value_of(g, n->in[G_GAIN]);
    n->out[X] = dt_graph_temp(g, x.type, 2, x.dim);
    n->out[GAIN] = dt_graph_temp(g, DT_TYPE_ACC, 1, gain.dim);
    n->out[BIAS] = dt_graph_temp(g, DT_TYPE_ACC, 1, gain.dim);
}

/* Rows stay together. Where they are split, the gradients of gain and bias are each rank's sums over its own. */
static void grad_place(const dt_placing *p)
{
    dt_place rows = DT_PLACE_R;
    if (dt_place_is_partial(p->in[G_DY])) rows = dt_place_resolved(p, G_DY);
    for (int i = 0; i < p->node->nin; i++)
        if (i != G_GAIN && dt_place_equal(p->in[i], DT_PLACE_S(0))) rows = DT_PLACE_S(0);
    for (int i = 0; i < p->node->nin; i++) p->want[i] = i == G_GAIN ? DT_PLACE_R : rows;
    p->out[X] = rows;
    p->out[GAIN] = p->out[BIAS] = rows.kind == DT_SPLIT ? DT_PLACE_P : DT_PLACE_R;
}

const dt_op dt_op_layernorm_grad = {
    .name = "layernorm_grad",
    .nin_min = G_PLUS,
    .nin_max = G_NIN,
    .nout = G_NOUT,
    .optional_outputs = true,
    .reuse = {1},
    .addend = G_PLUS + 1,
    .shape = grad_shape,
    .place = grad_place,
};
