/* Gaussian error linear unit. */
#include "op/gelu.h"
#include "op/lowrank.h"
#include "op/op.h"

enum { G_DY, G_X }; /* of gelu_grad; low-rank addends behind: op/lowrank.h */

static void shape(dt_graph *g, dt_node *n)
{
    const dt_value x = *dt_value_of(g, n->in[0]);
    n->out[0] = dt_graph_temp(g, x.type, x.ndim, x.dim);
}

static void grad(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    const dt_val in[] = {[G_DY] = dout[0], [G_X] = n->in[0]};
    if (want[0]) din[0] = dt_graph_out(g, dt_graph_node(g, &dt_op_gelu_grad, NULL, 0, 2, in), 0);
}

/* Operations an element, the exponential counted as eight. */
static void cost(const dt_call *call, size_t real_size, dt_cost *cost)
{
    double flops = call->op == &dt_op_gelu ? 15 : 24;
    for (int i = 0; i < call->out[0].ndim; i++) flops *= (double)call->out[0].dim[i];
    cost->flops = flops + dt_lowrank_flops(call);
}

/* Without addends; with one on x; with one on x and on the gradient. */
static bool example(dt_graph *g, int variant, dt_val *result)
{
    static const int64_t size[][2] = {{3, 7}, {1, 1}, {3, 7}, {5, 8}};
    if (variant > 3) return false;
    const int64_t n = size[variant][0], f = size[variant][1];
    *result = dt_gelu(g, variant >= 2 ? dt_lowrank_example(g, "x", n, f, variant == 3, variant == 2)
                                      : dt_graph_param(g, "x", 2, size[variant], NULL));
    if (variant == 3) *result = dt_lowrank_example_behind(g, *result);
    return true;
}

const dt_op dt_op_gelu = {
    .name = "gelu",
    .nin_min = 1,
    .nin_max = 1,
    .nout = 1,
    .reuse = {1},
    .shape = shape,
    .grad = grad,
    .workspace = dt_lowrank_workspace,
    .cost = cost,
    .fuse = dt_lowrank_fuse,
    .example = example,
};

dt_val dt_gelu(dt_graph *g, dt_val x)
{
    if (x == DT_NONE) return DT_NONE;
    return dt_graph_out(g, dt_graph_node(g, &dt_op_gelu, NULL, 0, 1, &x), 0);
}

static void grad_shape(dt_graph *g, dt_node *n)
{
    const dt_value x = *dt_value_of(g, n->in[G_X]);
    if (!dt_shape_equal(g, n->in[G_DY], n->in[G_X]))
        dt_graph_fail(g, DT_ERR_INTERNAL, "gelu_grad: the gradient of %s differs from it in shape", x.name);
    else n->out[0] = dt_graph_temp(g, x.type, x.ndim, x.dim);
}

const dt_op dt_op_gelu_grad = {
    .name = "gelu_grad",
    .nin_min = 2,
    .nin_max = 2,
    .nout = 1,
    .reuse = {1},
    .shape = grad_shape,
    .workspace = dt_lowrank_workspace,
    .cost = cost,
    .fuse = dt_lowrank_fuse,
};
