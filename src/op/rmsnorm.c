/* Root-mean-square normalisation. */
#include "op/rmsnorm.h"
#include "op/add.h" // dt_scale
#include "op/op.h"

enum { X, GAIN, Y = 0, RSTD = 1 };                 /* of rmsnorm */
enum { G_DY, G_X, G_GAIN, G_RSTD, G_PLUS, G_NIN }; /* of rmsnorm_grad */

static void shape(dt_graph *g, dt_node *n)
{
    const dt_value x = *dt_value_of(g, n->in[X]), gain = *dt_value_of(g, n->in[GAIN]);
    if (x.ndim != 2 || gain.ndim != 1 || x.dim[1] % gain.dim[0] != 0) {
        dt_graph_fail(g, DT_ERR_INTERNAL, "rmsnorm: %s does not fit the rows of %s", gain.name, x.name);
        return;
    }
    n->out[Y] = dt_graph_temp(g, x.type, 2, x.dim);
    n->out[RSTD] = dt_graph_temp(g, DT_TYPE_ACC, 2, (int64_t[]){x.dim[0], x.dim[1] / gain.dim[0]});
}

static void grad(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    const dt_val in[] = {dout[Y], n->in[X], n->in[GAIN], n->out[RSTD]};
    if (dout[Y] == DT_NONE) return;
    int32_t node = dt_graph_node(g, &dt_op_rmsnorm_grad, n->attr.byte, sizeof(dt_rmsnorm_attr), G_PLUS, in);
    if (want[X]) din[X] = dt_graph_out(g, node, 0);
    if (want[GAIN]) din[GAIN] = dt_graph_out(g, node, 1);
}

/* Has every row of x several groups? */
static bool is_grouped(const dt_placing *p, int x, int gain)
{
    return dt_value_of(p->g, p->node->in[x])->dim[1] > dt_value_of(p->g, p->node->in[gain])->dim[0];
}

/* What input `i` may stay as: whole, split along tokens, or between groups. */
static dt_place place_rows(const dt_placing *p, int i, bool grouped)
{
    dt_place at = dt_place_is_partial(p->in[i]) ? dt_place_resolved(p, i) : p->in[i];
    return dt_place_equal(at, DT_PLACE_S(1)) && !grouped ? DT_PLACE_R : at;
}

static void place(const dt_placing *p)
{
    dt_place x = place_rows(p, X, is_grouped(p, X, GAIN));
    p->want[X] = p->out[Y] = p->out[RSTD] = x;
    p->want[GAIN] = DT_PLACE_R;
}

static bool example(dt_graph *g, int variant, dt_val *result)
{
    static const struct {
        int64_t x[2], gain;
    } size[] = {{{3, 7}, 7}, {{1, 5}, 5}, {{4, 1}, 1}, {{3, 12}, 4}, {{3, 12}, 4}};
    if (variant > 4) return false;
    dt_val x = dt_graph_param(g, "x", 2, size[variant].x, NULL);
    if (variant == 4) x = dt_scale(g, x, 0.7); /* read by a residual sum as well */
    *result = dt_rmsnorm(g, x, dt_graph_param(g, "gain", 1, &size[variant].gain, NULL), variant == 2 ? 0.1 : 1e-5);
    if (variant == 4) *result = dt_add(g, x, *result);
    return true;
}

const dt_op dt_op_rmsnorm = {
    .name = "rmsnorm",
    .nin_min = 2,
    .nin_max = 2,
    .nout = 2,
    .optional_outputs = true,
    .reuse = {1},
    .shape = shape,
    .grad = grad,
    .place = place,
    .example = example,
};

dt_val dt_rmsnorm(dt_graph *g, dt_val x, dt_val gain, double eps)
{
    dt_rmsnorm_attr attr = {eps};
    if (x == DT_NONE || gain == DT_NONE) return DT_NONE;
    return dt_graph_out(g, dt_graph_node(g, &dt_op_rmsnorm, &attr, sizeof attr, 2, (dt_val[]){x, gain}), Y);
}

static void grad_shape(dt_graph *g, dt_node *n)
{
    const dt_value x = *dt_value_of(g, n->in[G_X]), gain = *dt_value_of(g, n->in[G_GAIN]);
    n->out[0] = dt_graph_temp(g, x.type, 2, x.dim);
    n->out[1] = dt_graph_temp(g, DT_TYPE_ACC, 1, gain.dim);
}

/* Split as x is; else as the others are. Where rows are split, the gain's gradient is each rank's sum over its own. */
static void grad_place(const dt_placing *p)
{
    const int order[] = {G_X, G_RSTD, G_DY};
    dt_place rows = DT_PLACE_R;
    for (int i = 0; i < 3 && rows.kind != DT_SPLIT; i++) rows = place_rows(p, order[i], is_grouped(p, G_X, G_GAIN));
    for (int i = 0; i < p->node->nin; i++) p->want[i] = i == G_GAIN ? DT_PLACE_R : rows;
    p->out[0] = rows;
    p->out[1] = rows.kind == DT_SPLIT ? DT_PLACE_P : DT_PLACE_R;
}

const dt_op dt_op_rmsnorm_grad = {
    .name = "rmsnorm_grad",
    .nin_min = G_PLUS,
    .nin_max = G_NIN,
    .nout = 2,
    .optional_outputs = true,
    .reuse = {1},
    .addend = G_PLUS + 1,
    .shape = grad_shape,
    .place = grad_place,
};
