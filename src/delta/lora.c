/* LoRA: a low-rank update of frozen linears (Hu et al. 2021).
 *
 *     y[N,O] = x[N,I] W[O,I]^T + s drop(x) A[R,I]^T B[O,R]^T,   s = alpha / R, or alpha / sqrt(R) (Kalajdzievski 2023)
 *
 * A ~ U(-1/sqrt(I), 1/sqrt(I)), B = 0: training starts at the backbone. A is split as W's input is, B as its output. */
#include "base/hash.h" // dt_hash_string
#include "delta/delta.h"
#include "op/add.h"     // dt_add
#include "op/dropout.h" // dt_dropout
#include "op/matmul.h"  // dt_matmul
#include <math.h>
#include <stdio.h>

static void lora_attach(dt_delta *d, dt_graph *g, dt_site *site)
{
    const Dtrain__Lora *o = d->config->lora;
    const dt_value w = g->value[site->w];
    const int out_dim = site->out_dim, in_dim = 1 - out_dim;
    const int64_t out = w.dim[out_dim], in = w.dim[in_dim], r = o->rank;
    const double scale = o->rs ? o->alpha / sqrt((double)r) : o->alpha / (double)r;
    char name[320];

    snprintf(name, sizeof name, "%s.lora_A.weight", site->path);
    dt_val a = dt_delta_param(d, g, name, 2, (int64_t[]){r, in}, (dt_tie[]){{DT_NONE, 0}, {site->w, in_dim}},
                              (dt_init){DT_INIT_UNIFORM, 1.0 / sqrt((double)in)});
    snprintf(name, sizeof name, "%s.lora_B.weight", site->path);
    dt_val b = dt_delta_param(d, g, name, 2, (int64_t[]){out, r}, (dt_tie[]){{site->w, out_dim}, {DT_NONE, 0}},
                              (dt_init){DT_INIT_ZERO, 0});
    if (a == DT_NONE || b == DT_NONE) return;

    dt_graph_seek(g, g->value[site->y].producer);
    dt_val x = site->x;
    if (o->dropout > 0 && d->key != DT_NONE)
        x = dt_dropout(g, x, d->key, d->step, o->dropout, d->seed, dt_hash_string(g->value[a].name));
    dt_val u = dt_matmul(g, x, a, false, true, 1.0, DT_TYPE_ACT);   // (N, R)
    dt_val v = dt_matmul(g, u, b, false, true, scale, DT_TYPE_ACT); // (N, O)
    dt_val y = dt_add(g, site->y, v);
    if (y == DT_NONE) return;
    dt_graph_replace_uses(g, site->y, y, g->value[y].producer);
    site->y = y;
}

const dt_delta_method dt_delta_lora = {
    .name = "lora",
    .targets = (const char *const[]){"attn.q", "attn.v", NULL},
    .sites = 1u << DT_SITE_LINEAR,
    .attach = lora_attach,
};
