/* The lowest evaluation loss of a run, and the patience of early stopping. */
#include "train/best.h"
#include <math.h>

dt_best dt_best_none(void)
{
    return (dt_best){.evaluated = -1, .step = -1, .loss = INFINITY, .reference = INFINITY};
}

bool dt_best_take(dt_best *best, int64_t step, double loss, double min_delta)
{
    best->evaluated = step;
    if (step == 0) return false;
    bool counts = loss < best->reference - min_delta;
    if (counts) best->reference = loss;
    best->waited = counts ? 0 : best->waited + 1;
    if (!(loss < best->loss)) return false;
    best->loss = loss;
    best->step = step;
    return true;
}
