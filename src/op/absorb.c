/* Rewrites in which a node does its reader's work as well. */
#include "op/absorb.h"
#include "graph/op.h"
#include "op/storage.h"

static bool same_places(const dt_graph *g, dt_val a, dt_val b)
{
    for (int i = 0; i < DT_AXIS_COUNT; i++)
        if (!dt_place_equal(dt_value_of(g, a)->place[i], dt_value_of(g, b)->place[i])) return false;
    return true;
}

static bool same_type(const dt_graph *g, dt_val a, dt_val b)
{
    return dt_value_of(g, a)->type == dt_value_of(g, b)->type;
}

int32_t dt_absorber(const dt_graph *g, const dt_node *node, dt_val v)
{
    int32_t id = dt_value_of(g, v)->producer;
    if (id == DT_NONE || g->node[id].out[0] != v || g->node[id].program != node->program) return DT_NONE;
    return dt_graph_use_count(g, v) == 1 && same_places(g, v, node->out[0]) ? id : DT_NONE;
}

void dt_absorb_output(dt_graph *g, int32_t producer, int32_t node)
{
    dt_val y = g->node[node].out[0];
    dt_graph_remove(g, node);
    g->node[producer].out[0] = y;
    dt_value_of(g, y)->producer = producer;
}

/* The node that takes `c`: v's own, or the first one of a chain of sums in c's type that leads to v. */
static int32_t first_of_chain(const dt_graph *g, const dt_node *node, dt_val c, dt_val v, bool chains)
{
    for (int32_t id; (id = dt_absorber(g, node, v)) != DT_NONE && g->node[id].op->addend != 0;) {
        dt_val addend = g->node[id].in[g->node[id].op->addend - 1];
        if (addend == DT_NONE) return id;
        if (!chains || !same_type(g, v, c) || !same_type(g, addend, c)) return DT_NONE;
        v = addend;
    }
    return DT_NONE;
}

bool dt_absorb_sum(dt_graph *g, int32_t node, dt_val c, dt_val v)
{
    dt_val y = g->node[node].out[0], storage = dt_storage_of(g, c);
    const bool in_place = dt_storage_of(g, y) == storage;
    if (!same_places(g, c, y) || !same_type(g, c, y)) return false;
    int32_t id = first_of_chain(g, &g->node[node], c, v, !in_place);
    if (id == DT_NONE || dt_storage_is_read(g, storage, id)) return false;
    if (in_place ? dt_storage_is_used(g, storage, id, node) : dt_storage_is_written(g, storage, id, node)) return false;
    dt_node *first = &g->node[id];
    first->in[first->op->addend - 1] = c;
    if (first->nin < first->op->addend) first->nin = first->op->addend;
    dt_absorb_output(g, dt_value_of(g, v)->producer, node);
    return true;
}
