/* The k largest of non-negative scores spread over ranks, by counting digits: nothing is gathered. */
#ifndef DT_DELTA_TOPK_H
#define DT_DELTA_TOPK_H

#include "comm/comm.h" // dt_comm
#include <stdbool.h>

/** One run of scores. `key` of element i breaks ties: key0 + i where `cols` is 0, else the flat global index of element
 *  (i / cols, i % cols) of a slice: key0 + (i / cols) * ld + i % cols. Keys are unique over all runs and ranks, but for
 *  replicas, which bear the same keys and scores. */
typedef struct dt_topk_run {
    const float *score;
    int64_t count;
    int64_t key0, cols, ld;
    bool counts; /* of several ranks with the same slice exactly one counts it */
} dt_topk_run;

/** Where the cut lies: an element is chosen iff its score is above, or equal to `score` and its key below `key`. */
typedef struct dt_topk_cut {
    float score;
    int64_t key;
} dt_topk_cut;

/** The cut that chooses exactly k of all elements that count: largest scores first, among equal ones the smallest keys.
 * So the choice does not depend on the layout. Four reductions of 512 kB over `axes`. DT_ERR_DATA if a score is not
 * finite. Collective over `axes`. */
dt_status dt_topk_find(const dt_topk_run *run, int n, int64_t k, dt_comm *comm, dt_axes axes,
                       dt_topk_cut *out) DT_WARN_UNUSED;

static inline int64_t dt_topk_key(const dt_topk_run *run, int64_t i)
{
    return run->cols == 0 ? run->key0 + i : run->key0 + i / run->cols * run->ld + i % run->cols;
}
static inline bool dt_topk_chosen(const dt_topk_run *run, int64_t i, dt_topk_cut cut)
{
    return run->score[i] > cut.score || (run->score[i] == cut.score && dt_topk_key(run, i) < cut.key);
}

#endif
