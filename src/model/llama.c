/* Llama (Touvron et al. 2023) and what is built as it is: pre-norm blocks of grouped-query attention with rotary
 * positions and a SwiGLU feed-forward. Mistral (Jiang et al. 2023) attends within a window; Qwen2 (Yang et al. 2024)
 * has biases at q, k and v; Qwen3 (2025) normalises each head of q and k. Names are those of Hugging Face. */
#include "model/model.h"
#include "op/add.h"    // dt_add
#include "op/rope.h"   // dt_rope
#include "op/swiglu.h" // dt_swiglu
#include <string.h>

/* What tells the types apart. */
typedef struct variant {
    bool qkv_bias;       /* q, k and v have biases, o has none */
    bool attention_bias; /* the key attention_bias says whether q, k, v and o have biases */
    bool mlp_bias;       /* the key mlp_bias says whether the feed-forward has */
    bool qk_norm;        /* q and k are normalised head by head */
    enum { NO_WINDOW, ONE_WINDOW, WINDOW_BY_LAYER } window;
} variant;

enum { LLAMA, MISTRAL, QWEN2, QWEN3, TYPES };
static const char *const types[TYPES + 1] = {"llama", "mistral", "qwen2", "qwen3"};
static const variant variants[TYPES] = {
    [LLAMA] = {.attention_bias = true, .mlp_bias = true},
    [MISTRAL] = {.window = ONE_WINDOW},
    [QWEN2] = {.qkv_bias = true, .window = WINDOW_BY_LAYER},
    [QWEN3] = {.attention_bias = true, .qk_norm = true, .window = WINDOW_BY_LAYER},
};

typedef struct llama {
    double eps;
    bool tied, qkv_bias, o_bias, mlp_bias, qk_norm;
    float *inverse_frequency; /* [D/2] */
    int64_t *window;          /* [L] tokens that one sees; 0: all before it */
} llama;

/* ---- config.json ---- */

static dt_status check_keys(const dt_json *config, const variant *v)
{
    const char *known[24] = {"hidden_size",         "intermediate_size", "num_hidden_layers", "num_attention_heads",
                             "num_key_value_heads", "head_dim",          "vocab_size",        "max_position_embeddings",
                             "hidden_act",          "rms_norm_eps",      "initializer_range", "tie_word_embeddings",
                             "rope_theta",          "rope_scaling",      "rope_parameters"};
    int n = 15;
    if (v->attention_bias) known[n++] = "attention_bias";
    if (v->mlp_bias) known[n++] = "mlp_bias";
    if (v->window != NO_WINDOW) known[n++] = "sliding_window";
    if (v->window == WINDOW_BY_LAYER) {
        known[n++] = "use_sliding_window";
        known[n++] = "max_window_layers";
        known[n++] = "layer_types";
    }
    return dt_model_check_keys(config, known);
}

/* The width of the window; 0: none. Where the key is missing the types have one of 4096. */
static dt_status read_width(const dt_json *config, int64_t *width)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(config->node, "sliding_window");
    *width = item == NULL ? 4096 : 0;
    return item == NULL || cJSON_IsNull(item) ? DT_OK : dt_model_size(config, "sliding_window", width);
}

/* layer_types, where it is there, else max_window_layers: the layers in front of it see everything. */
static dt_status read_windows_by_layer(const dt_json *config, int64_t layers, int64_t width, int64_t *window)
{
    int64_t whole = 0;
    DT_TRY(dt_json_i64_or(config, "max_window_layers", 28, &whole));
    for (int64_t i = 0; i < layers; i++) window[i] = i >= whole ? width : 0;
    if (!dt_json_has(config, "layer_types")) return DT_OK;
    dt_json list;
    DT_TRY(dt_json_array(config, "layer_types", &list));
    if (cJSON_GetArraySize(list.node) != layers)
        return dt_json_fail(config, "layer_types", "has %d entries, not num_hidden_layers %lld",
                            cJSON_GetArraySize(list.node), (long long)layers);
    int64_t i = 0;
    cJSON *item;
    cJSON_ArrayForEach(item, list.node)
    {
        dt_json at = dt_json_child(&list, item, i);
        const char *type = cJSON_IsString(item) ? item->valuestring : "";
        bool sliding = strcmp(type, "sliding_attention") == 0;
        if (!sliding && strcmp(type, "full_attention") != 0)
            return dt_json_fail(&at, NULL, "%s is not known; known: full_attention, sliding_attention", type);
        if (sliding && width == 0)
            return dt_json_fail(&at, NULL, "sliding_attention without use_sliding_window and sliding_window");
        window[i++] = sliding ? width : 0;
    }
    return DT_OK;
}

static dt_status read_windows(const dt_json *config, const variant *v, int64_t layers, int64_t *window)
{
    int64_t width = 0;
    int use = 1;
    if (v->window == NO_WINDOW) return DT_OK;
    if (v->window == WINDOW_BY_LAYER) DT_TRY(dt_json_bool_or(config, "use_sliding_window", 0, &use));
    if (use) DT_TRY(read_width(config, &width));
    if (v->window == WINDOW_BY_LAYER) return read_windows_by_layer(config, layers, width, window);
    for (int64_t i = 0; i < layers; i++) window[i] = width;
    return DT_OK;
}

static dt_status read_sizes(const dt_json *config, const variant *v, dt_model_info *info)
{
    DT_TRY(dt_model_size(config, "hidden_size", &info->width));
    DT_TRY(dt_model_size(config, "intermediate_size", &info->ffn));
    DT_TRY(dt_model_size(config, "num_hidden_layers", &info->layers));
    DT_TRY(dt_model_size(config, "num_attention_heads", &info->heads));
    DT_TRY(dt_model_size(config, "vocab_size", &info->vocab));
    info->kv_heads = info->heads;
    info->head_dim = info->width / info->heads;
    /* Other types have defaults of their own, which say nothing of a checkpoint: there the keys must be given. */
    if (v != &variants[LLAMA] || dt_json_has(config, "num_key_value_heads"))
        DT_TRY(dt_model_size(config, "num_key_value_heads", &info->kv_heads));
    if (v->qk_norm || dt_json_has(config, "head_dim")) DT_TRY(dt_model_size(config, "head_dim", &info->head_dim));
    if (info->heads % info->kv_heads != 0)
        return dt_json_fail(config, "num_key_value_heads", "%lld does not divide num_attention_heads %lld",
                            (long long)info->kv_heads, (long long)info->heads);
    if (info->head_dim < 2 || info->head_dim % 2 != 0)
        return dt_json_fail(config, "head_dim", "%lld is not even and >= 2", (long long)info->head_dim);
    if (info->heads * info->head_dim > DT_MODEL_SIZE_MAX)
        return dt_json_fail(config, "head_dim", "%lld times num_attention_heads %lld is not <= %d",
                            (long long)info->head_dim, (long long)info->heads, DT_MODEL_SIZE_MAX);
    info->max_positions = 2048;
    if (dt_json_has(config, "max_position_embeddings"))
        DT_TRY(dt_model_size(config, "max_position_embeddings", &info->max_positions));
    return dt_json_f64_or(config, "initializer_range", 0.02, &info->init_std);
}

static dt_status llama_parse(const dt_json *config, dt_region *region, void **own, dt_model_info *info)
{
    const char *type = NULL, *act = NULL;
    int tied = 0, attention_bias = 0, mlp_bias = 0;
    int number = LLAMA;
    DT_TRY(dt_json_string(config, "model_type", &type));
    for (int i = 0; i < TYPES; i++)
        if (strcmp(types[i], type) == 0) number = i;
    const variant *v = &variants[number];
    DT_TRY(check_keys(config, v));
    DT_TRY(read_sizes(config, v, info));
    llama *m = dt_region_alloc(region, sizeof *m);
    int64_t *window = dt_region_alloc(region, sizeof *window * (size_t)info->layers);
    if (m == NULL || window == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    memset(window, 0, sizeof *window * (size_t)info->layers);
    DT_TRY(dt_json_string_or(config, "hidden_act", "silu", &act));
    if (strcmp(act, "silu") != 0) return dt_json_fail(config, "hidden_act", "%s is not known; known: silu", act);
    DT_TRY(dt_json_f64_or(config, "rms_norm_eps", 1e-6, &m->eps));
    DT_TRY(dt_json_bool_or(config, "tie_word_embeddings", 0, &tied));
    if (v->attention_bias) DT_TRY(dt_json_bool_or(config, "attention_bias", 0, &attention_bias));
    if (v->mlp_bias) DT_TRY(dt_json_bool_or(config, "mlp_bias", 0, &mlp_bias));
    DT_TRY(read_windows(config, v, info->layers, window));
    DT_TRY(dt_model_rope(config, info->head_dim, region, &m->inverse_frequency));
    m->tied = tied;
    m->qkv_bias = v->qkv_bias || attention_bias;
    m->o_bias = attention_bias;
    m->mlp_bias = mlp_bias;
    m->qk_norm = v->qk_norm;
    m->window = window;
    *own = m;
    return DT_OK;
}

/* ---- the graph ---- */

static dt_layer_name name_of(int64_t layer, const char *leaf, const char *part)
{
    return dt_layer_name_of("model.layers", layer, leaf, part);
}

static dt_val linear(dt_graph *g, int64_t layer, const char *leaf, const char *part, dt_val x, int64_t out, int64_t in,
                     dt_linear_split split, bool bias)
{
    dt_layer_name n = name_of(layer, leaf, part);
    return dt_layer_linear(g, n.path, n.role, x, out, in, split, bias);
}

static dt_val norm(dt_graph *g, int64_t layer, const char *leaf, const char *part, dt_val x, int64_t width, double eps)
{
    dt_layer_name n = name_of(layer, leaf, part);
    return dt_layer_rmsnorm(g, n.path, n.role, x, width, eps);
}

static dt_val llama_build(dt_graph *g, const void *own, const dt_model_info *info, const dt_batch *batch, dt_val *head)
{
    const llama *m = own;
    const int64_t c = info->width, f = info->ffn, d = info->head_dim;
    const int64_t q_width = info->heads * d, kv_width = info->kv_heads * d;
    dt_val freq = dt_graph_const(g, "rope.inverse_frequency", DT_TYPE_ACC, 1, (int64_t[]){d / 2}, m->inverse_frequency);
    dt_val table = dt_rope_table(g, batch->pos, freq);                                 // (N, D)
    dt_val x = dt_layer_embed(g, "model.embed_tokens", batch->tokens, info->vocab, c); // (N, C)
    dt_val embedding = dt_graph_find(g, "model.embed_tokens.weight");
    for (int64_t i = 0; i < info->layers; i++) {
        g->block = (int32_t)i;
        dt_val h = norm(g, i, "input_layernorm", "norm1", x, c, m->eps);                                    // (N, C)
        dt_val q = linear(g, i, "self_attn.q_proj", "attn.q", h, q_width, c, DT_SPLIT_COLUMN, m->qkv_bias); // (N, H*D)
        dt_val k = linear(g, i, "self_attn.k_proj", "attn.k", h, kv_width, c, DT_SPLIT_KV, m->qkv_bias);    // (N, Hk*D)
        dt_val v = linear(g, i, "self_attn.v_proj", "attn.v", h, kv_width, c, DT_SPLIT_KV, m->qkv_bias);
        if (m->qk_norm) {
            q = norm(g, i, "self_attn.q_norm", "attn.q_norm", q, d, m->eps);
            k = norm(g, i, "self_attn.k_norm", "attn.k_norm", k, d, m->eps);
        }
        q = dt_rope(g, q, table, d);
        k = dt_rope(g, k, table, d);
        dt_val o = dt_layer_attention(g, batch, i, q, k, v, info, m->window[i]); // (N, H*D)
        o = linear(g, i, "self_attn.o_proj", "attn.o", o, c, q_width, DT_SPLIT_ROW, m->o_bias);
        x = dt_add(g, x, o);
        h = norm(g, i, "post_attention_layernorm", "norm2", x, c, m->eps);
        dt_val gate = linear(g, i, "mlp.gate_proj", "ffn.gate", h, f, c, DT_SPLIT_COLUMN, m->mlp_bias); // (N, F)
        dt_val up = linear(g, i, "mlp.up_proj", "ffn.up", h, f, c, DT_SPLIT_COLUMN, m->mlp_bias);
        dt_val y = linear(g, i, "mlp.down_proj", "ffn.down", dt_swiglu(g, gate, up), c, f, DT_SPLIT_ROW, m->mlp_bias);
        x = dt_add(g, x, y);
    }
    g->block = DT_NONE;
    *head = dt_layer_head(g, "lm_head", m->tied ? embedding : DT_NONE, info->vocab, c);
    return dt_layer_rmsnorm(g, "model.norm", "final_norm", x, c, m->eps);
}

const dt_family dt_family_llama = {
    .types = types,
    .prefix = "model.",
    .parse = llama_parse,
    .build = llama_build,
};
