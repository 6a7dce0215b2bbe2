/* Who still needs a value's storage. */
#include "op/storage.h"

dt_val dt_storage_of(const dt_graph *g, dt_val v)
{
    while (dt_value_of(g, v)->base != DT_NONE) v = dt_value_of(g, v)->base;
    return v;
}

static bool writes(const dt_graph *g, const dt_node *n, dt_val storage)
{
    for (int i = 0; i < n->nout; i++)
        if (n->out[i] != DT_NONE && dt_storage_of(g, n->out[i]) == storage) return true;
    return false;
}

static bool uses(const dt_graph *g, const dt_node *n, dt_val storage)
{
    for (int i = 0; i < n->nin; i++)
        if (n->in[i] != DT_NONE && dt_storage_of(g, n->in[i]) == storage) return true;
    return writes(g, n, storage);
}

bool dt_storage_is_used(const dt_graph *g, dt_val storage, int32_t node, int32_t after, int32_t before)
{
    for (int32_t i = g->node[after].next; i != before && i != DT_NONE; i = g->node[i].next)
        if (i != node && uses(g, &g->node[i], storage)) return true;
    return false;
}

bool dt_storage_is_written(const dt_graph *g, dt_val storage, int32_t after, int32_t before)
{
    for (int32_t i = g->node[after].next; i != before && i != DT_NONE; i = g->node[i].next)
        if (writes(g, &g->node[i], storage)) return true;
    return false;
}

bool dt_storage_is_spare(const dt_graph *g, dt_val v, int32_t node, int32_t at)
{
    dt_val storage = dt_storage_of(g, v);
    const dt_value *s = dt_value_of(g, storage);
    if (s->kind != DT_KIND_TEMP || s->producer == DT_NONE) return false;
    if (g->node[s->producer].program != g->node[node].program) return false;
    for (int64_t i = 0; i < g->outputs; i++)
        if (dt_storage_of(g, g->output[i]) == storage) return false;
    return !dt_storage_is_used(g, storage, node, at, DT_NONE);
}
