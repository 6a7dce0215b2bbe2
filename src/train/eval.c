/* Held-out loss: forward passes over the evaluation set, each data rank on its share. */
#include "graph/passes.h"
#include "train/job.h"
#include "train/params.h"
#include <stdlib.h>
#include <string.h>

struct dt_evaluator {
    dt_job *job;
    dt_graph *g;
    dt_exec *exec;
    dt_program_io io;
    int32_t *batch; /* tokens, pos, targets, key: [4][B*T] */
    float *nll;     /* [B*T] */
};

dt_status dt_evaluator_create(dt_job *job, int64_t sequences, dt_evaluator **out)
{
    dt_evaluator *e = NULL;
    dt_status st;
    DT_TRY(dt_alloc(1, sizeof *e, &e));
    e->job = job;
    DT_GOTO(dt_job_build(job, &job->mesh, DT_FOR_EVAL, sequences, job->seq, false, &e->g, &e->io), failed);
    DT_GOTO(dt_pass_fuse(e->g), failed);
    DT_GOTO(dt_job_provide(job, e->g), failed);
    DT_GOTO(dt_job_bind_params(job, e->g), failed);
    DT_GOTO(dt_exec_create(e->g, &job->device, job->comm, job->store, &e->exec), failed);
    DT_GOTO(dt_alloc((size_t)(4 * sequences * job->seq), sizeof *e->batch, &e->batch), failed);
    DT_GOTO(dt_alloc((size_t)(sequences * job->seq), sizeof *e->nll, &e->nll), failed);
    *out = e;
    return DT_OK;
failed:
    dt_evaluator_destroy(e);
    return st;
}

void dt_evaluator_destroy(dt_evaluator *e)
{
    if (e == NULL) return;
    dt_exec_destroy(e->exec);
    dt_graph_destroy(e->g);
    free(e->batch);
    free(e->nll);
    free(e);
}

dt_status dt_evaluator_load(dt_evaluator *e, const dt_ckpt *ck)
{
    return dt_job_load_delta(e->job, ck, e->g);
}

int64_t dt_evaluator_bytes(const dt_evaluator *e)
{
    return dt_exec_plan(e->exec)->arena_bytes + dt_exec_plan(e->exec)->workspace_bytes;
}

/* Sequences first .. first + B of the set; those past its end are empty. */
static dt_status fill(dt_evaluator *e, int64_t first, int64_t total)
{
    int64_t t = e->io.seq, n = e->io.sequences * t;
    int32_t *tokens = e->batch, *pos = tokens + n, *targets = pos + n;
    for (int64_t i = 0; i < n; i++) {
        tokens[i] = pos[i] = 0;
        targets[i] = -1;
    }
    for (int64_t b = 0; b < e->io.sequences && first + b < total; b++)
        DT_TRY(dt_dataset_fill(e->job->eval, first + b, tokens + b * t, pos + b * t, targets + b * t));
    DT_TRY(dt_exec_put_i32(e->exec, e->io.tokens, tokens));
    DT_TRY(dt_exec_put_i32(e->exec, e->io.pos, pos));
    return dt_exec_put_i32(e->exec, e->io.targets, targets);
}

/* Adds up one micro-batch; hands each row's values to where the caller wants them. */
static dt_status take(dt_evaluator *e, int64_t first, int64_t total, double *sum, double *count, float *nll,
                      const int64_t *row_offset)
{
    int64_t t = e->io.seq, n = e->io.sequences * t;
    const int32_t *targets = e->batch + 2 * n;
    DT_TRY(dt_exec_get_f32(e->exec, e->g->output[0], e->nll));
    for (int64_t i = 0; i < n; i++) {
        *sum += (double)e->nll[i];
        *count += targets[i] >= 0;
    }
    for (int64_t b = 0; nll != NULL && b < e->io.sequences && first + b < total; b++) {
        const int64_t *rows = NULL;
        const int32_t *starts = NULL;
        int n_rows = 0;
        DT_TRY(dt_dataset_layout(e->job->eval, first + b, &rows, &starts, &n_rows));
        for (int r = 0; r < n_rows; r++) {
            int32_t length = dt_dataset_row(e->job->eval, rows[r]).n;
            for (int32_t i = 0, k = 0; i < length; i++)
                if (targets[b * t + starts[r] + i] >= 0) nll[row_offset[rows[r]] + k++] = e->nll[b * t + starts[r] + i];
        }
    }
    return DT_OK;
}

static dt_status run(dt_evaluator *e, double *sums, float *nll, const int64_t *row_offset)
{
    const dt_mesh *mesh = &e->job->mesh;
    int64_t total = dt_dataset_sequences(e->job->eval), stride = e->io.sequences * mesh->size[DT_AXIS_DATA];
    bool stands_for_group = mesh->coord[DT_AXIS_TENSOR_MAJOR] == 0 && mesh->coord[DT_AXIS_TENSOR_MINOR] == 0;
    DT_TRY(dt_exec_run(e->exec, DT_PROLOGUE));
    for (int64_t at = 0; at < total; at += stride) {
        int64_t first = at + e->io.sequences * mesh->coord[DT_AXIS_DATA];
        DT_TRY(fill(e, first, total));
        DT_TRY(dt_exec_run(e->exec, DT_MICRO));
        if (stands_for_group) DT_TRY(take(e, first, total, &sums[0], &sums[1], nll, row_offset));
    }
    return DT_OK;
}

dt_status dt_evaluator_run(dt_evaluator *e, double *loss, int64_t *tokens, float *nll, const int64_t *row_offset)
{
    double sums[2] = {0, 0};
    DT_TRY(run(e, sums, nll, row_offset));
    DT_TRY(dt_world_all_reduce(sums, 2, DT_COMM_F64, DT_COMM_SUM));
    if (nll != NULL)
        DT_TRY(dt_world_all_reduce(nll, row_offset[dt_dataset_rows(e->job->eval)], DT_COMM_F32, DT_COMM_SUM));
    *tokens = (int64_t)sums[1];
    *loss = sums[1] > 0 ? sums[0] / sums[1] : 0;
    return DT_OK;
}
