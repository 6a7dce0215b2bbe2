/* What a run tells: metrics.jsonl for programs, a progress line for people. Rank 0 only; the others' calls do nothing.
 */
#ifndef DT_TRAIN_METRICS_H
#define DT_TRAIN_METRICS_H

#include "config/config.h" // Dtrain__Config

typedef struct dt_metrics dt_metrics;

typedef struct dt_step_metrics {
    int64_t step;
    double loss, lr, grad_norm;
    int64_t tokens;      /* positions that hold a token of a row */
    int64_t loss_tokens; /* of them, those that carry loss */
    double seconds;
    int64_t delta_comm_bytes, tp_comm_bytes; /* payload that rank 0 gave to collectives over data and tensor ranks */
} dt_step_metrics;

/** Opens <run.dir>/metrics.jsonl: appended to where `from_step` >= 0 (a resume, which is recorded; lines of later
 * steps, which an interrupted run left behind, are dropped), else new. */
dt_status dt_metrics_open(const Dtrain__Config *config, int64_t from_step, dt_metrics **out) DT_WARN_UNUSED;
void dt_metrics_close(dt_metrics *m);
dt_status dt_metrics_step(dt_metrics *m, const dt_step_metrics *s) DT_WARN_UNUSED;
dt_status dt_metrics_eval(dt_metrics *m, int64_t step, double loss, int64_t tokens) DT_WARN_UNUSED;
dt_status dt_metrics_early_stop(dt_metrics *m, int64_t step, int64_t best_step, double best_loss) DT_WARN_UNUSED;
/** A line of its own among the progress lines. */
void dt_metrics_note(dt_metrics *m, const char *fmt, ...) DT_PRINTF(2, 3);

#endif
