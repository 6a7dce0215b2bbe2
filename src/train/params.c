/* Storage and first values of parameters, and a delta put into a graph for evaluation. */
#include "train/params.h"
#include "graph/passes.h"
#include "train/job.h"
#include <stdlib.h>
#include <string.h>

dt_status dt_param_fill(dt_job *job, const dt_graph *g, dt_val v, float *dst)
{
    if (g->value[v].init.kind == DT_INIT_BACKBONE) return dt_weights_read(job->backbone, g, v, dst);
    dt_param_init(g, v, (uint64_t)job->config->run->seed, dst);
    return DT_OK;
}

static size_t element_size(const dt_job *job, const dt_graph *g, dt_val v)
{
    return g->value[v].type == DT_TYPE_ACT ? job->device.ops->act_size : job->device.ops->acc_size;
}

static dt_status bind_one(dt_job *job, const dt_graph *g, dt_val v)
{
    const dt_device_ops *dev = job->device.ops;
    size_t count = (size_t)dt_value_local_count(g, v), size = element_size(job, g, v);
    void *data = NULL;
    float *host = NULL;
    DT_TRY(dt_store_new(job->store, g->value[v].name, count * size, &data));
    DT_TRY(dt_alloc(count + 1, sizeof *host, &host));
    dt_status st = dt_param_fill(job, g, v, host);
    if (st == DT_OK) st = dev->put(&job->device, data, size, host, count);
    free(host);
    return st;
}

dt_status dt_job_bind_params(dt_job *job, const dt_graph *g)
{
    for (int64_t v = 0; v < g->values; v++)
        if (g->value[v].kind == DT_KIND_PARAM && dt_store_find(job->store, g->value[v].name) == NULL)
            DT_TRY(bind_one(job, g, (dt_val)v));
    return DT_OK;
}

dt_status dt_job_provide(dt_job *job, const dt_graph *g)
{
    DT_TRY(dt_weights_load(job->backbone, g, &job->device, job->store));
    for (int i = 0; i < job->deltas.n; i++) {
        dt_delta *d = &job->deltas.delta[i];
        if (d->method->provide != NULL) DT_TRY(d->method->provide(d, g, &job->device, job->store));
    }
    return DT_OK;
}

/* Indices in the global shape of a ragged parameter's values. */
static dt_status global_index(const dt_job *job, const dt_graph *g, dt_val v, int64_t **out)
{
    const dt_value *w = &g->value[g->value[v].tie[0].like];
    size_t n = (size_t)g->value[v].local[0];
    int64_t cols = w->local[w->ndim - 1], ld = w->dim[w->ndim - 1];
    int64_t row0 = w->ndim == 2 ? w->off[0] : 0, col0 = w->off[w->ndim - 1];
    int32_t *local = NULL;
    int64_t *index = NULL;
    DT_TRY(dt_alloc(n + 1, sizeof *local, &local));
    dt_status st = dt_alloc(n + 1, sizeof *index, &index);
    dt_stored *stored = dt_store_find(job->store, g->value[g->value[v].index].name);
    if (st == DT_OK && stored == NULL) st = dt_fail(DT_ERR_INTERNAL, "%s has no indices", g->value[v].name);
    if (st == DT_OK) st = job->device.ops->get_bytes((dt_device *)&job->device, local, stored->data, n * sizeof *local);
    for (size_t i = 0; st == DT_OK && i < n; i++) index[i] = (local[i] / cols + row0) * ld + local[i] % cols + col0;
    free(local);
    if (st == DT_OK) *out = index;
    else free(index);
    return st;
}

dt_status dt_param_describe(const dt_job *job, const dt_graph *g, dt_val v, dt_ckpt_tensor *out, int64_t **index)
{
    const dt_value *val = &g->value[v];
    const dt_value *shape = val->ragged ? &g->value[val->tie[0].like] : val;
    *index = NULL;
    if (val->ragged) DT_TRY(global_index(job, g, v, index));
    *out = (dt_ckpt_tensor){
        .name = val->name, .ndim = shape->ndim, .split = -1, .index = *index, .count = dt_value_local_count(g, v)};
    for (int d = 0; d < shape->ndim; d++) {
        out->dim[d] = shape->dim[d];
        if (val->ragged || shape->local[d] == shape->dim[d]) continue;
        out->split = d;
        out->off = shape->off[d];
        out->len = shape->local[d];
    }
    return DT_OK;
}

dt_status dt_param_read(const dt_job *job, const dt_graph *g, dt_val v, const dt_ckpt *ck, dt_ckpt_part part,
                        const char *name, float *dst)
{
    dt_ckpt_tensor t;
    int64_t *index = NULL;
    DT_TRY(dt_param_describe(job, g, v, &t, &index));
    t.name = name;
    t.data = dst;
    dt_status st = dt_ckpt_read(ck, part, &t);
    free(index);
    return st;
}

/* A graph whose only program writes the sparse updates into the weights. */
dt_status dt_job_apply_updates(dt_job *job, const dt_graph *like)
{
    dt_graph *g = NULL;
    dt_exec *exec = NULL;
    dt_program_io io;
    if (like->updates == 0) return DT_OK;
    DT_TRY(dt_job_build(job, &job->mesh, DT_FOR_EVAL, 1, job->seq, false, &g, &io));
    dt_status st = dt_pass_fuse(g);
    if (st == DT_OK) {
        g->program = DT_EPILOGUE;
        dt_graph_seek_end(g);
        dt_deltas_emit_updates(g);
        st = dt_graph_status(g);
    }
    if (st == DT_OK) st = dt_exec_create(g, &job->device, job->comm, job->store, &exec);
    if (st == DT_OK) st = dt_exec_run(exec, DT_EPILOGUE);
    dt_exec_destroy(exec);
    dt_graph_destroy(g);
    return st;
}

dt_status dt_job_load_delta(dt_job *job, const dt_ckpt *ck, dt_graph *g)
{
    DT_TRY(dt_job_provide(job, g));
    DT_TRY(dt_job_bind_params(job, g));
    for (int64_t v = 0; ck != NULL && v < g->values; v++) {
        if (g->value[v].kind != DT_KIND_PARAM) continue;
        size_t count = (size_t)dt_value_local_count(g, (dt_val)v);
        float *host = NULL;
        DT_TRY(dt_alloc(count + 1, sizeof *host, &host));
        dt_status st = dt_param_read(job, g, (dt_val)v, ck, DT_CKPT_DELTA, g->value[v].name, host);
        if (st == DT_OK)
            st = job->device.ops->put(&job->device, dt_store_find(job->store, g->value[v].name)->data,
                                      element_size(job, g, (dt_val)v), host, count);
        free(host);
        DT_TRY(st);
    }
    return dt_job_apply_updates(job, g);
}

static dt_status find_delta(dt_job *job, const char *path, dt_ckpt **out)
{
    const char *run = job->config->run->dir;
    if (path == NULL && run == NULL)
        return dt_fail(DT_ERR_CONFIG, "the deltas of the configuration need a checkpoint: expected --delta or run.dir");
    DT_TRY(dt_ckpt_open(path != NULL ? path : run, out));
    const dt_ckpt_meta *meta = dt_ckpt_get_meta(*out);
    if (strcmp(meta->backbone_fingerprint, job->backbone->fingerprint) != 0)
        return dt_fail(DT_ERR_STATE, "%s: was trained on another backbone (fingerprint %s, now %s)", dt_ckpt_path(*out),
                       meta->backbone_fingerprint, job->backbone->fingerprint);
    return dt_job_restore_selection(job, *out);
}

dt_status dt_job_find_delta(dt_job *job, const char *path, dt_ckpt **out)
{
    if (job->deltas.n == 0 && path == NULL) return DT_OK;
    if (job->deltas.n == 0)
        return dt_world_agree(dt_fail(DT_ERR_CONFIG, "--delta: the configuration names no delta to load it into"));
    return dt_world_agree(find_delta(job, path, out));
}
