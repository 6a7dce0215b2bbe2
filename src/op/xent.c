/* Linear head with cross-entropy: shapes, gradient, placement, cost. */
#include "op/xent.h"
#include "op/add.h" // dt_add, dt_scale: in the example
#include "op/op.h"

int64_t dt_xent_chunk(int64_t width)
{
    int64_t fit = (int64_t)(1 << 18) / width / 64 * 64; /* 1 MiB of W in fp32 */
    return fit < 64 ? 64 : fit > 1024 ? 1024 : fit;
}

static void check(dt_graph *g, const dt_node *n)
{
    const dt_value *h = dt_value_of(g, n->in[0]), *w = dt_value_of(g, n->in[1]), *t = dt_value_of(g, n->in[2]);
    if (h->ndim != 2 || w->ndim != 2 || h->dim[1] != w->dim[1])
        dt_graph_fail(g, DT_ERR_INTERNAL, "%s: %s and %s are not [N,C] and [V,C]", n->op->name, h->name, w->name);
    else if (t->type != DT_TYPE_I32 || t->ndim != 1 || t->dim[0] != h->dim[0])
        dt_graph_fail(g, DT_ERR_INTERNAL, "%s: %s is not one integer a token", n->op->name, t->name);
}

/* Placement along one axis: the vocabulary split with the tokens whole, or W whole and all split as the tokens are.
 * Returns the placement of what there is one of per token. */
static dt_place place_head(const dt_placing *p, bool *vocabulary)
{
    *vocabulary = dt_place_equal(p->in[1], DT_PLACE_S(0));
    dt_place h = dt_place_is_partial(p->in[0]) ? dt_place_resolved(p, 0) : p->in[0];
    dt_place tokens = !*vocabulary && dt_place_equal(h, DT_PLACE_S(0)) ? DT_PLACE_S(0) : DT_PLACE_R;
    for (int i = 0; i < p->node->nin; i++)
        if (p->node->in[i] != DT_NONE) p->want[i] = tokens;
    p->want[1] = *vocabulary ? DT_PLACE_S(0) : DT_PLACE_R;
    return tokens;
}

/* FLOPs of one product of the size of h W^T. */
static double product_flops(const dt_call *c)
{
    return 2.0 * (double)c->in[0].dim[0] * (double)c->in[0].dim[1] * (double)c->in[1].dim[0];
}

static size_t aligned(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* ---- xent: h, W, targets -> lse, target; expected, own ---- */

static void xent_shape(dt_graph *g, dt_node *n)
{
    check(g, n);
    const dt_value h = *dt_value_of(g, n->in[0]);
    n->out[0] = dt_graph_temp(g, DT_TYPE_ACC, 1, h.dim);
    n->out[1] = dt_graph_temp(g, DT_TYPE_ACC, 1, h.dim);
    n->out[2] = dt_graph_temp(g, h.type, 2, h.dim);
    n->out[3] = dt_graph_temp(g, DT_TYPE_ACC, 1, h.dim);
}

static void xent_gradient(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    dt_val h = n->in[0], w = n->in[1], targets = n->in[2], lse = n->out[0];
    if (dout[0] == DT_NONE && dout[1] == DT_NONE) return;
    if (!want[1]) {
        dt_val in[] = {n->out[2], n->out[3], w, targets, lse, dout[0], dout[1]};
        din[0] = dt_graph_out(g, dt_graph_node(g, &dt_op_xent_dh, NULL, 0, 7, in), 0);
        return;
    }
    dt_val in[] = {h, w, targets, lse, dout[0], dout[1]};
    int32_t node = dt_graph_node(g, &dt_op_xent_grad, NULL, 0, 6, in);
    for (int i = 0; i < 2; i++)
        if (want[i]) din[i] = dt_graph_out(g, node, i);
}

static void xent_place(const dt_placing *p)
{
    bool vocabulary;
    dt_place tokens = place_head(p, &vocabulary);
    p->out[0] = vocabulary ? DT_PLACE_LSE : tokens;
    for (int i = 1; i < 4; i++) p->out[i] = vocabulary ? DT_PLACE_P : tokens;
}

/* Numbers and rows of the tokens that count, running maxima and sums, expected rows, and a block of logits for each
 * thread. */
static size_t xent_workspace(const dt_call *c, size_t real_size)
{
    size_t tokens = (size_t)c->in[0].dim[0], width = (size_t)c->in[0].dim[1];
    size_t logits = DT_XENT_ROWS * (size_t)dt_xent_chunk((int64_t)width), packed = c->out[2].data != NULL ? 2 : 1;
    return aligned(tokens * sizeof(int32_t)) + packed * aligned(tokens * width * real_size) +
           aligned(tokens * real_size) + aligned(tokens * sizeof(double)) + logits * (size_t)c->threads * real_size;
}

static void xent_cost(const dt_call *c, size_t real_size, dt_cost *cost)
{
    cost->flops = product_flops(c) * (1 + (c->out[2].data != NULL));
}

/* Variants 0 and 1 train W, 2 and 3 do not. */
static bool xent_example(dt_graph *g, int variant, dt_val *result)
{
    static const int32_t targets[2][7] = {{3, 0, 10, 7, 7, 1, 9}, {-1, 4, -1, -1, 10, 0, -1}};
    static const float frozen[11][5] = {{1, 0.5f, -1, 0, 2},     {0, 1, 1, -0.5f, 0},    {-2, 0.25f, 0, 1, 1},
                                        {0.5f, -1, 2, 0, 0},     {1, 1, -1, -1, 0.5f},   {0, 0, 0, 0, 0},
                                        {-1, 2, 0.5f, 0.25f, 0}, {1.5f, 0, 0, 1, -1},    {0, -2, 1, 0, 1},
                                        {0.75f, 0, -1, 2, 0},    {-0.5f, 1, 0, -1, 1.5f}};
    const int64_t n = 7, v = 11, c = 5;
    if (variant > 3) return false;
    dt_val h = dt_graph_param(g, "h", 2, (int64_t[]){n, c}, NULL);
    dt_val w = variant < 2 ? dt_graph_param(g, "w", 2, (int64_t[]){v, c}, NULL)
                           : dt_graph_const(g, "w", DT_TYPE_ACC, 2, (int64_t[]){v, c}, frozen);
    dt_val t = dt_graph_const(g, "targets", DT_TYPE_I32, 1, &n, targets[variant % 2]);
    dt_val lse, target;
    dt_xent(g, h, w, t, &lse, &target);
    *result = variant % 2 == 0 ? dt_add(g, lse, dt_scale(g, target, -0.3)) : dt_nll(g, lse, target, t);
    return true;
}

const dt_op dt_op_xent = {
    .name = "xent",
    .nin_min = 3,
    .nin_max = 3,
    .nout = 4,
    .optional_outputs = true,
    .shape = xent_shape,
    .grad = xent_gradient,
    .place = xent_place,
    .workspace = xent_workspace,
    .cost = xent_cost,
    .example = xent_example,
};

void dt_xent(dt_graph *g, dt_val h, dt_val w, dt_val targets, dt_val *lse, dt_val *target)
{
    dt_val in[] = {h, w, targets};
    int32_t node = dt_graph_node(g, &dt_op_xent, NULL, 0, 3, in);
    *lse = dt_graph_out(g, node, 0);
    *target = dt_graph_out(g, node, 1);
}

/* ---- xent_dh: expected, own, W, targets, lse, dlse, dtarget -> dh ---- */

static void xent_dh_shape(dt_graph *g, dt_node *n)
{
    const dt_value *expected = dt_value_of(g, n->in[0]);
    n->out[0] = dt_graph_temp(g, expected->type, 2, expected->dim);
}

static void xent_dh_place(const dt_placing *p)
{
    bool vocabulary = dt_place_equal(p->in[2], DT_PLACE_S(0));
    dt_place tokens = vocabulary ? DT_PLACE_R : p->in[0];
    for (int i = 0; i < p->node->nin; i++)
        if (p->node->in[i] != DT_NONE) p->want[i] = i < 2 ? p->in[i] : tokens;
    p->want[2] = vocabulary ? DT_PLACE_S(0) : DT_PLACE_R;
    p->out[0] = vocabulary ? DT_PLACE_P : tokens;
}

/* Of W only the targets' rows are read. */
static void xent_dh_cost(const dt_call *c, size_t real_size, dt_cost *cost)
{
    double values = (double)c->out[0].dim[0] * (double)c->out[0].dim[1];
    cost->flops = 3 * values;
    cost->bytes = 3 * values * (double)real_size;
}

const dt_op dt_op_xent_dh = {
    .name = "xent_dh",
    .nin_min = 7,
    .nin_max = 7,
    .nout = 1,
    .reuse = {1},
    .shape = xent_dh_shape,
    .place = xent_dh_place,
    .cost = xent_dh_cost,
};

/* ---- xent_grad: h, W, targets, lse, dlse, dtarget -> dh, dW ---- */

static void xent_grad_shape(dt_graph *g, dt_node *n)
{
    check(g, n);
    const dt_value h = *dt_value_of(g, n->in[0]), w = *dt_value_of(g, n->in[1]);
    n->out[0] = dt_graph_temp(g, h.type, 2, h.dim);
    n->out[1] = dt_graph_temp(g, DT_TYPE_ACC, 2, w.dim);
}

static void xent_grad_place(const dt_placing *p)
{
    bool vocabulary;
    dt_place tokens = place_head(p, &vocabulary);
    p->out[0] = vocabulary ? DT_PLACE_P : tokens;
    p->out[1] = vocabulary ? DT_PLACE_S(0) : tokens.kind == DT_SPLIT ? DT_PLACE_P : DT_PLACE_R;
}

/* Numbers, rows of h and of dh for the tokens that count; logits: all tokens by a chunk where dW is wanted, else a
 * block for each thread. */
static size_t xent_grad_workspace(const dt_call *c, size_t real_size)
{
    size_t tokens = (size_t)c->in[0].dim[0], width = (size_t)c->in[0].dim[1];
    size_t chunk = (size_t)dt_xent_chunk((int64_t)width);
    size_t rows = c->out[1].data != NULL ? tokens : DT_XENT_ROWS * (size_t)c->threads;
    return aligned(tokens * sizeof(int32_t)) + 2 * aligned(tokens * width * real_size) + rows * chunk * real_size;
}

static void xent_grad_cost(const dt_call *c, size_t real_size, dt_cost *cost)
{
    cost->flops = product_flops(c) * (1 + (c->out[0].data != NULL) + (c->out[1].data != NULL));
}

const dt_op dt_op_xent_grad = {
    .name = "xent_grad",
    .nin_min = 6,
    .nin_max = 6,
    .nout = 2,
    .optional_outputs = true,
    .shape = xent_grad_shape,
    .place = xent_grad_place,
    .workspace = xent_grad_workspace,
    .cost = xent_grad_cost,
};
