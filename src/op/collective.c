/* The ops that move data between ranks: shapes and costs. Their operands are placed by whoever emits them. */
#include "op/collective.h"
#include "op/op.h"

static void shape(dt_graph *g, dt_node *n)
{
    const dt_value x = *dt_value_of(g, n->in[0]);
    const dt_collective_attr *attr = DT_ATTR(dt_collective_attr, n);
    if (attr->dim < 0 || attr->dim >= x.ndim)
        dt_graph_fail(g, DT_ERR_INTERNAL, "%s: %s has no dimension %d", n->op->name, x.name, attr->dim);
    else n->out[0] = dt_graph_temp(g, x.type, x.ndim, x.dim);
}

/* Elements in front of dimension `dim` of the slice: how many pieces a rank's part of a gathered tensor consists of. */
static int64_t pieces(const dt_tensor *t, int dim)
{
    int64_t n = 1;
    for (int i = 0; i < dim; i++) n *= t->dim[i];
    return n;
}

/* real_size is that of an ACT; an ACC is never less than fp32. */
static size_t bytes_of(const dt_tensor *t, size_t real_size)
{
    size_t size = t->type == DT_TYPE_I32 ? sizeof(int32_t) : real_size;
    if (t->type == DT_TYPE_ACC && size < sizeof(float)) size = sizeof(float);
    return (size_t)pieces(t, t->ndim) * size;
}

dt_status dt_parts_of(const dt_call *call, const dt_tensor *whole, const dt_tensor *part, size_t element_size,
                      dt_parts *out)
{
    const dt_collective_attr *attr = DT_ATTR(dt_collective_attr, call);
    dt_parts p = {dt_mesh_group_size(&call->comm->mesh, attr->axes), 1, element_size};
    if (whole->dim[attr->dim] != p.ranks * part->dim[attr->dim])
        return dt_fail(DT_ERR_INTERNAL, "%lld ranks' parts of %lld do not make %lld", (long long)p.ranks,
                       (long long)part->dim[attr->dim], (long long)whole->dim[attr->dim]);
    for (int i = 0; i < part->ndim; i++) {
        if (i < attr->dim) p.pieces *= part->dim[i];
        else p.run *= (size_t)part->dim[i];
    }
    *out = p;
    return DT_OK;
}

/* A rank's part lies in one piece in the communicator's buffers; where it does not in the whole tensor, the whole is
 * put together in, or taken apart to, the workspace. */
static size_t gather_workspace(const dt_call *call, size_t real_size)
{
    int dim = DT_ATTR(dt_collective_attr, call)->dim;
    return pieces(&call->out[0], dim) > 1 ? bytes_of(&call->out[0], real_size) : 0;
}

static size_t scatter_workspace(const dt_call *call, size_t real_size)
{
    int dim = DT_ATTR(dt_collective_attr, call)->dim;
    return pieces(&call->in[0], dim) > 1 ? bytes_of(&call->in[0], real_size) : 0;
}

/* What the communicator counts: the operand of this rank. */
static void wire_cost(const dt_call *call, size_t real_size, dt_cost *cost)
{
    cost->wire = (double)bytes_of(&call->in[0], real_size);
    cost->wire_axes = DT_ATTR(dt_collective_attr, call)->axes;
}

static void slice_cost(const dt_call *call, size_t real_size, dt_cost *cost)
{
    cost->bytes = 2 * (double)bytes_of(&call->out[0], real_size);
}

/* Along its own axes a collective has one meaning; along the others it passes its operand's placement on. */
static void place(const dt_placing *p)
{
    const dt_collective_attr *attr = DT_ATTR(dt_collective_attr, p->node);
    const dt_op *op = p->node->op;
    p->out[0] = p->in[0];
    if (!(attr->axes >> p->axis & 1)) return;
    if (op == &dt_op_all_gather) p->want[0] = DT_PLACE_S(attr->dim);
    if (op == &dt_op_slice) p->want[0] = DT_PLACE_R;
    bool whole = op == &dt_op_all_gather || op == &dt_op_all_reduce;
    p->out[0] = whole ? DT_PLACE_R : DT_PLACE_S(attr->dim);
}

const dt_op dt_op_all_reduce = {
    .name = "all_reduce",
    .communicates = true,
    .nin_min = 1,
    .nin_max = 1,
    .nout = 1,
    .reuse = {1},
    .shape = shape,
    .place = place,
    .cost = wire_cost,
};

const dt_op dt_op_all_gather = {
    .name = "all_gather",
    .communicates = true,
    .nin_min = 1,
    .nin_max = 1,
    .nout = 1,
    .shape = shape,
    .place = place,
    .workspace = gather_workspace,
    .cost = wire_cost,
};

const dt_op dt_op_reduce_scatter = {
    .name = "reduce_scatter",
    .communicates = true,
    .nin_min = 1,
    .nin_max = 1,
    .nout = 1,
    .shape = shape,
    .place = place,
    .workspace = scatter_workspace,
    .cost = wire_cost,
};

const dt_op dt_op_slice = {
    .name = "slice",
    .nin_min = 1,
    .nin_max = 1,
    .nout = 1,
    .shape = shape,
    .place = place,
    .cost = slice_cost,
};

static dt_val emit(dt_graph *g, const dt_op *op, dt_val x, dt_collective_attr attr)
{
    if (x == DT_NONE) return DT_NONE;
    return dt_graph_out(g, dt_graph_node(g, op, &attr, sizeof attr, 1, &x), 0);
}

dt_val dt_all_reduce(dt_graph *g, dt_val x, dt_axes axes, dt_comm_op op)
{
    return emit(g, &dt_op_all_reduce, x, (dt_collective_attr){axes, 0, op});
}

dt_val dt_all_gather(dt_graph *g, dt_val x, dt_axes axes, int dim)
{
    return emit(g, &dt_op_all_gather, x, (dt_collective_attr){axes, dim, DT_COMM_SUM});
}

dt_val dt_reduce_scatter(dt_graph *g, dt_val x, dt_axes axes, int dim)
{
    return emit(g, &dt_op_reduce_scatter, x, (dt_collective_attr){axes, dim, DT_COMM_SUM});
}

dt_val dt_slice(dt_graph *g, dt_val x, dt_axes axes, int dim)
{
    return emit(g, &dt_op_slice, x, (dt_collective_attr){axes, dim, DT_COMM_SUM});
}

/* ---- lse_finish ---- */

static void lse_shape(dt_graph *g, dt_node *n)
{
    const dt_value x = *dt_value_of(g, n->in[1]);
    if (!dt_shape_equal(g, n->in[0], n->in[1]))
        dt_graph_fail(g, DT_ERR_INTERNAL, "lse_finish: %s and %s differ in shape", dt_value_of(g, n->in[0])->name,
                      x.name);
    else n->out[0] = dt_graph_temp(g, x.type, x.ndim, x.dim);
}

/* exp(x - m) of a PARTIAL_LSE x is partial; all else is elementwise. */
static void lse_place(const dt_placing *p)
{
    bool exponential = DT_ATTR(dt_collective_attr, p->node)->dim == 0;
    if (!exponential || p->in[1].kind != DT_PARTIAL_LSE) {
        dt_place_elementwise(p);
        return;
    }
    p->want[0] = dt_place_is_partial(p->in[0]) ? dt_place_resolved(p, 0) : p->in[0];
    p->out[0] = DT_PLACE_P;
}

static bool lse_example(dt_graph *g, int variant, dt_val *result)
{
    static const float m[] = {0.5f, -0.25f, 3.0f, 60.0f};
    static const float x[2][4] = {{0.25f, -0.25f, -9.0f, 12.5f}, {1.0f, 3.5f, 2.25f, 1.125f}};
    if (variant > 1) return false;
    dt_val max = dt_graph_const(g, "m", DT_TYPE_ACC, 1, (int64_t[]){4}, m);
    *result = dt_lse_finish(g, max, dt_graph_const(g, "x", DT_TYPE_ACC, 1, (int64_t[]){4}, x[variant]), variant);
    return true;
}

const dt_op dt_op_lse_finish = {
    .name = "lse_finish",
    .nin_min = 2,
    .nin_max = 2,
    .nout = 1,
    .shape = lse_shape,
    .place = lse_place,
    .example = lse_example,
};

dt_val dt_lse_finish(dt_graph *g, dt_val m, dt_val x, int stage)
{
    dt_collective_attr attr = {.dim = stage};
    if (m == DT_NONE || x == DT_NONE) return DT_NONE;
    return dt_graph_out(g, dt_graph_node(g, &dt_op_lse_finish, &attr, sizeof attr, 2, (dt_val[]){m, x}), 0);
}
