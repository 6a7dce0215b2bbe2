/* What families are made of: each helper declares its weights, registers its site and returns its output. */
#include "model/model.h"
#include "op/attention.h"
#include "op/bias.h"
#include "op/embed.h"
#include "op/layernorm.h"
#include "op/matmul.h"
#include "op/rmsnorm.h"
#include <math.h>
#include <stdio.h>

#define NAME_BYTES 256

static const char *child(char name[NAME_BYTES], const char *path, const char *leaf)
{
    snprintf(name, NAME_BYTES, "%s.%s", path, leaf);
    return name;
}

dt_layer_name dt_layer_name_of(const char *blocks, int64_t i, const char *leaf, const char *part)
{
    dt_layer_name n;
    snprintf(n.path, sizeof n.path, "%s.%lld.%s", blocks, (long long)i, leaf);
    snprintf(n.role, sizeof n.role, "block.%lld.%s", (long long)i, part);
    return n;
}

/* Splits of a linear's weight, whose outputs are dimension `out_dim`, and of its bias. */
static dt_split split_of(dt_linear_split split, int out_dim)
{
    switch (split) {
    case DT_SPLIT_COLUMN: return (dt_split){out_dim, DT_AXES_TENSOR};
    case DT_SPLIT_ROW: return (dt_split){1 - out_dim, DT_AXES_TENSOR};
    case DT_SPLIT_KV: return (dt_split){out_dim, 1u << DT_AXIS_TENSOR_MAJOR};
    default: return DT_NO_SPLIT;
    }
}

static dt_split bias_split_of(dt_linear_split split)
{
    return split == DT_SPLIT_ROW ? DT_NO_SPLIT : split_of(split, 0);
}

/* What a linear computes, its weights declared. */
static dt_val add_linear(dt_graph *g, dt_site site)
{
    site.kind = DT_SITE_LINEAR;
    site.y = dt_matmul(g, site.x, site.w, false, site.out_dim == 0, 1.0, DT_TYPE_ACT);
    if (site.b != DT_NONE) site.y = dt_bias(g, site.y, site.b);
    dt_graph_add_site(g, site);
    return site.y;
}

dt_val dt_layer_linear(dt_graph *g, const char *path, const char *role, dt_val x, int64_t out, int64_t in,
                       dt_linear_split split, bool has_bias)
{
    char name[NAME_BYTES];
    dt_site site = {.path = path, .role = role, .x = x, .b = DT_NONE, .out_dim = 0};
    site.w = dt_graph_weight(g, child(name, path, "weight"), 2, (int64_t[]){out, in}, split_of(split, 0));
    if (has_bias) site.b = dt_graph_weight(g, child(name, path, "bias"), 1, &out, bias_split_of(split));
    return add_linear(g, site);
}

dt_val dt_layer_conv1d(dt_graph *g, const char *path, const char *role, dt_val x, int64_t out, int64_t in,
                       dt_linear_split split, const char *fused, int64_t first, int64_t total)
{
    char name[NAME_BYTES], stored[NAME_BYTES];
    const char *from = fused != NULL ? fused : path;
    const dt_part w = {child(stored, from, "weight"), 1, first, total};
    dt_site site = {.path = path, .role = role, .x = x, .out_dim = 1};
    site.w = dt_graph_weight_part(g, child(name, path, "weight"), 2, (int64_t[]){in, out}, split_of(split, 1), w);
    const dt_part b = {child(stored, from, "bias"), 0, first, total};
    site.b = dt_graph_weight_part(g, child(name, path, "bias"), 1, &out, bias_split_of(split), b);
    return add_linear(g, site);
}

dt_val dt_layer_rmsnorm(dt_graph *g, const char *path, const char *role, dt_val x, int64_t width, double eps)
{
    char name[NAME_BYTES];
    dt_site site = {.path = path, .role = role, .kind = DT_SITE_NORM, .x = x, .b = DT_NONE};
    site.w = dt_graph_weight(g, child(name, path, "weight"), 1, &width, DT_NO_SPLIT);
    site.y = dt_rmsnorm(g, x, site.w, eps);
    dt_graph_add_site(g, site);
    return site.y;
}

dt_val dt_layer_layernorm(dt_graph *g, const char *path, const char *role, dt_val x, int64_t width, double eps)
{
    char name[NAME_BYTES];
    dt_site site = {.path = path, .role = role, .kind = DT_SITE_NORM, .x = x};
    site.w = dt_graph_weight(g, child(name, path, "weight"), 1, &width, DT_NO_SPLIT);
    site.b = dt_graph_weight(g, child(name, path, "bias"), 1, &width, DT_NO_SPLIT);
    site.y = dt_layernorm(g, x, site.w, site.b, eps);
    dt_graph_add_site(g, site);
    return site.y;
}

/* Rows of a matrix [rows, C] by number. */
static dt_val add_embedding(dt_graph *g, const char *path, const char *role, dt_val ids, int64_t rows, int64_t width,
                            dt_split split)
{
    char name[NAME_BYTES];
    dt_site site = {.path = path, .role = role, .kind = DT_SITE_EMBED, .x = DT_NONE, .b = DT_NONE};
    site.w = dt_graph_weight(g, child(name, path, "weight"), 2, (int64_t[]){rows, width}, split);
    site.y = dt_embed(g, ids, site.w);
    dt_graph_add_site(g, site);
    return site.y;
}

dt_val dt_layer_embed(dt_graph *g, const char *path, dt_val tokens, int64_t vocab, int64_t width)
{
    return add_embedding(g, path, "embed", tokens, vocab, width, (dt_split){0, DT_AXES_TENSOR});
}

dt_val dt_layer_positions(dt_graph *g, const char *path, dt_val pos, int64_t positions, int64_t width)
{
    return add_embedding(g, path, "embed.pos", pos, positions, width, DT_NO_SPLIT);
}

dt_val dt_layer_head(dt_graph *g, const char *path, dt_val tied, int64_t vocab, int64_t width)
{
    char name[NAME_BYTES];
    if (tied != DT_NONE) return tied;
    dt_site site = {.path = path, .role = "head", .kind = DT_SITE_HEAD, .x = DT_NONE, .y = DT_NONE, .b = DT_NONE};
    site.w =
        dt_graph_weight(g, child(name, path, "weight"), 2, (int64_t[]){vocab, width}, (dt_split){0, DT_AXES_TENSOR});
    dt_graph_add_site(g, site);
    return site.w;
}

dt_val dt_layer_attention(dt_graph *g, const dt_batch *batch, int64_t layer, dt_val q, dt_val k, dt_val v,
                          const dt_model_info *info, int64_t window)
{
    double scale = 1.0 / sqrt((double)info->head_dim);
    if (batch->cache == 0)
        return dt_attention(g, q, k, v, batch->pos, batch->seq, info->head_dim, info->heads, info->kv_heads, scale,
                            window);
    char name[NAME_BYTES];
    const int64_t dim[2] = {batch->cache, info->kv_heads * info->head_dim};
    const dt_split split = {1, 1u << DT_AXIS_TENSOR_MAJOR};
    snprintf(name, sizeof name, "cache.%lld.k", (long long)layer);
    dt_val kcache = dt_graph_state(g, name, DT_TYPE_ACT, 2, dim, split);
    snprintf(name, sizeof name, "cache.%lld.v", (long long)layer);
    dt_val vcache = dt_graph_state(g, name, DT_TYPE_ACT, 2, dim, split);
    return dt_attention_cached(g, q, k, v, kcache, vcache, batch->start, info->head_dim, info->heads, info->kv_heads,
                               scale, window);
}
