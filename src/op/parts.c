/* Several tensors as one, and one as several: each is the other's gradient. */
#include "op/parts.h"
#include "op/add.h" // dt_add, dt_scale
#include "op/op.h"

/* Is `v` shaped as `like` is, but of the part's size along attr.dim? */
static bool fits(const dt_graph *g, dt_val v, dt_val like, const dt_parts_attr *attr, int part)
{
    const dt_value *x = dt_value_of(g, v), *y = dt_value_of(g, like);
    if (x->ndim != y->ndim || attr->dim < 0 || attr->dim >= x->ndim) return false;
    for (int d = 0; d < x->ndim; d++)
        if (x->dim[d] != (d == attr->dim ? attr->size[part] : y->dim[d])) return false;
    return true;
}

static int64_t total_size(const dt_parts_attr *attr)
{
    int64_t total = 0;
    for (int i = 0; i < attr->n; i++) total += attr->size[i];
    return total;
}

/* Linear in all that it reads, and blind to where along the other dimensions that lies. */
static void place(const dt_placing *p)
{
    const int dim = DT_ATTR(dt_parts_attr, p->node)->dim;
    dt_place_linear(p);
    if (!dt_place_equal(p->out[0], DT_PLACE_S(dim))) return;
    for (int i = 0; i < p->node->nin; i++) p->want[i] = DT_PLACE_R;
    for (int i = 0; i < p->node->nout; i++) p->out[i] = DT_PLACE_R;
}

/* Sizes of three parts, one of them of a single row. */
static dt_parts_attr example_attr(int dim, dt_type type)
{
    return (dt_parts_attr){dim, 3, type, {3, 1, 4}};
}

/* ---- concat ---- */

static void concat_shape(dt_graph *g, dt_node *n)
{
    const dt_parts_attr *attr = DT_ATTR(dt_parts_attr, n);
    dt_val like = DT_NONE;
    for (int i = 0; i < n->nin; i++) {
        if (n->in[i] == DT_NONE) continue;
        if (like == DT_NONE) like = n->in[i];
        if (fits(g, n->in[i], like, attr, i)) continue;
        dt_graph_fail(g, DT_ERR_INTERNAL, "concat: %s is no part beside %s", dt_value_of(g, n->in[i])->name,
                      dt_value_of(g, like)->name);
        return;
    }
    if (like == DT_NONE || n->nin != attr->n) {
        dt_graph_fail(g, DT_ERR_INTERNAL, "concat: %d parts are announced", attr->n);
        return;
    }
    dt_value whole = *dt_value_of(g, like);
    whole.dim[attr->dim] = total_size(attr);
    n->out[0] = dt_graph_temp(g, attr->type, whole.ndim, whole.dim);
}

static void concat_grad(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    dt_val part[DT_MAX_PARTS];
    dt_parts(g, dout[0], DT_ATTR(dt_parts_attr, n), part);
    for (int i = 0; i < n->nin; i++)
        if (want[i]) din[i] = part[i];
}

static bool concat_example(dt_graph *g, int variant, dt_val *result)
{
    if (variant > 3) return false;
    const int dim = variant & 1;
    const dt_parts_attr attr = example_attr(dim, variant < 2 ? DT_TYPE_ACC : DT_TYPE_ACT);
    const char *name[] = {"a", "b", "c"};
    dt_val x[DT_MAX_PARTS];
    for (int i = 0; i < attr.n; i++)
        x[i] =
            dt_graph_param(g, name[i], 2, dim == 0 ? (int64_t[]){attr.size[i], 5} : (int64_t[]){5, attr.size[i]}, NULL);
    *result = dt_concat(g, &attr, x);
    return true;
}

const dt_op dt_op_concat = {
    .name = "concat",
    .nin_min = 1,
    .nin_max = DT_MAX_PARTS,
    .nout = 1,
    .shape = concat_shape,
    .grad = concat_grad,
    .place = place,
    .example = concat_example,
};

dt_val dt_concat(dt_graph *g, const dt_parts_attr *attr, const dt_val *x)
{
    return dt_graph_out(g, dt_graph_node(g, &dt_op_concat, attr, sizeof *attr, attr->n, x), 0);
}

/* ---- parts ---- */

static void parts_shape(dt_graph *g, dt_node *n)
{
    const dt_parts_attr *attr = DT_ATTR(dt_parts_attr, n);
    dt_value x = *dt_value_of(g, n->in[0]);
    if (attr->n < 1 || attr->n > DT_MAX_PARTS || attr->dim < 0 || attr->dim >= x.ndim ||
        x.dim[attr->dim] != total_size(attr)) {
        dt_graph_fail(g, DT_ERR_INTERNAL, "parts: %s is not made of %d such parts", x.name, attr->n);
        return;
    }
    n->nout = attr->n;
    for (int i = 0; i < attr->n; i++) {
        x.dim[attr->dim] = attr->size[i];
        n->out[i] = dt_graph_temp(g, x.type, x.ndim, x.dim);
    }
}

static void parts_grad(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    dt_parts_attr attr = *DT_ATTR(dt_parts_attr, n);
    attr.type = dt_gradient_type(g, n->in[0]);
    din[0] = dt_concat(g, &attr, dout);
}

/* Both parts are read, or only one: the other's gradient is absent. */
static bool parts_example(dt_graph *g, int variant, dt_val *result)
{
    if (variant > 3) return false;
    const int dim = variant & 1;
    const dt_parts_attr attr = {dim, 2, DT_TYPE_ACC, {3, 3}};
    dt_val part[DT_MAX_PARTS];
    dt_parts(g, dt_graph_param(g, "x", 2, dim == 0 ? (int64_t[]){6, 5} : (int64_t[]){5, 6}, NULL), &attr, part);
    *result = variant < 2 ? dt_add(g, part[0], dt_scale(g, part[1], 0.3)) : part[1];
    return true;
}

const dt_op dt_op_parts = {
    .name = "parts",
    .nin_min = 1,
    .nin_max = 1,
    .nout = DT_MAX_PARTS,
    .optional_outputs = true,
    .shape = parts_shape,
    .grad = parts_grad,
    .place = place,
    .example = parts_example,
};

void dt_parts(dt_graph *g, dt_val x, const dt_parts_attr *attr, dt_val *out)
{
    int32_t node = x != DT_NONE ? dt_graph_node(g, &dt_op_parts, attr, sizeof *attr, 1, &x) : DT_NONE;
    for (int i = 0; i < attr->n; i++) out[i] = dt_graph_out(g, node, i);
}
