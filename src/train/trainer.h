/* The training step, planned once: graph, flat buffers, and the host's side of a step. */
#ifndef DT_TRAIN_TRAINER_H
#define DT_TRAIN_TRAINER_H

#include "optim/optim.h" // dt_flat
#include "train/job.h"   // dt_job

/** Steps that may be under way: a device goes on with the next one while the host waits for the loss of the last. */
enum { DT_STEPS_AHEAD = 2 };

/** What a step that was begun does not need the device for. */
typedef struct dt_step_begun {
    int64_t loss_tokens;
    double scale, lr;
} dt_step_begun;

typedef struct dt_trainer {
    dt_job *job;
    const dt_optimizer *optimizer;
    dt_graph *g;
    dt_exec *exec;
    dt_program_io io;
    dt_flat flat;
    dt_val hyper, normsq;
    int32_t *batch;                      /* tokens, pos, targets, key: [4][B*T] */
    int64_t micro_batches;               /* of a step on this rank */
    bool gives_loss;                     /* this rank's loss sum counts (others hold the same one) */
    int64_t local_steps;                 /* steps that data ranks train apart; 1: they reduce gradients every step */
    dt_val base;                         /* with local_steps > 1: parameters at the last sync */
    dt_step_begun begun[DT_STEPS_AHEAD]; /* step s: at s % DT_STEPS_AHEAD */
} dt_trainer;

/** What one step did. */
typedef struct dt_step_result {
    double loss_sum;     /* this rank's part of the sum over target tokens */
    int64_t loss_tokens; /* target tokens of the global batch */
    double grad_norm;    /* of the mean gradient, before clipping */
    double lr;
} dt_step_result;

/** The graph of the step as one rank of `mesh` runs it, with all its programs: everything up to storage. Reads no
 *  weights; what exec, batch and gives_loss stand for is not there yet. Local. */
dt_status dt_trainer_build(dt_job *job, const dt_mesh *mesh, dt_trainer *out) DT_WARN_UNUSED;
/** Builds, plans and binds the step: weights loaded, parameters at their first values (or as `ck` has them: parameters,
 *  moments, in-place updates). Local. */
dt_status dt_trainer_create(dt_job *job, const dt_ckpt *ck, dt_trainer *out) DT_WARN_UNUSED;
void dt_trainer_destroy(dt_trainer *t);
/** Begins step number `step` (from 1): sequences (step - 1) * global_batch onward. At most DT_STEPS_AHEAD are begun and
 * not ended. Collective. */
dt_status dt_trainer_begin(dt_trainer *t, int64_t step) DT_WARN_UNUSED;
/** Waits for what it did. Local. */
dt_status dt_trainer_end(dt_trainer *t, int64_t step, dt_step_result *out) DT_WARN_UNUSED;
/** Is there anything to gain from beginning a step before the last one was ended? */
bool dt_trainer_runs_ahead(const dt_trainer *t);
/** Before parameters are read for a checkpoint: brings together what data ranks keep apart. Collective. */
dt_status dt_trainer_settle(dt_trainer *t) DT_WARN_UNUSED;
/** Arena and workspace of the step, flat buffers and store: bytes of this rank. */
int64_t dt_trainer_bytes(const dt_trainer *t);

/* ---- Saving without stopping the step (saver.c). ---- */

typedef struct dt_saver dt_saver;
/** Ranks of data coordinate 0 write, one file a part; the others only take part in the agreement. Local. */
dt_status dt_saver_create(dt_trainer *t, dt_saver **out) DT_WARN_UNUSED;
void dt_saver_destroy(dt_saver *s);
/** Takes a copy of the present state and starts writing it on a thread. The last save must be finished. Local. */
dt_status dt_saver_begin(dt_saver *s, int64_t step, const dt_best *best) DT_WARN_UNUSED;
/** Is a save under way that dt_saver_finish has not closed? / Is this rank's writing done? */
bool dt_saver_active(const dt_saver *s);
bool dt_saver_written(dt_saver *s);
/** Waits for this rank's thread; when every rank's files are written, rank 0 commits the checkpoint. Collective over
 * the world. */
dt_status dt_saver_finish(dt_saver *s) DT_WARN_UNUSED;

#endif
