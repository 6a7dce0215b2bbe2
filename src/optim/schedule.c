/* The learning rate over a run. */
#include "op/update.h"
#include "optim/optim.h"
#include <math.h>

/* Warm-up reaches the peak at step `warmup`; the decay reaches min_ratio at the last step. */
double dt_schedule(const Dtrain__Optim *config, int64_t steps, int64_t step)
{
    const Dtrain__Schedule *s = config->schedule;
    if (step < s->warmup_steps) return (double)step / (double)s->warmup_steps;
    double left = steps > s->warmup_steps ? (double)(steps - step) / (double)(steps - s->warmup_steps) : 1.0;
    if (left < 0) left = 0;
    switch (s->kind) {
    case DTRAIN__SCHEDULE_KIND__LINEAR: return s->min_ratio + (1.0 - s->min_ratio) * left;
    case DTRAIN__SCHEDULE_KIND__COSINE:
        return s->min_ratio + (1.0 - s->min_ratio) * 0.5 * (1.0 - cos(acos(-1.0) * left));
    default: return 1.0;
    }
}
