/* On a device that computes in less than fp32: the trained values rounded once a step, not once a product. */
#include "op/cast.h"
#include "op/matmul.h" // dt_matmul_rounds
#include "optim/optim.h"
#include <stdio.h>
#include <string.h>

/* Products want their operands at multiples of 16 bytes; a value in between is rounded by each of them. */
#define ELEMENTS 8

static const dt_flat_param *param_of(const dt_flat *flat, dt_val v)
{
    for (int i = 0; i < flat->n; i++)
        if (flat->param[i].param == v && flat->param[i].offset % ELEMENTS == 0) return &flat->param[i];
    return NULL;
}

/* The rounded values of one parameter: a view of all of them. */
static dt_val view(dt_graph *g, dt_val rounded, const dt_flat_param *p)
{
    char name[512];
    const dt_value param = g->value[p->param];
    snprintf(name, sizeof name, "act:%s", param.name);
    dt_val v = dt_graph_find(g, name);
    if (v != DT_NONE) return v;
    v = dt_graph_state(g, name, DT_TYPE_ACT, param.ndim, param.dim, DT_NO_SPLIT);
    if (v == DT_NONE) return v;
    dt_value *to = &g->value[v];
    memcpy(to->place, param.place, sizeof to->place);
    memcpy(to->local, param.local, sizeof to->local);
    memcpy(to->off, param.off, sizeof to->off);
    to->ragged = param.ragged;
    to->base = rounded;
    to->base_offset = p->offset;
    return v;
}

/* The state that holds them, and the prologue's node that fills it. */
static dt_val add_rounded(dt_graph *g, const dt_flat *flat)
{
    dt_val all = dt_graph_state(g, "flat:act", DT_TYPE_ACT, 1, &flat->count, DT_NO_SPLIT);
    if (all == DT_NONE) return all;
    g->value[all].ragged = true;
    dt_graph_seek(g, DT_NONE);
    g->program = DT_PROLOGUE;
    dt_val v = dt_cast(g, flat->params, DT_TYPE_ACT);
    if (v != DT_NONE) g->value[v].base = all;
    g->program = DT_MICRO;
    dt_graph_seek_end(g);
    return all;
}

dt_status dt_flat_round(dt_graph *g, const dt_flat *flat)
{
    dt_val all = DT_NONE;
    DT_FOR_NODES (g, i) {
        for (int k = 0; k < g->node[i].nin && g->status == DT_OK; k++) {
            const dt_val v = g->node[i].in[k];
            const dt_flat_param *p =
                g->node[i].program == DT_MICRO && v != DT_NONE && dt_matmul_rounds(g, i, k) ? param_of(flat, v) : NULL;
            if (p == NULL) continue;
            if (all == DT_NONE) all = add_rounded(g, flat);
            const dt_val to = view(g, all, p);
            g->node[i].in[k] = to;
        }
    }
    return dt_graph_status(g);
}
