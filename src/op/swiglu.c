/* Gated linear unit with SiLU. */
#include "op/swiglu.h"
#include "op/lowrank.h"
#include "op/op.h"

enum { GATE, UP };
enum { G_DH, G_GATE, G_UP }; /* of swiglu_grad; low-rank addends behind: op/lowrank.h */

static void shape(dt_graph *g, dt_node *n)
{
    const dt_value gate = *dt_value_of(g, n->in[GATE]);
    if (!dt_shape_equal(g, n->in[GATE], n->in[UP]))
        dt_graph_fail(g, DT_ERR_INTERNAL, "swiglu: %s and %s differ in shape", gate.name,
                      dt_value_of(g, n->in[UP])->name);
    else n->out[0] = dt_graph_temp(g, gate.type, gate.ndim, gate.dim);
}

static void grad(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    const dt_val in[] = {dout[0], n->in[GATE], n->in[UP]};
    int32_t node = dt_graph_node(g, &dt_op_swiglu_grad, NULL, 0, 3, in);
    if (want[GATE]) din[GATE] = dt_graph_out(g, node, 0);
    if (want[UP]) din[UP] = dt_graph_out(g, node, 1);
}

/* Operations an element, the exponential counted as eight. */
static void cost(const dt_call *call, size_t real_size, dt_cost *cost)
{
    const dt_tensor *gate = &call->in[call->op == &dt_op_swiglu ? GATE : G_GATE];
    cost->flops = (call->op == &dt_op_swiglu ? 12.0 : 17.0) * (double)gate->dim[0] * (double)gate->dim[1] +
                  dt_lowrank_flops(call);
}

/* Without addends; with one on each operand; with one on `up` and on the gradient. */
static bool example(dt_graph *g, int variant, dt_val *result)
{
    static const int64_t size[][2] = {{3, 7}, {1, 1}, {3, 7}, {5, 8}};
    if (variant > 3) return false;
    const int64_t n = size[variant][0], f = size[variant][1];
    dt_val gate = variant == 2 ? dt_lowrank_example(g, "gate", n, f, false, true)
                               : dt_graph_param(g, "gate", 2, size[variant], NULL);
    dt_val up = variant >= 2 ? dt_lowrank_example(g, "up", n, f, true, variant == 3)
                             : dt_graph_param(g, "up", 2, size[variant], NULL);
    *result = dt_swiglu(g, gate, up);
    if (variant == 3) *result = dt_lowrank_example_behind(g, *result);
    return true;
}

const dt_op dt_op_swiglu = {
    .name = "swiglu",
    .nin_min = 2,
    .nin_max = 2,
    .nout = 1,
    .reuse = {1},
    .shape = shape,
    .grad = grad,
    .workspace = dt_lowrank_workspace,
    .cost = cost,
    .fuse = dt_lowrank_fuse,
    .example = example,
};

dt_val dt_swiglu(dt_graph *g, dt_val gate, dt_val up)
{
    if (gate == DT_NONE || up == DT_NONE) return DT_NONE;
    return dt_graph_out(g, dt_graph_node(g, &dt_op_swiglu, NULL, 0, 2, (dt_val[]){gate, up}), 0);
}

static void grad_shape(dt_graph *g, dt_node *n)
{
    const dt_value gate = *dt_value_of(g, n->in[G_GATE]), up = *dt_value_of(g, n->in[G_UP]);
    n->out[0] = dt_graph_temp(g, gate.type, gate.ndim, gate.dim);
    n->out[1] = dt_graph_temp(g, up.type, up.ndim, up.dim);
}

const dt_op dt_op_swiglu_grad = {
    .name = "swiglu_grad",
    .nin_min = 3,
    .nin_max = 3,
    .nout = 2,
    .optional_outputs = true,
    .reuse = {2, 3},
    .shape = grad_shape,
    .workspace = dt_lowrank_workspace,
    .cost = cost,
    .fuse = dt_lowrank_fuse,
};
