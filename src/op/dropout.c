/* Dropout keyed by what an element is. */
#include "op/dropout.h"
#include "op/op.h"

enum { X, KEY, STEP };

static void shape(dt_graph *g, dt_node *n)
{
    const dt_value x = *dt_value_of(g, n->in[X]), *key = dt_value_of(g, n->in[KEY]),
                   *step = dt_value_of(g, n->in[STEP]);
    double p = DT_ATTR(dt_dropout_attr, n)->p;
    if (!(p >= 0 && p < 1)) dt_graph_fail(g, DT_ERR_INTERNAL, "dropout: %g is no probability below 1", p);
    else if (x.ndim != 2 || key->type != DT_TYPE_I32 || key->ndim != 1 || key->dim[0] != x.dim[0] ||
             step->type != DT_TYPE_I32 || step->dim[0] != 1)
        dt_graph_fail(g, DT_ERR_INTERNAL, "dropout: %s and %s do not number the rows of %s and the step", key->name,
                      step->name, x.name);
    else n->out[0] = dt_graph_temp(g, x.type, 2, x.dim);
}

static void grad(dt_graph *g, const dt_node *n, const dt_val *dout, const bool *want, dt_val *din)
{
    const dt_val in[] = {dout[0], n->in[KEY], n->in[STEP]};
    din[X] = dt_graph_out(g, dt_graph_node(g, &dt_op_dropout, n->attr.byte, sizeof(dt_dropout_attr), 3, in), 0);
}

/* Linear in x, and every rank draws the same numbers: partial stays partial. */
static void place(const dt_placing *p)
{
    dt_place x = p->in[X].kind == DT_PARTIAL_LSE ? dt_place_resolved(p, X) : p->in[X];
    p->want[X] = p->out[0] = x;
    p->want[KEY] = dt_place_equal(x, DT_PLACE_S(0)) ? x : DT_PLACE_R;
    p->want[STEP] = DT_PLACE_R;
}

static bool example(dt_graph *g, int variant, dt_val *result)
{
    static const int32_t key[] = {0, 7, 123456789}, step[] = {42};
    if (variant > 1) return false;
    dt_val k = dt_graph_const(g, "key", DT_TYPE_I32, 1, (int64_t[]){3}, key);
    dt_val s = dt_graph_const(g, "step", DT_TYPE_I32, 1, (int64_t[]){1}, step);
    g->train = true;
    *result = dt_dropout(g, dt_graph_param(g, "x", 2, (int64_t[]){3, variant == 0 ? 11 : 8}, NULL), k, s, 0.4, 1, 99);
    return true;
}

const dt_op dt_op_dropout = {
    .name = "dropout",
    .nin_min = 3,
    .nin_max = 3,
    .nout = 1,
    .reuse = {1},
    .shape = shape,
    .grad = grad,
    .place = place,
    .example = example,
};

dt_val dt_dropout(dt_graph *g, dt_val x, dt_val key, dt_val step, double p, uint64_t seed, uint64_t site)
{
    dt_dropout_attr attr = {p, seed, site};
    if (x == DT_NONE || p == 0 || !g->train) return x;
    if (key == DT_NONE || step == DT_NONE) return DT_NONE;
    return dt_graph_out(g, dt_graph_node(g, &dt_op_dropout, &attr, sizeof attr, 3, (dt_val[]){x, key, step}), 0);
}
