/* BitFit: trains biases and nothing else (Ben Zaken, Ravfogel & Goldberg 2022).
 *
 *     y[N,O] = x[N,I] W[O,I]^T + b[O]
 *
 * The biases that the backbone has, of linears and norms, are trained where they are. With `add`, a linear without one
 * gets one, b = 0, split as W's output is. */
#include "delta/delta.h"
#include "op/bias.h" // dt_bias
#include <stdio.h>

static void add_bias(dt_delta *d, dt_graph *g, dt_site *site)
{
    char name[320];
    snprintf(name, sizeof name, "%s.bias", site->path);
    const dt_tie tie = {site->w, site->out_dim};
    const int64_t out = g->value[site->w].dim[site->out_dim];
    dt_val b = dt_delta_param(d, g, name, 1, &out, &tie, (dt_init){DT_INIT_ZERO, 0});
    dt_graph_seek(g, g->value[site->y].producer);
    dt_val y = dt_bias(g, site->y, b);
    if (y == DT_NONE) return;
    dt_graph_replace_uses(g, site->y, y, g->value[y].producer);
    site->y = y;
}

static void bitfit_attach(dt_delta *d, dt_graph *g, dt_site *site)
{
    if (site->b != DT_NONE) {
        dt_graph_make_trainable(g, site->b);
        g->value[site->b].type = DT_TYPE_ACC; /* what is trained is kept in fp32 on every device */
        g->value[site->b].init = (dt_init){DT_INIT_BACKBONE, 0};
    } else if (d->config->bitfit->add && site->kind == DT_SITE_LINEAR) {
        add_bias(d, g, site);
    }
}

const dt_delta_method dt_delta_bitfit = {
    .name = "bitfit",
    .targets = (const char *const[]){"re:.*", NULL},
    .sites = 1u << DT_SITE_LINEAR | 1u << DT_SITE_NORM,
    .attach = bitfit_attach,
};
