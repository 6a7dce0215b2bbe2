/* Applies the rewrite rules that ops declare, until none applies. It names no op itself. */
#include "graph/passes.h"

typedef bool (*rule)(dt_graph *g, int32_t node);

static rule merge_of(const dt_op *op)
{
    return op->merge;
}

static rule fuse_of(const dt_op *op)
{
    return op->fuse;
}

/* Once over the nodes, with new ones in front of the node at hand and like it; true if a rule applied. */
static bool sweep(dt_graph *g, rule (*rule_of)(const dt_op *))
{
    bool changed = false;
    for (int32_t i = g->head, next; i != DT_NONE; i = next) {
        next = g->node[i].next;
        const rule apply = rule_of(g->node[i].op);
        if (apply == NULL || g->node[i].dead) continue;
        g->cursor = g->node[i].prev;
        g->program = g->node[i].program;
        g->backward = g->node[i].backward;
        g->block = g->node[i].block;
        changed |= apply(g, i);
    }
    return changed && g->status == DT_OK;
}

static dt_status leave(dt_graph *g)
{
    g->program = DT_MICRO;
    g->backward = false;
    g->block = DT_NONE;
    dt_graph_seek_end(g);
    return dt_graph_status(g);
}

/* Without pruning: what grad will read has no reader yet. */
dt_status dt_pass_merge(dt_graph *g)
{
    DT_TRY(dt_graph_status(g));
    while (sweep(g, merge_of)) continue;
    return leave(g);
}

dt_status dt_pass_fuse(dt_graph *g)
{
    DT_TRY(dt_graph_status(g));
    for (bool again = true; again;) {
        again = sweep(g, fuse_of);
        dt_graph_prune(g);
    }
    return leave(g);
}
