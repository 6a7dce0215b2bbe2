/* Kernels that can do a call in several ways, which are faster for one size or another and may round differently. Which
 * way a size takes is chosen by measuring, agreed on by all ranks, and kept in checkpoints, as algorithms of products
 * are (device/gemm.h), in the same text. */
#ifndef DT_DEVICE_WAYS_H
#define DT_DEVICE_WAYS_H

#include "device/cuda.h" // dt_cuda
#include <stdbool.h>
#include <stdio.h> // FILE

struct dt_call;

/** What a choice depends on. */
typedef struct dt_cuda_way_key {
    int64_t size[4];
} dt_cuda_way_key;

/** The way that was chosen for a size; `usual` where none was. */
int dt_cuda_way_of(const dt_cuda *cuda, const dt_cuda_way_key *key, int usual);
/** While the device considers: notes that `run` can do the call, which stays where it is until the choice, in ways 0 ..
 *  ways - 1. Each writes all of the call's results. */
dt_status dt_cuda_way_note(dt_cuda *cuda, const dt_cuda_way_key *key, const struct dt_call *call, int ways,
                           dt_status (*run)(const struct dt_call *call, int way)) DT_WARN_UNUSED;
/** Measures what was noted and not chosen yet; *any: something was. Runs the calls: their results hold anything after.
 */
dt_status dt_cuda_ways_choose(dt_cuda *cuda, bool *any) DT_WARN_UNUSED;
/** A line a choice. */
void dt_cuda_ways_print(const dt_cuda *cuda, FILE *to);
/** Takes the choices of such lines; stops at one of another form. */
dt_status dt_cuda_ways_adopt(dt_cuda *cuda, const char *text) DT_WARN_UNUSED;
void dt_cuda_ways_free(dt_cuda *cuda);

#endif
