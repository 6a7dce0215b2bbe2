/* Selection before training: squared gradients of single rows, summed over the data ranks, handed to the methods that
 * choose. */
#include "base/log.h"
#include "base/rng.h"
#include "graph/passes.h"
#include "train/job.h"
#include "train/params.h"
#include <stdlib.h>
#include <string.h>

/* One row as one sequence of T positions; `key0` + position keys its random draws. */
static dt_status put_row(dt_exec *exec, const dt_program_io *io, dt_row row, int64_t key0)
{
    int64_t t = io->seq, n = row.n < t ? row.n : t;
    int32_t *buf = NULL;
    DT_TRY(dt_alloc((size_t)t * 4, sizeof *buf, &buf));
    int32_t *tokens = buf, *pos = buf + t, *targets = buf + 2 * t, *key = buf + 3 * t;
    for (int64_t i = 0; i < t; i++) {
        int32_t at = (int32_t)i;
        tokens[i] = i < n ? dt_row_id(row, at) : 0;
        pos[i] = i < n ? at : 0;
        targets[i] = i + 1 < n && dt_row_is_target(row, at + 1) ? dt_row_id(row, at + 1) : -1;
        key[i] = (int32_t)(key0 + i);
    }
    dt_status st = dt_exec_put_i32(exec, io->tokens, tokens);
    if (st == DT_OK) st = dt_exec_put_i32(exec, io->pos, pos);
    if (st == DT_OK) st = dt_exec_put_i32(exec, io->targets, targets);
    if (st == DT_OK) st = dt_exec_put_i32(exec, io->key, key);
    free(buf);
    return st;
}

/* Sums squared gradients of `samples` rows, this data rank taking every D-th. */
static dt_status run_samples(dt_job *job, dt_exec *exec, const dt_program_io *io, int64_t samples)
{
    int64_t *row = NULL;
    int64_t rows = dt_dataset_rows(job->train), step = job->mesh.size[DT_AXIS_DATA];
    DT_TRY(dt_alloc((size_t)rows, sizeof *row, &row));
    dt_status st = dt_dataset_draw(job->train, DT_RNG_SELECT, row);
    if (samples > rows) {
        dt_log(DT_LOG_WARN, "fish.samples: %lld asked for, the training set has %lld rows: all are used",
               (long long)samples, (long long)rows);
        samples = rows;
    }
    for (int64_t i = job->mesh.coord[DT_AXIS_DATA]; st == DT_OK && i < samples; i += step) {
        st = put_row(exec, io, dt_dataset_row(job->train, row[i]), i * job->config->data->seq_len);
        if (st == DT_OK) st = dt_exec_run(exec, DT_PROLOGUE);
        if (st == DT_OK) st = dt_exec_run(exec, DT_MICRO);
        if (st == DT_OK) st = dt_exec_run(exec, DT_EPILOGUE);
    }
    free(row);
    return st;
}

/* The weights that one delta targets, each once: weight[n], freed with free(). */
static dt_status targeted_weights(const dt_graph *g, const dt_delta *d, dt_val **weight, int *n)
{
    bool *selected = NULL;
    dt_val *list = NULL;
    DT_TRY(dt_alloc((size_t)g->sites + 1, sizeof *selected, &selected));
    dt_status st = dt_alloc(2 * (size_t)g->sites + 1, sizeof *list, &list);
    if (st == DT_OK) st = dt_delta_select_sites(d, g, selected);
    *n = 0;
    for (int64_t s = 0; s < g->sites && st == DT_OK; s++) {
        for (int k = 0; k < 2 && selected[s]; k++) {
            dt_val w = k == 0 ? g->site[s].w : g->site[s].b;
            bool seen = w == DT_NONE;
            for (int i = 0; i < *n && !seen; i++) seen = list[i] == w;
            if (!seen) list[(*n)++] = w;
        }
    }
    free(selected);
    if (st == DT_OK) *weight = list;
    else free(list);
    return st;
}

/* The scores of one delta's sites, summed over the data ranks; values are host copies that the caller frees. */
static dt_status collect(dt_job *job, const dt_graph *g, const dt_exec *exec, const dt_delta *d, dt_score *score,
                         int *n)
{
    dt_val *weight = NULL;
    int weights = 0;
    DT_TRY(targeted_weights(g, d, &weight, &weights));
    dt_status st = DT_OK;
    for (int i = 0; i < weights && st == DT_OK; i++) {
        dt_val acc = dt_grad_of(g, weight[i]);
        int64_t count = dt_value_local_count(g, weight[i]);
        float *host = NULL;
        score[i] = dt_job_slice(g, weight[i]);
        st = dt_alloc((size_t)count + 1, sizeof *host, &host);
        score[i].value = host;
        *n = i + 1;
        if (st == DT_OK && acc != DT_NONE) st = dt_exec_get_f32(exec, acc, host);
        if (st == DT_OK)
            st = job->host_comm.ops->all_reduce(&job->host_comm, DT_AXES_DATA, host, count, DT_COMM_F32, DT_COMM_SUM);
    }
    free(weight);
    return st;
}

static bool must_choose(const dt_delta *d)
{
    return d->method->choose != NULL && !d->method->chosen(d);
}

static dt_status select_on(dt_job *job, dt_delta *d, dt_scoring how)
{
    /* Every data rank works on rows of its own: along the data axis the pass is not one program but many. */
    dt_mesh apart = job->mesh;
    apart.size[DT_AXIS_DATA] = 1;
    apart.coord[DT_AXIS_DATA] = 0;
    dt_graph *g = NULL;
    dt_exec *exec = NULL;
    dt_store *store = NULL;
    dt_score *score = NULL;
    dt_program_io io;
    int n = 0;
    dt_status st;
    DT_GOTO(dt_job_build(job, &apart, DT_FOR_FISHER, 1, job->seq, how.expected, &g, &io), agree);
    DT_GOTO(dt_pass_fuse(g), agree);
    DT_GOTO(dt_alloc(2 * (size_t)g->sites + 1, sizeof *score, &score), agree);
    DT_GOTO(dt_store_create(&job->device, &store),
            agree);                         /* dies with the pass: accumulators are as large as the weights */
    for (int64_t v = 0; v < g->values; v++) /* scored weights are only read: load them as weights */
        if (g->value[v].kind == DT_KIND_PARAM) g->value[v].kind = DT_KIND_WEIGHT;
    DT_GOTO(dt_weights_load(job->backbone, g, &job->device, store), agree);
    DT_GOTO(dt_exec_create(g, &job->device, job->comm, store, &exec), agree);
agree:
    DT_GOTO(dt_world_agree(st), done);
    DT_GOTO(dt_job_agree_choices(job), done);
    DT_GOTO(dt_world_agree(run_samples(job, exec, &io, how.samples)), done);
    DT_GOTO(dt_world_agree(collect(job, g, exec, d, score, &n)), done);
    DT_GOTO(dt_world_agree(d->method->choose(d, score, n, &job->host_comm)), done);
done:
    for (int i = 0; i < n; i++) free((void *)(uintptr_t)score[i].value);
    free(score);
    dt_exec_destroy(exec);
    dt_store_destroy(store);
    dt_graph_destroy(g);
    return st;
}

static dt_status select_one(dt_job *job, dt_delta *d)
{
    const dt_scoring how = d->method->scoring(d);
    dt_job pass;
    DT_TRY(dt_job_open_pass(job, how, false, &pass));
    dt_log(DT_LOG_INFO, "delta %s: selecting by the Fisher information of %lld rows%s", d->name, (long long)how.samples,
           pass.device.impl != job->device.impl ? ", in fp32" : "");
    dt_status st = select_on(&pass, d, how);
    dt_job_close_pass(job, &pass);
    return st;
}

dt_status dt_job_select(dt_job *job)
{
    for (int i = 0; i < job->deltas.n; i++)
        if (must_choose(&job->deltas.delta[i])) DT_TRY(select_one(job, &job->deltas.delta[i]));
    return DT_OK;
}

/* Chooses without scores. */
static dt_status assume_one(const dt_graph *g, dt_delta *d)
{
    dt_val *weight = NULL;
    dt_score *score = NULL;
    int n = 0;
    DT_TRY(targeted_weights(g, d, &weight, &n));
    dt_status st = dt_alloc((size_t)n + 1, sizeof *score, &score);
    for (int i = 0; i < n && st == DT_OK; i++) score[i] = dt_job_slice(g, weight[i]);
    if (st == DT_OK) st = d->method->choose(d, score, n, NULL);
    free(score);
    free(weight);
    return st;
}

dt_status dt_job_assume_selection(dt_job *job, const dt_mesh *mesh)
{
    dt_graph *g = NULL;
    dt_status st = DT_OK;
    for (int i = 0; i < job->deltas.n && st == DT_OK; i++) {
        if (!must_choose(&job->deltas.delta[i])) continue;
        if (g == NULL) DT_TRY(dt_job_build_bare(job, mesh, &g));
        st = assume_one(g, &job->deltas.delta[i]);
    }
    dt_graph_destroy(g);
    return st;
}

dt_status dt_job_restore_selection(dt_job *job, const dt_ckpt *ck)
{
    bool any = false;
    for (int i = 0; i < job->deltas.n; i++) any |= job->deltas.delta[i].method->restore != NULL;
    if (!any) return DT_OK;
    dt_graph *g = NULL;
    dt_status st = dt_job_build_bare(job, &job->mesh, &g);
    for (int i = 0; i < job->deltas.n && st == DT_OK; i++) {
        dt_delta *d = &job->deltas.delta[i];
        size_t prefix = strlen(d->name);
        for (int64_t k = 0; d->method->restore != NULL && k < dt_ckpt_count(ck, DT_CKPT_DELTA) && st == DT_OK; k++) {
            dt_ckpt_tensor t;
            int64_t *index = NULL, count = 0;
            float *value = NULL;
            st = dt_ckpt_describe(ck, DT_CKPT_DELTA, k, &t);
            if (st != DT_OK || strncmp(t.name, d->name, prefix) != 0 || t.name[prefix] != '.') continue;
            dt_val w = dt_graph_find(g, t.name + prefix + 1);
            if (w == DT_NONE) {
                st = dt_fail(DT_ERR_STATE, "%s: %s names no weight of the backbone", dt_ckpt_path(ck), t.name);
                continue;
            }
            st = dt_ckpt_read_sparse(ck, DT_CKPT_DELTA, t.name, &index, &value, &count);
            const dt_score slice = dt_job_slice(g, w);
            if (st == DT_OK) st = d->method->restore(d, &slice, index, count);
            free(index);
            free(value);
        }
        if (st == DT_OK && d->method->restore != NULL && !d->method->chosen(d))
            st = dt_fail(DT_ERR_STATE, "%s: holds no selection of delta %s", dt_ckpt_path(ck), d->name);
    }
    dt_graph_destroy(g);
    return st;
}
