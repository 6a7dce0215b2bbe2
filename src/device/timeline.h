/* How busy the GPU is: with DTRAIN_GPU_TIMELINE=1 in the environment, an event before and behind each replayed program,
 * and at the end a line that tells the share of time in which one ran, and the longest gap between two. */
#ifndef DT_DEVICE_TIMELINE_H
#define DT_DEVICE_TIMELINE_H

#include "device/cuda.h" // dt_cuda

/** Around a replay. Nothing where no timeline was asked for. */
dt_status dt_cuda_timeline_begin(dt_cuda *cuda) DT_WARN_UNUSED;
dt_status dt_cuda_timeline_end(dt_cuda *cuda) DT_WARN_UNUSED;
/** Tells what was seen and forgets it. Waits for the device. */
void dt_cuda_timeline_close(dt_cuda *cuda);

#endif
