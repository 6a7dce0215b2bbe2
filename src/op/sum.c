/* The sum of a tensor, and its gradient: one number for every element. */
#include "op/op.h"
#include "op/total.h" // dt_total_workspace
#include "op/xent.h"

/* ---- sum ---- */

static void sum_shape(dt_graph *g, dt_node *n)
{
    n->out[0] = dt_graph_temp(g, DT_TYPE_ACC, 1, (int64_t[]){1});
}

static void sum_gradient(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    if (want[0] && dout[0] != DT_NONE) din[0] = dt_broadcast(g, dout[0], n->in[0]);
}

static void sum_place(const dt_placing *p)
{
    if (p->in[0].kind == DT_PARTIAL_LSE) p->want[0] = DT_PLACE_R;
    p->out[0] = p->want[0].kind == DT_REPLICATED ? DT_PLACE_R : DT_PLACE_P;
}

static size_t sum_workspace(const dt_call *c, size_t real_size)
{
    int64_t count = 1;
    for (int i = 0; i < c->in[0].ndim; i++) count *= c->in[0].dim[i];
    return dt_total_workspace(count);
}

static bool sum_example(dt_graph *g, int variant, dt_val *result)
{
    if (variant > 0) return false;
    *result = dt_sum(g, dt_graph_param(g, "x", 2, (int64_t[]){3, 5}, NULL));
    return true;
}

const dt_op dt_op_sum = {
    .name = "sum",
    .nin_min = 1,
    .nin_max = 1,
    .nout = 1,
    .shape = sum_shape,
    .grad = sum_gradient,
    .place = sum_place,
    .workspace = sum_workspace,
    .example = sum_example,
};

dt_val dt_sum(dt_graph *g, dt_val x)
{
    return dt_graph_out(g, dt_graph_node(g, &dt_op_sum, NULL, 0, 1, &x), 0);
}

/* ---- broadcast: s, like -> y ---- */

static void broadcast_shape(dt_graph *g, dt_node *n)
{
    if (dt_value_count(g, n->in[0]) != 1) dt_graph_fail(g, DT_ERR_INTERNAL, "broadcast: more than one number");
    const dt_value like = *dt_value_of(g, n->in[1]);
    n->out[0] = dt_graph_temp(g, like.type, like.ndim, like.dim);
}

static void broadcast_gradient(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    if (want[0] && dout[0] != DT_NONE) din[0] = dt_sum(g, dout[0]);
}

static void broadcast_place(const dt_placing *p)
{
    p->want[0] = DT_PLACE_R;
    p->out[0] = p->in[1].kind == DT_SPLIT ? p->in[1] : DT_PLACE_R; /* a partial `like` lends only its shape */
}

static bool broadcast_example(dt_graph *g, int variant, dt_val *result)
{
    if (variant > 0) return false;
    dt_val s = dt_graph_param(g, "s", 1, (int64_t[]){1}, NULL);
    *result = dt_broadcast(g, s, dt_graph_param(g, "like", 2, (int64_t[]){4, 3}, NULL));
    return true;
}

const dt_op dt_op_broadcast = {
    .name = "broadcast",
    .nin_min = 2,
    .nin_max = 2,
    .nout = 1,
    .shape = broadcast_shape,
    .grad = broadcast_gradient,
    .place = broadcast_place,
    .example = broadcast_example,
};

dt_val dt_broadcast(dt_graph *g, dt_val s, dt_val like)
{
    dt_val in[] = {s, like};
    return dt_graph_out(g, dt_graph_node(g, &dt_op_broadcast, NULL, 0, 2, in), 0);
}
