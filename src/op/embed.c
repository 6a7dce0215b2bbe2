/* Token embedding: rows of a matrix by token, and the gradient that adds them back. */
#include "op/embed.h"
#include "op/op.h"

enum { TOKENS, W };                /* of embed */
enum { G_TOKENS, G_DY, G_WEIGHT }; /* of embed_grad */

static void shape(dt_graph *g, dt_node *n)
{
    const dt_value *tokens = dt_value_of(g, n->in[TOKENS]), *w = dt_value_of(g, n->in[W]);
    if (tokens->ndim != 1 || tokens->type != DT_TYPE_I32 || w->ndim != 2)
        dt_graph_fail(g, DT_ERR_INTERNAL, "embed: %s is no list of tokens, or %s no matrix", tokens->name, w->name);
    else n->out[0] = dt_graph_temp(g, DT_TYPE_ACT, 2, (int64_t[]){tokens->dim[0], w->dim[1]});
}

static void grad(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    const dt_val in[] = {n->in[TOKENS], dout[0], n->in[W]};
    if (want[W]) din[W] = dt_graph_out(g, dt_graph_node(g, &dt_op_embed_grad, NULL, 0, 3, in), 0);
}

static void place(const dt_placing *p)
{
    dt_place tokens = p->in[TOKENS], w = p->in[W];
    if (w.kind == DT_PARTIAL_LSE || (w.kind == DT_PARTIAL && tokens.kind == DT_SPLIT)) w = dt_place_resolved(p, W);
    if (w.kind == DT_SPLIT) tokens = DT_PLACE_R;
    p->want[TOKENS] = tokens;
    p->want[W] = w;
    if (tokens.kind == DT_SPLIT) p->out[0] = DT_PLACE_S(0);
    else if (w.kind == DT_SPLIT) p->out[0] = w.dim == 0 ? DT_PLACE_P : DT_PLACE_S(1);
    else p->out[0] = w;
}

/* Rows are copied: what is read is what is written, not the whole matrix. */
static void cost(const dt_call *call, size_t real_size, dt_cost *cost)
{
    const dt_tensor *y = &call->out[0];
    cost->bytes = (double)y->dim[0] * (4 + 2 * (double)y->dim[1] * (double)real_size);
}

static bool example(dt_graph *g, int variant, dt_val *result)
{
    static const int32_t token[] = {3, 0, 6, 3, 3, 1, 5};
    if (variant > 1) return false;
    dt_val tokens = dt_graph_const(g, "tokens", DT_TYPE_I32, 1, (int64_t[]){variant == 0 ? 7 : 1}, token);
    *result = dt_embed(g, tokens, dt_graph_param(g, "w", 2, (int64_t[]){7, variant == 0 ? 5 : 1}, NULL));
    return true;
}

const dt_op dt_op_embed = {
    .name = "embed",
    .nin_min = 2,
    .nin_max = 2,
    .nout = 1,
    .shape = shape,
    .grad = grad,
    .place = place,
    .cost = cost,
    .example = example,
};

dt_val dt_embed(dt_graph *g, dt_val tokens, dt_val w)
{
    if (tokens == DT_NONE || w == DT_NONE) return DT_NONE;
    return dt_graph_out(g, dt_graph_node(g, &dt_op_embed, NULL, 0, 2, (dt_val[]){tokens, w}), 0);
}

static void grad_shape(dt_graph *g, dt_node *n)
{
    const dt_value w = *dt_value_of(g, n->in[G_WEIGHT]);
    n->out[0] = dt_graph_temp(g, DT_TYPE_ACC, 2, w.dim);
}

/* dW is placed as W. Where W is whole, tokens may be split: each rank has the sum over its own. */
static void grad_place(const dt_placing *p)
{
    dt_place w = p->in[G_WEIGHT], tokens = DT_PLACE_R, dy = DT_PLACE_R;
    p->out[0] = DT_PLACE_R;
    if (w.kind == DT_SPLIT) {
        p->out[0] = w;
        dy = w.dim == 1 ? w : DT_PLACE_R;
    } else {
        if (dt_place_is_partial(p->in[G_DY])) dy = dt_place_resolved(p, G_DY);
        if (p->in[G_TOKENS].kind == DT_SPLIT || dt_place_equal(p->in[G_DY], DT_PLACE_S(0))) dy = DT_PLACE_S(0);
        tokens = dy;
        if (dy.kind == DT_SPLIT) p->out[0] = DT_PLACE_P;
    }
    p->want[G_TOKENS] = tokens;
    p->want[G_DY] = dy;
}

static void grad_cost(const dt_call *call, size_t real_size, dt_cost *cost)
{
    const dt_tensor *dy = &call->in[G_DY], *dw = &call->out[0];
    double moved = 3 * (double)dy->dim[0] * (double)dy->dim[1] + (double)dw->dim[0] * (double)dw->dim[1];
    cost->bytes = 4 * (double)dy->dim[0] + moved * (double)real_size;
    cost->flops = (double)dy->dim[0] * (double)dy->dim[1];
}

const dt_op dt_op_embed_grad = {
    .name = "embed_grad",
    .nin_min = 3,
    .nin_max = 3,
    .nout = 1,
    .shape = grad_shape,
    .place = grad_place,
    .cost = grad_cost,
};
