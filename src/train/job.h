/* A job: everything that a subcommand needs of a configuration, opened once and closed in reverse. */
#ifndef DT_TRAIN_JOB_H
#define DT_TRAIN_JOB_H

#include "comm/comm.h"
#include "config/config.h"
#include "data/data.h"
#include "delta/delta.h"
#include "device/device.h"
#include "graph/exec.h"
#include "model/model.h"
#include "train/checkpoint.h"

typedef struct dt_job {
    const Dtrain__Config *config;
    dt_mesh mesh;
    dt_comm host_comm, device_comm; /* for the host's memory, and the device's where that is another ... */
    dt_comm *comm;                  /* ... and the one that serves the device: one of these two */
    bool on_gpu;                    /* what the configuration's device comes to: the same on every rank */
    dt_device device;
    dt_store *store;
    dt_backbone *backbone;
    dt_tokenizer *tokenizer;
    dt_dataset *train, *eval; /* NULL where the configuration has none */
    dt_deltas deltas;
    int64_t seq; /* positions in a computed sequence: seq_len, padded to the tensor ranks where need be */
} dt_job;

/** What a job opens. */
enum { DT_JOB_TOKENIZER = 1, DT_JOB_TRAIN_DATA = 2, DT_JOB_EVAL_DATA = 4 };

/** Opens backbone, tokenizer, data, deltas, mesh, communicator and device, and checks what needs the backbone (heads
 * divide over the tensor ranks ...). `config` must outlive the job, which must stay where it is. Collective over the
 * world; ends in an agreement. */
dt_status dt_job_open(const Dtrain__Config *config, unsigned what, dt_job *out) DT_WARN_UNUSED;
/** Opens what graphs for `ranks` ranks are made of, as on a node that runs them all: the backbone without its weights,
 *  deltas, device, and the mesh as rank 0 sees it. For planning: no data, store or communicator. Local. */
dt_status dt_job_open_plan(const Dtrain__Config *config, int ranks, dt_job *out) DT_WARN_UNUSED;
/** Collective. */
void dt_job_close(dt_job *job);

/** The job as the selection pass of a method sees it. On a GPU it computes in fp32 on a device of its own, unless `how`
 *  is native; the rest is the job's. plans: for figures only. Collective over the world unless it plans. */
dt_status dt_job_open_pass(dt_job *job, dt_scoring how, bool plans, dt_job *pass) DT_WARN_UNUSED;
/** Collective over the world unless it plans. */
void dt_job_close_pass(const dt_job *job, dt_job *pass);

/** The mesh that `ranks` ranks form for a backbone; DT_ERR_CONFIG if heads or widths do not divide, each named. Local.
 */
dt_status dt_job_mesh(const Dtrain__Config *config, const dt_model_info *info, int rank, int ranks,
                      dt_mesh *out) DT_WARN_UNUSED;

/* ---- Graphs over a job (programs.c). Each function is local. ---- */

/** What a graph is for. */
typedef enum dt_purpose {
    DT_FOR_TRAINING, /* deltas attached, dropout, gradients accumulated */
    DT_FOR_EVAL,     /* deltas attached, loss only */
    DT_FOR_FISHER    /* no delta; squared gradients of single rows; data ranks compute apart */
} dt_purpose;

/** The inputs and outputs of a loss graph. */
typedef struct dt_program_io {
    dt_val tokens, pos, targets; /* [N] */
    dt_val key, step;            /* dropout's and sampling's; DT_NONE where not read */
    dt_val nll;                  /* output [N] (evaluation) */
    dt_val loss;                 /* STATE "loss" [1]: += sum of nll, each micro-batch */
    int64_t sequences;           /* B: of a micro-batch on one data rank */
    int64_t seq;                 /* T */
} dt_program_io;

/** Builds, attaches, differentiates, shards: everything up to (not including) fuse. `expected`: labels drawn from the
 * model (Fisher). trainable: for DT_FOR_FISHER, the deltas whose sites are scored. */
dt_status dt_job_build(dt_job *job, const dt_mesh *mesh, dt_purpose purpose, int64_t sequences, int64_t seq,
                       bool expected, dt_graph **graph, dt_program_io *io) DT_WARN_UNUSED;

/** What the device chose among ways that may round differently becomes the same on all ranks: where several know of a
 * choice, the lowest one's. After graphs are bound, before they run. Collective over the world; ends in an agreement.
 */
dt_status dt_job_agree_choices(dt_job *job) DT_WARN_UNUSED;

/** Storage and initial values of parameters that the store does not have: [flat == NULL] one by one. */
dt_status dt_job_bind_params(dt_job *job, const dt_graph *g) DT_WARN_UNUSED;

/** The graph of the bare backbone, sharded: every weight, as every graph of the job slices it. */
dt_status dt_job_build_bare(dt_job *job, const dt_mesh *mesh, dt_graph **g) DT_WARN_UNUSED;

/** The slice of a weight that this rank holds, as selection and checkpoints name it. */
dt_score dt_job_slice(const dt_graph *g, dt_val w);

/* ---- Selection before training (select.c). Collective over the world. ---- */

/** Runs the selection pass of every delta that has one and has not chosen yet. */
dt_status dt_job_select(dt_job *job) DT_WARN_UNUSED;
/** For planning, where there is no data: every method that selects and has not chosen takes an even share of what it
 *  targets, as this rank of `mesh` holds it. Local. */
dt_status dt_job_assume_selection(dt_job *job, const dt_mesh *mesh) DT_WARN_UNUSED;
/** Takes the selections recorded in a checkpoint instead. */
dt_status dt_job_restore_selection(dt_job *job, const dt_ckpt *ck) DT_WARN_UNUSED;

/* ---- Evaluation (eval.c). Collective over the world. ---- */

typedef struct dt_evaluator dt_evaluator;
/** Plans the evaluation of job->eval with micro-batches of `sequences` a data rank. */
dt_status dt_evaluator_create(dt_job *job, int64_t sequences, dt_evaluator **out) DT_WARN_UNUSED;
void dt_evaluator_destroy(dt_evaluator *e);
/** Mean loss over all target tokens of the set. nll (may be NULL): per target position, rows one behind the other in
 * file order, row i at row_offset[i]; filled on every rank. */
dt_status dt_evaluator_run(dt_evaluator *e, double *loss, int64_t *tokens, float *nll,
                           const int64_t *row_offset) DT_WARN_UNUSED;
int64_t dt_evaluator_bytes(const dt_evaluator *e);

/** Puts a delta into the parameters that the evaluation reads (NULL: leaves first values, or what training holds). */
dt_status dt_evaluator_load(dt_evaluator *e, const dt_ckpt *ck) DT_WARN_UNUSED;

/** For evaluation and generation: opens the checkpoint at `path` (NULL: the newest of run.dir) and takes its
 * selections. *out is NULL where the configuration has no delta. DT_ERR_STATE if there is none. Collective over the
 * world. */
dt_status dt_job_find_delta(dt_job *job, const char *path, dt_ckpt **out) DT_WARN_UNUSED;
/** Loads a delta for evaluation or generation: weights, methods' constants, parameters of `g` (fused) from a checkpoint
 * (NULL: initial values), in-place updates applied. Local. */
dt_status dt_job_load_delta(dt_job *job, const dt_ckpt *ck, dt_graph *g) DT_WARN_UNUSED;

#endif
