/* Parameters between graph, store, backbone and checkpoint. All functions are local. */
#ifndef DT_TRAIN_PARAMS_H
#define DT_TRAIN_PARAMS_H

#include "train/job.h" // dt_job

/** First values of this rank's slice of a parameter. */
dt_status dt_param_fill(dt_job *job, const dt_graph *g, dt_val v, float *dst) DT_WARN_UNUSED;
/** How a checkpoint names this rank's slice of a parameter (without data). *index: global indices of a sparse one, else
 * NULL; freed with free(). */
dt_status dt_param_describe(const dt_job *job, const dt_graph *g, dt_val v, dt_ckpt_tensor *out,
                            int64_t **index) DT_WARN_UNUSED;
/** Reads this rank's slice of a tensor that is laid out as parameter v is (itself, or a moment of it) from a
 * checkpoint. */
dt_status dt_param_read(const dt_job *job, const dt_graph *g, dt_val v, const dt_ckpt *ck, dt_ckpt_part part,
                        const char *name, float *dst) DT_WARN_UNUSED;
/** Loads what the graph's weights need into the store, and the methods' own constants. */
dt_status dt_job_provide(dt_job *job, const dt_graph *g) DT_WARN_UNUSED;
/** Writes the sparse updates that `like` (fused) recorded into the weights: after parameters were loaded. */
dt_status dt_job_apply_updates(dt_job *job, const dt_graph *like) DT_WARN_UNUSED;

#endif
