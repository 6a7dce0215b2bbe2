/* Lion (Chen et al. 2023): the sign of a mean of gradients, with decoupled weight decay. One state, half of Adam's. */
#include "op/update.h"
#include "optim/optim.h"

static const char *const *states(const Dtrain__Optim *config)
{
    static const char *const names[] = {"exp_avg", NULL};
    return names;
}

static void emit(dt_graph *g, const Dtrain__Optim *config, const dt_flat_param *group, dt_val param, dt_val grad,
                 const dt_val *state, dt_val hyper, dt_val normsq)
{
    const Dtrain__Lion *o = config->lion;
    dt_lion(g, param, state[0], grad, hyper, normsq,
            (dt_lion_attr){o->beta1, o->beta2, group->weight_decay, group->lr_scale});
}

static double peak_lr(const Dtrain__Optim *config)
{
    return config->lion->lr;
}

static double weight_decay(const Dtrain__Optim *config)
{
    return config->lion->weight_decay;
}

const dt_optimizer dt_optimizer_lion = {
    .name = "lion", .states = states, .emit = emit, .peak_lr = peak_lr, .weight_decay = weight_decay};
