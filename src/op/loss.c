/* Negative log-likelihood from log-sum-exp and target logit, its gradient, and labels drawn from logits. */
#include "op/op.h"
#include "op/xent.h"

/* Per-token values: split along the tokens where one is, else whole. */
static void place_tokens(const dt_placing *p)
{
    dt_place place = DT_PLACE_R;
    for (int i = 0; i < p->node->nin; i++)
        if (dt_place_equal(p->in[i], DT_PLACE_S(0))) place = DT_PLACE_S(0);
    for (int i = 0; i < p->node->nin; i++) p->want[i] = place;
    for (int i = 0; i < p->node->nout; i++) p->out[i] = place;
}

static void check_tokens(dt_graph *g, const dt_node *n)
{
    for (int i = 1; i < n->nin; i++)
        if (dt_value_of(g, n->in[i])->dim[0] != dt_value_of(g, n->in[0])->dim[0])
            dt_graph_fail(g, DT_ERR_INTERNAL, "%s: inputs differ in their number of tokens", n->op->name);
}

/* ---- nll: lse, target, targets -> nll ---- */

static void nll_shape(dt_graph *g, dt_node *n)
{
    check_tokens(g, n);
    n->out[0] = dt_graph_temp(g, DT_TYPE_ACC, 1, (int64_t[]){dt_value_of(g, n->in[0])->dim[0]});
}

static void nll_gradient(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    if (dout[0] == DT_NONE) return;
    dt_val in[] = {dout[0], n->in[2]};
    int32_t node = dt_graph_node(g, &dt_op_nll_grad, NULL, 0, 2, in);
    for (int i = 0; i < 2; i++)
        if (want[i]) din[i] = dt_graph_out(g, node, i);
}

static bool nll_example(dt_graph *g, int variant, dt_val *result)
{
    static const int32_t targets[5] = {2, -1, 0, 7, -1};
    const int64_t n = 5;
    if (variant > 0) return false;
    dt_val lse = dt_graph_param(g, "lse", 1, &n, NULL), target = dt_graph_param(g, "target", 1, &n, NULL);
    *result = dt_nll(g, lse, target, dt_graph_const(g, "targets", DT_TYPE_I32, 1, &n, targets));
    return true;
}

const dt_op dt_op_nll = {
    .name = "nll",
    .nin_min = 3,
    .nin_max = 3,
    .nout = 1,
    .reuse = {1},
    .shape = nll_shape,
    .grad = nll_gradient,
    .place = place_tokens,
    .example = nll_example,
};

dt_val dt_nll(dt_graph *g, dt_val lse, dt_val target, dt_val targets)
{
    dt_val in[] = {lse, target, targets};
    return dt_graph_out(g, dt_graph_node(g, &dt_op_nll, NULL, 0, 3, in), 0);
}

/* ---- nll_grad: dnll, targets -> dlse, dtarget ---- */

static void nll_grad_shape(dt_graph *g, dt_node *n)
{
    check_tokens(g, n);
    int64_t tokens = dt_value_of(g, n->in[0])->dim[0];
    for (int i = 0; i < 2; i++) n->out[i] = dt_graph_temp(g, DT_TYPE_ACC, 1, &tokens);
}

const dt_op dt_op_nll_grad = {
    .name = "nll_grad",
    .nin_min = 2,
    .nin_max = 2,
    .nout = 2,
    .optional_outputs = true,
    .reuse = {1},
    .shape = nll_grad_shape,
    .place = place_tokens,
};

/* ---- sample: logits, targets, key -> labels ---- */

static void sample_shape(dt_graph *g, dt_node *n)
{
    check_tokens(g, n);
    n->out[0] = dt_graph_temp(g, DT_TYPE_I32, 1, (int64_t[]){dt_value_of(g, n->in[0])->dim[0]});
}

static bool sample_example(dt_graph *g, int variant, dt_val *result)
{
    static const float logits[3][4] = {{0.5f, -1, 2, 0}, {1, 1, 1, 1}, {-3, 4, 0.25f, 1.5f}};
    static const int32_t targets[3] = {1, -1, 0}, key[3] = {5, 6, 70000};
    const int64_t n = 3;
    if (variant > 0) return false;
    dt_val x = dt_graph_const(g, "logits", DT_TYPE_ACC, 2, (int64_t[]){n, 4}, logits);
    dt_val t = dt_graph_const(g, "targets", DT_TYPE_I32, 1, &n, targets);
    *result = dt_sample(g, x, t, dt_graph_const(g, "key", DT_TYPE_I32, 1, &n, key), 17);
    return true;
}

const dt_op dt_op_sample = {
    .name = "sample",
    .nin_min = 3,
    .nin_max = 3,
    .nout = 1,
    .shape = sample_shape,
    .place = place_tokens,
    .example = sample_example,
};

dt_val dt_sample(dt_graph *g, dt_val logits, dt_val targets, dt_val key, uint64_t seed)
{
    dt_sample_attr attr = {seed};
    dt_val in[] = {logits, targets, key};
    return dt_graph_out(g, dt_graph_node(g, &dt_op_sample, &attr, sizeof attr, 3, in), 0);
}
