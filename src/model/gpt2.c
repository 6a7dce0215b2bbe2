/* GPT-2 (Radford et al. 2019): pre-norm blocks with learned positions, LayerNorm, biases everywhere and a GELU
 * feed-forward. Its linears are stored [I,O], those of q, k and v as one: here they are three, so that each is a site.
 * Names are those of Hugging Face's GPT2LMHeadModel. */
#include "model/model.h"
#include "op/add.h"  // dt_add
#include "op/gelu.h" // dt_gelu
#include <math.h>
#include <string.h>

typedef struct gpt2 {
    double eps;
    bool tied;
} gpt2;

/* ---- config.json ---- */

/* Dropout is that of the backbone's own training, "summary" of other heads; reorder_and_upcast_attn is the same
 * mathematics in another order. */
static const char *const keys[] = {"n_embd",
                                   "n_layer",
                                   "n_head",
                                   "n_inner",
                                   "n_positions",
                                   "n_ctx",
                                   "vocab_size",
                                   "activation_function",
                                   "layer_norm_epsilon",
                                   "initializer_range",
                                   "tie_word_embeddings",
                                   "scale_attn_weights",
                                   "reorder_and_upcast_attn",
                                   "attn_pdrop",
                                   "embd_pdrop",
                                   "resid_pdrop",
                                   "summary_activation",
                                   "summary_first_dropout",
                                   "summary_proj_to_labels",
                                   "summary_type",
                                   "summary_use_proj",
                                   NULL};

static dt_status check_activation(const dt_json *config)
{
    const char *act = NULL;
    DT_TRY(dt_json_string_or(config, "activation_function", "gelu_new", &act));
    if (strcmp(act, "gelu_new") == 0 || strcmp(act, "gelu_pytorch_tanh") == 0 || strcmp(act, "gelu_fast") == 0)
        return DT_OK;
    return dt_json_fail(config, "activation_function", "%s is not known; known: gelu_new, gelu_pytorch_tanh, gelu_fast",
                        act);
}

static dt_status gpt2_parse(const dt_json *config, dt_region *region, void **own, dt_model_info *info)
{
    int tied = 1, scaled = 1;
    DT_TRY(dt_model_check_keys(config, keys));
    DT_TRY(check_activation(config));
    DT_TRY(dt_model_size(config, "n_embd", &info->width));
    DT_TRY(dt_model_size(config, "n_layer", &info->layers));
    DT_TRY(dt_model_size(config, "n_head", &info->heads));
    DT_TRY(dt_model_size(config, "n_positions", &info->max_positions));
    DT_TRY(dt_model_size(config, "vocab_size", &info->vocab));
    info->ffn = 4 * info->width;
    if (dt_json_has(config, "n_inner")) DT_TRY(dt_model_size(config, "n_inner", &info->ffn));
    if (info->width % info->heads != 0)
        return dt_json_fail(config, "n_head", "%lld does not divide n_embd %lld", (long long)info->heads,
                            (long long)info->width);
    info->kv_heads = info->heads;
    info->head_dim = info->width / info->heads;
    DT_TRY(dt_json_f64_or(config, "initializer_range", 0.02, &info->init_std));
    DT_TRY(dt_json_bool_or(config, "scale_attn_weights", 1, &scaled));
    if (!scaled) return dt_json_fail(config, "scale_attn_weights", "false is not known; known: true");
    gpt2 *m = dt_region_alloc(region, sizeof *m);
    if (m == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    DT_TRY(dt_json_f64_or(config, "layer_norm_epsilon", 1e-5, &m->eps));
    DT_TRY(dt_json_bool_or(config, "tie_word_embeddings", 1, &tied));
    m->tied = tied;
    *own = m;
    return DT_OK;
}

/* ---- the graph ---- */

static dt_layer_name name_of(int64_t layer, const char *leaf, const char *part)
{
    return dt_layer_name_of("transformer.h", layer, leaf, part);
}

static dt_val norm(dt_graph *g, int64_t layer, const char *leaf, const char *part, dt_val x, int64_t width, double eps)
{
    dt_layer_name n = name_of(layer, leaf, part);
    return dt_layer_layernorm(g, n.path, n.role, x, width, eps);
}

static dt_val linear(dt_graph *g, int64_t layer, const char *leaf, const char *part, dt_val x, int64_t out, int64_t in,
                     dt_linear_split split)
{
    dt_layer_name n = name_of(layer, leaf, part);
    return dt_layer_conv1d(g, n.path, n.role, x, out, in, split, NULL, 0, out);
}

/* Number `which` of q, k and v: columns [which C, (which + 1) C) of c_attn. */
static dt_val qkv(dt_graph *g, int64_t layer, const char *leaf, const char *part, dt_val x, int64_t width, int which)
{
    dt_layer_name n = name_of(layer, leaf, part), fused = name_of(layer, "attn.c_attn", "attn");
    dt_linear_split split = which == 0 ? DT_SPLIT_COLUMN : DT_SPLIT_KV;
    return dt_layer_conv1d(g, n.path, n.role, x, width, width, split, fused.path, which * width, 3 * width);
}

static dt_val gpt2_build(dt_graph *g, const void *own, const dt_model_info *info, const dt_batch *batch, dt_val *head)
{
    const gpt2 *m = own;
    const int64_t c = info->width, f = info->ffn;
    dt_val x = dt_layer_embed(g, "transformer.wte", batch->tokens, info->vocab, c); // (N, C)
    dt_val embedding = dt_graph_find(g, "transformer.wte.weight");
    x = dt_add(g, x, dt_layer_positions(g, "transformer.wpe", batch->pos, info->max_positions, c));
    for (int64_t i = 0; i < info->layers; i++) {
        g->block = (int32_t)i;
        dt_val h = norm(g, i, "ln_1", "norm1", x, c, m->eps); // (N, C)
        dt_val q = qkv(g, i, "attn.c_attn.q", "attn.q", h, c, 0);
        dt_val k = qkv(g, i, "attn.c_attn.k", "attn.k", h, c, 1);
        dt_val v = qkv(g, i, "attn.c_attn.v", "attn.v", h, c, 2);
        dt_val o = dt_layer_attention(g, batch, i, q, k, v, info, 0); // (N, C)
        x = dt_add(g, x, linear(g, i, "attn.c_proj", "attn.o", o, c, c, DT_SPLIT_ROW));
        h = norm(g, i, "ln_2", "norm2", x, c, m->eps);
        h = dt_gelu(g, linear(g, i, "mlp.c_fc", "ffn.up", h, f, c, DT_SPLIT_COLUMN)); // (N, F)
        x = dt_add(g, x, linear(g, i, "mlp.c_proj", "ffn.down", h, c, f, DT_SPLIT_ROW));
    }
    g->block = DT_NONE;
    *head = dt_layer_head(g, "lm_head", m->tied ? embedding : DT_NONE, info->vocab, c);
    return dt_layer_layernorm(g, "transformer.ln_f", "final_norm", x, c, m->eps);
}

/* What is added to the residual stream is scaled by the number of additions (Radford et al. 2019, section 2.3). */
static double gpt2_init_std(const dt_model_info *info, const char *tensor)
{
    bool adds = strstr(tensor, ".c_proj.") != NULL;
    return adds ? info->init_std / sqrt(2.0 * (double)info->layers) : info->init_std;
}

const dt_family dt_family_gpt2 = {
    .types = (const char *const[]){"gpt2", NULL},
    .prefix = "transformer.",
    .parse = gpt2_parse,
    .build = gpt2_build,
    .init_std = gpt2_init_std,
};
