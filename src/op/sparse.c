/* Ops on selected entries of a matrix: shapes, gradients, placement, and the rewrites that make them cheap. */
#include "op/sparse.h"
#include "op/matmul.h" // dt_matmul_attr
#include "op/op.h"

/* Placement along one axis of values at `idx` of a matrix placed as `matrix`: ragged slices where it is split. */
static dt_place entries_of(dt_place matrix)
{
    return matrix.kind == DT_SPLIT ? DT_PLACE_S(0) : DT_PLACE_R;
}

static void check_entries(dt_graph *g, const dt_node *n, int idx, int values)
{
    const dt_value *i = dt_value_of(g, n->in[idx]), *v = dt_value_of(g, n->in[values]);
    if (i->type != DT_TYPE_I32 || i->ndim != 1 || v->ndim != 1 || i->dim[0] != v->dim[0])
        dt_graph_fail(g, DT_ERR_INTERNAL, "%s: %s and %s are not indices and as many values", n->op->name, i->name,
                      v->name);
}

/* ---- gather: x, idx -> v ---- */

static void gather_shape(dt_graph *g, dt_node *n)
{
    check_entries(g, n, 1, 1);
    n->out[0] = dt_graph_temp(g, DT_TYPE_ACC, 1, dt_value_of(g, n->in[1])->dim);
}

static void gather_place(const dt_placing *p)
{
    if (p->in[0].kind == DT_PARTIAL_LSE) p->want[0] = DT_PLACE_R;
    p->want[1] = entries_of(p->want[0]);
    p->out[0] = p->want[0].kind == DT_PARTIAL ? DT_PLACE_P : p->want[1];
}

/* dy^T x, read by gathers of its own program only? */
static bool is_sampled_product(const dt_graph *g, const dt_node *product)
{
    const dt_matmul_attr *attr = DT_ATTR(dt_matmul_attr, product);
    if (product->op != &dt_op_matmul || product->nin != 2 || !attr->ta || attr->tb || attr->alpha != 1) return false;
    int gathers = 0;
    DT_FOR_NODES (g, i)
        gathers += g->node[i].op == &dt_op_gather && g->node[i].in[0] == product->out[0] &&
                   g->node[i].program == product->program;
    return gathers == dt_graph_use_count(g, product->out[0]);
}

/* Puts a node right behind `producer` that computes the output of `node` in its stead. */
static void replace_behind(dt_graph *g, int32_t producer, int32_t node, const dt_op *op, int nin, const dt_val *in)
{
    dt_val v = g->node[node].out[0];
    dt_graph_seek(g, producer);
    int32_t better = dt_graph_node(g, op, NULL, 0, nin, in);
    if (better == DT_NONE) return;
    g->node[better].out[0] = v;
    dt_value_of(g, v)->producer = better;
    dt_graph_remove(g, node);
}

static bool gather_fuse(dt_graph *g, int32_t node)
{
    const dt_node n = g->node[node];
    int32_t producer = dt_value_of(g, n.in[0])->producer;
    if (producer == DT_NONE || g->node[producer].program != n.program) return false;
    if (!dt_kind_is_persistent(dt_value_of(g, n.in[1])->kind)) return false;
    const dt_node product = g->node[producer];
    double share = (double)dt_value_count(g, n.in[1]) / (double)dt_value_count(g, n.in[0]);
    if (share < DT_SAMPLED_SHARE && is_sampled_product(g, &product)) {
        replace_behind(g, producer, node, &dt_op_sampled_wgrad, 3, (dt_val[]){product.in[0], product.in[1], n.in[1]});
        return true;
    }
    int32_t before = n.prev; /* behind the producer there may be gathers of what it computes */
    while (before != producer && g->node[before].op == &dt_op_gather &&
           dt_value_of(g, g->node[before].in[0])->producer == producer)
        before = g->node[before].prev;
    if (before == producer) return false;
    replace_behind(g, producer, node, &dt_op_gather, 2, n.in);
    return true;
}

static const int32_t example_idx[6] = {0, 3, 4, 9, 13, 14}; /* of a 3 x 5 matrix */
static dt_val example_const(dt_graph *g, const char *name, int64_t rows, int64_t cols)
{
    float data[35];
    for (int i = 0; i < rows * cols; i++) data[i] = (float)((i * 7 + name[0]) % 11 - 5) / 4;
    return dt_graph_const(g, name, DT_TYPE_ACC, 2, (int64_t[]){rows, cols}, data);
}

static bool gather_example(dt_graph *g, int variant, dt_val *result)
{
    if (variant > 0) return false;
    dt_val idx = dt_graph_const(g, "idx", DT_TYPE_I32, 1, (int64_t[]){6}, example_idx);
    *result = dt_gather(g, example_const(g, "x", 3, 5), idx);
    return true;
}

const dt_op dt_op_gather = {
    .name = "gather",
    .nin_min = 2,
    .nin_max = 2,
    .nout = 1,
    .shape = gather_shape,
    .place = gather_place,
    .fuse = gather_fuse,
    .example = gather_example,
};

dt_val dt_gather(dt_graph *g, dt_val x, dt_val idx)
{
    dt_val in[] = {x, idx};
    return dt_graph_out(g, dt_graph_node(g, &dt_op_gather, NULL, 0, 2, in), 0);
}

/* ---- scatter_add: W, idx, val -> y ---- */

static void scatter_shape(dt_graph *g, dt_node *n)
{
    check_entries(g, n, 1, 2);
    const dt_value w = *dt_value_of(g, n->in[0]);
    n->out[0] = dt_graph_temp(g, w.type, w.ndim, w.dim);
}

static void scatter_gradient(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    if (dout[0] == DT_NONE) return;
    if (want[0]) din[0] = dout[0];
    if (want[2]) din[2] = dt_gather(g, dout[0], n->in[1]);
}

static void scatter_place(const dt_placing *p)
{
    if (dt_place_is_partial(p->in[0])) p->want[0] = DT_PLACE_R;
    p->out[0] = p->want[0];
    p->want[1] = p->want[2] = entries_of(p->want[0]);
}

static bool scatter_add_fuse(dt_graph *g, int32_t node)
{
    const dt_node n = g->node[node];
    bool frozen = dt_value_of(g, n.in[0])->kind == DT_KIND_WEIGHT;
    if (n.backward || !frozen || dt_graph_use_count(g, n.in[0]) != 1) return false;
    dt_graph_add_update(g, n.in[0], n.in[1], n.in[2]);
    dt_graph_replace_uses(g, n.out[0], n.in[0], node);
    dt_graph_remove(g, node);
    return true;
}

static bool scatter_add_example(dt_graph *g, int variant, dt_val *result)
{
    if (variant > 0) return false;
    dt_val w = dt_graph_param(g, "w", 2, (int64_t[]){3, 5}, NULL);
    dt_val idx = dt_graph_const(g, "idx", DT_TYPE_I32, 1, (int64_t[]){6}, example_idx);
    *result = dt_scatter_add(g, w, idx, dt_graph_param(g, "val", 1, (int64_t[]){6}, NULL));
    return true;
}

const dt_op dt_op_scatter_add = {
    .name = "scatter_add",
    .nin_min = 3,
    .nin_max = 3,
    .nout = 1,
    .shape = scatter_shape,
    .grad = scatter_gradient,
    .place = scatter_place,
    .fuse = scatter_add_fuse,
    .example = scatter_add_example,
};

dt_val dt_scatter_add(dt_graph *g, dt_val w, dt_val idx, dt_val val)
{
    dt_val in[] = {w, idx, val};
    return dt_graph_out(g, dt_graph_node(g, &dt_op_scatter_add, NULL, 0, 3, in), 0);
}

/* ---- scatter_copy: W, idx, src -> W ---- */

const dt_op dt_op_scatter_copy = {
    .name = "scatter_copy",
    .nin_min = 3,
    .nin_max = 3,
    .nout = 1,
    .inplace = {1},
    .shape = scatter_shape,
    .place = scatter_place,
};

dt_val dt_scatter_copy(dt_graph *g, dt_val w, dt_val idx, dt_val src)
{
    dt_val in[] = {w, idx, src};
    return dt_graph_out(g, dt_graph_node(g, &dt_op_scatter_copy, NULL, 0, 3, in), 0);
}

/* ---- sampled_wgrad: dy, x, idx -> v ---- */

int64_t dt_sampled_tokens(int64_t width)
{
    int64_t fit = (int64_t)(1 << 18) / (width + 1) / 16 * 16; /* 1 MiB of x in fp32 */
    return fit < 64 ? 64 : fit > 1024 ? 1024 : fit;
}

static void sampled_shape(dt_graph *g, dt_node *n)
{
    const dt_value *dy = dt_value_of(g, n->in[0]), *x = dt_value_of(g, n->in[1]);
    check_entries(g, n, 2, 2);
    if (dy->ndim != 2 || x->ndim != 2 || dy->dim[0] != x->dim[0])
        dt_graph_fail(g, DT_ERR_INTERNAL, "sampled_wgrad: %s and %s are not [N,O] and [N,I]", dy->name, x->name);
    n->out[0] = dt_graph_temp(g, DT_TYPE_ACC, 1, dt_value_of(g, n->in[2])->dim);
}

/* The indices tell whether the weight is split along the axis; if so, along O or I as dy or x is. Else a split of the
 * tokens, or one partial operand, makes the sums partial. */
static void sampled_place(const dt_placing *p)
{
    dt_place dy = p->in[0], x = p->in[1], out = DT_PLACE_R;
    if (p->in[2].kind == DT_SPLIT || dt_place_equal(dy, DT_PLACE_S(1)) || dt_place_equal(x, DT_PLACE_S(1))) {
        bool along_i = dt_place_equal(x, DT_PLACE_S(1)) && !dt_place_equal(dy, DT_PLACE_S(1));
        dy = along_i ? DT_PLACE_R : DT_PLACE_S(1);
        x = along_i ? DT_PLACE_S(1) : DT_PLACE_R;
        out = DT_PLACE_S(0);
    } else if (dt_place_equal(dy, DT_PLACE_S(0)) || dt_place_equal(x, DT_PLACE_S(0))) {
        dy = x = DT_PLACE_S(0);
        out = DT_PLACE_P;
    } else {
        if (dy.kind != DT_PARTIAL || x.kind == DT_PARTIAL) dy = DT_PLACE_R;
        if (x.kind != DT_PARTIAL) x = DT_PLACE_R;
        if (dy.kind == DT_PARTIAL || x.kind == DT_PARTIAL) out = DT_PLACE_P;
    }
    p->want[0] = dy;
    p->want[1] = x;
    p->want[2] = out.kind == DT_SPLIT ? DT_PLACE_S(0) : DT_PLACE_R;
    p->out[0] = out;
}

/* dy and x of some tokens, transposed. */
static size_t sampled_workspace(const dt_call *c, size_t real_size)
{
    int64_t widths = c->in[0].dim[1] + c->in[1].dim[1];
    return (size_t)(widths * dt_sampled_tokens(c->in[1].dim[1])) * real_size;
}

static void sampled_cost(const dt_call *c, size_t real_size, dt_cost *cost)
{
    cost->flops = 2.0 * (double)c->in[0].dim[0] * (double)c->in[2].dim[0];
}

static bool sampled_example(dt_graph *g, int variant, dt_val *result)
{
    if (variant > 0) return false;
    dt_val dy = example_const(g, "dy", 7, 3), x = example_const(g, "x", 7, 5);
    dt_val idx = dt_graph_const(g, "idx", DT_TYPE_I32, 1, (int64_t[]){6}, example_idx);
    *result = dt_sampled_wgrad(g, dy, x, idx);
    return true;
}

const dt_op dt_op_sampled_wgrad = {
    .name = "sampled_wgrad",
    .nin_min = 3,
    .nin_max = 3,
    .nout = 1,
    .shape = sampled_shape,
    .place = sampled_place,
    .workspace = sampled_workspace,
    .cost = sampled_cost,
    .example = sampled_example,
};

dt_val dt_sampled_wgrad(dt_graph *g, dt_val dy, dt_val x, dt_val idx)
{
    dt_val in[] = {dy, x, idx};
    return dt_graph_out(g, dt_graph_node(g, &dt_op_sampled_wgrad, NULL, 0, 3, in), 0);
}
