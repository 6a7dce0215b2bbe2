/* Building and editing a graph: values, the list of nodes, sites. */
#include "graph/graph.h"
#include "base/log.h"
#include "graph/op.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

dt_status dt_graph_create(dt_graph **out)
{
    dt_graph *g = NULL;
    DT_TRY(dt_alloc(1, sizeof *g, &g));
    g->head = g->tail = g->cursor = DT_NONE;
    g->program = DT_MICRO;
    g->block = DT_NONE;
    *out = g;
    return DT_OK;
}

void dt_graph_destroy(dt_graph *g)
{
    if (g == NULL) return;
    dt_region_free(&g->region);
    free(g->value);
    free(g->node);
    free(g->site);
    free(g->output);
    free(g->update);
    free(g);
}

dt_status dt_graph_status(dt_graph *g)
{
    if (g->status == DT_OK) return DT_OK;
    return dt_fail(g->status, "%s", g->error != NULL ? g->error : "out of memory");
}

dt_val dt_graph_fail(dt_graph *g, dt_status status, const char *fmt, ...)
{
    if (g->status != DT_OK) return DT_NONE;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    g->status = status;
    g->error = dt_region_strdup(&g->region, text);
    return DT_NONE;
}

/* Turns a failed call into the graph's sticky error. */
static bool took(dt_graph *g, dt_status st)
{
    if (st == DT_OK) return true;
    dt_graph_fail(g, st, "%s", dt_error_text());
    return false;
}

static dt_val new_value(dt_graph *g, const char *name, dt_kind kind, dt_type type, int ndim, const int64_t *dim)
{
    if (g->status != DT_OK) return DT_NONE;
    if (ndim < 1 || ndim > DT_DIMS) return dt_graph_fail(g, DT_ERR_INTERNAL, "value %s: %d dimensions", name, ndim);
    int64_t shape[DT_DIMS]; /* `dim` may be another value's, which moves when the array grows */
    for (int i = 0; i < DT_DIMS; i++) shape[i] = i < ndim ? dim[i] : 1;
    if (!took(g, dt_grow(&g->value, &g->value_cap, g->values + 1, sizeof *g->value))) return DT_NONE;
    dt_value *v = &g->value[g->values];
    *v = (dt_value){.kind = kind, .type = type, .ndim = ndim, .split = DT_NO_SPLIT};
    v->name = name != NULL ? dt_region_strdup(&g->region, name) : dt_region_printf(&g->region, "%%%d", (int)g->values);
    v->producer = DT_NONE;
    v->base = v->index = DT_NONE;
    for (int i = 0; i < DT_DIMS; i++) {
        v->dim[i] = v->local[i] = shape[i];
        v->tie[i] = (dt_tie){DT_NONE, 0};
        if (shape[i] < 1 && (kind == DT_KIND_INPUT || kind == DT_KIND_WEIGHT)) /* a rank may hold none of a delta */
            return dt_graph_fail(g, DT_ERR_INTERNAL, "value %s: dimension %d is %lld", v->name, i, (long long)shape[i]);
    }
    if (v->name == NULL) return dt_graph_fail(g, DT_ERR_MEMORY, "out of memory");
    for (int64_t i = 0, bytes = 8; i < DT_DIMS; i++)
        if (__builtin_mul_overflow(bytes, shape[i], &bytes))
            return dt_graph_fail(g, DT_ERR_CONFIG, "value %s is larger than memory can be", v->name);
    return (dt_val)g->values++;
}

dt_val dt_graph_temp(dt_graph *g, dt_type type, int ndim, const int64_t *dim)
{
    return new_value(g, NULL, DT_KIND_TEMP, type, ndim, dim);
}

static dt_val new_named(dt_graph *g, const char *name, dt_kind kind, dt_type type, int ndim, const int64_t *dim,
                        dt_split split)
{
    if (g->status == DT_OK && dt_graph_find(g, name) != DT_NONE)
        return dt_graph_fail(g, DT_ERR_CONFIG, "the name %s stands for two values", name);
    dt_val v = new_value(g, name, kind, type, ndim, dim);
    if (v != DT_NONE) g->value[v].split = split;
    return v;
}

dt_val dt_graph_input(dt_graph *g, const char *name, dt_type type, int ndim, const int64_t *dim, dt_split split)
{
    return new_named(g, name, DT_KIND_INPUT, type, ndim, dim, split);
}

dt_val dt_graph_const(dt_graph *g, const char *name, dt_type type, int ndim, const int64_t *dim, const void *host)
{
    dt_val v = new_named(g, name, DT_KIND_CONST, type, ndim, dim, DT_NO_SPLIT);
    if (v == DT_NONE) return v;
    size_t bytes = (size_t)dt_value_count(g, v) * 4;
    void *copy = dt_region_alloc(&g->region, bytes != 0 ? bytes : 4);
    if (copy == NULL) return dt_graph_fail(g, DT_ERR_MEMORY, "out of memory");
    if (bytes != 0) memcpy(copy, host, bytes);
    g->value[v].host = copy;
    return v;
}

dt_val dt_graph_weight(dt_graph *g, const char *name, int ndim, const int64_t *dim, dt_split split)
{
    return new_named(g, name, DT_KIND_WEIGHT, DT_TYPE_ACT, ndim, dim, split);
}

dt_val dt_graph_weight_part(dt_graph *g, const char *name, int ndim, const int64_t *dim, dt_split split, dt_part part)
{
    dt_val v = dt_graph_weight(g, name, ndim, dim, split);
    part.tensor = dt_region_strdup(&g->region, part.tensor);
    if (part.tensor == NULL) return dt_graph_fail(g, DT_ERR_MEMORY, "out of memory");
    if (v != DT_NONE) g->value[v].part = part;
    return v;
}

dt_val dt_graph_param(dt_graph *g, const char *name, int ndim, const int64_t *dim, const dt_tie *ties)
{
    dt_val v = new_named(g, name, DT_KIND_PARAM, DT_TYPE_ACC, ndim, dim, DT_NO_SPLIT);
    for (int i = 0; v != DT_NONE && ties != NULL && i < ndim; i++) g->value[v].tie[i] = ties[i];
    return v;
}

dt_val dt_graph_state(dt_graph *g, const char *name, dt_type type, int ndim, const int64_t *dim, dt_split split)
{
    return new_named(g, name, DT_KIND_STATE, type, ndim, dim, split);
}

void dt_graph_make_trainable(dt_graph *g, dt_val v)
{
    if (v == DT_NONE) return;
    if (g->value[v].kind != DT_KIND_WEIGHT && g->value[v].kind != DT_KIND_PARAM)
        dt_graph_fail(g, DT_ERR_INTERNAL, "%s is no weight", g->value[v].name);
    g->value[v].kind = DT_KIND_PARAM;
}

dt_val dt_graph_find(const dt_graph *g, const char *name)
{
    for (int64_t i = 0; i < g->values; i++)
        if (dt_kind_is_persistent(g->value[i].kind) && strcmp(g->value[i].name, name) == 0) return (dt_val)i;
    return DT_NONE;
}

void dt_graph_mark_output(dt_graph *g, dt_val v)
{
    if (v == DT_NONE || !took(g, dt_grow(&g->output, &g->output_cap, g->outputs + 1, sizeof *g->output))) return;
    g->output[g->outputs++] = v;
}

int64_t dt_value_count(const dt_graph *g, dt_val v)
{
    int64_t n = 1;
    for (int i = 0; i < g->value[v].ndim; i++) n *= g->value[v].dim[i];
    return n;
}

int64_t dt_value_local_count(const dt_graph *g, dt_val v)
{
    int64_t n = 1;
    for (int i = 0; i < g->value[v].ndim; i++) n *= g->value[v].local[i];
    return n;
}

/* Links node `i` in behind `after` (DT_NONE: in front of all). */
static void link_behind(dt_graph *g, int32_t i, int32_t after)
{
    dt_node *n = &g->node[i];
    n->prev = after;
    n->next = after != DT_NONE ? g->node[after].next : g->head;
    if (n->prev != DT_NONE) g->node[n->prev].next = i;
    else g->head = i;
    if (n->next != DT_NONE) g->node[n->next].prev = i;
    else g->tail = i;
}

int32_t dt_graph_node(dt_graph *g, const dt_op *op, const void *attr, size_t attr_bytes, int nin, const dt_val *in)
{
    if (g->status != DT_OK) return DT_NONE;
    if (nin < op->nin_min || nin > op->nin_max || attr_bytes > sizeof(dt_attr))
        return dt_graph_fail(g, DT_ERR_INTERNAL, "op %s: %d inputs", op->name, nin);
    if (!took(g, dt_grow(&g->node, &g->node_cap, g->nodes + 1, sizeof *g->node))) return DT_NONE;
    dt_node node = {
        .op = op, .nin = nin, .nout = op->nout, .program = g->program, .block = g->block, .backward = g->backward};
    if (attr_bytes != 0) memcpy(node.attr.byte, attr, attr_bytes);
    for (int i = 0; i < DT_MAX_IN; i++) node.in[i] = i < nin ? in[i] : DT_NONE;
    for (int i = 0; i < DT_MAX_OUT; i++) node.out[i] = DT_NONE;
    op->shape(g, &node);
    if (g->status != DT_OK) return DT_NONE;
    int32_t id = (int32_t)g->nodes++;
    g->node[id] = node;
    for (int i = 0; i < node.nout; i++) {
        if (node.out[i] == DT_NONE) continue;
        dt_value *v = &g->value[node.out[i]];
        v->producer = id;
        for (int k = 0; k < nin; k++) { /* values at selected entries stay ragged through elementwise ops */
            const dt_value *from = in[k] != DT_NONE ? &g->value[in[k]] : NULL;
            if (from == NULL || !from->ragged || v->ndim != 1 || v->dim[0] != from->dim[0]) continue;
            v->ragged = true;
            v->local[0] = from->local[0];
        }
        dt_val storage = op->inplace[i] != 0 ? node.in[op->inplace[i] - 1] : DT_NONE;
        if (storage == DT_NONE) continue; /* of its own, as where an optional input is absent */
        const dt_value *home = &g->value[storage];
        v->base = storage;
        v->ragged = home->ragged;
        memcpy(v->local, home->local, sizeof v->local);
        memcpy(v->off, home->off, sizeof v->off);
        memcpy(v->place, home->place, sizeof v->place);
    }
    link_behind(g, id, g->cursor);
    g->cursor = id;
    return id;
}

dt_val dt_graph_out(const dt_graph *g, int32_t node, int i)
{
    return node == DT_NONE ? DT_NONE : g->node[node].out[i];
}

void dt_graph_seek(dt_graph *g, int32_t node)
{
    g->cursor = node;
}

void dt_graph_seek_end(dt_graph *g)
{
    g->cursor = g->tail;
}

void dt_graph_remove(dt_graph *g, int32_t node)
{
    dt_node *n = &g->node[node];
    if (n->dead) return;
    if (n->prev != DT_NONE) g->node[n->prev].next = n->next;
    else g->head = n->next;
    if (n->next != DT_NONE) g->node[n->next].prev = n->prev;
    else g->tail = n->prev;
    if (g->cursor == node) g->cursor = n->prev;
    n->dead = true;
}

void dt_graph_replace_uses(dt_graph *g, dt_val from, dt_val to, int32_t after)
{
    int32_t i = after == DT_NONE ? g->head : g->node[after].next;
    for (; i != DT_NONE; i = g->node[i].next)
        for (int k = 0; k < g->node[i].nin; k++)
            if (g->node[i].in[k] == from) g->node[i].in[k] = to;
    for (int64_t k = 0; k < g->outputs; k++)
        if (g->output[k] == from) g->output[k] = to;
}

static bool is_output(const dt_graph *g, dt_val v)
{
    for (int64_t i = 0; i < g->outputs; i++)
        if (g->output[i] == v) return true;
    return false;
}

int dt_graph_use_count(const dt_graph *g, dt_val v)
{
    int uses = is_output(g, v);
    DT_FOR_NODES (g, i)
        for (int k = 0; k < g->node[i].nin; k++) uses += g->node[i].in[k] == v;
    return uses;
}

/* Does `v` live in the storage of a persistent value? */
static bool in_persistent(const dt_graph *g, dt_val v)
{
    while (g->value[v].base != DT_NONE) v = g->value[v].base;
    return dt_kind_is_persistent(g->value[v].kind);
}

void dt_graph_prune(dt_graph *g)
{
    bool *used = calloc((size_t)g->values + 1, sizeof *used);
    if (used == NULL) {
        dt_graph_fail(g, DT_ERR_MEMORY, "out of memory");
        return;
    }
    for (int64_t i = 0; i < g->outputs; i++) used[g->output[i]] = true;
    for (int32_t i = g->tail, prev; i != DT_NONE; i = prev) { /* backwards: readers stand behind writers */
        dt_node *n = &g->node[i];
        prev = n->prev;
        bool keep = false;
        for (int k = 0; k < n->nout; k++)
            keep |= n->out[k] != DT_NONE && (used[n->out[k]] || in_persistent(g, n->out[k]));
        if (!keep) {
            dt_graph_remove(g, i);
            continue;
        }
        for (int k = 0; k < n->nout; k++)
            if (n->op->optional_outputs && n->out[k] != DT_NONE && !used[n->out[k]] && !in_persistent(g, n->out[k]))
                n->out[k] = DT_NONE;
        for (int k = 0; k < n->nin; k++)
            if (n->in[k] != DT_NONE) used[n->in[k]] = true;
    }
    free(used);
}

void dt_graph_add_update(dt_graph *g, dt_val w, dt_val idx, dt_val val)
{
    for (int64_t i = 0; i < g->updates; i++)
        if (g->update[i].val == val) return;
    if (g->status != DT_OK || !took(g, dt_grow(&g->update, &g->update_cap, g->updates + 1, sizeof *g->update))) return;
    g->update[g->updates++] = (dt_update){w, idx, val};
}

void dt_graph_add_site(dt_graph *g, dt_site site)
{
    if (g->status != DT_OK || !took(g, dt_grow(&g->site, &g->site_cap, g->sites + 1, sizeof *g->site))) return;
    site.path = dt_region_strdup(&g->region, site.path);
    site.role = dt_region_strdup(&g->region, site.role);
    g->site[g->sites++] = site;
}
