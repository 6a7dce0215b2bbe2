/* Where a training step's time goes, op by op, beside what the machine can do. */
#ifndef DT_TRAIN_PROFILE_H
#define DT_TRAIN_PROFILE_H

#include "graph/exec.h" // dt_exec

/** Prints a table of what the profiled calls of `exec` took: seconds, share, FLOP/s and bytes/s, each as a share of
 * this machine's own rate for large matrix products and for copying memory, both measured here and now with the
 * device's threads. Local. */
dt_status dt_profile_print(const dt_exec *exec, int threads) DT_WARN_UNUSED;

#endif
