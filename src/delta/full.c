/* Full fine-tuning of what the target selects: weights, biases and gains are trained where they are. The baseline of
 * every delta, and how a backbone is pre-trained. */
#include "delta/delta.h"

static void train_in_place(dt_graph *g, dt_val v)
{
    if (v == DT_NONE || g->value[v].kind == DT_KIND_PARAM) return;
    dt_graph_make_trainable(g, v);
    g->value[v].type = DT_TYPE_ACC; /* what is trained is kept in fp32 on every device */
    g->value[v].init = (dt_init){DT_INIT_BACKBONE, 0};
}

static void full_attach(dt_delta *d, dt_graph *g, dt_site *site)
{
    train_in_place(g, site->w);
    train_in_place(g, site->b);
}

const dt_delta_method dt_delta_full = {
    .name = "full",
    .targets = (const char *const[]){"re:.*", NULL},
    .sites = ~0u,
    .attach = full_attach,
};
