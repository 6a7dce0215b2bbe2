/* The epilogue of a step: reduce once (or before, in buckets), measure, update. */
#include "op/add.h"        // dt_scale
#include "op/collective.h" // dt_all_reduce
#include "op/update.h"     // dt_grad_norm
#include "optim/optim.h"
#include <stdio.h>
#include <stdlib.h>

#define MAX_STATES 4

/* A view of elements [offset, offset + count) of a flat buffer. */
static dt_val view(dt_graph *g, dt_val flat, int64_t offset, int64_t count)
{
    if (flat == DT_NONE) return DT_NONE;
    char name[96];
    snprintf(name, sizeof name, "%s[%lld+%lld]", g->value[flat].name, (long long)offset, (long long)count);
    dt_val v = dt_graph_find(g, name);
    if (v != DT_NONE) return v;
    v = dt_graph_state(g, name, DT_TYPE_ACC, 1, &count, DT_NO_SPLIT);
    if (v == DT_NONE) return v;
    g->value[v].ragged = true;
    g->value[v].base = flat;
    g->value[v].base_offset = offset;
    return v;
}

/* Sums a state over ranks where it lies. */
static void reduce_in_place(dt_graph *g, dt_val state, dt_axes axes)
{
    dt_val v = axes != 0 ? dt_all_reduce(g, state, axes, DT_COMM_SUM) : DT_NONE;
    if (v == DT_NONE) return;
    g->value[v].base = state;
    g->node[g->value[v].producer].aside = g->program == DT_LAST;
}

/* End of the run of parameters from `i` on that agree in what `same` compares. */
static int run_end(const dt_flat *flat, int i, bool (*same)(const dt_flat_param *, const dt_flat_param *))
{
    int k = i + 1;
    while (k < flat->n && same(&flat->param[i], &flat->param[k])) k++;
    return k;
}

static int64_t run_count(const dt_flat *flat, int i, int end)
{
    return flat->param[end - 1].offset + flat->param[end - 1].count - flat->param[i].offset;
}

static bool same_partial(const dt_flat_param *a, const dt_flat_param *b)
{
    return a->partial == b->partial && a->early == b->early;
}

static bool same_time(const dt_flat_param *a, const dt_flat_param *b)
{
    return a->early == b->early;
}

static bool same_split(const dt_flat_param *a, const dt_flat_param *b)
{
    return a->split == b->split;
}

static bool same_group(const dt_flat_param *a, const dt_flat_param *b)
{
    return a->lr_scale == b->lr_scale && a->weight_decay == b->weight_decay;
}

/* Writes x over the whole of a state. */
static void assign(dt_graph *g, dt_val state, dt_val x, double factor)
{
    dt_val v = dt_scale(g, x, factor);
    if (v != DT_NONE) g->value[v].base = state;
}

dt_status dt_optim_emit_sync(dt_graph *g, dt_flat *flat, const Dtrain__Optim *config, dt_val *base)
{
    const char *const *names = dt_optimizer_of(config)->states(config);
    dt_graph_seek_end(g);
    g->program = DT_SYNC;
    *base = dt_graph_state(g, "sync:base", DT_TYPE_ACC, 1, &flat->count, DT_NO_SPLIT);
    if (*base != DT_NONE) g->value[*base].ragged = true;
    dt_val change = dt_add(g, dt_scale(g, *base, -1.0), flat->params);
    dt_accumulate(g, *base, dt_all_reduce(g, change, DT_AXES_DATA, DT_COMM_SUM));
    assign(g, flat->params, *base, 1.0);
    g->program = DT_SAVE;
    for (int s = 0; names[s] != NULL; s++) {
        char name[64];
        snprintf(name, sizeof name, "flat:%s", names[s]);
        dt_val state = dt_graph_find(g, name);
        reduce_in_place(g, state, DT_AXES_DATA);
        assign(g, state, state, 1.0 / g->mesh.size[DT_AXIS_DATA]);
    }
    g->program = DT_MICRO;
    return dt_graph_status(g);
}

/* The buckets, each behind the node that completes it. */
static dt_status reduce_early(dt_graph *g, dt_flat *flat)
{
    dt_bucket *bucket = NULL;
    int n = 0;
    DT_TRY(dt_graph_status(g));
    DT_TRY(dt_flat_buckets(g, flat, DT_BUCKET_BYTES / (int64_t)sizeof(float), &bucket, &n));
    g->program = DT_LAST;
    for (int b = 0; b < n; b++) {
        const int from = bucket[b].from, to = bucket[b].to;
        for (int i = from; i < to; i++) flat->param[i].early = true;
        if (bucket[b].after == DT_NONE) continue;
        dt_val part = view(g, flat->grads, flat->param[from].offset, run_count(flat, from, to));
        dt_graph_seek(g, bucket[b].after);
        reduce_in_place(g, part, flat->param[from].partial);
        reduce_in_place(g, part, DT_AXES_DATA);
    }
    free(bucket);
    dt_graph_seek_end(g);
    return dt_graph_status(g);
}

/* What was not reduced before: stretch by stretch over the tensor axes that it is partial over, then over the data
 * ranks, in one piece where that is all. */
static void reduce_rest(dt_graph *g, dt_flat *flat, bool over_data)
{
    for (int i = 0, end; i < flat->n; i = end) {
        end = run_end(flat, i, same_partial);
        if (flat->param[i].early) continue;
        reduce_in_place(g, view(g, flat->grads, flat->param[i].offset, run_count(flat, i, end)),
                        flat->param[i].partial);
    }
    for (int i = 0, end; over_data && i < flat->n; i = end) {
        end = run_end(flat, i, same_time);
        bool all = i == 0 && end == flat->n;
        if (flat->param[i].early) continue;
        reduce_in_place(g, all ? flat->grads : view(g, flat->grads, flat->param[i].offset, run_count(flat, i, end)),
                        DT_AXES_DATA);
    }
}

dt_status dt_optim_emit(dt_graph *g, dt_flat *flat, const Dtrain__Optim *config, dt_reduction reduction, dt_val *hyper,
                        dt_val *normsq)
{
    const bool over_data = reduction != DT_REDUCE_NEVER && g->mesh.size[DT_AXIS_DATA] > 1;
    const dt_optimizer *optimizer = dt_optimizer_of(config);
    const int64_t width = DT_HYPER_COUNT;
    if (over_data && reduction == DT_REDUCE_ASIDE) DT_TRY(reduce_early(g, flat));
    dt_graph_seek_end(g);
    g->program = DT_EPILOGUE;
    *hyper = dt_graph_input(g, "hyper", DT_TYPE_ACC, 1, &width, DT_NO_SPLIT);

    reduce_rest(g, flat, over_data);

    /* A value that several tensor ranks hold counts once: each gives its share. */
    dt_val norm = DT_NONE;
    for (int i = 0, end; i < flat->n; i = end) {
        end = run_end(flat, i, same_split);
        int holders = dt_mesh_group_size(&g->mesh, DT_AXES_TENSOR & ~flat->param[i].split);
        dt_val part = view(g, flat->grads, flat->param[i].offset, run_count(flat, i, end));
        norm = dt_grad_norm(g, part, norm, 1.0 / holders);
    }
    if (dt_mesh_group_size(&g->mesh, DT_AXES_TENSOR) > 1) norm = dt_all_reduce(g, norm, DT_AXES_TENSOR, DT_COMM_SUM);
    *normsq = norm;
    dt_graph_mark_output(g, norm);

    dt_val state[MAX_STATES] = {DT_NONE, DT_NONE, DT_NONE, DT_NONE};
    const char *const *names = optimizer->states(config);
    for (int s = 0; s < MAX_STATES && names[s] != NULL; s++) {
        char name[64];
        snprintf(name, sizeof name, "flat:%s", names[s]);
        state[s] = dt_graph_state(g, name, DT_TYPE_ACC, 1, &flat->count, DT_NO_SPLIT);
        if (state[s] != DT_NONE) g->value[state[s]].ragged = true;
    }
    for (int i = 0, end; i < flat->n; i = end) {
        end = run_end(flat, i, same_group);
        int64_t offset = flat->param[i].offset, count = run_count(flat, i, end);
        dt_val part[MAX_STATES];
        for (int s = 0; s < MAX_STATES; s++) part[s] = view(g, state[s], offset, count);
        optimizer->emit(g, config, &flat->param[i], view(g, flat->params, offset, count),
                        view(g, flat->grads, offset, count), part, *hyper, norm);
    }
    g->program = DT_MICRO;
    return dt_graph_status(g);
}
