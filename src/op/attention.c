/* Attention: shapes, gradient, placement by heads, cost. */
#include "op/attention.h"
#include "op/op.h"

static void check_heads(dt_graph *g, const dt_node *n, int q, int k)
{
    const dt_attention_attr *a = DT_ATTR(dt_attention_attr, n);
    const dt_value *vq = dt_value_of(g, n->in[q]), *vk = dt_value_of(g, n->in[k]), *vv = dt_value_of(g, n->in[k + 1]);
    bool fits = vq->ndim == 2 && vk->ndim == 2 && vv->ndim == 2 && a->heads > 0 && a->kv_heads > 0 &&
                vq->dim[1] == a->heads * a->head_dim && vk->dim[1] == a->kv_heads * a->head_dim &&
                vk->dim[0] == vq->dim[0] && vv->dim[0] == vk->dim[0] && vv->dim[1] == vk->dim[1];
    if (!fits)
        dt_graph_fail(g, DT_ERR_INTERNAL, "%s: q[%lld,%lld] and k[%lld,%lld] are not %lld and %lld heads of width %lld",
                      n->op->name, (long long)vq->dim[0], (long long)vq->dim[1], (long long)vk->dim[0],
                      (long long)vk->dim[1], (long long)a->heads, (long long)a->kv_heads, (long long)a->head_dim);
    else if (a->heads % a->kv_heads != 0)
        dt_graph_fail(g, DT_ERR_INTERNAL, "%s: %lld query heads over %lld kv heads", n->op->name, (long long)a->heads,
                      (long long)a->kv_heads);
}

static void check_sequences(dt_graph *g, const dt_node *n, int q, int pos)
{
    const dt_attention_attr *a = DT_ATTR(dt_attention_attr, n);
    int64_t tokens = dt_value_of(g, n->in[q])->dim[0];
    const dt_value *p = dt_value_of(g, n->in[pos]);
    if (a->seq < 1 || tokens % a->seq != 0)
        dt_graph_fail(g, DT_ERR_INTERNAL, "%s: %lld tokens are no whole sequences of %lld", n->op->name,
                      (long long)tokens, (long long)a->seq);
    if (p->type != DT_TYPE_I32 || dt_value_count(g, n->in[pos]) != tokens)
        dt_graph_fail(g, DT_ERR_INTERNAL, "%s: positions are not one integer a token", n->op->name);
}

/* Placement along one axis. `q` and `k` (v behind it) are the inputs that decide: tokens split along the data axis,
 * heads along a tensor axis, or everything whole. Wants of k and v are set, those of the other inputs are all the
 * returned placement; *kv is that of k and v. */
static dt_place place_heads(const dt_placing *p, int q, int k, dt_place *kv)
{
    bool tokens = false;
    for (int i = 0; i < 3; i++) tokens |= dt_place_equal(p->in[i == 2 ? q : k + i], DT_PLACE_S(0));
    dt_place all = p->axis == DT_AXIS_DATA && tokens ? DT_PLACE_S(0) : DT_PLACE_R;
    *kv = all;
    if (all.kind == DT_REPLICATED && dt_place_equal(p->in[q], DT_PLACE_S(1))) {
        all = DT_PLACE_S(1);
        *kv = dt_place_equal(p->in[k], DT_PLACE_S(1)) ? DT_PLACE_S(1) : DT_PLACE_R;
    }
    p->want[k] = p->want[k + 1] = *kv;
    return all;
}

/* Positions are split as the tokens are, never as the heads. */
static dt_place tokens_of(dt_place heads)
{
    return dt_place_equal(heads, DT_PLACE_S(0)) ? heads : DT_PLACE_R;
}

/* A block of scores (and in the gradient one of its derivatives) for each thread. */
static size_t attention_workspace(const dt_call *c, size_t real_size)
{
    size_t block = (size_t)DT_ATTENTION_QUERIES * DT_ATTENTION_KEYS * real_size;
    return block * (size_t)c->threads * (c->op == &dt_op_attention_grad ? 2 : 1);
}

/* FLOPs of `products` products of one query with one key or value: a query sees half of the sequence on average, or the
 * window where the sequence has grown to it. */
static double visible_flops(const dt_call *c, const dt_tensor *q, int products)
{
    const dt_attention_attr *a = DT_ATTR(dt_attention_attr, c);
    double seq = (double)a->seq, window = a->window > 0 && a->window < a->seq ? (double)a->window : seq;
    double keys = window - window * window / (2 * seq);
    return 2 * products * (double)q->dim[0] * (double)q->dim[1] * keys;
}

/* ---- attention ---- */

static void attention_shape(dt_graph *g, dt_node *n)
{
    const dt_attention_attr *a = DT_ATTR(dt_attention_attr, n);
    check_heads(g, n, 0, 1);
    check_sequences(g, n, 0, 3);
    const dt_value q = *dt_value_of(g, n->in[0]);
    n->out[0] = dt_graph_temp(g, q.type, 2, q.dim);
    n->out[1] = dt_graph_temp(g, DT_TYPE_ACC, 2, (int64_t[]){q.dim[0], a->heads});
}

static void attention_gradient(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    if (dout[1] != DT_NONE) dt_graph_fail(g, DT_ERR_INTERNAL, "attention: its log-sum-exp has no gradient");
    if (dout[0] == DT_NONE) return;
    dt_val in[] = {dout[0], n->in[0], n->in[1], n->in[2], n->out[0], n->out[1], n->in[3]};
    int32_t node = dt_graph_node(g, &dt_op_attention_grad, n->attr.byte, sizeof(dt_attention_attr), 7, in);
    for (int i = 0; i < 3; i++)
        if (want[i]) din[i] = dt_graph_out(g, node, i);
}

static void attention_place(const dt_placing *p)
{
    dt_place kv, heads = place_heads(p, 0, 1, &kv);
    p->want[0] = p->out[0] = p->out[1] = heads;
    p->want[3] = tokens_of(heads);
}

static void attention_cost(const dt_call *c, size_t real_size, dt_cost *cost)
{
    cost->flops = visible_flops(c, &c->in[0], 2);
}

/* Rows packed in several ways: one a sequence, several, and one query head to a kv head up to all of them; windows. */
static bool attention_example(dt_graph *g, int variant, dt_val *result)
{
    static const struct {
        int64_t sequences, seq, heads, kv_heads, head_dim, window;
        int32_t pos[14];
    } example[] = {
        {2, 7, 2, 2, 6, 0, {0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 0, 0, 1, 2}},
        {2, 5, 4, 2, 3, 0, {0, 1, 0, 1, 2, 0, 1, 2, 3, 4}},
        {1, 9, 3, 1, 4, 0, {0, 0, 1, 2, 3, 0, 1, 2, 3}},
        {2, 7, 2, 1, 4, 3, {0, 1, 2, 3, 4, 5, 6, 0, 1, 0, 1, 2, 3, 4}},
        {1, 5, 2, 2, 2, 1, {0, 1, 2, 3, 4}},
    };
    if (variant >= (int)(sizeof example / sizeof *example)) return false;
    int64_t n = example[variant].sequences * example[variant].seq, d = example[variant].head_dim;
    int64_t heads = example[variant].heads, kv_heads = example[variant].kv_heads;
    dt_val q = dt_graph_param(g, "q", 2, (int64_t[]){n, heads * d}, NULL);
    dt_val k = dt_graph_param(g, "k", 2, (int64_t[]){n, kv_heads * d}, NULL);
    dt_val v = dt_graph_param(g, "v", 2, (int64_t[]){n, kv_heads * d}, NULL);
    dt_val pos = dt_graph_const(g, "pos", DT_TYPE_I32, 1, &n, example[variant].pos);
    *result = dt_attention(g, q, k, v, pos, example[variant].seq, d, heads, kv_heads, 0.7, example[variant].window);
    return true;
}

const dt_op dt_op_attention = {
    .name = "attention",
    .nin_min = 4,
    .nin_max = 4,
    .nout = 2,
    .optional_outputs = true,
    .shape = attention_shape,
    .grad = attention_gradient,
    .place = attention_place,
    .workspace = attention_workspace,
    .cost = attention_cost,
    .example = attention_example,
};

dt_val dt_attention(dt_graph *g, dt_val q, dt_val k, dt_val v, dt_val pos, int64_t seq, int64_t head_dim, int64_t heads,
                    int64_t kv_heads, double scale, int64_t window)
{
    dt_attention_attr attr = {seq, head_dim, heads, kv_heads, scale, window};
    dt_val in[] = {q, k, v, pos};
    return dt_graph_out(g, dt_graph_node(g, &dt_op_attention, &attr, sizeof attr, 4, in), 0);
}

/* ---- attention_grad: do, q, k, v, o, lse, pos -> dq, dk, dv ---- */

static void attention_grad_shape(dt_graph *g, dt_node *n)
{
    check_heads(g, n, 1, 2);
    check_sequences(g, n, 1, 6);
    for (int i = 0; i < 3; i++) {
        const dt_value of = *dt_value_of(g, n->in[1 + i]);
        n->out[i] = dt_graph_temp(g, of.type, 2, of.dim);
    }
}

static void attention_grad_place(const dt_placing *p)
{
    dt_place kv, heads = place_heads(p, 1, 2, &kv);
    p->want[0] = p->want[1] = p->want[4] = p->want[5] = heads;
    p->want[6] = tokens_of(heads);
    p->out[0] = heads;
    /* Every rank's query heads add to the gradient of kv heads that all of them hold. */
    bool shared = dt_place_equal(heads, DT_PLACE_S(1)) && kv.kind == DT_REPLICATED;
    p->out[1] = p->out[2] = shared ? DT_PLACE_P : kv;
}

static void attention_grad_cost(const dt_call *c, size_t real_size, dt_cost *cost)
{
    bool dq = c->out[0].data != NULL, dk = c->out[1].data != NULL, dv = c->out[2].data != NULL;
    cost->flops = visible_flops(c, &c->in[1], 1 + (dq || dk) + dq + dk + dv);
}

const dt_op dt_op_attention_grad = {
    .name = "attention_grad",
    .nin_min = 7,
    .nin_max = 7,
    .nout = 3,
    .optional_outputs = true,
    .shape = attention_grad_shape,
    .place = attention_grad_place,
    .workspace = attention_workspace,
    .cost = attention_grad_cost,
};

/* ---- attention_cached: q, k, v, kcache, vcache, start -> o, kcache, vcache ---- */

static void attention_cached_shape(dt_graph *g, dt_node *n)
{
    const dt_attention_attr *a = DT_ATTR(dt_attention_attr, n);
    check_heads(g, n, 0, 1);
    const dt_value q = *dt_value_of(g, n->in[0]);
    for (int i = 3; i < 5; i++) {
        const dt_value *cache = dt_value_of(g, n->in[i]);
        if (cache->ndim != 2 || cache->dim[0] != a->seq || cache->dim[1] != a->kv_heads * a->head_dim)
            dt_graph_fail(g, DT_ERR_INTERNAL, "attention_cached: the cache is not [%lld,%lld]", (long long)a->seq,
                          (long long)(a->kv_heads * a->head_dim));
    }
    n->out[0] = dt_graph_temp(g, q.type, 2, q.dim);
    for (int i = 3; i < 5; i++) {
        const dt_value cache = *dt_value_of(g, n->in[i]);
        n->out[i - 2] = dt_graph_temp(g, cache.type, 2, cache.dim);
    }
}

static void attention_cached_place(const dt_placing *p)
{
    bool kv_split = dt_place_equal(p->in[3], DT_PLACE_S(1));
    bool q_split = kv_split || dt_place_equal(p->in[0], DT_PLACE_S(1));
    p->want[0] = p->out[0] = q_split ? DT_PLACE_S(1) : DT_PLACE_R;
    for (int i = 1; i < 5; i++) p->want[i] = kv_split ? DT_PLACE_S(1) : DT_PLACE_R;
    p->out[1] = p->out[2] = p->want[3];
    p->want[5] = DT_PLACE_R;
}

static void attention_cached_cost(const dt_call *c, size_t real_size, dt_cost *cost)
{
    if (c->out[0].data != NULL) cost->flops = visible_flops(c, &c->in[0], 2);
}

const dt_op dt_op_attention_cached = {
    .name = "attention_cached",
    .nin_min = 6,
    .nin_max = 6,
    .nout = 3,
    .optional_outputs = true, /* o: of the last block where only the caches are wanted */
    .inplace = {0, 4, 5},
    .shape = attention_cached_shape,
    .place = attention_cached_place,
    .workspace = attention_workspace,
    .cost = attention_cached_cost,
};

dt_val dt_attention_cached(dt_graph *g, dt_val q, dt_val k, dt_val v, dt_val kcache, dt_val vcache, dt_val start,
                           int64_t head_dim, int64_t heads, int64_t kv_heads, double scale, int64_t window)
{
    if (g->status != DT_OK) return DT_NONE;
    dt_attention_attr attr = {dt_value_of(g, kcache)->dim[0], head_dim, heads, kv_heads, scale, window};
    dt_val in[] = {q, k, v, kcache, vcache, start};
    return dt_graph_out(g, dt_graph_node(g, &dt_op_attention_cached, &attr, sizeof attr, 6, in), 0);
}
