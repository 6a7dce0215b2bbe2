/* Buckets: stretches of the flat gradient that can be reduced while the last micro-batch's backward goes on. */
#include "optim/optim.h"
#include <stdlib.h>

/* What is known of a parameter's gradient. */
typedef struct written {
    int32_t last; /* place in the list of the last node of the micro-batch that touches it; -1: none does */
    int32_t node; /* that node */
    bool later;   /* another program adds to it: complete only there */
} written;

/* Where a value lies in the flat gradient; false: somewhere else. */
static bool stretch_of(const dt_graph *g, const dt_flat *flat, dt_val v, int64_t *offset, int64_t *end)
{
    if (v == DT_NONE) return false;
    *end = dt_value_local_count(g, v);
    *offset = 0;
    for (; v != flat->grads && v != DT_NONE; v = g->value[v].base) *offset += g->value[v].base_offset;
    *end += *offset;
    return v == flat->grads;
}

/* A node touches a value: notes it for each parameter whose gradient lies there. */
static void touch(const dt_graph *g, const dt_flat *flat, int32_t node, int32_t place, dt_val v, written *w)
{
    int64_t offset, end;
    if (!stretch_of(g, flat, v, &offset, &end)) return;
    for (int i = 0; i < flat->n; i++) {
        const dt_flat_param *p = &flat->param[i];
        if (p->offset + p->count <= offset || end <= p->offset) continue;
        if (g->node[node].program != DT_MICRO) {
            w[i].later = true;
        } else {
            w[i].last = place;
            w[i].node = node;
        }
    }
}

static void find_writers(const dt_graph *g, const dt_flat *flat, written *w)
{
    int32_t place = 0;
    for (int i = 0; i < flat->n; i++) w[i] = (written){.last = -1, .node = DT_NONE};
    DT_FOR_NODES (g, n) {
        for (int k = 0; k < g->node[n].nin; k++) touch(g, flat, n, place, g->node[n].in[k], w);
        for (int k = 0; k < g->node[n].nout; k++) touch(g, flat, n, place, g->node[n].out[k], w);
        place++;
    }
}

/* Ready before the epilogue? What a rank holds nothing of always is. */
static bool is_early(const dt_flat_param *p, const written *w)
{
    return p->count == 0 || (!w->later && w->last >= 0);
}

static bool same_section(const dt_flat_param *a, const dt_flat_param *b)
{
    return a->split == b->split && a->partial == b->partial;
}

/* A rank's share of a parameter, as large on every rank: where a delta's ranks hold unequal parts of it, all make the
 * same buckets even so. */
static int64_t share_of(const dt_graph *g, const dt_flat_param *p)
{
    return dt_value_count(g, p->param) / dt_mesh_group_size(&g->mesh, p->split);
}

static int32_t last_node(const written *w, int from, int to)
{
    int best = from;
    for (int i = from + 1; i < to; i++)
        if (w[i].last > w[best].last) best = i;
    return w[best].node;
}

dt_status dt_flat_buckets(const dt_graph *g, const dt_flat *flat, int64_t least, dt_bucket **out, int *n)
{
    written *w = NULL;
    dt_bucket *b = NULL;
    int64_t total = 0;
    int count = 0;
    dt_status st;
    DT_GOTO(dt_alloc((size_t)flat->n, sizeof *w, &w), done);
    DT_GOTO(dt_alloc((size_t)flat->n, sizeof *b, &b), done);
    find_writers(g, flat, w);
    for (int i = 0; i < flat->n; i++) total += share_of(g, &flat->param[i]);
    if (least < total / DT_BUCKETS) least = total / DT_BUCKETS;
    for (int to = flat->n, from; to > 0; to = from) {
        from = to - 1;
        if (!is_early(&flat->param[from], &w[from])) continue;
        int64_t held = share_of(g, &flat->param[from]);
        while (from > 0 && held < least && is_early(&flat->param[from - 1], &w[from - 1]) &&
               same_section(&flat->param[from - 1], &flat->param[from]))
            held += share_of(g, &flat->param[--from]);
        b[count++] = (dt_bucket){from, to, last_node(w, from, to)};
    }
    *out = b;
    *n = count;
    b = NULL;
done:
    free(w);
    free(b);
    return st;
}
