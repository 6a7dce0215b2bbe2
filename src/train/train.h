/* The training loop and what it writes beside it. */
#ifndef DT_TRAIN_TRAIN_H
#define DT_TRAIN_TRAIN_H

#include "train/job.h" // dt_job

/** Trains as the configuration says: resumes from the run folder's newest checkpoint (fresh: forgets what is there),
 * writes metrics.jsonl, checkpoints and the resolved configuration. Ends early, saved and with DT_OK, on SIGTERM or
 * SIGUSR1. Collective over the world. */
dt_status dt_train(const Dtrain__Config *config, bool fresh) DT_WARN_UNUSED;

#endif
