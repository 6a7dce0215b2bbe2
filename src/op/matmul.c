/* Matrix product: shape, gradient, placement, cost. */
#include "op/matmul.h"
#include "op/absorb.h" // dt_absorber
#include "op/add.h"    // dt_scale
#include "op/bias.h"   // dt_bias
#include "op/op.h"

enum { A, B, C };

static void shape(dt_graph *g, dt_node *n)
{
    const dt_matmul_attr *attr = DT_ATTR(dt_matmul_attr, n);
    const dt_value *a = dt_value_of(g, n->in[A]), *b = dt_value_of(g, n->in[B]);
    if (a->ndim != 2 || b->ndim != 2) {
        dt_graph_fail(g, DT_ERR_INTERNAL, "matmul: %s and %s are not both matrices", a->name, b->name);
        return;
    }
    int64_t m = a->dim[attr->ta], k = a->dim[!attr->ta], kb = b->dim[attr->tb], width = b->dim[!attr->tb];
    if (k != kb) {
        dt_graph_fail(g, DT_ERR_INTERNAL, "matmul: %s and %s: inner dimensions %lld and %lld differ", a->name, b->name,
                      (long long)k, (long long)kb);
        return;
    }
    dt_type type = attr->type;
    if (n->in[C] != DT_NONE) {
        const dt_value *c = dt_value_of(g, n->in[C]);
        if (c == a || c == b || c->ndim != 2 || c->dim[0] != m || c->dim[1] != width) {
            dt_graph_fail(g, DT_ERR_INTERNAL, "matmul: %s is not the %lld x %lld to be added", c->name, (long long)m,
                          (long long)width);
            return;
        }
        type = c->type;
    }
    n->out[0] = dt_graph_temp(g, type, 2, (int64_t[]){m, width});
}

static void grad(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    const dt_matmul_attr at = *DT_ATTR(dt_matmul_attr, n);
    dt_val a = n->in[A], b = n->in[B], dy = dout[0];
    if (want[A])
        din[A] = at.ta ? dt_matmul(g, b, dy, at.tb, true, at.alpha, dt_gradient_type(g, a))
                       : dt_matmul(g, dy, b, false, !at.tb, at.alpha, dt_gradient_type(g, a));
    if (want[B])
        din[B] = at.tb ? dt_matmul(g, dy, a, true, at.ta, at.alpha, dt_gradient_type(g, b))
                       : dt_matmul(g, a, dy, !at.ta, false, at.alpha, dt_gradient_type(g, b));
    if (want[C]) din[C] = dy;
}

/* A weight, a parameter, or computed from nothing else: as large as the model, the same for every token, so that it
 * stays where it is and activations move. */
static bool is_frozen_or_trained(const dt_graph *g, dt_val v)
{
    const dt_value *val = dt_value_of(g, v);
    if (val->kind != DT_KIND_TEMP) return val->kind != DT_KIND_INPUT;
    if (val->producer == DT_NONE) return false;
    const dt_node *n = &g->node[val->producer];
    for (int i = 0; i < n->nin; i++)
        if (n->in[i] != DT_NONE && !is_frozen_or_trained(g, n->in[i])) return false;
    return true;
}

/* Of two operands that cannot both stay as they are: the one to reduce or gather. Never a weight if an activation can
 * be; otherwise the smaller. */
static int cheaper_operand(const dt_placing *p)
{
    dt_val a = p->node->in[A], b = p->node->in[B];
    bool weight_a = is_frozen_or_trained(p->g, a), weight_b = is_frozen_or_trained(p->g, b);
    if (weight_a != weight_b) return weight_a ? B : A;
    return dt_value_count(p->g, a) <= dt_value_count(p->g, b) ? A : B;
}

/* Placement of op(A)[m,k] op(B)[k,n]: rows are A's placements, columns are B's; `-` marks what has to change first.
 *
 *            R          k           n           partial
 *   R        R          A -> k      split n     partial
 *   m        split m    B -> R      see below   B -> R
 *   k        B -> k     partial     A -> R      B -> k
 *   partial  partial    A -> k      A -> R      see below
 *
 * m with n and partial with partial: cheaper_operand becomes R. */
static dt_place place_product(const dt_placing *p, dt_place a, dt_place b)
{
    const dt_matmul_attr *attr = DT_ATTR(dt_matmul_attr, p->node);
    const dt_place a_k = DT_PLACE_S(!attr->ta), b_k = DT_PLACE_S(attr->tb);
    bool a_is_k = dt_place_equal(a, a_k), b_is_k = dt_place_equal(b, b_k);
    bool a_is_m = a.kind == DT_SPLIT && !a_is_k, b_is_n = b.kind == DT_SPLIT && !b_is_k;
    bool a_partial = a.kind == DT_PARTIAL, b_partial = b.kind == DT_PARTIAL;

    if ((a_is_m && b_is_n) || (a_partial && b_partial)) {
        if (cheaper_operand(p) == A) a = DT_PLACE_R;
        else b = DT_PLACE_R;
    } else if (a_is_m || b_is_n) { /* a split result: the other operand whole */
        if (a_is_m) b = DT_PLACE_R;
        else a = DT_PLACE_R;
    } else if (a_is_k || b_is_k) { /* a partial result: the other operand split to match */
        a = a_k;
        b = b_k;
    }
    p->want[A] = a;
    p->want[B] = b;
    if (dt_place_is_partial(a) || dt_place_is_partial(b) || dt_place_equal(a, a_k)) return DT_PLACE_P;
    if (a.kind == DT_SPLIT) return DT_PLACE_S(0);
    return b.kind == DT_SPLIT ? DT_PLACE_S(1) : DT_PLACE_R;
}

static void place(const dt_placing *p)
{
    const dt_matmul_attr *attr = DT_ATTR(dt_matmul_attr, p->node);
    dt_place a = p->in[A].kind == DT_PARTIAL_LSE ? dt_place_resolved(p, A) : p->in[A];
    dt_place b = p->in[B].kind == DT_PARTIAL_LSE ? dt_place_resolved(p, B) : p->in[B];
    p->out[0] = place_product(p, a, b);
    if (p->node->in[C] == DT_NONE) return;
    dt_place c = p->in[C].kind == DT_PARTIAL_LSE ? dt_place_resolved(p, C) : p->in[C];
    if (p->out[0].kind == DT_PARTIAL && c.kind != DT_PARTIAL) { /* C cannot become partial: the product follows it */
        p->want[A] = c.kind == DT_SPLIT && c.dim == 0 ? DT_PLACE_S(attr->ta) : DT_PLACE_R;
        p->want[B] = c.kind == DT_SPLIT && c.dim == 1 ? DT_PLACE_S(!attr->tb) : DT_PLACE_R;
        p->out[0] = c;
    }
    p->want[C] = p->out[0];
}

static void cost(const dt_call *call, size_t real_size, dt_cost *cost)
{
    const dt_matmul_attr *attr = DT_ATTR(dt_matmul_attr, call);
    const dt_tensor *y = &call->out[0], *a = &call->in[A];
    cost->flops = 2.0 * (double)y->dim[0] * (double)y->dim[1] * (double)a->dim[!attr->ta];
}

/* Four transpositions of odd sizes, a product added to a temporary, a single row, a linear layer, and two products that
 * one may be made of. */
static bool example(dt_graph *g, int variant, dt_val *result)
{
    if (variant > 7) return false;
    bool ta = (variant & 1) != 0 && variant < 4, tb = variant >= 2;
    int64_t m = variant == 5 ? 1 : 5, k = 7, n = 3;
    dt_val a = dt_graph_param(g, "a", 2, ta ? (int64_t[]){k, m} : (int64_t[]){m, k}, NULL);
    dt_val b = dt_graph_param(g, "b", 2, tb ? (int64_t[]){n, k} : (int64_t[]){k, n}, NULL);
    if (variant == 6) {
        *result = dt_linear(g, a, b, dt_graph_param(g, "bias", 1, &n, NULL));
    } else if (variant == 7) {
        dt_val y = dt_matmul(g, a, dt_graph_param(g, "more", 2, (int64_t[]){n, k}, NULL), false, true, 1, DT_TYPE_ACC);
        *result = dt_add(g, dt_scale(g, dt_matmul(g, a, b, false, true, 1, DT_TYPE_ACC), 0.3), y);
    } else if (variant == 4) {
        dt_val c = dt_graph_param(g, "c", 2, (int64_t[]){m, n}, NULL);
        *result = dt_matmul_add(g, a, b, dt_scale(g, c, 0.5), ta, tb, -1.5);
    } else {
        *result = dt_matmul(g, a, b, ta, tb, 0.7, DT_TYPE_ACC);
    }
    return true;
}

const dt_op dt_op_matmul = {
    .name = "matmul",
    .nin_min = 2,
    .nin_max = 3,
    .nout = 1,
    .reuse = {C + 1},
    .addend = C + 1,
    .shape = shape,
    .grad = grad,
    .place = place,
    .cost = cost,
    .merge = dt_matmul_merge,
    .example = example,
};

dt_val dt_matmul(dt_graph *g, dt_val a, dt_val b, bool ta, bool tb, double alpha, dt_type type)
{
    dt_matmul_attr attr = {ta, tb, alpha, type};
    if (a == DT_NONE || b == DT_NONE) return DT_NONE;
    return dt_graph_out(g, dt_graph_node(g, &dt_op_matmul, &attr, sizeof attr, 2, (dt_val[]){a, b}), 0);
}

dt_val dt_matmul_add(dt_graph *g, dt_val a, dt_val b, dt_val c, bool ta, bool tb, double alpha)
{
    if (a == DT_NONE || b == DT_NONE || c == DT_NONE) return DT_NONE;
    dt_matmul_attr attr = {ta, tb, alpha, dt_value_of(g, c)->type};
    return dt_graph_out(g, dt_graph_node(g, &dt_op_matmul, &attr, sizeof attr, 3, (dt_val[]){a, b, c}), 0);
}

dt_val dt_linear(dt_graph *g, dt_val x, dt_val w, dt_val b)
{
    if (x == DT_NONE) return DT_NONE;
    dt_val y = dt_matmul(g, x, w, false, true, 1.0, dt_value_of(g, x)->type);
    return b == DT_NONE ? y : dt_bias(g, y, b);
}

bool dt_matmul_rounds(const dt_graph *g, int32_t node, int i)
{
    const dt_node *n = &g->node[node];
    if (n->op != &dt_op_matmul || i > B || dt_value_of(g, n->in[i])->type != DT_TYPE_ACC) return false;
    return dt_value_of(g, n->in[1 - i])->type != DT_TYPE_ACC || dt_value_of(g, n->out[0])->type != DT_TYPE_ACC;
}

/* ---- Fuse: a factor behind a product becomes its alpha. ---- */

bool dt_matmul_absorb_factor(dt_graph *g, int32_t node, dt_val product, double factor)
{
    int32_t id = dt_absorber(g, &g->node[node], product);
    if (id == DT_NONE || g->node[id].op != &dt_op_matmul || g->node[id].in[C] != DT_NONE) return false;
    if (dt_value_of(g, product)->type != dt_value_of(g, g->node[node].out[0])->type) return false;
    dt_matmul_attr *attr = (dt_matmul_attr *)(void *)g->node[id].attr.byte;
    attr->alpha *= factor;
    dt_absorb_output(g, id, node);
    return true;
}
