/* FISH mask: trains the k frozen values with the largest empirical Fisher information (Sung, Nair & Raffel 2021).
 *
 *     F = sum_n (d loss(x_n, y_n) / d W)^2 over `samples` single rows;  k = floor(keep * number of targeted values)
 *     W' = W0 with val[k] added at idx[k]: a scatter in the graph, which the fuse pass turns into an update of W in
 * place
 *
 * One global top-k over everything targeted; chosen once, recorded in the checkpoint. Only val is trained, reduced and
 * stored. */
#include "delta/delta.h"
#include "delta/topk.h" // dt_topk_find
#include "op/sparse.h"  // dt_scatter_add
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The chosen entries of one weight. */
typedef struct mask {
    char *name;
    int32_t *index; /* [count] flat in this rank's slice, ascending */
    int64_t count;  /* on this rank */
    int64_t total;  /* over the ranks that split the weight */
} mask;

typedef struct fish {
    mask *mask;
    int64_t n, cap;
} fish;

static const mask *mask_of(const dt_delta *d, const char *weight)
{
    const fish *f = d->own;
    for (int64_t i = 0; f != NULL && i < f->n; i++)
        if (strcmp(f->mask[i].name, weight) == 0) return &f->mask[i];
    return NULL;
}

static dt_status add_mask(dt_delta *d, const char *name, int64_t room, mask **out)
{
    if (d->own == NULL) DT_TRY(dt_alloc(1, sizeof(fish), &d->own));
    fish *f = d->own;
    DT_TRY(dt_grow(&f->mask, &f->cap, f->n + 1, sizeof *f->mask));
    mask *m = &f->mask[f->n];
    *m = (mask){.name = strdup(name)};
    if (m->name == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    f->n++;
    DT_TRY(dt_alloc((size_t)room + 1, sizeof *m->index, &m->index));
    *out = m;
    return DT_OK;
}

static void fish_destroy(dt_delta *d)
{
    fish *f = d->own;
    for (int64_t i = 0; f != NULL && i < f->n; i++) {
        free(f->mask[i].name);
        free(f->mask[i].index);
    }
    if (f != NULL) free(f->mask);
    free(f);
    d->own = NULL;
}

static bool fish_chosen(const dt_delta *d)
{
    return d->own != NULL;
}

/* Trains the chosen entries of one weight. */
static void attach_weight(dt_delta *d, dt_graph *g, dt_val w)
{
    if (w == DT_NONE) return;
    const dt_value weight = g->value[w];
    const mask *m = mask_of(d, weight.name);
    int64_t total = m != NULL ? m->total : 0, local = m != NULL ? m->count : 0;
    char name[384];
    snprintf(name, sizeof name, "%s.%s", d->name, weight.name);
    if (total == 0 || dt_graph_find(g, name) != DT_NONE) return; /* nothing chosen here; a tied weight's second site */
    const dt_tie tie = {w, DT_NONE};
    dt_val val = dt_delta_param(d, g, weight.name, 1, &total, &tie, (dt_init){DT_INIT_ZERO, 0});
    snprintf(name, sizeof name, "%s.%s.index", d->name, weight.name);
    dt_val idx = dt_graph_state(g, name, DT_TYPE_I32, 1, &total, DT_NO_SPLIT);
    if (idx == DT_NONE) return;
    g->value[val].index = idx;
    g->value[idx].tie[0] = tie;
    g->value[val].ragged = g->value[idx].ragged = true;
    g->value[val].local[0] = g->value[idx].local[0] = local;
    dt_graph_seek(g, DT_NONE);
    g->block = DT_NONE; /* a function of parameters: no block computes it, and none computes it again */
    dt_val trained = dt_scatter_add(g, w, idx, val);
    if (trained != DT_NONE) dt_graph_replace_uses(g, w, trained, g->value[trained].producer);
}

static void fish_attach(dt_delta *d, dt_graph *g, dt_site *site)
{
    attach_weight(d, g, site->w);
    attach_weight(d, g, site->b);
}

static dt_scoring fish_scoring(const dt_delta *d)
{
    const Dtrain__Fish *o = d->config->fish;
    return (dt_scoring){o->samples, o->fisher == DTRAIN__FISHER_KIND__EXPECTED,
                        o->precision == DTRAIN__FISHER_PRECISION__AS_TRAINING};
}

/* How many values of its weights this rank would train if all were alike (rounded up). Over all weights they are as
 * many as keep says. */
static dt_status choose_evenly(dt_delta *d, const dt_score *score, int n)
{
    const double keep = d->config->fish->keep;
    int64_t before = 0;
    for (int i = 0; i < n; i++) {
        const dt_score *s = &score[i];
        int64_t count = 1, slices = 1;
        mask *m = NULL;
        for (int k = 0; k < s->ndim; k++) {
            count *= s->dim[k];
            slices *= s->dim[k] / s->local[k];
        }
        DT_TRY(add_mask(d, s->name, 0, &m));
        m->total = (int64_t)(floor(keep * (double)(before + count)) - floor(keep * (double)before));
        m->count = (m->total + slices - 1) / slices;
        before += count;
    }
    return DT_OK;
}

static dt_status fish_choose(dt_delta *d, const dt_score *score, int n, dt_comm *comm)
{
    dt_topk_run *run = NULL;
    dt_topk_cut cut;
    dt_status st = DT_OK;
    int64_t all = 0;
    if (n > 0 && score[0].value == NULL) return choose_evenly(d, score, n);
    DT_TRY(dt_alloc((size_t)n + 1, sizeof *run, &run));
    for (int i = 0; i < n; i++) {
        const dt_score *s = &score[i];
        int64_t count = 1, global = 1, cols = s->local[s->ndim - 1], ld = s->dim[s->ndim - 1];
        for (int k = 0; k < s->ndim; k++) {
            count *= s->local[k];
            global *= s->dim[k];
        }
        int64_t first = s->ndim == 2 ? s->off[0] * ld + s->off[1] : s->off[0];
        run[i] = (dt_topk_run){s->value, count, all + first, cols, ld, s->counts};
        all += global;
    }
    int64_t k = (int64_t)floor(d->config->fish->keep * (double)all);
    if (k < 1)
        DT_GOTO(dt_fail(DT_ERR_CONFIG, "delta %s: keep %g of %lld values is none", d->name, d->config->fish->keep,
                        (long long)all),
                done);
    DT_GOTO(dt_topk_find(run, n, k, comm, DT_AXES_TENSOR, &cut), done);
    for (int i = 0; i < n; i++) {
        mask *m = NULL;
        int64_t chosen = 0;
        for (int64_t e = 0; e < run[i].count; e++) chosen += dt_topk_chosen(&run[i], e, cut);
        DT_GOTO(add_mask(d, score[i].name, chosen, &m), done);
        for (int64_t e = 0; e < run[i].count; e++)
            if (dt_topk_chosen(&run[i], e, cut)) m->index[m->count++] = (int32_t)e;
        m->total = m->count;
        DT_GOTO(comm->ops->all_reduce(comm, score[i].split, &m->total, 1, DT_COMM_I64, DT_COMM_SUM), done);
    }
done:
    free(run);
    return st;
}

static dt_status fish_restore(dt_delta *d, const dt_score *s, const int64_t *index, int64_t count)
{
    mask *m = NULL;
    int64_t cols = s->local[s->ndim - 1], ld = s->dim[s->ndim - 1], rows = s->ndim == 2 ? s->local[0] : 1;
    int64_t row0 = s->ndim == 2 ? s->off[0] : 0, col0 = s->off[s->ndim - 1];
    DT_TRY(add_mask(d, s->name, count, &m));
    m->total = count;
    for (int64_t i = 0; i < count; i++) {
        int64_t r = index[i] / ld - row0, c = index[i] % ld - col0;
        if (r >= 0 && r < rows && c >= 0 && c < cols) m->index[m->count++] = (int32_t)(r * cols + c);
    }
    return DT_OK;
}

static dt_status provide_weight(dt_delta *d, const dt_graph *g, dt_val w, dt_device *device, dt_store *store)
{
    const mask *m = mask_of(d, g->value[w].name);
    char name[384];
    snprintf(name, sizeof name, "%s.%s.index", d->name, g->value[w].name);
    if (m == NULL || m->total == 0 || dt_store_find(store, name) != NULL) return DT_OK;
    size_t n = (size_t)m->count, width = device->ops->act_size;
    void *index = NULL, *frozen = NULL;
    float *all = NULL;
    DT_TRY(dt_store_new(store, name, n * sizeof *m->index, &index));
    DT_TRY(device->ops->put_bytes(device, index, m->index, n * sizeof *m->index));
    if (g->value[w].kind == DT_KIND_PARAM) return DT_OK; /* another delta trains it: the sum is made in the graph */
    snprintf(name, sizeof name, "w0:%s.%s", d->name, g->value[w].name);
    DT_TRY(dt_store_new(store, name, n * device->ops->acc_size, &frozen));
    size_t count = (size_t)dt_value_local_count(g, w);
    DT_TRY(dt_alloc(count + 1, sizeof *all, &all));
    dt_status st = device->ops->get(device, all, dt_store_find(store, g->value[w].name)->data, width, count);
    for (size_t i = 0; i < n; i++) all[i] = all[m->index[i]]; /* ascending: never overtakes what is still to be read */
    if (st == DT_OK) st = device->ops->put(device, frozen, device->ops->acc_size, all, n);
    free(all);
    return st;
}

static dt_status fish_provide(dt_delta *d, const dt_graph *g, dt_device *device, dt_store *store)
{
    for (int64_t v = 0; v < g->values; v++)
        if (g->value[v].kind == DT_KIND_WEIGHT || g->value[v].kind == DT_KIND_PARAM)
            DT_TRY(provide_weight(d, g, (dt_val)v, device, store));
    return DT_OK;
}

static int64_t fish_local_steps(const dt_delta *d)
{
    return d->config->fish->local_steps;
}

const dt_delta_method dt_delta_fish = {
    .name = "fish",
    .targets = (const char *const[]){"re:.*", NULL},
    .sites = ~0u,
    .attach = fish_attach,
    .scoring = fish_scoring,
    .choose = fish_choose,
    .restore = fish_restore,
    .chosen = fish_chosen,
    .provide = fish_provide,
    .destroy = fish_destroy,
    .local_steps = fish_local_steps,
};
