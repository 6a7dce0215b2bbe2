/* The family `llama` (Touvron et al. 2023): pre-norm blocks of grouped-query attention with rotary positions and a
 * SwiGLU feed-forward; Llama 3's scaling of the rotary frequencies. Names are those of Hugging Face's LlamaForCausalLM.
 */
#include "model/model.h"
#include "op/add.h"    // dt_add
#include "op/rope.h"   // dt_rope
#include "op/swiglu.h" // dt_swiglu
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct llama {
    double eps;
    bool tied, attention_bias, mlp_bias;
    float *inverse_frequency; /* [D/2] */
} llama;

static int llama_match(const dt_json *config)
{
    const char *type = NULL;
    return dt_json_string_or(config, "model_type", "", &type) == DT_OK && strcmp(type, "llama") == 0;
}

/* f[j] = theta^(-2j/D). Type "linear" divides all by `factor`; "llama3" divides the long wavelengths, keeps the short,
 * and blends between (Llama 3 herd of models, 2024). */
static dt_status read_rope(const dt_json *config, int64_t head_dim, float *f)
{
    /* Newer files say all of it in rope_parameters, older ones in rope_theta and rope_scaling. */
    dt_json rope = *config, scaling = *config;
    bool newer = dt_json_has(config, "rope_parameters"), scaled = newer || dt_json_has(config, "rope_scaling");
    if (newer) DT_TRY(dt_json_object(config, "rope_parameters", &rope));
    if (scaled) DT_TRY(dt_json_object(config, newer ? "rope_parameters" : "rope_scaling", &scaling));
    double theta = 0, factor = 1, low = 1, high = 4, original = 8192;
    const char *type = "default";
    DT_TRY(dt_json_f64_or(&rope, "rope_theta", 10000.0, &theta));
    if (scaled) {
        const char *old_key = "default";
        DT_TRY(dt_json_string_or(&scaling, "type", "default", &old_key));
        DT_TRY(dt_json_string_or(&scaling, "rope_type", old_key, &type));
    }
    bool llama3 = strcmp(type, "llama3") == 0, linear = strcmp(type, "linear") == 0;
    if (llama3 || linear) DT_TRY(dt_json_f64(&scaling, "factor", &factor));
    if (llama3) {
        DT_TRY(dt_json_f64(&scaling, "low_freq_factor", &low));
        DT_TRY(dt_json_f64(&scaling, "high_freq_factor", &high));
        DT_TRY(dt_json_f64(&scaling, "original_max_position_embeddings", &original));
    } else if (!linear && strcmp(type, "default") != 0) {
        return dt_json_fail(&scaling, "rope_type", "%s is not known; known: default, linear, llama3", type);
    }
    if (!(theta > 0) || !(factor > 0) || !(original > 0) || (llama3 && !(high > low)))
        return dt_json_fail(&scaling, NULL,
                            "rope_theta, factor and original_max_position_embeddings must be > 0 and "
                            "high_freq_factor > low_freq_factor");
    for (int64_t j = 0; j < head_dim / 2; j++) {
        double freq = pow(theta, -2.0 * (double)j / (double)head_dim);
        double turns = original * freq / (2.0 * acos(-1.0)); /* rotations over the original context */
        if (linear || (llama3 && turns < low)) freq /= factor;
        else if (llama3 && turns <= high) {
            double smooth = (turns - low) / (high - low);
            freq = (1.0 - smooth) * freq / factor + smooth * freq;
        }
        f[j] = (float)freq;
    }
    return DT_OK;
}

static dt_status positive(const dt_json *config, const char *key, int64_t value)
{
    return value >= 1 ? DT_OK : dt_json_fail(config, key, "%lld is not >= 1", (long long)value);
}

static dt_status llama_parse(const dt_json *config, dt_region *region, void **own, dt_model_info *info)
{
    llama *m = dt_region_alloc(region, sizeof *m);
    if (m == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    const char *act = NULL;
    int tied = 0, attention_bias = 0, mlp_bias = 0;
    DT_TRY(dt_json_i64(config, "hidden_size", &info->width));
    DT_TRY(dt_json_i64(config, "intermediate_size", &info->ffn));
    DT_TRY(dt_json_i64(config, "num_hidden_layers", &info->layers));
    DT_TRY(dt_json_i64(config, "num_attention_heads", &info->heads));
    DT_TRY(dt_json_i64_or(config, "num_key_value_heads", info->heads, &info->kv_heads));
    DT_TRY(dt_json_i64(config, "vocab_size", &info->vocab));
    DT_TRY(dt_json_i64_or(config, "max_position_embeddings", 2048, &info->max_positions));
    DT_TRY(positive(config, "hidden_size", info->width));
    DT_TRY(positive(config, "intermediate_size", info->ffn));
    DT_TRY(positive(config, "num_hidden_layers", info->layers));
    DT_TRY(positive(config, "num_attention_heads", info->heads));
    DT_TRY(positive(config, "num_key_value_heads", info->kv_heads));
    DT_TRY(positive(config, "vocab_size", info->vocab));
    DT_TRY(dt_json_i64_or(config, "head_dim", info->width / info->heads, &info->head_dim));
    if (info->heads % info->kv_heads != 0)
        return dt_json_fail(config, "num_key_value_heads", "%lld does not divide num_attention_heads %lld",
                            (long long)info->kv_heads, (long long)info->heads);
    if (info->head_dim < 2 || info->head_dim % 2 != 0)
        return dt_json_fail(config, "head_dim", "%lld is not even and >= 2", (long long)info->head_dim);
    DT_TRY(dt_json_string_or(config, "hidden_act", "silu", &act));
    if (strcmp(act, "silu") != 0) return dt_json_fail(config, "hidden_act", "%s is not known; known: silu", act);
    DT_TRY(dt_json_f64_or(config, "rms_norm_eps", 1e-6, &m->eps));
    DT_TRY(dt_json_f64_or(config, "initializer_range", 0.02, &info->init_std));
    DT_TRY(dt_json_bool_or(config, "tie_word_embeddings", 0, &tied));
    DT_TRY(dt_json_bool_or(config, "attention_bias", 0, &attention_bias));
    DT_TRY(dt_json_bool_or(config, "mlp_bias", 0, &mlp_bias));
    m->tied = tied;
    m->attention_bias = attention_bias;
    m->mlp_bias = mlp_bias;
    m->inverse_frequency = dt_region_alloc(region, sizeof(float) * (size_t)(info->head_dim / 2));
    if (m->inverse_frequency == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    DT_TRY(read_rope(config, info->head_dim, m->inverse_frequency));
    *own = m;
    return DT_OK;
}

/* Paths and roles of block i: model.layers.i.<leaf> and block.i.<part>. */
typedef struct names {
    char path[128], role[64];
} names;
static names name_of(int64_t layer, const char *leaf, const char *part)
{
    names n;
    snprintf(n.path, sizeof n.path, "model.layers.%lld.%s", (long long)layer, leaf);
    snprintf(n.role, sizeof n.role, "block.%lld.%s", (long long)layer, part);
    return n;
}

static dt_val linear(dt_graph *g, int64_t layer, const char *leaf, const char *part, dt_val x, int64_t out, int64_t in,
                     dt_linear_split split, bool bias)
{
    names n = name_of(layer, leaf, part);
    return dt_layer_linear(g, n.path, n.role, x, out, in, split, bias);
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
        names norm1 = name_of(i, "input_layernorm", "norm1"), norm2 = name_of(i, "post_attention_layernorm", "norm2");
        dt_val h = dt_layer_rmsnorm(g, norm1.path, norm1.role, x, c, m->eps); // (N, C)
        dt_val q = linear(g, i, "self_attn.q_proj", "attn.q", h, q_width, c, DT_SPLIT_COLUMN, m->attention_bias);
        dt_val k = linear(g, i, "self_attn.k_proj", "attn.k", h, kv_width, c, DT_SPLIT_KV, m->attention_bias);
        dt_val v = linear(g, i, "self_attn.v_proj", "attn.v", h, kv_width, c, DT_SPLIT_KV, m->attention_bias);
        q = dt_rope(g, q, table, d);                                  // (N, H*D)
        k = dt_rope(g, k, table, d);                                  // (N, Hk*D)
        dt_val o = dt_layer_attention(g, batch, i, q, k, v, info, 0); // (N, H*D)
        o = linear(g, i, "self_attn.o_proj", "attn.o", o, c, q_width, DT_SPLIT_ROW, m->attention_bias);
        x = dt_add(g, x, o);
        h = dt_layer_rmsnorm(g, norm2.path, norm2.role, x, c, m->eps);
        dt_val gate = linear(g, i, "mlp.gate_proj", "ffn.gate", h, f, c, DT_SPLIT_COLUMN, m->mlp_bias); // (N, F)
        dt_val up = linear(g, i, "mlp.up_proj", "ffn.up", h, f, c, DT_SPLIT_COLUMN, m->mlp_bias);
        dt_val y = linear(g, i, "mlp.down_proj", "ffn.down", dt_swiglu(g, gate, up), c, f, DT_SPLIT_ROW, m->mlp_bias);
        x = dt_add(g, x, y);
    }
    g->block = DT_NONE;
    *head = dt_layer_head(g, "lm_head", m->tied ? embedding : DT_NONE, info->vocab, c);
    return dt_layer_rmsnorm(g, "model.norm", "final_norm", x, c, m->eps);
}

const dt_family dt_family_llama = {.name = "llama", .match = llama_match, .parse = llama_parse, .build = llama_build};
