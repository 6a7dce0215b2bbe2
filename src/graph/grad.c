/* Symbolic reverse mode: emits backward nodes only for what leads to a trainable value. */
#include "graph/emit.h" // dt_accumulate, dt_add, dt_square
#include "graph/passes.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct grad_pass {
    dt_graph *g;
    int64_t values; /* of the forward graph */
    bool *needs;    /* value -> does it depend on a parameter? */
    dt_val *grad;   /* value -> its gradient so far */
    int *readers;   /* value -> forward nodes that will still contribute */
    dt_grad_mode mode;
} grad_pass;

static dt_val accumulator(dt_graph *g, dt_val v)
{
    char name[512];
    snprintf(name, sizeof name, "grad:%s", g->value[v].name);
    dt_val acc = dt_graph_find(g, name);
    if (acc != DT_NONE) return acc;
    const dt_value of = g->value[v];
    acc = dt_graph_state(g, name, DT_TYPE_ACC, of.ndim, of.dim, DT_NO_SPLIT);
    if (acc == DT_NONE) return acc;
    g->value[acc].ragged = of.ragged;
    memcpy(g->value[acc].local, of.local, sizeof of.local);
    for (int d = 0; d < of.ndim; d++) g->value[acc].tie[d] = (dt_tie){v, of.ragged ? DT_NONE : d};
    return acc;
}

dt_val dt_grad_of(const dt_graph *g, dt_val param)
{
    char name[512];
    snprintf(name, sizeof name, "grad:%s", g->value[param].name);
    return dt_graph_find(g, name);
}

static void contribute(grad_pass *p, dt_val v, dt_val d)
{
    dt_graph *g = p->g;
    if (d != DT_NONE && dt_gradient_is_collected(g, v) && p->mode == DT_GRAD_SUM) {
        dt_accumulate(g, accumulator(g, v), d);
    } else if (d != DT_NONE) {
        p->grad[v] = p->grad[v] == DT_NONE ? d : dt_add(g, p->grad[v], d);
    }
    if (--p->readers[v] == 0 && p->mode == DT_GRAD_SQUARES && dt_gradient_is_collected(g, v) && p->grad[v] != DT_NONE)
        dt_accumulate(g, accumulator(g, v), dt_square(g, p->grad[v]));
}

/* Emits the backward of node `id`, which stays where it is; `from_state` takes the outputs' gradients from
 * accumulators. */
static void backward_of(grad_pass *p, int32_t id, bool from_state)
{
    dt_graph *g = p->g;
    const dt_node n = g->node[id];
    dt_val dout[DT_MAX_OUT], din[DT_MAX_IN];
    bool want[DT_MAX_IN], any_out = false, any_in = false;
    for (int k = 0; k < DT_MAX_OUT; k++) {
        dout[k] = DT_NONE;
        if (k >= n.nout || n.out[k] == DT_NONE) continue;
        dout[k] = from_state ? dt_grad_of(g, n.out[k]) : p->grad[n.out[k]];
        if (from_state && dout[k] == DT_NONE) dout[k] = p->grad[n.out[k]];
        any_out |= dout[k] != DT_NONE;
    }
    for (int k = 0; k < DT_MAX_IN; k++) {
        din[k] = DT_NONE;
        want[k] = k < n.nin && n.in[k] != DT_NONE && p->needs[n.in[k]];
        any_in |= want[k];
    }
    if (!any_in) return;
    if (any_out) {
        if (n.op->grad == NULL) {
            dt_graph_fail(g, DT_ERR_INTERNAL, "op %s has no gradient", n.op->name);
            return;
        }
        n.op->grad(g, &n, dout, want, din);
    }
    for (int k = 0; k < n.nin; k++)
        if (want[k] && g->status == DT_OK) contribute(p, n.in[k], din[k]);
}

/* Prologue nodes run their backward in the epilogue: a parameter's contribution is accumulated there. */
static void prologue_backward(grad_pass *p, const int32_t *order, int64_t n)
{
    p->g->program = DT_EPILOGUE;
    for (int64_t i = n - 1; i >= 0; i--)
        if (p->g->node[order[i]].program == DT_PROLOGUE) backward_of(p, order[i], true);
    p->g->program = DT_MICRO;
}

dt_status dt_pass_grad(dt_graph *g, dt_val loss, dt_grad_mode mode)
{
    DT_TRY(dt_graph_status(g));
    dt_status st = DT_OK;
    grad_pass p = {.g = g, .values = g->values, .mode = mode};
    int32_t *order = NULL;
    int64_t n = 0;
    DT_GOTO(dt_alloc((size_t)p.values, sizeof *p.needs, &p.needs), done);
    DT_GOTO(dt_alloc((size_t)p.values, sizeof *p.grad, &p.grad), done);
    DT_GOTO(dt_alloc((size_t)p.values, sizeof *p.readers, &p.readers), done);
    DT_GOTO(dt_alloc((size_t)g->nodes + 1, sizeof *order, &order), done);
    for (int64_t v = 0; v < p.values; v++) {
        p.grad[v] = DT_NONE;
        p.needs[v] = g->value[v].kind == DT_KIND_PARAM;
    }
    DT_FOR_NODES (g, i) {
        const dt_node *node = &g->node[i];
        bool needs = false;
        order[n++] = i;
        for (int k = 0; k < node->nin; k++) needs |= node->in[k] != DT_NONE && p.needs[node->in[k]];
        if (needs && mode == DT_GRAD_SQUARES && node->program == DT_PROLOGUE)
            DT_GOTO(dt_fail(DT_ERR_INTERNAL, "op %s: squares of gradients do not pass the prologue", node->op->name),
                    done);
        for (int k = 0; k < node->nin && needs; k++)
            if (node->in[k] != DT_NONE) p.readers[node->in[k]]++;
        for (int k = 0; k < node->nout && needs; k++)
            if (node->out[k] != DT_NONE) p.needs[node->out[k]] = true;
    }
    if (p.needs[loss]) {
        const float one = 1.0f;
        dt_graph_seek_end(g);
        g->backward = true;
        g->program = DT_MICRO;
        p.grad[loss] = dt_graph_const(g, "grad:loss", DT_TYPE_ACC, 1, (int64_t[]){1}, &one);
        for (int64_t i = n - 1; i >= 0 && g->status == DT_OK; i--)
            if (g->node[order[i]].program == DT_MICRO) backward_of(&p, order[i], false);
        prologue_backward(&p, order, n);
        g->backward = false;
        dt_graph_prune(g);
    }
    st = dt_graph_status(g);
done:
    free(p.needs);
    free(p.grad);
    free(p.readers);
    free(order);
    return st;
}
