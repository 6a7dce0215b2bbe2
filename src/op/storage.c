/* Who uses a value's storage. */
#include "op/storage.h"

dt_val dt_storage_of(const dt_graph *g, dt_val v)
{
    while (dt_value_of(g, v)->base != DT_NONE) v = dt_value_of(g, v)->base;
    return v;
}

bool dt_storage_is_read(const dt_graph *g, dt_val storage, int32_t node)
{
    const dt_node *n = &g->node[node];
    for (int i = 0; i < n->nin; i++)
        if (n->in[i] != DT_NONE && dt_storage_of(g, n->in[i]) == storage) return true;
    return false;
}

static bool writes(const dt_graph *g, dt_val storage, int32_t node)
{
    const dt_node *n = &g->node[node];
    for (int i = 0; i < n->nout; i++)
        if (n->out[i] != DT_NONE && dt_storage_of(g, n->out[i]) == storage) return true;
    return false;
}

bool dt_storage_is_written(const dt_graph *g, dt_val storage, int32_t after, int32_t before)
{
    for (int32_t i = g->node[after].next; i != before && i != DT_NONE; i = g->node[i].next)
        if (writes(g, storage, i)) return true;
    return false;
}

bool dt_storage_is_used(const dt_graph *g, dt_val storage, int32_t after, int32_t before)
{
    for (int32_t i = g->node[after].next; i != before && i != DT_NONE; i = g->node[i].next)
        if (dt_storage_is_read(g, storage, i) || writes(g, storage, i)) return true;
    return false;
}
