/* Where trainable values live: one flat buffer for parameters, one for gradients, one for each state of the optimizer.
 */
#include "optim/optim.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DT_OPTIMIZER(name) extern const dt_optimizer dt_optimizer_##name;
#include "optim/optimizers.def"
#undef DT_OPTIMIZER
static const dt_optimizer *const optimizers[] = {
#define DT_OPTIMIZER(name) &dt_optimizer_##name,
#include "optim/optimizers.def"
#undef DT_OPTIMIZER
};

const dt_optimizer *dt_optimizer_of(const Dtrain__Optim *config)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(&dtrain__optim__descriptor, (unsigned)config->kind_case);
    for (size_t i = 0; field != NULL && i < sizeof optimizers / sizeof *optimizers; i++)
        if (strcmp(optimizers[i]->name, field->name) == 0) return optimizers[i];
    return optimizers[0];
}

/* The first group that matches, else the optimizer's own settings. */
static dt_status settings_of(const Dtrain__Optim *config, const char *name, dt_flat_param *p)
{
    p->lr_scale = 1;
    p->weight_decay = dt_optimizer_of(config)->weight_decay(config);
    for (size_t i = 0; i < config->n_group; i++) {
        const Dtrain__Group *group = config->group[i];
        for (size_t k = 0; k < group->n_match; k++) {
            int hit = 0;
            DT_TRY(dt_pattern_match(group->match[k], name, &hit));
            if (!hit) continue;
            p->lr_scale = group->lr_scale;
            if (group->has_weight_decay) p->weight_decay = group->weight_decay;
            return DT_OK;
        }
    }
    return DT_OK;
}

static dt_axes axes_of(const dt_graph *g, dt_val v, dt_place_kind kind)
{
    dt_axes axes = 0;
    for (int a = 0; a < DT_AXIS_COUNT; a++)
        if (g->value[v].place[a].kind == (int)kind && g->mesh.size[a] > 1) axes |= 1u << a;
    return axes;
}

/* Does a program behind the micro-batches add to a gradient, as the prologue's backward does? */
static bool is_late(const dt_graph *g, dt_val grad)
{
    DT_FOR_NODES (g, i)
        for (int k = 0; k < g->node[i].nout && g->node[i].program != DT_MICRO; k++) {
            dt_val v = g->node[i].out[k];
            while (v != DT_NONE && v != grad) v = g->value[v].base;
            if (v == grad) return true;
        }
    return false;
}

/* Split parameters first; behind them the replicated ones, those with partial gradients together. In each section those
 * whose gradients are complete late come last: what can be reduced before lies together. */
static int section(const dt_flat_param *p)
{
    return p->split == DT_AXES_TENSOR ? 0 : p->split != 0 ? 1 : p->partial != 0 ? 2 : 3;
}

static int by_section(const void *a, const void *b)
{
    const dt_flat_param *x = a, *y = b;
    int d = section(x) - section(y);
    if (d == 0) d = (int)x->partial - (int)y->partial;
    if (d == 0) d = (int)x->late - (int)y->late;
    return d != 0 ? d : (x->param > y->param) - (x->param < y->param);
}

static dt_val flat_state(dt_graph *g, const char *name, int64_t count)
{
    dt_val v = dt_graph_state(g, name, DT_TYPE_ACC, 1, &count, DT_NO_SPLIT);
    if (v != DT_NONE) g->value[v].ragged = true; /* ranks differ in size */
    return v;
}

dt_status dt_flat_create(dt_graph *g, const Dtrain__Optim *config, dt_flat *out)
{
    DT_TRY(dt_graph_status(g));
    dt_flat flat = {.params = DT_NONE};
    dt_status st = DT_OK;
    DT_TRY(dt_alloc((size_t)g->values + 1, sizeof *flat.param, &flat.param));
    for (int64_t v = 0; v < g->values; v++) {
        dt_val grad = g->value[v].kind == DT_KIND_PARAM ? dt_grad_of(g, (dt_val)v) : DT_NONE;
        if (grad == DT_NONE) continue;
        dt_flat_param *p = &flat.param[flat.n++];
        *p = (dt_flat_param){.param = (dt_val)v, .grad = grad, .count = dt_value_local_count(g, (dt_val)v)};
        p->late = is_late(g, grad);
        p->split = axes_of(g, p->param, DT_SPLIT);
        p->partial = axes_of(g, grad, DT_PARTIAL) & DT_AXES_TENSOR;
        if (g->mesh.size[DT_AXIS_DATA] > 1 && !(axes_of(g, grad, DT_PARTIAL) & DT_AXES_DATA))
            DT_GOTO(dt_fail(DT_ERR_INTERNAL, "the gradient of %s is reduced over the data ranks before its time",
                            g->value[v].name),
                    failed);
        flat.global_count += dt_value_count(g, p->param);
        DT_GOTO(settings_of(config, g->value[v].name, p), failed);
    }
    if (flat.n == 0)
        DT_GOTO(
            dt_fail(DT_ERR_CONFIG, "the deltas train nothing: their targets hold no value of the kind that they train"),
            failed);
    qsort(flat.param, (size_t)flat.n, sizeof *flat.param, by_section);
    for (int i = 0; i < flat.n; i++) {
        flat.param[i].offset = flat.count;
        flat.count += flat.param[i].count;
    }
    flat.params = flat_state(g, "flat:param", flat.count);
    flat.grads = flat_state(g, "flat:grad", flat.count);
    DT_GOTO(dt_graph_status(g), failed);
    for (int i = 0; i < flat.n; i++) {
        const dt_flat_param *p = &flat.param[i];
        g->value[p->param].base = flat.params;
        g->value[p->grad].base = flat.grads;
        g->value[p->param].base_offset = g->value[p->grad].base_offset = p->offset;
    }
    *out = flat;
    return DT_OK;
failed:
    dt_flat_destroy(&flat);
    return st;
}

void dt_flat_destroy(dt_flat *flat)
{
    free(flat->param);
    *flat = (dt_flat){.params = DT_NONE};
}
