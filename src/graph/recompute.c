/* Trades memory for compute, block by block: what a block's backward reads of its forward is computed again. */
#include "graph/passes.h"
#include <stdlib.h>
#include <string.h>

typedef struct recompute_pass {
    dt_graph *g;
    int32_t *first; /* block -> its first backward reader */
    dt_val *copy;   /* value -> its second computation, DT_NONE: none */
    int64_t values; /* of the graph as it was */
} recompute_pass;

/* The block whose forward computes `v`, where it can be computed again; DT_NONE: it is kept. */
static int32_t inner_block(const dt_graph *g, dt_val v)
{
    if (v == DT_NONE || g->value[v].kind != DT_KIND_TEMP || g->value[v].producer == DT_NONE) return DT_NONE;
    const dt_node *n = &g->node[g->value[v].producer];
    bool again = n->program == DT_MICRO && !n->backward && !n->op->communicates;
    return again ? n->block : DT_NONE;
}

/* Is `v` read by the forward of another block (or by the head)? It then enters that block: it is kept. */
static bool leaves_block(const dt_graph *g, dt_val v, int32_t block)
{
    for (int32_t i = g->node[g->value[v].producer].next; i != DT_NONE; i = g->node[i].next) {
        const dt_node *n = &g->node[i];
        if (n->backward || n->block == block) continue;
        for (int k = 0; k < n->nin; k++)
            if (n->in[k] == v) return true;
    }
    return false;
}

/* Computes `v` again at the cursor, from what its block keeps; the whole chain that leads to it first. */
static dt_val again(recompute_pass *p, dt_val v, int32_t block)
{
    dt_graph *g = p->g;
    if (inner_block(g, v) != block || v >= p->values) return v;
    if (p->copy[v] != DT_NONE) return p->copy[v];
    if (leaves_block(g, v, block)) return v;
    dt_node n = g->node[g->value[v].producer];
    for (int k = 0; k < n.nin; k++)
        if (n.in[k] != DT_NONE) n.in[k] = again(p, n.in[k], block);
    int32_t id = dt_graph_node(g, n.op, n.attr.byte, sizeof n.attr, n.nin, n.in);
    if (id == DT_NONE) return DT_NONE;
    for (int k = 0; k < n.nout; k++) {
        dt_val from = n.out[k], to = g->node[id].out[k];
        if (from == DT_NONE || to == DT_NONE) continue;
        memcpy(g->value[to].place, g->value[from].place, sizeof g->value[to].place);
        memcpy(g->value[to].local, g->value[from].local, sizeof g->value[to].local);
        memcpy(g->value[to].off, g->value[from].off, sizeof g->value[to].off);
        p->copy[from] = to;
    }
    return p->copy[v];
}

/* Computes again all that backward nodes read of one block, in front of the first of them. */
static void recompute_block(recompute_pass *p, int32_t block)
{
    dt_graph *g = p->g;
    for (int32_t i = p->first[block]; i != DT_NONE; i = g->node[i].next) {
        for (int k = 0; k < g->node[i].nin && g->node[i].backward; k++) {
            dt_val v = g->node[i].in[k];
            if (inner_block(g, v) != block) continue;
            dt_graph_seek(g, g->node[p->first[block]].prev);
            dt_val to = again(p, v, block);
            if (to == DT_NONE) return;
            g->node[i].in[k] = to;
        }
    }
}

dt_status dt_pass_recompute(dt_graph *g)
{
    DT_TRY(dt_graph_status(g));
    recompute_pass p = {.g = g, .values = g->values};
    int32_t blocks = 0;
    dt_status st = DT_OK;
    for (int64_t i = 0; i < g->nodes; i++)
        if (g->node[i].block >= blocks) blocks = g->node[i].block + 1;
    DT_GOTO(dt_alloc((size_t)blocks + 1, sizeof *p.first, &p.first), done);
    DT_GOTO(dt_alloc((size_t)p.values + 1, sizeof *p.copy, &p.copy), done);
    for (int64_t v = 0; v < p.values; v++) p.copy[v] = DT_NONE;
    for (int32_t b = 0; b < blocks; b++) p.first[b] = DT_NONE;
    DT_FOR_NODES (g, i) {
        const dt_node *n = &g->node[i];
        for (int k = 0; k < n->nin && n->backward; k++) {
            int32_t b = inner_block(g, n->in[k]);
            if (b != DT_NONE && p.first[b] == DT_NONE) p.first[b] = i;
        }
    }
    g->program = DT_MICRO;
    g->backward = true;
    for (int32_t b = 0; b < blocks && g->status == DT_OK; b++)
        if (p.first[b] != DT_NONE) recompute_block(&p, b);
    g->backward = false;
    dt_graph_seek_end(g);
    st = dt_graph_status(g);
done:
    free(p.first);
    free(p.copy);
    return st;
}
