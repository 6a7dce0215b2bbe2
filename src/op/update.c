/* What an epilogue does to flat buffers: their norm, and the optimizers' updates in place. */
#include "op/update.h"
#include "op/inplace.h"
#include "op/op.h"
#include "op/total.h" // dt_total_workspace

/* ---- grad_norm: x, acc -> out ---- */

static void grad_norm_shape(dt_graph *g, dt_node *n)
{
    n->out[0] = dt_graph_temp(g, DT_TYPE_ACC, 1, (int64_t[]){1});
}

static size_t grad_norm_workspace(const dt_call *c, size_t real_size)
{
    int64_t count = 1;
    for (int i = 0; i < c->in[0].ndim; i++) count *= c->in[0].dim[i];
    return dt_total_workspace(count);
}

static void grad_norm_cost(const dt_call *c, size_t real_size, dt_cost *cost)
{
    cost->flops = 2.0 * (double)c->in[0].dim[0];
}

static bool grad_norm_example(dt_graph *g, int variant, dt_val *result)
{
    static const float x[5] = {0.5f, -2, 0, 3.25f, 1}, acc[1] = {4};
    const int64_t n = 5, one = 1;
    if (variant > 1) return false;
    dt_val before = variant == 1 ? dt_graph_const(g, "acc", DT_TYPE_ACC, 1, &one, acc) : DT_NONE;
    *result = dt_grad_norm(g, dt_graph_const(g, "x", DT_TYPE_ACC, 1, &n, x), before, 0.5);
    return true;
}

const dt_op dt_op_grad_norm = {
    .name = "grad_norm",
    .nin_min = 2,
    .nin_max = 2,
    .nout = 1,
    .shape = grad_norm_shape,
    .place = dt_place_local,
    .workspace = grad_norm_workspace,
    .cost = grad_norm_cost,
    .example = grad_norm_example,
};

dt_val dt_grad_norm(dt_graph *g, dt_val x, dt_val acc, double weight)
{
    dt_grad_norm_attr attr = {weight};
    dt_val in[] = {x, acc};
    return dt_graph_out(g, dt_graph_node(g, &dt_op_grad_norm, &attr, sizeof attr, 2, in), 0);
}

/* ---- adamw: p, m, v, grad, hyper, normsq -> p, m, v ---- */

static void adamw_shape(dt_graph *g, dt_node *n)
{
    dt_shape_update(g, n, 3, 4, 5);
}

static void adamw_cost(const dt_call *c, size_t real_size, dt_cost *cost)
{
    cost->flops = 16.0 * (double)c->in[0].dim[0];
}

const dt_op dt_op_adamw = {
    .name = "adamw",
    .nin_min = 6,
    .nin_max = 6,
    .nout = 3,
    .inplace = {1, 2, 3},
    .shape = adamw_shape,
    .place = dt_place_local,
    .cost = adamw_cost,
};

void dt_adamw(dt_graph *g, dt_val p, dt_val m, dt_val v, dt_val grad, dt_val hyper, dt_val normsq, dt_adamw_attr attr)
{
    dt_val in[] = {p, m, v, grad, hyper, normsq};
    dt_graph_node(g, &dt_op_adamw, &attr, sizeof attr, 6, in);
}

/* ---- sgd: p, grad, hyper, normsq, m -> p, -, m ---- */

static void sgd_shape(dt_graph *g, dt_node *n)
{
    dt_shape_update(g, n, 1, 2, 3);
}

static void sgd_cost(const dt_call *c, size_t real_size, dt_cost *cost)
{
    cost->flops = 7.0 * (double)c->in[0].dim[0];
}

const dt_op dt_op_sgd = {
    .name = "sgd",
    .nin_min = 5,
    .nin_max = 5,
    .nout = 3,
    .inplace = {1, 0, 5},
    .shape = sgd_shape,
    .place = dt_place_local,
    .cost = sgd_cost,
};

void dt_sgd(dt_graph *g, dt_val p, dt_val m, dt_val grad, dt_val hyper, dt_val normsq, dt_sgd_attr attr)
{
    dt_val in[] = {p, grad, hyper, normsq, m};
    dt_graph_node(g, &dt_op_sgd, &attr, sizeof attr, 5, in);
}
