/* Stochastic gradient descent, with momentum where asked. */
#include "op/update.h"
#include "optim/optim.h"

static const char *const *states(const Dtrain__Optim *config)
{
    static const char *const names[] = {"momentum", NULL};
    return config->sgd->momentum != 0 ? names : names + 1;
}

static void emit(dt_graph *g, const Dtrain__Optim *config, const dt_flat_param *group, dt_val param, dt_val grad,
                 const dt_val *state, dt_val hyper, dt_val normsq)
{
    const Dtrain__Sgd *o = config->sgd;
    dt_sgd(g, param, o->momentum != 0 ? state[0] : DT_NONE, grad, hyper, normsq,
           (dt_sgd_attr){o->momentum, group->weight_decay, group->lr_scale});
}

static double peak_lr(const Dtrain__Optim *config)
{
    return config->sgd->lr;
}

static double weight_decay(const Dtrain__Optim *config)
{
    return config->sgd->weight_decay;
}

const dt_optimizer dt_optimizer_sgd = {
    .name = "sgd", .states = states, .emit = emit, .peak_lr = peak_lr, .weight_decay = weight_decay};
