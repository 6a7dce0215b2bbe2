/* Applies the rewrite rules that ops declare, until none applies. It names no op itself. */
#include "graph/passes.h"

dt_status dt_pass_fuse(dt_graph *g)
{
    DT_TRY(dt_graph_status(g));
    for (bool again = true; again && g->status == DT_OK;) {
        again = false;
        for (int32_t i = g->head, next; i != DT_NONE; i = next) {
            next = g->node[i].next;
            const dt_op *op = g->node[i].op;
            if (op->fuse == NULL) continue;
            g->cursor = g->node[i].prev;
            g->program = g->node[i].program;
            g->backward = g->node[i].backward;
            g->block = g->node[i].block;
            again |= op->fuse(g, i);
        }
        dt_graph_prune(g);
    }
    g->program = DT_MICRO;
    g->backward = false;
    g->block = DT_NONE;
    dt_graph_seek_end(g);
    return dt_graph_status(g);
}
