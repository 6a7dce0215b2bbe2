/* The training loop and what it writes beside it. */
#ifndef DT_TRAIN_TRAIN_H
#define DT_TRAIN_TRAIN_H

#include "train/job.h" // dt_job

/** How a training is run, beside what it is. */
typedef struct dt_train_options {
    bool fresh;   /* forget what the run folder holds */
    bool profile; /* print rank 0's table of op times at the end; the first step is not counted */
} dt_train_options;

/** Trains as the configuration says: resumes from the run folder's newest checkpoint, writes metrics.jsonl, checkpoints
 * and the resolved configuration. Ends early, saved and with DT_OK, on SIGTERM or SIGUSR1. Collective over the world.
 */
dt_status dt_train(const Dtrain__Config *config, const dt_train_options *options) DT_WARN_UNUSED;

#endif
