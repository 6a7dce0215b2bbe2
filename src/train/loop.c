/* The training loop: steps, evaluations, saves, and the ways in which a run ends. */
#include "base/file.h"
#include "base/log.h"
#include "graph/passes.h"
#include "train/metrics.h"
#include "train/profile.h"
#include "train/train.h"
#include "train/trainer.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h> // flock
#include <time.h>
#include <unistd.h>

/* A run in which so many steps one after the other are not finite will not recover. */
#define MAX_BAD_STEPS 20

static atomic_int stop_asked; /* by a handler, which may run in another thread */

static void ask_to_stop(int signal_number)
{
    stop_asked = 1;
}

/* A step that was begun: what is known of it before it ends. */
typedef struct flight {
    dt_step_metrics m;
    double start;
} flight;

typedef struct run {
    const Dtrain__Config *config;
    dt_job job;
    dt_trainer trainer;
    dt_evaluator *evaluator;
    dt_saver *saver;
    dt_metrics *metrics;
    int lock;                      /* descriptor of the run folder's lock, rank 0 */
    int64_t step;                  /* done */
    int64_t begun;                 /* the last one that was begun: `step`, or later */
    flight flight[DT_STEPS_AHEAD]; /* of step s: at s % DT_STEPS_AHEAD */
    double ended;                  /* when the last step did */
    bool profile;
    int64_t saved; /* last step that a save was begun for */
    dt_best best;
    int bad_steps;
    bool agreed; /* every rank has the error that ends the run: all leave together */
} run;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Rank 0: the run's folder, its lock, and nothing left of an earlier run where asked. */
static dt_status claim_folder(run *r, bool fresh)
{
    char path[4096];
    const char *dir = r->config->run->dir;
    DT_TRY(dt_dir_make(dir));
    snprintf(path, sizeof path, "%s/lock", dir);
    r->lock = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (r->lock < 0) return dt_fail(DT_ERR_IO, "%s: %s", path, strerror(errno));
    if (flock(r->lock, LOCK_EX | LOCK_NB) != 0)
        return dt_fail(DT_ERR_STATE, "%s: another job is using this run folder; expected a run.dir of its own", dir);
    snprintf(path, sizeof path, "%s/ckpt", dir);
    if (fresh) DT_TRY(dt_dir_remove(path));
    return dt_ckpt_clean(dir);
}

static dt_status write_config(const run *r)
{
    char path[4096], *text = NULL, *all = NULL;
    if (dt_world_rank() != 0) return DT_OK;
    DT_TRY(dt_config_print(&r->config->base, 1, &text));
    size_t bytes = strlen(text) + 64;
    dt_status st = dt_alloc(bytes, 1, &all);
    snprintf(path, sizeof path, "%s/config.pbtxt", r->config->run->dir);
    if (st == DT_OK) {
        snprintf(all, bytes, "# dtrain %s\n%s", DT_VERSION, text);
        st = dt_file_write_atomic(path, all, strlen(all));
    }
    free(text);
    free(all);
    return st;
}

static dt_status check_resume(const run *r, const dt_ckpt_meta *meta, const char *path)
{
    if (strcmp(meta->backbone_fingerprint, r->job.backbone->fingerprint) != 0)
        return dt_fail(DT_ERR_STATE,
                       "%s: was trained on another backbone (fingerprint %s, now %s); --fresh starts over", path,
                       meta->backbone_fingerprint, r->job.backbone->fingerprint);
    if (meta->data_fingerprint != dt_dataset_fingerprint(r->job.train))
        return dt_fail(DT_ERR_STATE, "%s: was trained on other data or data options; --fresh starts over", path);
    if (meta->seed != (uint64_t)r->config->run->seed)
        return dt_fail(DT_ERR_STATE, "%s: was trained with run.seed %llu, now %lld; --fresh starts over", path,
                       (unsigned long long)meta->seed, (long long)r->config->run->seed);
    if (meta->sequences != meta->step * r->config->train->global_batch)
        return dt_fail(DT_ERR_STATE, "%s: %lld sequences in %lld steps do not fit train.global_batch %d", path,
                       (long long)meta->sequences, (long long)meta->step, r->config->train->global_batch);
    return DT_OK;
}

/* The link may be that of a run that was killed between a checkpoint and its link, or went on from an older one. Where
 * the best step has no checkpoint (the run did not keep the best until now) the best of what follows is kept. */
static dt_status find_best(run *r)
{
    int64_t step = r->best.step;
    dt_status st = DT_OK;
    if (dt_world_rank() == 0) {
        if (!dt_ckpt_has(r->config->run->dir, step)) step = -1;
        st = dt_ckpt_set_best(r->config->run->dir, step);
    }
    DT_TRY(dt_world_agree(st));
    DT_TRY(dt_world_broadcast(&step, 1, DT_COMM_I64, 0));
    if (step < 0) r->best.step = -1, r->best.loss = INFINITY;
    return DT_OK;
}

/* A resumed run rounds as the one before it did. */
static dt_status take_choices(run *r, const dt_ckpt *ck)
{
    const dt_device_ops *ops = r->job.device.ops;
    return ops->adopt != NULL ? ops->adopt(&r->job.device, dt_ckpt_get_meta(ck)->choices) : DT_OK;
}

/* Opens the newest checkpoint, if there is one, on every rank. */
static dt_status find_checkpoint(run *r, dt_ckpt **out)
{
    int64_t step = -1;
    dt_status st = DT_OK;
    if (dt_world_rank() == 0) st = dt_ckpt_latest(r->config->run->dir, &step);
    DT_TRY(dt_world_agree(st));
    DT_TRY(dt_world_broadcast(&step, 1, DT_COMM_I64, 0));
    if (step < 0) return DT_OK;
    char path[4096];
    snprintf(path, sizeof path, "%s/ckpt/step-%06lld", r->config->run->dir, (long long)step);
    st = dt_ckpt_open(path, out);
    if (st == DT_OK) st = check_resume(r, dt_ckpt_get_meta(*out), path);
    if (st == DT_OK) r->step = r->saved = step;
    if (st == DT_OK) r->best = dt_ckpt_get_meta(*out)->best;
    if (st == DT_OK) st = take_choices(r, *out);
    DT_TRY(dt_world_agree(st));
    return r->config->checkpoint->best ? find_best(r) : DT_OK;
}

static dt_status set_up(run *r, bool fresh)
{
    dt_ckpt *ck = NULL;
    dt_status st = dt_world_rank() == 0 ? claim_folder(r, fresh) : DT_OK;
    DT_TRY(dt_world_agree(st));
    DT_TRY(dt_job_open(r->config, DT_JOB_TOKENIZER | DT_JOB_TRAIN_DATA | DT_JOB_EVAL_DATA, &r->job));
    DT_TRY(find_checkpoint(r, &ck));
    if (ck != NULL) DT_GOTO(dt_world_agree(dt_job_restore_selection(&r->job, ck)), done);
    DT_GOTO(dt_job_select(&r->job), done);
    DT_GOTO(dt_world_agree(dt_trainer_create(&r->job, ck, &r->trainer)), done);
    if (r->job.eval != NULL)
        DT_GOTO(dt_world_agree(dt_evaluator_create(&r->job, r->config->train->micro_batch, &r->evaluator)), done);
    DT_GOTO(dt_job_agree_choices(&r->job), done);
    DT_GOTO(dt_world_agree(dt_saver_create(&r->trainer, &r->saver)), done);
    st = write_config(r);
    if (st == DT_OK) st = dt_metrics_open(r->config, ck != NULL ? r->step : -1, &r->metrics);
    DT_GOTO(dt_world_agree(st), done);
    dt_weights_release(r->job.backbone);
    if (ck != NULL) dt_log(DT_LOG_INFO, "resumed %s after step %lld", r->config->run->dir, (long long)r->step);
done:
    dt_ckpt_close(ck);
    return st;
}

static void describe(const run *r)
{
    const dt_mesh *mesh = &r->job.mesh;
    const dt_flat *flat = &r->trainer.flat;
    int64_t weights = 0;
    for (int64_t v = 0; v < r->trainer.g->values; v++)
        if (r->trainer.g->value[v].kind == DT_KIND_WEIGHT) weights += dt_value_count(r->trainer.g, (dt_val)v);
    bool in_place = weights == 0;
    dt_log(DT_LOG_INFO, "%d ranks: data %d x tensor %d%s, %d threads each; device: %s; %lld trainable values%s",
           mesh->ranks, mesh->size[DT_AXIS_DATA], dt_mesh_group_size(mesh, DT_AXES_TENSOR),
           r->config->parallel->sequence ? " with sequence parallelism" : "", r->job.device.threads,
           r->job.device.ops->name, (long long)flat->global_count, in_place ? ": the whole backbone" : "");
    if (!in_place)
        dt_log(DT_LOG_INFO, "%.3f%% of the frozen backbone's %lld; memory of a step %.1f MB a rank",
               100.0 * (double)flat->global_count / (double)weights, (long long)weights,
               (double)dt_trainer_bytes(&r->trainer) / 1e6);
}

/* Tokens of rows in the global batch of a step; only rank 0 tells them. */
static dt_status tokens_of_step(run *r, int64_t step, int64_t *out)
{
    int64_t global_batch = r->config->train->global_batch;
    *out = 0;
    for (int64_t s = 0; dt_world_rank() == 0 && s < global_batch; s++) {
        const int64_t *rows = NULL;
        const int32_t *starts = NULL;
        int n = 0;
        DT_TRY(dt_dataset_layout(r->job.train, (step - 1) * global_batch + s, &rows, &starts, &n));
        for (int i = 0; i < n; i++) *out += dt_dataset_row(r->job.train, rows[i]).n;
    }
    return DT_OK;
}

typedef struct wire_bytes {
    int64_t delta, tensor;
} wire_bytes;

static wire_bytes wire_now(const run *r)
{
    const dt_comm *comm = r->job.comm;
    wire_bytes w = {comm->bytes_sent[DT_AXES_DATA], 0};
    for (dt_axes a = 0; a <= DT_AXES_ALL; a++)
        if ((a & DT_AXES_TENSOR) != 0 && (a & DT_AXES_DATA) == 0) w.tensor += comm->bytes_sent[a];
    return w;
}

/* What the ranks tell each other after a step, summed. */
enum { TELL_LOSS, TELL_BAD, TELL_STOP, TELL_WRITING, TELL_COUNT };

/* The end of a save is agreed on. */
static dt_status finish_save(run *r)
{
    dt_status st = dt_saver_finish(r->saver);
    r->agreed = st != DT_OK;
    return st;
}

static dt_status begin_step(run *r)
{
    flight *f = &r->flight[++r->begun % DT_STEPS_AHEAD];
    *f = (flight){.m.step = r->begun, .start = now()};
    wire_bytes before = wire_now(r);
    DT_TRY(dt_trainer_begin(&r->trainer, r->begun));
    wire_bytes after = wire_now(r);
    f->m.delta_comm_bytes = after.delta - before.delta;
    f->m.tp_comm_bytes = after.tensor - before.tensor;
    return tokens_of_step(r, r->begun, &f->m.tokens);
}

static dt_status end_step(run *r, bool *stop)
{
    const flight *f = &r->flight[(r->step + 1) % DT_STEPS_AHEAD];
    dt_step_metrics m = f->m;
    dt_step_result result;
    double tell[TELL_COUNT];
    DT_TRY(dt_trainer_end(&r->trainer, m.step, &result));
    tell[TELL_LOSS] = result.loss_sum;
    tell[TELL_BAD] = !isfinite(result.grad_norm); /* each data rank has its own where they train apart */
    tell[TELL_STOP] = stop_asked != 0;
    tell[TELL_WRITING] = dt_saver_active(r->saver) && !dt_saver_written(r->saver);
    DT_TRY(dt_world_all_reduce(tell, TELL_COUNT, DT_COMM_F64, DT_COMM_SUM));
    r->step = m.step;
    m.loss = result.loss_tokens > 0 ? tell[TELL_LOSS] / (double)result.loss_tokens : 0;
    m.lr = result.lr;
    m.grad_norm = result.grad_norm;
    m.loss_tokens = result.loss_tokens;
    const double end = now();
    m.seconds = end - fmax(f->start, r->ended); /* it was begun while the last one was under way */
    r->ended = end;
    DT_TRY(dt_metrics_step(r->metrics, &m));
    *stop = tell[TELL_STOP] > 0;
    bool finite = isfinite(m.loss) && tell[TELL_BAD] == 0;
    r->bad_steps = finite ? 0 : r->bad_steps + 1;
    if (!finite && dt_world_rank() == 0)
        dt_log(DT_LOG_WARN, "step %lld: loss or gradient is not finite; the update is skipped", (long long)m.step);
    if (dt_saver_active(r->saver) && tell[TELL_WRITING] == 0) DT_TRY(finish_save(r));
    return DT_OK;
}

static dt_status save(run *r)
{
    if (r->saved == r->step) return DT_OK;
    if (dt_saver_active(r->saver)) DT_TRY(finish_save(r));
    r->saved = r->step;
    DT_TRY(dt_trainer_settle(&r->trainer));
    return dt_saver_begin(r->saver, r->step, &r->best);
}

static bool evaluates_at(const run *r, int64_t step)
{
    const Dtrain__Train *train = r->config->train;
    return step == 0 || step == train->steps || (train->eval_every > 0 && step % train->eval_every == 0);
}

static bool saves_at(const run *r, int64_t step)
{
    const int64_t every = r->config->checkpoint->every;
    return every > 0 && step % every == 0;
}

/* May the step behind those begun begin too? Not where it has to see what comes between: an evaluation or a save reads
 * the parameters as they are then. */
static bool goes_ahead(const run *r)
{
    return dt_trainer_runs_ahead(&r->trainer) && !r->profile && r->begun < r->config->train->steps &&
           r->begun - r->step < DT_STEPS_AHEAD && !evaluates_at(r, r->begun) && !saves_at(r, r->begun);
}

/* Evaluates where it is time and has not been done: first of all, every so many steps, at the end. */
static dt_status evaluate(run *r)
{
    double loss = 0;
    int64_t tokens = 0;
    if (r->evaluator == NULL || !evaluates_at(r, r->step) || r->best.evaluated == r->step) return DT_OK;
    DT_TRY(dt_evaluator_run(r->evaluator, &loss, &tokens, NULL, NULL));
    DT_TRY(dt_metrics_eval(r->metrics, r->step, loss, tokens));
    bool best = dt_best_take(&r->best, r->step, tokens > 0 ? loss : NAN, r->config->train->early_stop->min_delta);
    if (!best || !r->config->checkpoint->best) return DT_OK;
    r->saved = -1; /* a checkpoint of this step that is there already does not know that it is the best */
    return save(r);
}

static bool out_of_patience(const run *r)
{
    const int64_t patience = r->config->train->early_stop->patience;
    return patience > 0 && r->best.waited >= patience && r->step < r->config->train->steps;
}

static dt_status give_up(run *r)
{
    r->agreed = true;
    return dt_fail(DT_ERR_DATA, "%d steps in a row had no finite gradient; a lower learning rate may help",
                   r->bad_steps);
}

/* What the evaluations have decided. */
static void say_best(const run *r)
{
    if (r->config->checkpoint->best && r->best.step >= 0)
        dt_metrics_note(r->metrics, "lowest evaluation loss: %.4f at step %lld, kept as %s/ckpt/best", r->best.loss,
                        (long long)r->best.step, r->config->run->dir);
    if (out_of_patience(r))
        dt_metrics_note(r->metrics,
                        "stopped early after step %lld of %lld: %lld evaluations in a row have no loss more than %g "
                        "below %.4f; a larger train.early_stop.patience goes on from here",
                        (long long)r->step, (long long)r->config->train->steps, (long long)r->best.waited,
                        r->config->train->early_stop->min_delta, r->best.reference);
}

static dt_status loop(run *r)
{
    const Dtrain__Train *train = r->config->train;
    bool stop = false, profiling = false;
    const bool had_enough = out_of_patience(r);
    DT_TRY(evaluate(r)); /* also what a run left out that was asked to stop */
    /* Asked to stop, data ranks that train apart still go on to where they meet. */
    const int64_t meet = r->trainer.local_steps;
    r->begun = r->step;
    while (r->begun > r->step || (r->step < train->steps && !(stop && r->step % meet == 0) && !out_of_patience(r))) {
        if (r->begun == r->step) DT_TRY(begin_step(r));
        if (!stop && goes_ahead(r)) DT_TRY(begin_step(r));
        DT_TRY(end_step(r, &stop));
        if (r->bad_steps >= MAX_BAD_STEPS) return give_up(r);
        if (r->profile && !profiling) DT_TRY(dt_exec_profile(r->trainer.exec));
        profiling = r->profile;
        if (!stop) DT_TRY(evaluate(r)); /* before the save, which remembers it */
        if (saves_at(r, r->step)) DT_TRY(save(r));
    }
    if (out_of_patience(r) && !had_enough)
        DT_TRY(dt_metrics_early_stop(r->metrics, r->step, r->best.step, r->best.loss));
    DT_TRY(save(r));
    if (dt_saver_active(r->saver)) DT_TRY(finish_save(r));
    if (r->profile && dt_world_rank() == 0) DT_TRY(dt_profile_print(r->trainer.exec, r->job.device.threads));
    say_best(r);
    if (stop)
        dt_metrics_note(r->metrics, "stopped by signal after step %lld; saved, run the same command to go on",
                        (long long)r->step);
    return DT_OK;
}

static void tear_down(run *r)
{
    dt_metrics_close(r->metrics);
    dt_saver_destroy(r->saver);
    dt_evaluator_destroy(r->evaluator);
    dt_trainer_destroy(&r->trainer);
    dt_job_close(&r->job);
    if (r->lock >= 0) close(r->lock);
}

dt_status dt_train(const Dtrain__Config *config, const dt_train_options *options)
{
    run r = {.config = config, .profile = options->profile, .lock = -1, .saved = -1, .best = dt_best_none()};
    struct sigaction action = {.sa_handler = ask_to_stop, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    dt_status st = set_up(&r, options->fresh);
    if (st == DT_OK) {
        describe(&r);
        st = loop(&r);
        if (st != DT_OK && !r.agreed) dt_world_abort(st); /* the others may sit in a collective */
    }
    tear_down(&r);
    return st;
}
