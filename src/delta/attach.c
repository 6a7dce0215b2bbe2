/* Deltas of a configuration: which method, which sites, and the attach pass. */
#include "base/hash.h" // dt_hash_string
#include "base/rng.h"  // dt_rng_words
#include "delta/delta.h"
#include "op/add.h"    // dt_add
#include "op/sparse.h" // dt_scatter_copy, dt_gather
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DT_METHOD(name) extern const dt_delta_method dt_delta_##name;
#include "delta/methods.def"
#undef DT_METHOD
static const dt_delta_method *const methods[] = {
#define DT_METHOD(name) &dt_delta_##name,
#include "delta/methods.def"
#undef DT_METHOD
};

dt_status dt_deltas_create(const Dtrain__Config *config, dt_deltas *out)
{
    dt_deltas set = {NULL, 0};
    DT_TRY(dt_alloc(config->n_delta + 1, sizeof *set.delta, &set.delta));
    for (size_t i = 0; i < config->n_delta; i++) {
        const Dtrain__Delta *c = config->delta[i];
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(&dtrain__delta__descriptor, (unsigned)c->method_case);
        dt_delta *d = &set.delta[set.n++];
        for (size_t m = 0; field != NULL && m < sizeof methods / sizeof *methods; m++)
            if (strcmp(methods[m]->name, field->name) == 0) d->method = methods[m];
        if (d->method == NULL) {
            dt_deltas_destroy(&set);
            return dt_fail(DT_ERR_CONFIG, "delta[%zu]: names no method; expected one such as lora { rank: 8 }", i);
        }
        d->config = c;
        d->name = c->name != NULL && c->name[0] != '\0' ? c->name : d->method->name;
        d->seed = (uint64_t)config->run->seed;
        d->key = d->step = DT_NONE;
    }
    *out = set;
    return DT_OK;
}

void dt_deltas_destroy(dt_deltas *deltas)
{
    for (int i = 0; i < deltas->n; i++)
        if (deltas->delta[i].method != NULL && deltas->delta[i].method->destroy != NULL)
            deltas->delta[i].method->destroy(&deltas->delta[i]);
    free(deltas->delta);
    *deltas = (dt_deltas){NULL, 0};
}

static int64_t local_steps_of(const dt_delta *d)
{
    return d->method->local_steps != NULL ? d->method->local_steps(d) : 1;
}

dt_status dt_deltas_local_steps(const dt_deltas *deltas, int64_t *out)
{
    *out = deltas->n > 0 ? local_steps_of(&deltas->delta[0]) : 1;
    for (int i = 1; i < deltas->n; i++)
        if (local_steps_of(&deltas->delta[i]) != *out)
            return dt_fail(DT_ERR_CONFIG,
                           "local_steps: %lld of delta %s, %lld of delta %s; expected one number for all",
                           (long long)*out, deltas->delta[0].name, (long long)local_steps_of(&deltas->delta[i]),
                           deltas->delta[i].name);
    return DT_OK;
}

/* No site matched: the message names the nearest paths and roles. */
static dt_status no_match(const dt_delta *d, const dt_graph *g, const char *pattern)
{
    const char **names = NULL;
    DT_TRY(dt_alloc(2 * (size_t)g->sites + 1, sizeof *names, &names));
    for (int64_t i = 0; i < g->sites; i++) {
        names[2 * i] = g->site[i].path;
        names[2 * i + 1] = g->site[i].role;
    }
    /* A suffix is what people write: compare it with the names' own endings of the same number of parts. */
    size_t dots = 0;
    for (const char *c = pattern; *c != '\0'; c++) dots += *c == '.';
    for (int64_t i = 0; i < 2 * g->sites; i++) {
        const char *tail = names[i] + strlen(names[i]);
        for (size_t seen = 0; tail > names[i]; tail--)
            if (tail[-1] == '.' && seen++ == dots) break;
        names[i] = tail;
    }
    const char *near = dt_nearest_name(pattern, names, (int)(2 * g->sites));
    dt_status st = dt_fail(DT_ERR_CONFIG, "delta %s: target \"%s\" selects no site%s%s; sites are such as %s (%s)",
                           d->name, pattern, near != NULL ? "; nearest: " : "", near != NULL ? near : "",
                           g->sites > 2 ? g->site[2].path : "-", g->sites > 2 ? g->site[2].role : "-");
    free(names);
    return st;
}

static dt_status matches(const char *pattern, const dt_site *site, bool *out)
{
    int path = 0, role = 0;
    DT_TRY(dt_pattern_match(pattern, site->path, &path));
    DT_TRY(dt_pattern_match(pattern, site->role, &role));
    *out = path || role;
    return DT_OK;
}

dt_status dt_delta_select_sites(const dt_delta *d, const dt_graph *g, bool *selected)
{
    bool given = d->config->n_target > 0;
    size_t n = d->config->n_target;
    if (!given)
        while (d->method->targets[n] != NULL) n++;
    memset(selected, 0, (size_t)g->sites * sizeof *selected);
    for (size_t t = 0; t < n; t++) {
        const char *pattern = given ? d->config->target[t] : d->method->targets[t];
        bool any = false;
        for (int64_t i = 0; i < g->sites; i++) {
            bool hit = false;
            DT_TRY(matches(pattern, &g->site[i], &hit));
            bool able = d->method->sites >> g->site[i].kind & 1;
            if (hit && !able && given && strncmp(pattern, "re:", 3) != 0)
                return dt_fail(DT_ERR_CONFIG, "delta %s: %s cannot act on %s, which is no linear layer", d->name,
                               d->method->name, g->site[i].path);
            any |= hit && able;
            selected[i] |= hit && able;
        }
        if (!any) return no_match(d, g, pattern);
    }
    for (size_t t = 0; t < d->config->n_exclude; t++) {
        for (int64_t i = 0; i < g->sites; i++) {
            bool hit = false;
            DT_TRY(matches(d->config->exclude[t], &g->site[i], &hit));
            if (hit) selected[i] = false;
        }
    }
    for (int64_t i = 0; i < g->sites; i++)
        if (selected[i]) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "delta %s: exclude takes away every site that target selects", d->name);
}

dt_status dt_deltas_attach(dt_deltas *deltas, dt_graph *g, dt_val key, dt_val step)
{
    DT_TRY(dt_graph_status(g));
    bool *selected = NULL;
    dt_status st = DT_OK;
    DT_TRY(dt_alloc((size_t)g->sites + 1, sizeof *selected, &selected));
    for (int i = 0; i < deltas->n && st == DT_OK; i++) {
        dt_delta *d = &deltas->delta[i];
        d->key = key;
        d->step = step;
        st = dt_delta_select_sites(d, g, selected);
        for (int64_t s = 0; s < g->sites && st == DT_OK; s++) {
            if (!selected[s]) continue;
            dt_val y = g->site[s].y;
            g->block = y != DT_NONE ? g->node[g->value[y].producer].block : DT_NONE;
            d->method->attach(d, g, &g->site[s]);
        }
        if (st == DT_OK) st = dt_graph_status(g);
    }
    dt_graph_seek_end(g);
    g->program = DT_MICRO;
    g->block = DT_NONE;
    free(selected);
    return st;
}

dt_val dt_delta_param(const dt_delta *d, dt_graph *g, const char *name, int ndim, const int64_t *dim,
                      const dt_tie *ties, dt_init init)
{
    char full[384];
    snprintf(full, sizeof full, "%s.%s", d->name, name);
    dt_val v = dt_graph_param(g, full, ndim, dim, ties);
    if (v != DT_NONE) g->value[v].init = init;
    return v;
}

void dt_param_init(const dt_graph *g, dt_val id, uint64_t seed, float *dst)
{
    const dt_value *v = &g->value[id];
    int64_t n = dt_value_local_count(g, id), cols = v->local[v->ndim - 1], full = v->dim[v->ndim - 1];
    uint64_t hi = dt_hash_string(v->name);
    if (v->ragged || v->init.kind == DT_INIT_ZERO || v->init.kind == DT_INIT_FILL) {
        for (int64_t i = 0; i < n; i++) dst[i] = v->init.kind == DT_INIT_FILL ? (float)v->init.scale : 0.0f;
        return;
    }
    for (int64_t i = 0; i < n; i++) { /* parameters are vectors or matrices */
        int64_t row = v->ndim == 2 ? i / cols + v->off[0] : 0;
        uint64_t at = (uint64_t)(row * full + i % cols + v->off[v->ndim - 1]);
        float u = v->init.kind == DT_INIT_UNIFORM ? 2.0f * dt_rng_uniform(seed, DT_RNG_INIT, hi, at) - 1.0f
                                                  : dt_rng_normal(seed, DT_RNG_INIT, hi, at);
        dst[i] = (float)v->init.scale * u;
    }
}

/* Where several deltas touch one weight, all frozen values are put back first and the differences added one by one:
 * entries that two deltas share get the sum. */
void dt_deltas_emit_updates(dt_graph *g)
{
    char name[384];
    for (int64_t i = 0; i < g->updates; i++) {
        const dt_update u = g->update[i];
        const dt_value val = g->value[u.val];
        snprintf(name, sizeof name, "w0:%s", val.name);
        dt_val base = dt_graph_find(g, name);
        if (base == DT_NONE) base = dt_graph_state(g, name, DT_TYPE_ACC, 1, val.dim, DT_NO_SPLIT);
        if (base == DT_NONE) return;
        g->value[base].ragged = true;
        g->value[base].local[0] = val.local[0];
        g->value[base].tie[0] = val.tie[0];
        memcpy(g->value[base].place, val.place, sizeof val.place);
        dt_scatter_copy(g, u.w, u.idx, base);
    }
    for (int64_t i = 0; i < g->updates; i++) {
        const dt_update u = g->update[i];
        dt_scatter_copy(g, u.w, u.idx, dt_add(g, dt_gather(g, u.w, u.idx), u.val));
    }
}
