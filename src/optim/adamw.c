/* AdamW (Loshchilov & Hutter 2019): Adam with decoupled weight decay. */
#include "op/update.h"
#include "optim/optim.h"
#include <math.h>

static const char *const *states(const Dtrain__Optim *config)
{
    static const char *const names[] = {"exp_avg", "exp_avg_sq", NULL};
    return names;
}

static void emit(dt_graph *g, const Dtrain__Optim *config, const dt_flat_param *group, dt_val param, dt_val grad,
                 const dt_val *state, dt_val hyper, dt_val normsq)
{
    const Dtrain__AdamW *o = config->adamw;
    dt_adamw(g, param, state[0], state[1], grad, hyper, normsq,
             (dt_adamw_attr){o->beta1, o->beta2, o->eps, group->weight_decay, group->lr_scale});
}

static double peak_lr(const Dtrain__Optim *config)
{
    return config->adamw->lr;
}

static double weight_decay(const Dtrain__Optim *config)
{
    return config->adamw->weight_decay;
}

static void hyper(const Dtrain__Optim *config, int64_t step, float *out)
{
    out[DT_HYPER_BIAS1] = (float)(1.0 - pow(config->adamw->beta1, (double)step));
    out[DT_HYPER_BIAS2] = (float)(1.0 - pow(config->adamw->beta2, (double)step));
}

const dt_optimizer dt_optimizer_adamw = {
    .name = "adamw", .states = states, .emit = emit, .peak_lr = peak_lr, .weight_decay = weight_decay, .hyper = hyper};
