/* Merge: narrow products of one x, as LoRA's with q, k and v, become one product and its parts. What grad makes of it
 * is one product for the parameters' gradients, and one for x's. */
#include "op/matmul.h"
#include "op/op.h"
#include "op/parts.h"

/* A product of fewer columns takes as long as reading x does. */
#define NARROW 256

/* x A^T with A[R,I] a delta's parameter whose rows are whole on every rank: the backbone's own (ACT) stay as they are,
 * a copy of them would cost as much as it saves. */
static bool is_narrow_product(const dt_graph *g, const dt_node *n)
{
    const dt_matmul_attr *attr = DT_ATTR(dt_matmul_attr, n);
    if (n->op != &dt_op_matmul || n->dead || n->program != DT_MICRO || n->backward || n->nin != 2) return false;
    const dt_value *a = dt_value_of(g, n->in[1]);
    return !attr->ta && attr->tb && a->kind == DT_KIND_PARAM && a->type == DT_TYPE_ACC && a->dim[0] <= NARROW &&
           a->tie[0].like == DT_NONE && a->split.dim < 0;
}

/* The axes over which dimension 1 of a parameter is split: those over which what it is tied to is. */
static dt_axes columns_split_over(const dt_graph *g, dt_val a)
{
    const dt_tie tie = dt_value_of(g, a)->tie[1];
    if (tie.like == DT_NONE) return 0;
    const dt_split split = dt_value_of(g, tie.like)->split;
    return split.dim == tie.dim ? split.axes : 0;
}

static bool is_like(const dt_graph *g, const dt_node *a, const dt_node *b)
{
    const dt_matmul_attr *x = DT_ATTR(dt_matmul_attr, a), *y = DT_ATTR(dt_matmul_attr, b);
    return a->in[0] == b->in[0] && a->block == b->block && x->alpha == y->alpha && x->type == y->type &&
           columns_split_over(g, a->in[1]) == columns_split_over(g, b->in[1]);
}

/* P = the parameters one below the other, once a step. */
static dt_val stack(dt_graph *g, const dt_parts_attr *attr, const dt_val *param)
{
    const dt_program program = g->program;
    const int32_t block = g->block, here = g->cursor;
    g->program = DT_PROLOGUE;
    g->block = DT_NONE;
    dt_graph_seek(g, DT_NONE);
    dt_val p = dt_concat(g, attr, param);
    g->program = program;
    g->block = block;
    if (here != DT_NONE) dt_graph_seek(g, here); /* else P is now what is in front of the node at hand */
    return p;
}

bool dt_matmul_merge(dt_graph *g, int32_t node)
{
    const dt_val x = g->node[node].in[0];
    const dt_matmul_attr product = *DT_ATTR(dt_matmul_attr, &g->node[node]);
    dt_parts_attr attr = {.dim = 0, .type = DT_TYPE_ACT};
    int32_t merged[DT_MAX_PARTS];
    dt_val param[DT_MAX_PARTS], part[DT_MAX_PARTS];
    if (!is_narrow_product(g, &g->node[node])) return false;
    for (int32_t i = node; i != DT_NONE && attr.n < DT_MAX_PARTS; i = g->node[i].next) {
        if (!is_narrow_product(g, &g->node[i]) || !is_like(g, &g->node[node], &g->node[i])) continue;
        param[attr.n] = g->node[i].in[1];
        attr.size[attr.n] = dt_value_of(g, param[attr.n])->dim[0];
        merged[attr.n++] = i;
    }
    if (attr.n < 2) return false;
    dt_val p = stack(g, &attr, param);
    attr.dim = 1;
    dt_parts(g, dt_matmul(g, x, p, false, true, product.alpha, product.type), &attr, part);
    for (int i = 0; i < attr.n && part[i] != DT_NONE; i++) {
        const int32_t producer = dt_value_of(g, part[i])->producer;
        const dt_val u = g->node[merged[i]].out[0];
        dt_graph_remove(g, merged[i]);
        g->node[producer].out[i] = u;
        dt_value_of(g, u)->producer = producer;
    }
    return true;
}
