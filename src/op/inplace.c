/* Shapes and placement of ops that update flat buffers in place. */
#include "op/inplace.h"
#include "op/op.h"
#include "op/update.h" // DT_HYPER_COUNT

void dt_place_local(const dt_placing *p)
{
    const dt_op *op = p->node->op;
    for (int i = 0; i < p->node->nout; i++) p->out[i] = op->inplace[i] != 0 ? p->in[op->inplace[i] - 1] : DT_PLACE_R;
}

void dt_shape_update(dt_graph *g, dt_node *n, int grad, int hyper, int normsq)
{
    if (dt_value_count(g, n->in[grad]) != dt_value_count(g, n->in[0]) ||
        dt_value_count(g, n->in[hyper]) != DT_HYPER_COUNT || dt_value_count(g, n->in[normsq]) != 1)
        dt_graph_fail(g, DT_ERR_INTERNAL, "%s: gradient, settings or norm are of the wrong size", n->op->name);
    for (int i = 0; i < n->nout; i++) {
        int in = n->op->inplace[i] - 1;
        if (in < 0 || in >= n->nin || n->in[in] == DT_NONE) continue;
        const dt_value v = *dt_value_of(g, n->in[in]);
        if (dt_value_count(g, n->in[in]) != dt_value_count(g, n->in[0]))
            dt_graph_fail(g, DT_ERR_INTERNAL, "%s: %s is not of the parameters' size", n->op->name, v.name);
        n->out[i] = dt_graph_temp(g, v.type, v.ndim, v.dim);
    }
}
