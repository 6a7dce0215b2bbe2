/* Binds a planned graph to memory and walks its calls. */
#include "graph/exec.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct dt_exec {
    dt_graph *g;
    dt_device *device;
    dt_comm *comm;
    dt_plan plan;
    unsigned char *arena;
    void *workspace;
    void **data;                                     /* of each value */
    bool *owned;                                     /* inputs and constants */
    int runs[DT_PROGRAM_COUNT];                      /* so far: the first one warms up, the second is recorded */
    void *recording[DT_PROGRAM_COUNT];               /* NULL: none */
    int64_t sent[DT_PROGRAM_COUNT][DT_AXES_ALL + 1]; /* payload of a recording's collectives */
    float answer[DT_TICKETS];                        /* of a device on which nothing is pending */
    dt_op_time *time;                                /* by op number; NULL: not profiled */
    int times;
};

static size_t element_size(const dt_exec *e, dt_val v)
{
    dt_type type = e->g->value[v].type;
    return type == DT_TYPE_I32 ? 4 : type == DT_TYPE_ACT ? e->device->ops->act_size : e->device->ops->acc_size;
}

static dt_status bind_persistent(dt_exec *e, dt_store *store, dt_val v)
{
    const dt_value *val = &e->g->value[v];
    dt_device *dev = e->device;
    size_t count = (size_t)dt_value_local_count(e->g, v), bytes = count * element_size(e, v);
    if (val->kind == DT_KIND_INPUT || val->kind == DT_KIND_CONST) {
        DT_TRY(dev->ops->alloc(dev, bytes, &e->data[v]));
        e->owned[v] = true;
        if (val->kind == DT_KIND_INPUT) return DT_OK;
        if (val->type == DT_TYPE_I32) return dev->ops->put_bytes(dev, e->data[v], val->host, bytes);
        return dev->ops->put(dev, e->data[v], element_size(e, v), val->host, count);
    }
    dt_stored *stored = dt_store_find(store, val->name);
    if (stored == NULL) {
        if (val->kind != DT_KIND_STATE) return dt_fail(DT_ERR_INTERNAL, "%s has no storage", val->name);
        return dt_store_new(store, val->name, bytes, &e->data[v]);
    }
    if (stored->bytes != bytes)
        return dt_fail(DT_ERR_INTERNAL, "%s: %zu bytes stored, %zu needed", val->name, stored->bytes, bytes);
    e->data[v] = stored->data;
    return DT_OK;
}

static dt_status bind(dt_exec *e, dt_store *store)
{
    const dt_graph *g = e->g;
    for (int64_t v = 0; v < g->values; v++) {
        if (g->value[v].base != DT_NONE) continue;
        if (dt_kind_is_persistent(g->value[v].kind)) DT_TRY(bind_persistent(e, store, (dt_val)v));
        else if (e->plan.offset[v] >= 0) e->data[v] = e->arena + e->plan.offset[v];
    }
    for (int64_t v = 0; v < g->values; v++) {
        dt_val root = (dt_val)v;
        int64_t offset = 0;
        for (; g->value[root].base != DT_NONE; root = g->value[root].base) offset += g->value[root].base_offset;
        if (root != (dt_val)v && e->data[root] != NULL)
            e->data[v] = (unsigned char *)e->data[root] + (size_t)offset * element_size(e, root);
    }
    for (int pr = 0; pr < DT_PROGRAM_COUNT; pr++) {
        for (int64_t i = 0; i < e->plan.calls[pr]; i++) {
            dt_call *c = &e->plan.call[pr][i];
            const dt_node *n = &g->node[e->plan.call_node[pr][i]];
            for (int k = 0; k < n->nin; k++) c->in[k].data = n->in[k] != DT_NONE ? e->data[n->in[k]] : NULL;
            for (int k = 0; k < n->nout; k++) c->out[k].data = n->out[k] != DT_NONE ? e->data[n->out[k]] : NULL;
            c->workspace = e->workspace;
            c->comm = e->comm;
            c->device = e->device;
        }
    }
    return DT_OK;
}

/* Where memory runs out: what the plan needs it for. */
static dt_status named(const dt_exec *e, dt_status st)
{
    return dt_fail_in(st, "%.2f GB of activations and %.2f GB of workspace for %lld tokens at a time",
                      (double)e->plan.arena_bytes / 1e9, (double)e->plan.workspace_bytes / 1e9,
                      (long long)e->g->tokens);
}

/* Lets the device choose how it will do each call. */
static dt_status choose(dt_exec *e)
{
    const dt_device_ops *ops = e->device->ops;
    if (ops->choose == NULL) return DT_OK;
    for (int pr = 0; pr < DT_PROGRAM_COUNT; pr++)
        for (int64_t i = 0; i < e->plan.calls[pr]; i++)
            DT_TRY(ops->consider(e->device, e->plan.kernel[pr][i], &e->plan.call[pr][i]));
    return ops->choose(e->device);
}

dt_status dt_exec_create(dt_graph *g, dt_device *device, dt_comm *comm, dt_store *store, dt_exec **out)
{
    dt_exec *e = NULL;
    dt_status st;
    DT_TRY(dt_alloc(1, sizeof *e, &e));
    e->g = g;
    e->device = device;
    e->comm = comm;
    DT_GOTO(dt_pass_plan(g, device, &e->plan), failed);
    DT_GOTO(dt_alloc((size_t)g->values + 1, sizeof *e->data, &e->data), failed);
    DT_GOTO(dt_alloc((size_t)g->values + 1, sizeof *e->owned, &e->owned), failed);
    void *arena = NULL;
    DT_GOTO(named(e, device->ops->alloc(device, (size_t)e->plan.arena_bytes, &arena)), failed);
    e->arena = arena;
    DT_GOTO(named(e, device->ops->alloc(device, (size_t)e->plan.workspace_bytes, &e->workspace)), failed);
    DT_GOTO(bind(e, store), failed);
    DT_GOTO(choose(e), failed);
    *out = e;
    return DT_OK;
failed:
    dt_exec_destroy(e);
    return st;
}

void dt_exec_destroy(dt_exec *e)
{
    if (e == NULL) return;
    for (int64_t v = 0; e->owned != NULL && v < e->g->values; v++)
        if (e->owned[v]) e->device->ops->free(e->device, e->data[v]);
    if (e->arena != NULL) e->device->ops->free(e->device, e->arena);
    if (e->workspace != NULL) e->device->ops->free(e->device, e->workspace);
    dt_plan_free(&e->plan);
    for (int pr = 0; pr < DT_PROGRAM_COUNT; pr++)
        if (e->recording[pr] != NULL) e->device->ops->recording_free(e->device, e->recording[pr]);
    free(e->data);
    free(e->owned);
    free(e->time);
    free(e);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static dt_status timed(dt_exec *e, dt_program program, int64_t i)
{
    int kernel = e->plan.kernel[program][i];
    const dt_call *c = &e->plan.call[program][i];
    dt_op_time *t = &e->time[kernel];
    dt_cost cost = dt_call_cost(c, e->device->ops->act_size);
    double start = now();
    dt_status st = e->device->kernels[kernel](c);
    if (st == DT_OK && e->device->ops->wait != NULL) st = e->device->ops->wait(e->device);
    t->seconds += now() - start;
    t->op = c->op;
    t->calls++;
    t->flops += cost.flops;
    t->bytes += cost.bytes;
    return st;
}

dt_status dt_exec_profile(dt_exec *e)
{
    for (int pr = 0; pr < DT_PROGRAM_COUNT; pr++)
        for (int64_t i = 0; i < e->plan.calls[pr]; i++)
            if (e->plan.kernel[pr][i] >= e->times) e->times = e->plan.kernel[pr][i] + 1;
    return dt_alloc((size_t)e->times + 1, sizeof *e->time, &e->time);
}

static int by_seconds(const void *a, const void *b)
{
    const dt_op_time *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

dt_status dt_exec_times(const dt_exec *e, dt_op_time **out, int *n)
{
    dt_op_time *all = NULL;
    DT_TRY(dt_alloc((size_t)e->times + 1, sizeof *all, &all));
    *n = 0;
    for (int i = 0; i < e->times; i++)
        if (e->time[i].calls != 0) all[(*n)++] = e->time[i];
    qsort(all, (size_t)*n, sizeof *all, by_seconds);
    *out = all;
    return DT_OK;
}

/* Runs a call and, where it is timed, waits for it. */
static dt_status run_call(dt_exec *e, dt_program program, int64_t i)
{
    const dt_call *c = &e->plan.call[program][i];
    dt_status st = e->time == NULL ? e->device->kernels[e->plan.kernel[program][i]](c) : timed(e, program, i);
    return dt_fail_in(st, "%s", c->op->name);
}

static dt_status run_aside(dt_exec *e, dt_program program, int64_t i)
{
    const dt_device_ops *ops = e->device->ops;
    DT_TRY(ops->aside_begin(e->device));
    dt_status st = run_call(e, program, i);
    ops->aside_end(e->device);
    return st;
}

static dt_status run_calls(dt_exec *e, dt_program program)
{
    const dt_device_ops *ops = e->device->ops;
    bool pending = false; /* aside */
    for (int64_t i = 0; i < e->plan.calls[program]; i++) {
        const dt_node *n = &e->g->node[e->plan.call_node[program][i]];
        if (n->aside && ops->aside_begin != NULL) {
            DT_TRY(run_aside(e, program, i));
            pending = true;
            continue;
        }
        if (pending && n->op->communicates && e->comm->one_at_a_time) {
            DT_TRY(ops->aside_join(e->device));
            pending = false;
        }
        DT_TRY(run_call(e, program, i));
    }
    return pending ? ops->aside_join(e->device) : DT_OK;
}

static dt_status record(dt_exec *e, dt_program program)
{
    const dt_device_ops *ops = e->device->ops;
    int64_t *total = e->comm->bytes_sent, before[DT_AXES_ALL + 1];
    memcpy(before, total, sizeof before);
    DT_TRY(ops->record_begin(e->device));
    dt_status st = run_calls(e, program);
    for (dt_axes a = 0; a <= DT_AXES_ALL; a++) e->sent[program][a] = total[a] - before[a];
    memcpy(total, before, sizeof before); /* nothing was sent yet: each replay sends it */
    dt_status ended = ops->record_end(e->device, &e->recording[program]); /* whatever happened: recording must end */
    return st != DT_OK ? st : ended;
}

static dt_status run_program(dt_exec *e, dt_program program)
{
    const dt_device_ops *ops = e->device->ops;
    bool records = ops->replay != NULL && e->time == NULL && !e->comm->ops->waits && e->plan.calls[program] > 0;
    if (!records || e->runs[program]++ == 0) return run_calls(e, program);
    if (e->recording[program] == NULL) DT_TRY(record(e, program));
    for (dt_axes a = 0; a <= DT_AXES_ALL; a++) e->comm->bytes_sent[a] += e->sent[program][a];
    return ops->replay(e->device, e->recording[program]);
}

dt_status dt_exec_run(dt_exec *e, dt_program program)
{
    dt_status st = run_program(e, program);
    if (st != DT_OK && e->comm->mesh.ranks > 1)
        dt_world_abort(st); /* the others may wait for this rank in a collective */
    return st;
}

void *dt_exec_data(const dt_exec *e, dt_val v)
{
    return e->data[v];
}

dt_status dt_exec_put_f32(dt_exec *e, dt_val v, const float *src)
{
    return e->device->ops->put(e->device, e->data[v], element_size(e, v), src, (size_t)dt_value_local_count(e->g, v));
}

dt_status dt_exec_put_i32(dt_exec *e, dt_val v, const int32_t *src)
{
    return e->device->ops->put_bytes(e->device, e->data[v], src, 4 * (size_t)dt_value_local_count(e->g, v));
}

dt_status dt_exec_get_f32(const dt_exec *e, dt_val v, float *dst)
{
    return e->device->ops->get(e->device, dst, e->data[v], element_size(e, v), (size_t)dt_value_local_count(e->g, v));
}

bool dt_exec_runs_ahead(const dt_exec *e)
{
    return e->device->ops->ask != NULL;
}

dt_status dt_exec_ask(dt_exec *e, dt_val v, int ticket)
{
    const dt_device_ops *ops = e->device->ops;
    if (ops->ask == NULL) return ops->get(e->device, &e->answer[ticket], e->data[v], ops->acc_size, 1);
    return ops->ask(e->device, ticket, e->data[v], 1);
}

dt_status dt_exec_answer(dt_exec *e, int ticket, float *out)
{
    if (e->device->ops->ask != NULL) return e->device->ops->answer(e->device, ticket, out, 1);
    *out = e->answer[ticket];
    return DT_OK;
}

const dt_plan *dt_exec_plan(const dt_exec *e)
{
    return &e->plan;
}
