/* What a training job will hold, compute and send: found from the planned graphs, before there are weights or ranks. */
#ifndef DT_TRAIN_REPORT_H
#define DT_TRAIN_REPORT_H

#include "train/job.h" // dt_job

enum { DT_REPORT_WIRES = 8 };

/** What one rank sends to its tensor ranks in a step by one kind of collective. */
typedef struct dt_wire_report {
    const char *op; /* "all_reduce"; static */
    int64_t calls, bytes;
} dt_wire_report;

/** One rank. Zeroed before it is filled, so that equal ones compare equal as bytes. */
typedef struct dt_rank_report {
    int64_t frozen, trainable; /* values that it holds */
    /* Bytes. */
    int64_t weights, params, grads, moments; /* moments: states of the optimizer */
    int64_t other;                           /* inputs, constants, what methods keep */
    int64_t arena, workspace;                /* of a step */
    int64_t evaluation;                      /* arena, workspace and inputs of the evaluation; 0 without data.eval */
    int64_t saving;                          /* the copy that is written while training goes on; data coordinate 0 */
    int64_t total;                           /* of all the above: from the first step on */
    int64_t selection;                       /* held before training, while a method selects; 0 if none does */
    /* A step. */
    double forward, backward, update; /* FLOPs; update: what runs once a step */
    double moved;                     /* bytes that kernels read and write */
    int64_t delta_bytes, full_bytes;  /* payload of the delta's all-reduce, and of full fine-tuning's */
    int64_t tensor_bytes;             /* payload of all collectives over tensor ranks */
    dt_wire_report wire[DT_REPORT_WIRES];
    int64_t wires;
} dt_rank_report;

typedef struct dt_delta_report {
    const char *name, *method; /* views of the configuration and of static text */
    int64_t values;            /* trainable, over all ranks */
} dt_delta_report;

typedef struct dt_report {
    const char *family;
    dt_model_info model;
    dt_mesh mesh;                    /* as rank 0 sees it */
    const char *device;              /* its name: static text */
    int threads;                     /* of a rank, were all of them on this machine */
    int64_t backbone, trainable;     /* values, over all ranks */
    int64_t forward, backward, once; /* nodes: of a micro-batch; that run once a step */
    int64_t micro_batches;           /* of a data rank in a step */
    int64_t delta_every;             /* steps from one all-reduce of the delta to the next */
    bool assumed;                    /* methods that select from data were taken to select evenly */
    dt_delta_report *delta;          /* [deltas] */
    int deltas;
    dt_rank_report *rank; /* [mesh.ranks] */
} dt_report;

/** Plans a training job on `ranks` ranks: builds and plans each rank's graph. Reads of the backbone its config.json
 * only, and no data. `config` must outlive the report. Freed with dt_report_free. Local. */
dt_status dt_report_make(const Dtrain__Config *config, int ranks, dt_report *out) DT_WARN_UNUSED;
/** The graph of a step as one rank of `ranks` runs it, as text (dt_graph_dump), with all its programs. Freed with
 * free(). Reads what dt_report_make reads. Local. */
dt_status dt_report_graph(const Dtrain__Config *config, int ranks, int rank, char **text) DT_WARN_UNUSED;
void dt_report_free(dt_report *report);

#endif
