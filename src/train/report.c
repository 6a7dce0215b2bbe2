/* What a training job will hold, compute and send, rank by rank. */
#include "train/report.h"
#include "graph/passes.h"
#include "train/trainer.h"
#include <stdlib.h>
#include <string.h>

static int64_t bytes_of(const dt_job *job, const dt_graph *g, dt_val v)
{
    dt_type type = g->value[v].type;
    size_t size = type == DT_TYPE_I32   ? sizeof(int32_t)
                  : type == DT_TYPE_ACT ? job->device.ops->act_size
                                        : job->device.ops->acc_size;
    return dt_value_local_count(g, v) * (int64_t)size;
}

/* A value of the backbone: frozen, or trained where it is. */
static bool of_backbone(const dt_value *v)
{
    return v->kind == DT_KIND_WEIGHT || (v->kind == DT_KIND_PARAM && v->init.kind == DT_INIT_BACKBONE);
}

static bool is_moment(const dt_trainer *t, const char *name)
{
    for (const char *const *s = t->optimizer->states(t->job->config->optim); *s != NULL; s++)
        if (strncmp(name, "flat:", 5) == 0 && strcmp(name + 5, *s) == 0) return true;
    return false;
}

/* Everything with storage of its own outside the arena. */
static void count_values(const dt_trainer *t, dt_rank_report *r)
{
    const dt_graph *g = t->g;
    int64_t states = 0;
    for (dt_val v = 0; v < g->values; v++) {
        const dt_value *val = &g->value[v];
        if (of_backbone(val)) r->full_bytes += dt_value_local_count(g, v) * (int64_t)t->job->device.ops->acc_size;
        if (!dt_kind_is_persistent(val->kind) || val->base != DT_NONE) continue;
        int64_t bytes = bytes_of(t->job, g, v);
        if (val->kind == DT_KIND_WEIGHT) {
            r->frozen += dt_value_local_count(g, v);
            r->weights += bytes;
        } else if (v == t->flat.params) {
            r->params += bytes;
        } else if (v == t->flat.grads) {
            r->grads += bytes;
        } else if (is_moment(t, val->name)) {
            r->moments += bytes;
            states++;
        } else {
            r->other += bytes;
        }
    }
    r->trainable = t->flat.count;
    bool saves = g->mesh.coord[DT_AXIS_DATA] == 0;
    r->saving = saves ? (1 + states) * t->flat.count * (int64_t)sizeof(float) : 0;
}

static void count_wire(dt_rank_report *r, const char *op, int64_t calls, double bytes)
{
    r->tensor_bytes += calls * (int64_t)bytes;
    int64_t i = 0;
    while (i < r->wires && strcmp(r->wire[i].op, op) != 0) i++;
    if (i == DT_REPORT_WIRES) return;
    if (i == r->wires) r->wire[r->wires++].op = op;
    r->wire[i].calls += calls;
    r->wire[i].bytes += calls * (int64_t)bytes;
}

/* Adds up one program, which runs `times` in a step; every: or once in so many steps. */
static void count_program(const dt_trainer *t, const dt_plan *plan, dt_program program, int64_t times, int64_t every,
                          dt_rank_report *r)
{
    for (int64_t i = 0; i < plan->calls[program]; i++) {
        const dt_call *call = &plan->call[program][i];
        dt_cost cost = dt_call_cost(call, t->job->device.ops->act_size);
        double share = (double)times / (double)every;
        const dt_node *n = &t->g->node[plan->call_node[program][i]];
        *(n->program != DT_MICRO ? &r->update : n->backward ? &r->backward : &r->forward) += share * cost.flops;
        r->moved += share * cost.bytes;
        if (cost.wire_axes & DT_AXES_DATA) r->delta_bytes += times * (int64_t)cost.wire;
        else if (cost.wire > 0) count_wire(r, call->op->name, times, cost.wire);
    }
}

/* What a graph besides the step's holds: arena and workspace, with its inputs and constants; for a selection, whose
 * store is its own, every value. */
static dt_status bytes_beside(dt_job *job, const dt_mesh *mesh, dt_purpose purpose, bool expected, int64_t *out)
{
    dt_graph *g = NULL;
    dt_program_io io;
    dt_plan plan;
    dt_status st;
    const int64_t sequences = purpose == DT_FOR_FISHER ? 1 : job->config->train->micro_batch;
    DT_TRY(dt_job_build(job, mesh, purpose, sequences, job->seq, expected, &g, &io));
    DT_GOTO(dt_pass_fuse(g), done);
    DT_GOTO(dt_pass_plan(g, &job->device, &plan), done);
    *out = plan.arena_bytes + plan.workspace_bytes;
    for (dt_val v = 0; v < g->values; v++) {
        dt_kind kind = g->value[v].kind;
        bool own = kind == DT_KIND_INPUT || kind == DT_KIND_CONST || purpose == DT_FOR_FISHER;
        if (own && dt_kind_is_persistent(kind) && g->value[v].base == DT_NONE) *out += bytes_of(job, g, v);
    }
    dt_plan_free(&plan);
done:
    dt_graph_destroy(g);
    return st;
}

/* How the methods that choose from data score, all of them together; samples: of the last one, 0 where none does. */
static dt_scoring scoring_of(const dt_deltas *deltas)
{
    dt_scoring all = {.native = true};
    for (int i = 0; i < deltas->n; i++) {
        const dt_delta *d = &deltas->delta[i];
        if (d->method->choose == NULL) continue;
        const dt_scoring how = d->method->scoring(d);
        all = (dt_scoring){how.samples, all.expected || how.expected, all.native && how.native};
    }
    return all;
}

static dt_status bytes_of_selection(dt_job *job, const dt_mesh *mesh, int64_t *out)
{
    const dt_scoring how = scoring_of(&job->deltas);
    dt_mesh apart = *mesh; /* data ranks select apart */
    dt_job pass;
    if (how.samples == 0) return DT_OK;
    apart.size[DT_AXIS_DATA] = 1;
    apart.coord[DT_AXIS_DATA] = 0;
    DT_TRY(dt_job_open_pass(job, how, true, &pass));
    dt_status st = bytes_beside(&pass, &apart, DT_FOR_FISHER, how.expected, out);
    dt_job_close_pass(job, &pass);
    return st;
}

/* Plans the step of one rank; t is the caller's to destroy. */
static dt_status report_step(dt_job *job, const dt_mesh *mesh, dt_trainer *t, dt_rank_report *r)
{
    dt_plan plan;
    DT_TRY(dt_trainer_build(job, mesh, t));
    DT_TRY(dt_pass_plan(t->g, &job->device, &plan));
    count_values(t, r);
    r->arena = plan.arena_bytes;
    r->workspace = plan.workspace_bytes;
    count_program(t, &plan, DT_PROLOGUE, 1, 1, r);
    bool has_last = plan.calls[DT_LAST] > 0;
    count_program(t, &plan, DT_MICRO, t->micro_batches - has_last, 1, r);
    count_program(t, &plan, DT_LAST, 1, 1, r);
    count_program(t, &plan, DT_EPILOGUE, 1, 1, r);
    count_program(t, &plan, DT_SYNC, 1, t->local_steps, r);
    dt_plan_free(&plan);
    r->total =
        r->weights + r->params + r->grads + r->moments + r->other + r->arena + r->workspace + r->evaluation + r->saving;
    return DT_OK;
}

static dt_status report_rank(dt_job *job, const dt_mesh *mesh, dt_trainer *t, dt_rank_report *r)
{
    dt_deltas_destroy(&job->deltas); /* selections are a rank's own */
    DT_TRY(dt_deltas_create(job->config, &job->deltas));
    DT_TRY(bytes_of_selection(job, mesh, &r->selection));
    DT_TRY(dt_job_assume_selection(job, mesh));
    if (job->config->data->eval != NULL) DT_TRY(bytes_beside(job, mesh, DT_FOR_EVAL, false, &r->evaluation));
    return report_step(job, mesh, t, r);
}

/* Values of one delta: its parameters are called after it; where there are none, the backbone's own are trained. */
static int64_t values_of(const dt_graph *g, const dt_delta *d)
{
    size_t prefix = strlen(d->name);
    int64_t named = 0, in_place = 0;
    for (dt_val v = 0; v < g->values; v++) {
        const dt_value *val = &g->value[v];
        if (val->kind != DT_KIND_PARAM) continue;
        if (of_backbone(val)) in_place += dt_value_count(g, v);
        else if (strncmp(val->name, d->name, prefix) == 0 && val->name[prefix] == '.') named += dt_value_count(g, v);
    }
    return named != 0 ? named : in_place;
}

/* What is the same on every rank. */
static dt_status report_job(const dt_job *job, const dt_trainer *t, dt_report *out)
{
    const dt_graph *g = t->g;
    DT_TRY(dt_alloc((size_t)job->deltas.n + 1, sizeof *out->delta, &out->delta));
    for (int i = 0; i < job->deltas.n; i++) {
        const dt_delta *d = &job->deltas.delta[i];
        out->delta[out->deltas++] = (dt_delta_report){d->config->name, d->method->name, values_of(g, d)};
    }
    for (dt_val v = 0; v < g->values; v++)
        if (of_backbone(&g->value[v])) out->backbone += dt_value_count(g, v);
    DT_FOR_NODES (g, i) {
        const dt_node *n = &g->node[i];
        *(n->program != DT_MICRO ? &out->once : n->backward ? &out->backward : &out->forward) += 1;
    }
    out->trainable = t->flat.global_count;
    out->micro_batches = t->micro_batches;
    out->delta_every = t->local_steps;
    out->assumed = scoring_of(&job->deltas).samples != 0;
    return DT_OK;
}

static dt_status report_ranks(dt_job *job, dt_report *out)
{
    int tensor = dt_mesh_group_size(&out->mesh, DT_AXES_TENSOR);
    for (int r = 0; r < out->mesh.ranks; r++) {
        /* Along the data axis ranks differ only in who saves. */
        if (r >= tensor) {
            out->rank[r] = out->rank[r % tensor];
            out->rank[r].total -= out->rank[r].saving;
            out->rank[r].saving = 0;
            continue;
        }
        dt_mesh mesh;
        dt_trainer t = {0};
        DT_TRY(dt_job_mesh(job->config, &job->backbone->info, r, out->mesh.ranks, &mesh));
        dt_status st = report_rank(job, &mesh, &t, &out->rank[r]);
        if (st == DT_OK && r == 0) st = report_job(job, &t, out);
        dt_trainer_destroy(&t);
        DT_TRY(st);
    }
    return DT_OK;
}

dt_status dt_report_make(const Dtrain__Config *config, int ranks, dt_report *out)
{
    dt_job job;
    dt_report report = {0};
    DT_TRY(dt_job_open_plan(config, ranks, &job));
    report.family = job.backbone->type;
    report.model = job.backbone->info;
    report.mesh = job.mesh;
    report.device = job.device.ops->name;
    report.threads = job.device.threads;
    dt_status st = dt_alloc((size_t)ranks, sizeof *report.rank, &report.rank);
    if (st == DT_OK) st = report_ranks(&job, &report);
    dt_job_close(&job);
    if (st == DT_OK) *out = report;
    else dt_report_free(&report);
    return st;
}

dt_status dt_report_graph(const Dtrain__Config *config, int ranks, int rank, char **text)
{
    dt_job job;
    dt_mesh mesh;
    dt_trainer t = {0};
    DT_TRY(dt_job_open_plan(config, ranks, &job));
    dt_status st = dt_job_mesh(config, &job.backbone->info, rank, ranks, &mesh);
    if (st == DT_OK) st = dt_job_assume_selection(&job, &mesh);
    if (st == DT_OK) st = dt_trainer_build(&job, &mesh, &t);
    if (st == DT_OK) st = dt_graph_dump(t.g, text);
    dt_trainer_destroy(&t);
    dt_job_close(&job);
    return st;
}

void dt_report_free(dt_report *report)
{
    free(report->delta);
    free(report->rank);
    *report = (dt_report){0};
}
