/* From a job to a sharded graph: build, loss, attach, merge, grad, shard. The loss comes before the deltas, so that
 * they attach to everything that reads a site, the head included. */
#include "graph/passes.h"
#include "op/add.h"    // dt_accumulate
#include "op/matmul.h" // dt_matmul
#include "op/xent.h"   // dt_sample
#include "train/job.h"
#include <stdlib.h>
#include <string.h>

/* The weights of every site that a selecting delta targets become trainable, so that grad reaches them. */
static dt_status score_sites(dt_job *job, dt_graph *g)
{
    bool *selected = NULL;
    dt_status st = DT_OK;
    DT_TRY(dt_alloc((size_t)g->sites + 1, sizeof *selected, &selected));
    for (int i = 0; i < job->deltas.n && st == DT_OK; i++) {
        const dt_delta *d = &job->deltas.delta[i];
        if (d->method->choose == NULL || d->method->chosen(d)) continue;
        st = dt_delta_select_sites(d, g, selected);
        for (int64_t s = 0; s < g->sites && st == DT_OK; s++) {
            if (!selected[s]) continue;
            dt_graph_make_trainable(g, g->site[s].w);
            dt_graph_make_trainable(g, g->site[s].b);
        }
    }
    free(selected);
    return st;
}

/* Targets drawn from the model's own prediction, where there are targets. */
static dt_val draw_targets(dt_graph *g, dt_val hidden, dt_val head, const dt_program_io *io)
{
    dt_val logits = dt_matmul(g, hidden, head, false, true, 1.0, DT_TYPE_ACC); // (N, V)
    return dt_sample(g, logits, io->targets, io->key, g->seed);
}

static dt_status build(dt_job *job, dt_graph *g, const dt_mesh *mesh, dt_purpose purpose, bool expected,
                       dt_program_io *io)
{
    const dt_split by_data = {0, DT_AXES_DATA};
    const int64_t one = 1, n = io->sequences * io->seq * mesh->size[DT_AXIS_DATA];
    g->mesh = *mesh;
    g->tokens = n;
    g->seed = (uint64_t)job->config->run->seed;
    g->train = purpose == DT_FOR_TRAINING;
    g->sequence = purpose != DT_FOR_EVAL && job->config->parallel->sequence;
    io->tokens = dt_graph_input(g, "tokens", DT_TYPE_I32, 1, &n, by_data);
    io->pos = dt_graph_input(g, "pos", DT_TYPE_I32, 1, &n, by_data);
    io->targets = dt_graph_input(g, "targets", DT_TYPE_I32, 1, &n, by_data);
    io->key = dt_graph_input(g, "key", DT_TYPE_I32, 1, &n, by_data);
    io->step = dt_graph_input(g, "step", DT_TYPE_I32, 1, &one, DT_NO_SPLIT);
    io->loss = dt_graph_state(g, "loss", DT_TYPE_ACC, 1, &one, DT_NO_SPLIT);
    if (io->loss != DT_NONE)
        g->value[io->loss].tie[0] = (dt_tie){io->step, 0}; /* an accumulator: placed by what is added */

    const dt_batch batch = {io->tokens, io->pos, io->seq, 0, DT_NONE};
    const dt_backbone *bb = job->backbone;
    dt_val head = DT_NONE, hidden = bb->family->build(g, bb->own, &bb->info, &batch, &head);
    dt_val targets = expected ? draw_targets(g, hidden, head, io) : io->targets;
    dt_val loss = dt_head_next_token(g, hidden, head, targets, &io->nll);
    dt_accumulate(g, io->loss, loss);
    if (purpose == DT_FOR_EVAL) dt_graph_mark_output(g, io->nll);

    if (purpose == DT_FOR_FISHER) {
        DT_TRY(score_sites(job, g));
    } else {
        DT_TRY(dt_deltas_attach(&job->deltas, g, g->train ? io->key : DT_NONE, g->train ? io->step : DT_NONE));
        DT_TRY(dt_pass_merge(g));
    }
    if (purpose != DT_FOR_EVAL) DT_TRY(dt_pass_grad(g, loss, purpose == DT_FOR_FISHER ? DT_GRAD_SQUARES : DT_GRAD_SUM));
    DT_TRY(dt_pass_shard(g, mesh));
    /* A selection holds accumulators as large as what it scores, for a small part of a run: it pays with time. */
    const bool recompute = purpose == DT_FOR_FISHER || (purpose == DT_FOR_TRAINING && job->config->train->recompute);
    return recompute ? dt_pass_recompute(g) : DT_OK;
}

dt_status dt_job_build(dt_job *job, const dt_mesh *mesh, dt_purpose purpose, int64_t sequences, int64_t seq,
                       bool expected, dt_graph **graph, dt_program_io *io)
{
    dt_graph *g = NULL;
    DT_TRY(dt_graph_create(&g));
    *io = (dt_program_io){.sequences = sequences, .seq = seq};
    dt_status st = build(job, g, mesh, purpose, expected, io);
    if (st != DT_OK) {
        dt_graph_destroy(g);
        return st;
    }
    *graph = g;
    return DT_OK;
}

dt_status dt_job_build_bare(dt_job *job, const dt_mesh *mesh, dt_graph **g)
{
    dt_program_io io;
    dt_deltas none = {NULL, 0}, all = job->deltas;
    job->deltas = none;
    dt_status st = dt_job_build(job, mesh, DT_FOR_EVAL, 1, job->seq, false, g, &io);
    job->deltas = all;
    return st;
}

/* `text` of one rank to all the others, who get a copy to be freed. */
static dt_status broadcast_text(char **text, int root)
{
    int64_t bytes = dt_world_rank() == root ? (int64_t)strlen(*text) + 1 : 0;
    DT_TRY(dt_world_broadcast(&bytes, 1, DT_COMM_I64, root));
    dt_status st = dt_world_rank() == root ? DT_OK : dt_alloc((size_t)bytes, 1, text);
    DT_TRY(dt_world_agree(st));
    return dt_world_broadcast(*text, bytes, DT_COMM_BYTE, root);
}

dt_status dt_job_agree_choices(dt_job *job)
{
    const dt_device_ops *ops = job->device.ops;
    char *own = NULL;
    if (ops->choices == NULL || dt_world_size() == 1) return DT_OK;
    dt_status st = dt_world_agree(ops->choices(&job->device, &own));
    for (int root = dt_world_size() - 1; root >= 0 && st == DT_OK; root--) {
        char *text = root == dt_world_rank() ? own : NULL;
        st = broadcast_text(&text, root);
        if (st == DT_OK) st = dt_world_agree(ops->adopt(&job->device, text));
        if (text != own) free(text);
    }
    free(own);
    return st;
}

dt_score dt_job_slice(const dt_graph *g, dt_val w)
{
    const dt_value *v = &g->value[w];
    dt_score s = {.name = v->name, .ndim = v->ndim, .counts = true};
    memcpy(s.dim, v->dim, sizeof s.dim);
    memcpy(s.local, v->local, sizeof s.local);
    memcpy(s.off, v->off, sizeof s.off);
    for (int a = 0; a < DT_AXIS_COUNT; a++) {
        if (v->place[a].kind == DT_SPLIT) s.split |= 1u << a;
        else if (a != DT_AXIS_DATA) s.counts &= g->mesh.coord[a] == 0;
    }
    return s;
}
