/* The table of ops, and the placement rules that several of them share. */
#include "op/op.h"

const dt_op *const dt_ops[DT_OP_COUNT] = {
#define DT_OP(name) &dt_op_##name,
#include "op/ops.def"
#undef DT_OP
};

int dt_op_index(const dt_op *op)
{
    for (int i = 0; i < DT_OP_COUNT; i++)
        if (dt_ops[i] == op) return i;
    return DT_NONE;
}

bool dt_shape_equal(const dt_graph *g, dt_val a, dt_val b)
{
    const dt_value *x = dt_value_of(g, a), *y = dt_value_of(g, b);
    if (x->ndim != y->ndim) return false;
    for (int i = 0; i < x->ndim; i++)
        if (x->dim[i] != y->dim[i]) return false;
    return true;
}

dt_place dt_place_resolved(const dt_placing *p, int input)
{
    const dt_graph *g = p->g;
    const dt_value *v = dt_value_of(g, p->node->in[input]);
    bool tensor_axis = (DT_AXES_TENSOR >> p->axis & 1) != 0;
    return g->sequence && tensor_axis && v->dim[0] == g->tokens ? DT_PLACE_S(0) : DT_PLACE_R;
}

/* Every input and output in `place`. */
static void place_all(const dt_placing *p, dt_place place)
{
    for (int i = 0; i < p->node->nin; i++)
        if (p->node->in[i] != DT_NONE) p->want[i] = place;
    for (int i = 0; i < p->node->nout; i++) p->out[i] = place;
}

void dt_place_elementwise(const dt_placing *p)
{
    dt_place place = DT_PLACE_R;
    for (int i = p->node->nin - 1; i >= 0; i--)
        if (p->node->in[i] != DT_NONE && dt_place_is_partial(p->in[i])) place = dt_place_resolved(p, i);
    for (int i = p->node->nin - 1; i >= 0; i--)
        if (p->node->in[i] != DT_NONE && p->in[i].kind == DT_SPLIT) place = p->in[i];
    place_all(p, place);
}

void dt_place_linear(const dt_placing *p)
{
    for (int i = 0; i < p->node->nin; i++) {
        if (p->node->in[i] == DT_NONE || p->in[i].kind == DT_PARTIAL) continue;
        dt_place_elementwise(p);
        return;
    }
    place_all(p, DT_PLACE_P);
}
