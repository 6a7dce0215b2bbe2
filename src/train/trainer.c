/* One training step: micro-batches, then the epilogue; and how it is set up. */
#include "train/trainer.h"
#include "graph/passes.h"
#include "op/update.h" // DT_HYPER_*
#include "train/params.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The flat buffers in the store, and each parameter and gradient as a view of them by its own name, so that other
 * graphs over the same parameters find them. */
static dt_status bind_flat(dt_trainer *t)
{
    const dt_device_ops *dev = t->job->device.ops;
    void *param = NULL;
    DT_TRY(dt_store_new(t->job->store, "flat:param", (size_t)t->flat.count * dev->acc_size, &param));
    for (int i = 0; i < t->flat.n; i++) {
        const dt_flat_param *p = &t->flat.param[i];
        unsigned char *at = (unsigned char *)param + (size_t)p->offset * dev->acc_size;
        DT_TRY(dt_store_put(t->job->store, t->g->value[p->param].name, at, (size_t)p->count * dev->acc_size));
    }
    return DT_OK;
}

static dt_status put_flat(dt_trainer *t, dt_val state, int64_t offset, const float *host, int64_t count)
{
    const dt_device_ops *dev = t->job->device.ops;
    unsigned char *at = (unsigned char *)dt_exec_data(t->exec, state) + (size_t)offset * dev->acc_size;
    return dev->put(&t->job->device, at, dev->acc_size, host, (size_t)count);
}

/* First values, or those of a checkpoint: parameters and the optimizer's states. */
static dt_status fill_one(dt_trainer *t, const dt_flat_param *p, const dt_ckpt *ck, float *host)
{
    const char *param = t->g->value[p->param].name;
    if (ck == NULL) {
        DT_TRY(dt_param_fill(t->job, t->g, p->param, host));
        return put_flat(t, t->flat.params, p->offset, host, p->count);
    }
    DT_TRY(dt_param_read(t->job, t->g, p->param, ck, DT_CKPT_DELTA, param, host));
    DT_TRY(put_flat(t, t->flat.params, p->offset, host, p->count));
    for (const char *const *s = t->optimizer->states(t->job->config->optim); *s != NULL; s++) {
        char flat[64], name[512];
        snprintf(flat, sizeof flat, "flat:%s", *s);
        snprintf(name, sizeof name, "%s:%s", *s, param);
        DT_TRY(dt_param_read(t->job, t->g, p->param, ck, DT_CKPT_OPTIMIZER, name, host));
        DT_TRY(put_flat(t, dt_graph_find(t->g, flat), p->offset, host, p->count));
    }
    return DT_OK;
}

static dt_status fill_params(dt_trainer *t, const dt_ckpt *ck)
{
    float *host = NULL;
    DT_TRY(dt_alloc((size_t)t->flat.count + 1, sizeof *host, &host));
    dt_status st = DT_OK;
    for (int i = 0; i < t->flat.n && st == DT_OK; i++) st = fill_one(t, &t->flat.param[i], ck, host);
    free(host);
    return st;
}

/* What the data ranks' differences are counted from. */
static dt_status remember_base(dt_trainer *t)
{
    float *host = NULL;
    DT_TRY(dt_alloc((size_t)t->flat.count + 1, sizeof *host, &host));
    dt_status st = dt_exec_get_f32(t->exec, t->flat.params, host);
    if (st == DT_OK) st = put_flat(t, t->base, 0, host, t->flat.count);
    free(host);
    return st;
}

/* Gradients go over the wire while backward goes on, where the device can do both at once. */
static dt_reduction reduction_of(const dt_trainer *t)
{
    if (t->local_steps > 1) return DT_REDUCE_NEVER;
    return t->job->device.ops->aside_begin != NULL ? DT_REDUCE_ASIDE : DT_REDUCE_ONCE;
}

dt_status dt_trainer_build(dt_job *job, const dt_mesh *mesh, dt_trainer *out)
{
    const Dtrain__Train *train = job->config->train;
    dt_trainer t = {.job = job, .optimizer = dt_optimizer_of(job->config->optim)};
    dt_status st;
    t.micro_batches = train->global_batch / train->micro_batch / mesh->size[DT_AXIS_DATA];
    DT_GOTO(dt_job_build(job, mesh, DT_FOR_TRAINING, train->micro_batch, job->seq, false, &t.g, &t.io), failed);
    DT_GOTO(dt_pass_fuse(t.g), failed);
    DT_GOTO(dt_flat_create(t.g, job->config->optim, &t.flat), failed);
    if (job->device.ops->act_size < job->device.ops->acc_size) DT_GOTO(dt_flat_round(t.g, &t.flat), failed);
    DT_GOTO(dt_deltas_local_steps(&job->deltas, &t.local_steps), failed);
    DT_GOTO(dt_optim_emit(t.g, &t.flat, job->config->optim, reduction_of(&t), &t.hyper, &t.normsq), failed);
    t.g->program = DT_EPILOGUE;
    dt_deltas_emit_updates(t.g);
    if (t.local_steps > 1) {
        DT_GOTO(dt_optim_emit_sync(t.g, &t.flat, job->config->optim, &t.base), failed);
        t.g->program = DT_SYNC;
        dt_graph_seek_end(t.g);
        dt_deltas_emit_updates(t.g);
    }
    DT_GOTO(dt_graph_status(t.g), failed);
    *out = t;
    return DT_OK;
failed:
    dt_trainer_destroy(&t);
    return st;
}

dt_status dt_trainer_create(dt_job *job, const dt_ckpt *ck, dt_trainer *out)
{
    dt_trainer t;
    dt_status st;
    DT_TRY(dt_trainer_build(job, &job->mesh, &t));
    DT_GOTO(dt_job_provide(job, t.g), failed);
    DT_GOTO(bind_flat(&t), failed);
    DT_GOTO(dt_exec_create(t.g, &job->device, job->comm, job->store, &t.exec), failed);
    DT_GOTO(fill_params(&t, ck), failed);
    if (ck != NULL) DT_GOTO(dt_job_apply_updates(job, t.g), failed);
    if (t.local_steps > 1) DT_GOTO(remember_base(&t), failed);
    DT_GOTO(dt_alloc((size_t)(4 * t.io.sequences * t.io.seq), sizeof *t.batch, &t.batch), failed);
    t.gives_loss = true;
    for (int a = DT_AXIS_TENSOR_MAJOR; a <= DT_AXIS_TENSOR_MINOR; a++)
        if (t.g->value[t.io.loss].place[a].kind == DT_REPLICATED) t.gives_loss &= job->mesh.coord[a] == 0;
    *out = t;
    return DT_OK;
failed:
    dt_trainer_destroy(&t);
    return st;
}

void dt_trainer_destroy(dt_trainer *t)
{
    dt_exec_destroy(t->exec);
    dt_flat_destroy(&t->flat);
    dt_graph_destroy(t->g);
    free(t->batch);
    *t = (dt_trainer){0};
}

int64_t dt_trainer_bytes(const dt_trainer *t)
{
    const dt_plan *plan = dt_exec_plan(t->exec);
    return plan->arena_bytes + plan->workspace_bytes + dt_store_owned_bytes(t->job->store);
}

/* Micro-batch m of a step: sequences in the global batch are numbered micro-batch by micro-batch, rank by rank. */
static dt_status fill_batch(dt_trainer *t, int64_t step, int64_t m)
{
    const dt_mesh *mesh = &t->job->mesh;
    int64_t b = t->io.sequences, len = t->io.seq, n = b * len, global_batch = t->job->config->train->global_batch;
    int64_t in_batch = (m * mesh->size[DT_AXIS_DATA] + mesh->coord[DT_AXIS_DATA]) * b;
    int32_t *tokens = t->batch, *pos = tokens + n, *targets = pos + n, *key = targets + n;
    /* Positions past seq_len are padding, which differs between layouts: the keys do not count it. */
    const int64_t seq_len = t->job->config->data->seq_len;
    for (int64_t i = 0; i < n; i++) {
        tokens[i] = pos[i] = 0;
        targets[i] = -1;
        key[i] = (int32_t)((in_batch + i / len) * seq_len + i % len);
    }
    for (int64_t i = 0; i < b; i++)
        DT_TRY(dt_dataset_fill(t->job->train, (step - 1) * global_batch + in_batch + i, tokens + i * len, pos + i * len,
                               targets + i * len));
    DT_TRY(dt_exec_put_i32(t->exec, t->io.tokens, tokens));
    DT_TRY(dt_exec_put_i32(t->exec, t->io.pos, pos));
    DT_TRY(dt_exec_put_i32(t->exec, t->io.targets, targets));
    return dt_exec_put_i32(t->exec, t->io.key, key);
}

static dt_status zero(dt_trainer *t, dt_val v)
{
    dt_device *dev = &t->job->device;
    return dev->ops->zero(dev, dt_exec_data(t->exec, v), (size_t)dt_value_local_count(t->g, v) * dev->ops->acc_size);
}

/* Accumulators outside the flat buffer: the loss, and gradients of what the prologue computes. */
static dt_status zero_accumulators(dt_trainer *t)
{
    DT_TRY(zero(t, t->flat.grads));
    DT_TRY(zero(t, t->io.loss));
    for (int64_t v = 0; v < t->g->values; v++) {
        const dt_value *val = &t->g->value[v];
        if (val->kind == DT_KIND_STATE && val->base == DT_NONE && strncmp(val->name, "grad:", 5) == 0)
            DT_TRY(zero(t, (dt_val)v));
    }
    return DT_OK;
}

/* Target tokens of the global batch, and of this rank's own sequences. */
static dt_status count_targets(const dt_trainer *t, int64_t step, int64_t *all, int64_t *mine)
{
    const int64_t global_batch = t->job->config->train->global_batch;
    *all = *mine = 0;
    for (int64_t s = 0; s < global_batch; s++) {
        int64_t count = 0;
        DT_TRY(dt_dataset_targets(t->job->train, (step - 1) * global_batch + s, &count));
        *all += count;
        if (s / t->io.sequences % t->job->mesh.size[DT_AXIS_DATA] == t->job->mesh.coord[DT_AXIS_DATA]) *mine += count;
    }
    return DT_OK;
}

/* Where the answers of a step are asked for. */
enum { ASK_LOSS, ASK_NORM, ASKS };

static int ticket_of(int64_t step, int what)
{
    return (int)(step % DT_STEPS_AHEAD) * ASKS + what;
}
_Static_assert(DT_STEPS_AHEAD *ASKS <= DT_TICKETS, "a ticket for every answer");

dt_status dt_trainer_begin(dt_trainer *t, int64_t step)
{
    const Dtrain__Config *config = t->job->config;
    dt_step_begun *begun = &t->begun[step % DT_STEPS_AHEAD];
    const int32_t number = (int32_t)step;
    const bool has_last = dt_exec_plan(t->exec)->calls[DT_LAST] > 0;
    float hyper[DT_HYPER_COUNT] = {0};
    int64_t mine = 0;
    DT_TRY(count_targets(t, step, &begun->loss_tokens, &mine));
    const int64_t tokens = t->local_steps > 1 ? mine : begun->loss_tokens;
    begun->lr = t->optimizer->peak_lr(config->optim) * dt_schedule(config->optim, config->train->steps, step);
    begun->scale = tokens > 0 ? 1.0 / (double)tokens : 0.0;
    DT_TRY(zero_accumulators(t));
    DT_TRY(dt_exec_put_i32(t->exec, t->io.step, &number));
    DT_TRY(dt_exec_run(t->exec, DT_PROLOGUE));
    for (int64_t m = 0; m < t->micro_batches; m++) {
        DT_TRY(fill_batch(t, step, m));
        DT_TRY(dt_exec_run(t->exec, m == t->micro_batches - 1 && has_last ? DT_LAST : DT_MICRO));
    }
    if (t->optimizer->hyper != NULL) t->optimizer->hyper(config->optim, step, hyper);
    hyper[DT_HYPER_LR] = (float)begun->lr;
    hyper[DT_HYPER_SCALE] = (float)begun->scale;
    hyper[DT_HYPER_CLIP] = (float)config->optim->clip_norm;
    DT_TRY(dt_exec_put_f32(t->exec, t->hyper, hyper));
    DT_TRY(dt_exec_run(t->exec, DT_EPILOGUE));
    DT_TRY(dt_exec_ask(t->exec, t->io.loss, ticket_of(step, ASK_LOSS)));
    DT_TRY(dt_exec_ask(t->exec, t->normsq, ticket_of(step, ASK_NORM)));
    return t->local_steps > 1 && step % t->local_steps == 0 ? dt_exec_run(t->exec, DT_SYNC) : DT_OK;
}

dt_status dt_trainer_end(dt_trainer *t, int64_t step, dt_step_result *out)
{
    const dt_step_begun *begun = &t->begun[step % DT_STEPS_AHEAD];
    float loss = 0, normsq = 0;
    DT_TRY(dt_exec_answer(t->exec, ticket_of(step, ASK_LOSS), &loss));
    DT_TRY(dt_exec_answer(t->exec, ticket_of(step, ASK_NORM), &normsq));
    *out = (dt_step_result){.loss_sum = t->gives_loss ? (double)loss : 0.0,
                            .loss_tokens = begun->loss_tokens,
                            .grad_norm = sqrt((double)normsq) * begun->scale,
                            .lr = begun->lr};
    return DT_OK;
}

bool dt_trainer_runs_ahead(const dt_trainer *t)
{
    return dt_exec_runs_ahead(t->exec);
}

dt_status dt_trainer_settle(dt_trainer *t)
{
    return dt_exec_run(t->exec, DT_SAVE);
}
