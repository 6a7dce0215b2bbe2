/* Saving without stopping the step: a copy of the flat buffers, a thread that writes it, a commit once every rank has.
 */
#include "optim/optim.h"
#include "train/params.h"
#include "train/trainer.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_STATES 4
#define DIGEST_WORDS 5 /* 33 characters in 64-bit words */

struct dt_saver {
    dt_trainer *t;
    bool writes;                           /* data coordinate 0 */
    int tensor_rank, tensor_ranks, states; /* states: of the optimizer */
    float *copy;                           /* [1 + states][flat count] */
    dt_ckpt_tensor *tensor[DT_CKPT_PARTS];
    int64_t tensors[DT_CKPT_PARTS];
    int64_t **index;    /* of each parameter; NULL for dense ones */
    char (*names)[512]; /* of the optimizer's tensors */
    bool active, running;
    int64_t step;
    dt_best best;
    pthread_t thread;
    pthread_mutex_t lock;
    bool done; /* under lock */
    dt_status status;
    char error[1024];
    char digest[DT_CKPT_PARTS][33];
};

/* Sparse pieces are disjoint: where several tensor ranks hold the same slice of a weight, one stores its entries. */
static bool stores_entries(const dt_graph *g, dt_val sparse)
{
    return dt_job_slice(g, g->value[sparse].tie[0].like).counts;
}

static dt_status describe(dt_saver *s)
{
    const dt_flat *flat = &s->t->flat;
    const char *const *state = s->t->optimizer->states(s->t->job->config->optim);
    while (state[s->states] != NULL) s->states++;
    size_t n = (size_t)flat->n, k = (size_t)s->states;
    DT_TRY(dt_alloc((size_t)flat->count * (1 + k) + 1, sizeof *s->copy, &s->copy));
    DT_TRY(dt_alloc(n + 1, sizeof(dt_ckpt_tensor), &s->tensor[DT_CKPT_DELTA]));
    DT_TRY(dt_alloc(n * k + 1, sizeof(dt_ckpt_tensor), &s->tensor[DT_CKPT_OPTIMIZER]));
    DT_TRY(dt_alloc(n + 1, sizeof *s->index, &s->index));
    DT_TRY(dt_alloc(n * k + 1, sizeof *s->names, &s->names));
    for (int i = 0; i < flat->n; i++) {
        dt_ckpt_tensor d;
        DT_TRY(dt_param_describe(s->t->job, s->t->g, flat->param[i].param, &d, &s->index[i]));
        if (d.index != NULL && !stores_entries(s->t->g, flat->param[i].param)) d.count = 0;
        d.data = s->copy + flat->param[i].offset;
        s->tensor[DT_CKPT_DELTA][s->tensors[DT_CKPT_DELTA]++] = d;
        const char *param = d.name;
        for (int j = 0; j < s->states; j++) {
            int64_t at = s->tensors[DT_CKPT_OPTIMIZER]++;
            snprintf(s->names[at], sizeof s->names[at], "%s:%s", state[j], param);
            d.name = s->names[at];
            d.data = s->copy + (1 + j) * flat->count + flat->param[i].offset;
            s->tensor[DT_CKPT_OPTIMIZER][at] = d;
        }
    }
    return DT_OK;
}

dt_status dt_saver_create(dt_trainer *t, dt_saver **out)
{
    dt_saver *s = NULL;
    const dt_mesh *mesh = &t->job->mesh;
    DT_TRY(dt_alloc(1, sizeof *s, &s));
    s->t = t;
    s->writes = mesh->coord[DT_AXIS_DATA] == 0;
    s->tensor_rank = dt_mesh_group_rank(mesh, DT_AXES_TENSOR);
    s->tensor_ranks = dt_mesh_group_size(mesh, DT_AXES_TENSOR);
    pthread_mutex_init(&s->lock, NULL);
    dt_status st = s->writes ? describe(s) : DT_OK;
    if (st != DT_OK) dt_saver_destroy(s);
    else *out = s;
    return st;
}

void dt_saver_destroy(dt_saver *s)
{
    if (s == NULL) return;
    if (s->running) pthread_join(s->thread, NULL);
    for (int i = 0; s->index != NULL && i < s->t->flat.n; i++) free(s->index[i]);
    free(s->index);
    free(s->names);
    free(s->copy);
    for (int p = 0; p < DT_CKPT_PARTS; p++) free(s->tensor[p]);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void *write_files(void *arg)
{
    dt_saver *s = arg;
    const char *run = s->t->job->config->run->dir;
    dt_status st = DT_OK;
    for (int p = 0; p < DT_CKPT_PARTS && st == DT_OK; p++)
        st = dt_ckpt_write(run, s->step, (dt_ckpt_part)p, s->tensor_rank, s->tensor_ranks, s->tensor[p], s->tensors[p],
                           s->digest[p]);
    pthread_mutex_lock(&s->lock);
    s->status = st;
    if (st != DT_OK) snprintf(s->error, sizeof s->error, "%s", dt_error_text()); /* the text is this thread's */
    s->done = true;
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static dt_status copy_state(dt_saver *s)
{
    const dt_flat *flat = &s->t->flat;
    const char *const *state = s->t->optimizer->states(s->t->job->config->optim);
    DT_TRY(dt_exec_get_f32(s->t->exec, flat->params, s->copy));
    for (int j = 0; j < s->states; j++) {
        char name[64];
        snprintf(name, sizeof name, "flat:%s", state[j]);
        DT_TRY(dt_exec_get_f32(s->t->exec, dt_graph_find(s->t->g, name), s->copy + (1 + j) * flat->count));
    }
    return DT_OK;
}

dt_status dt_saver_begin(dt_saver *s, int64_t step, const dt_best *best)
{
    if (s->active) return dt_fail(DT_ERR_INTERNAL, "a save is still under way");
    s->active = true;
    s->step = step;
    s->best = *best;
    s->status = DT_OK;
    s->done = !s->writes;
    if (!s->writes) return DT_OK;
    DT_TRY(copy_state(s));
    int err = pthread_create(&s->thread, NULL, write_files, s);
    if (err != 0) return dt_fail(DT_ERR_IO, "no thread to write the checkpoint: %s", strerror(err));
    s->running = true;
    return DT_OK;
}

bool dt_saver_active(const dt_saver *s)
{
    return s->active;
}

bool dt_saver_written(dt_saver *s)
{
    pthread_mutex_lock(&s->lock);
    bool done = s->done;
    pthread_mutex_unlock(&s->lock);
    return done;
}

static dt_status commit(const dt_saver *s, const char (*digests)[33])
{
    const dt_job *job = s->t->job;
    const dt_device_ops *ops = job->device.ops;
    char *text = NULL, *choices = NULL;
    dt_status st;
    DT_GOTO(dt_config_print(&job->config->base, 1, &text), done);
    if (ops->choices != NULL) DT_GOTO(ops->choices(&job->device, &choices), done);
    const dt_ckpt_meta meta = {.step = s->step,
                               .sequences = s->step * job->config->train->global_batch,
                               .seed = (uint64_t)job->config->run->seed,
                               .data_ranks = job->mesh.size[DT_AXIS_DATA],
                               .tensor_ranks = s->tensor_ranks,
                               .best = s->best,
                               .data_fingerprint = dt_dataset_fingerprint(job->train),
                               .backbone_fingerprint = job->backbone->fingerprint,
                               .config_text = text,
                               .choices = choices,
                               .method_json = "{}"};
    const Dtrain__Checkpoint *options = job->config->checkpoint;
    st = dt_ckpt_commit(job->config->run->dir, &meta, digests, options->keep, options->best);
done:
    free(choices);
    free(text);
    return st;
}

dt_status dt_saver_finish(dt_saver *s)
{
    dt_status st = DT_OK;
    if (s->running) pthread_join(s->thread, NULL);
    s->running = s->active = false;
    if (s->status != DT_OK) st = dt_fail(s->status, "%s", s->error);
    size_t files = DT_CKPT_PARTS * (size_t)s->tensor_ranks;
    int64_t *words = NULL;
    char(*digests)[33] = NULL;
    if (st == DT_OK) st = dt_alloc(files, DIGEST_WORDS * sizeof *words, &words);
    if (st == DT_OK) st = dt_alloc(files, sizeof *digests, &digests);
    DT_GOTO(dt_world_agree(st), done);

    for (int p = 0; p < DT_CKPT_PARTS && s->writes; p++)
        memcpy(words + DIGEST_WORDS * (p * s->tensor_ranks + s->tensor_rank), s->digest[p], sizeof s->digest[p]);
    st = dt_world_all_reduce(words, (int64_t)files * DIGEST_WORDS, DT_COMM_I64, DT_COMM_SUM);
    for (size_t i = 0; i < files; i++) memcpy(digests[i], words + DIGEST_WORDS * i, sizeof digests[i]);
    if (st == DT_OK && dt_world_rank() == 0) st = commit(s, (const char(*)[33])digests);
    st = dt_world_agree(st);
done:
    free(words);
    free(digests);
    return st;
}
