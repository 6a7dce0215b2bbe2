/* What families are made of: each helper declares its weights, registers its site and returns its output. */
#include "model/model.h"
#include "op/attention.h"
#include "op/embed.h"
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

static dt_split split_of(dt_linear_split split)
{
    switch (split) {
    case DT_SPLIT_COLUMN: return (dt_split){0, DT_AXES_TENSOR};
    case DT_SPLIT_ROW: return (dt_split){1, DT_AXES_TENSOR};
    case DT_SPLIT_KV: return (dt_split){0, 1u << DT_AXIS_TENSOR_MAJOR};
    default: return DT_NO_SPLIT;
    }
}

dt_val dt_layer_linear(dt_graph *g, const char *path, const char *role, dt_val x, int64_t out, int64_t in,
                       dt_linear_split split, bool has_bias)
{
    char name[NAME_BYTES];
    dt_split s = split_of(split), bias_split = s.dim == 0 ? s : DT_NO_SPLIT;
    dt_site site = {.path = path, .role = role, .kind = DT_SITE_LINEAR, .x = x, .b = DT_NONE};
    site.w = dt_graph_weight(g, child(name, path, "weight"), 2, (int64_t[]){out, in}, s);
    if (has_bias) site.b = dt_graph_weight(g, child(name, path, "bias"), 1, &out, bias_split);
    site.y = dt_linear(g, x, site.w, site.b);
    dt_graph_add_site(g, site);
    return site.y;
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

dt_val dt_layer_embed(dt_graph *g, const char *path, dt_val tokens, int64_t vocab, int64_t width)
{
    char name[NAME_BYTES];
    dt_site site = {.path = path, .role = "embed", .kind = DT_SITE_EMBED, .x = DT_NONE, .b = DT_NONE};
    site.w =
        dt_graph_weight(g, child(name, path, "weight"), 2, (int64_t[]){vocab, width}, (dt_split){0, DT_AXES_TENSOR});
    site.y = dt_embed(g, tokens, site.w);
    dt_graph_add_site(g, site);
    return site.y;
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
