/* Elementwise arithmetic on tensors of one shape: add, accumulate, scale, square. */
#include "op/add.h"
#include "op/absorb.h" // dt_absorb_sum
#include "op/matmul.h" // dt_matmul_absorb_factor
#include "op/op.h"

/* ---- add ---- */

static void pair_shape(dt_graph *g, dt_node *n)
{
    const dt_value a = *dt_value_of(g, n->in[0]);
    if (!dt_shape_equal(g, n->in[0], n->in[1]))
        dt_graph_fail(g, DT_ERR_INTERNAL, "%s: %s and %s differ in shape", n->op->name, a.name,
                      dt_value_of(g, n->in[1])->name);
    else n->out[0] = dt_graph_temp(g, a.type, a.ndim, a.dim);
}

static void add_grad(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    for (int i = 0; i < 2; i++)
        if (want[i]) din[i] = dout[0];
}

static bool add_fuse(dt_graph *g, int32_t node)
{
    const dt_val a = g->node[node].in[0], b = g->node[node].in[1];
    return dt_absorb_sum(g, node, a, b) || dt_absorb_sum(g, node, b, a);
}

static const int64_t example_shape[][3] = {{7}, {3, 5}, {2, 3, 4}};
static dt_val example_param(dt_graph *g, const char *name, int variant)
{
    return dt_graph_param(g, name, variant + 1, example_shape[variant], NULL);
}

static bool add_example(dt_graph *g, int variant, dt_val *result)
{
    if (variant > 2) return false;
    *result = dt_add(g, example_param(g, "a", variant), example_param(g, "b", variant));
    return true;
}

const dt_op dt_op_add = {
    .name = "add",
    .nin_min = 2,
    .nin_max = 2,
    .nout = 1,
    .reuse = {1},
    .shape = pair_shape,
    .grad = add_grad,
    .place = dt_place_linear,
    .fuse = add_fuse,
    .example = add_example,
};

dt_val dt_add(dt_graph *g, dt_val a, dt_val b)
{
    if (a == DT_NONE || b == DT_NONE) return DT_NONE;
    return dt_graph_out(g, dt_graph_node(g, &dt_op_add, NULL, 0, 2, (dt_val[]){a, b}), 0);
}

/* ---- accumulate ---- */

/* Is `x` split as a computed value is whose gradient is accumulated? */
static bool is_split_alike(const dt_placing *p, dt_place x)
{
    if (x.kind != DT_SPLIT) return false;
    const dt_tie tie = dt_value_of(p->g, p->node->in[0])->tie[x.dim];
    if (tie.like == DT_NONE || dt_value_of(p->g, tie.like)->kind != DT_KIND_TEMP) return false;
    return dt_place_equal(dt_value_of(p->g, tie.like)->place[p->axis], DT_PLACE_S(tie.dim));
}

/* The first contribution places an accumulator whose parameter is replicated: partial if it is, else replicated; that
 * of a value which the prologue computes may be split as the value is. Later ones are converted to what the accumulator
 * is; where that is partial and theirs is not, nothing can make them so: the output keeps their placement, and the
 * shard pass reports the difference. */
static void accumulate_place(const dt_placing *p)
{
    dt_place acc = p->in[0], x = p->in[1];
    if (acc.kind == DT_PLACE_UNSET) acc = x.kind == DT_PARTIAL ? DT_PLACE_P : is_split_alike(p, x) ? x : DT_PLACE_R;
    else if (acc.kind == DT_PARTIAL && x.kind != DT_PARTIAL) acc = x;
    p->want[1] = p->out[0] = acc;
}

static bool accumulate_fuse(dt_graph *g, int32_t node)
{
    return dt_absorb_sum(g, node, g->node[node].in[0], g->node[node].in[1]);
}

const dt_op dt_op_accumulate = {
    .name = "accumulate",
    .nin_min = 2,
    .nin_max = 2,
    .nout = 1,
    .inplace = {1},
    .shape = pair_shape,
    .place = accumulate_place,
    .fuse = accumulate_fuse,
};

dt_val dt_accumulate(dt_graph *g, dt_val acc, dt_val x)
{
    if (acc == DT_NONE || x == DT_NONE) return DT_NONE;
    return dt_graph_out(g, dt_graph_node(g, &dt_op_accumulate, NULL, 0, 2, (dt_val[]){acc, x}), 0);
}

/* ---- scale ---- */

static void same_shape(dt_graph *g, dt_node *n)
{
    const dt_value x = *dt_value_of(g, n->in[0]);
    n->out[0] = dt_graph_temp(g, x.type, x.ndim, x.dim);
}

static void scale_grad(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    din[0] = dt_scale(g, dout[0], DT_ATTR(dt_scale_attr, n)->factor);
}

static bool scale_fuse(dt_graph *g, int32_t node)
{
    return dt_matmul_absorb_factor(g, node, g->node[node].in[0], DT_ATTR(dt_scale_attr, &g->node[node])->factor);
}

static bool scale_example(dt_graph *g, int variant, dt_val *result)
{
    if (variant > 2) return false;
    *result = dt_scale(g, example_param(g, "x", variant), 0.3 - variant);
    return true;
}

const dt_op dt_op_scale = {
    .name = "scale",
    .nin_min = 1,
    .nin_max = 1,
    .nout = 1,
    .reuse = {1},
    .shape = same_shape,
    .grad = scale_grad,
    .place = dt_place_linear,
    .fuse = scale_fuse,
    .example = scale_example,
};

dt_val dt_scale(dt_graph *g, dt_val x, double factor)
{
    dt_scale_attr attr = {factor};
    if (x == DT_NONE) return DT_NONE;
    return dt_graph_out(g, dt_graph_node(g, &dt_op_scale, &attr, sizeof attr, 1, &x), 0);
}

/* ---- square ---- */

static bool square_example(dt_graph *g, int variant, dt_val *result)
{
    if (variant > 2) return false;
    *result = dt_square(g, example_param(g, "x", variant));
    return true;
}

const dt_op dt_op_square = {
    .name = "square",
    .nin_min = 1,
    .nin_max = 1,
    .nout = 1,
    .reuse = {1},
    .shape = same_shape,
    .example = square_example,
};

dt_val dt_square(dt_graph *g, dt_val x)
{
    if (x == DT_NONE) return DT_NONE;
    return dt_graph_out(g, dt_graph_node(g, &dt_op_square, NULL, 0, 1, &x), 0);
}
