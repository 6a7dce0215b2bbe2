/* Families: what transformers computes, the sites, how weights lie in files, and what config.json may say. */
#include "base/file.h"
#include "base/json.h"
#include "graph/exec.h"
#include "graph/passes.h"
#include "model/model.h"
#include "op/attention.h"
#include "op/op.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN DT_SOURCE_DIR "/tests/golden/families/"
#define OK(expr) cr_assert_eq((expr), DT_OK, "%s", dt_error_text())
enum { MOST_TOKENS = 128 };

static const dt_mesh alone = {0, 1, {1, 1, 1}, {0, 0, 0}};
static const char *const types[] = {"mistral", "qwen2", "qwen3", "gpt2"};

/* A backbone and its forward graph over one sequence. */
typedef struct model {
    dt_backbone *bb;
    dt_graph *g;
    dt_val tokens, pos, targets, nll;
} model;

static void build(model *m, int64_t n)
{
    OK(dt_graph_create(&m->g));
    m->g->tokens = n;
    m->tokens = dt_graph_input(m->g, "tokens", DT_TYPE_I32, 1, &n, DT_NO_SPLIT);
    m->pos = dt_graph_input(m->g, "pos", DT_TYPE_I32, 1, &n, DT_NO_SPLIT);
    m->targets = dt_graph_input(m->g, "targets", DT_TYPE_I32, 1, &n, DT_NO_SPLIT);
    const dt_batch batch = {m->tokens, m->pos, n, 0, DT_NONE};
    dt_val head = DT_NONE;
    dt_val hidden = m->bb->family->build(m->g, m->bb->own, &m->bb->info, &batch, &head);
    dt_head_next_token(m->g, hidden, head, m->targets, &m->nll);
    dt_graph_mark_output(m->g, m->nll);
    OK(dt_graph_status(m->g));
}

static model open_model(const char *path, int64_t n)
{
    model m = {0};
    OK(dt_backbone_open(path, false, 0, true, &m.bb));
    build(&m, n);
    return m;
}

static void close_model(model *m)
{
    dt_graph_destroy(m->g);
    dt_backbone_close(m->bb);
}

/* -log p of each id but the first. */
static void evaluate(const char *path, const int32_t *ids, int64_t n, float *nll)
{
    int32_t pos[MOST_TOKENS], targets[MOST_TOKENS];
    dt_device device;
    dt_comm comm;
    dt_store *store = NULL;
    dt_exec *exec = NULL;
    model m = open_model(path, n);
    for (int32_t i = 0; i < n; i++) {
        pos[i] = i;
        targets[i] = i + 1 < n ? ids[i + 1] : -1;
    }
    OK(dt_pass_shard(m.g, &alone));
    OK(dt_pass_fuse(m.g));
    OK(dt_device_cpu(1, &device));
    OK(dt_comm_create_host(&alone, &comm));
    OK(dt_store_create(&device, &store));
    OK(dt_weights_load(m.bb, m.g, &device, store));
    OK(dt_exec_create(m.g, &device, &comm, store, &exec));
    OK(dt_exec_put_i32(exec, m.tokens, ids));
    OK(dt_exec_put_i32(exec, m.pos, pos));
    OK(dt_exec_put_i32(exec, m.targets, targets));
    OK(dt_exec_run(exec, DT_PROLOGUE));
    OK(dt_exec_run(exec, DT_MICRO));
    OK(dt_exec_get_f32(exec, m.g->output[0], nll));
    dt_exec_destroy(exec);
    dt_store_destroy(store);
    dt_comm_destroy(&comm);
    dt_device_destroy(&device);
    close_model(&m);
}

/* The checkpoint at `path` against the values of transformers in float64. */
static void check_tokens(const char *path, const char *type)
{
    char golden_path[512];
    dt_json golden;
    snprintf(golden_path, sizeof golden_path, GOLDEN "%s/nll.json", type);
    OK(dt_json_parse_file(golden_path, DT_ERR_DATA, &golden));
    cJSON *text, *item;
    cJSON_ArrayForEach(text, golden.node)
    {
        int32_t ids[MOST_TOKENS], n = 0, i = 0;
        float nll[MOST_TOKENS];
        cJSON_ArrayForEach(item, cJSON_GetObjectItem(text, "ids"))
        {
            cr_assert_lt(n, MOST_TOKENS);
            ids[n++] = item->valueint;
        }
        evaluate(path, ids, n, nll);
        cJSON_ArrayForEach(item, cJSON_GetObjectItem(text, "nll"))
        {
            cr_assert(fabs((double)nll[i] - item->valuedouble) <= 1e-4, "%s, token %d: %g, not %g", type, i,
                      (double)nll[i], item->valuedouble);
            i++;
        }
        cr_assert_eq(i, n - 1);
    }
    dt_json_free(&golden);
}

Test(families, compute_what_transformers_computes)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char path[512];
        snprintf(path, sizeof path, GOLDEN "%s", types[i]);
        check_tokens(path, types[i]);
    }
}

/* ---- weights ---- */

static char folder[] = "/tmp/dtrain-families-XXXXXX";

/* GPT-2's checkpoint again, with `prefix` in front of its names and one tensor (NULL: none) a column short. */
static void write_gpt2(const char *prefix, const char *narrowed)
{
    dt_st *st = NULL;
    dt_st_entry entry[64];
    char name[64][128], path[128], *config = NULL;
    size_t bytes = 0;
    OK(dt_st_open(GOLDEN "gpt2", &st));
    int64_t n = dt_st_count(st);
    cr_assert_leq(n, 64);
    for (int64_t i = 0; i < n; i++) {
        const dt_st_tensor *t = dt_st_at(st, i);
        snprintf(name[i], sizeof name[i], "%s%s", prefix, t->name);
        entry[i] = (dt_st_entry){.name = name[i], .type = t->type, .ndim = t->ndim, .data = t->data};
        memcpy(entry[i].dim, t->dim, sizeof t->dim);
        if (narrowed != NULL && strcmp(t->name, narrowed) == 0) entry[i].dim[t->ndim - 1]--;
    }
    cr_assert(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    OK(dt_st_write(path, entry, n, NULL, 0));
    OK(dt_file_read(GOLDEN "gpt2/config.json", &config, &bytes));
    snprintf(path, sizeof path, "%s/config.json", folder);
    OK(dt_file_write_atomic(path, config, bytes));
    free(config);
    dt_st_close(st);
}

Test(families, names_in_files_with_or_without_the_prefix)
{
    write_gpt2("transformer.", NULL);
    check_tokens(folder, "gpt2");
    OK(dt_dir_remove(folder));
}

static dt_status load(const char *path)
{
    dt_device device;
    dt_store *store = NULL;
    model m = open_model(path, 4);
    OK(dt_pass_shard(m.g, &alone));
    OK(dt_device_cpu(1, &device));
    OK(dt_store_create(&device, &store));
    dt_status st = dt_weights_load(m.bb, m.g, &device, store);
    dt_store_destroy(store);
    dt_device_destroy(&device);
    close_model(&m);
    return st;
}

Test(families, errors_name_the_tensor_that_is_stored)
{
    write_gpt2("", "h.1.attn.c_attn.weight");
    cr_assert_eq(load(folder), DT_ERR_MODEL);
    cr_assert(strstr(dt_error_text(), "h.1.attn.c_attn.weight is [16,47], expected [16,48]"), "%s", dt_error_text());
    OK(dt_dir_remove(folder));
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    write_gpt2("transformers.", NULL);
    cr_assert_eq(load(folder), DT_ERR_MODEL);
    cr_assert(strstr(dt_error_text(), "no tensor transformer.wte.weight (expected, of shape [257,16]); nearest: "
                                      "transformers.wte.weight"),
              "%s", dt_error_text());
    OK(dt_dir_remove(folder));
}

/* Rank `rank` of `ranks` holds whole heads of q, k and v, each from its own third of the fused tensor. */
Test(families, each_rank_reads_its_heads_of_each_part)
{
    static const char *const part[] = {"q", "k", "v"};
    dt_st *st = NULL;
    OK(dt_st_open(GOLDEN "gpt2", &st));
    const float *w = (const float *)(const void *)dt_st_find(st, "h.2.attn.c_attn.weight")->data;
    const float *b = (const float *)(const void *)dt_st_find(st, "h.2.attn.c_attn.bias")->data;
    for (int ranks = 1; ranks <= 4; ranks *= 2) {
        for (int rank = 0; rank < ranks; rank++) {
            dt_mesh mesh;
            model m = open_model(GOLDEN "gpt2", 4);
            OK(dt_mesh_make(rank, ranks, ranks, 4, &mesh));
            OK(dt_pass_shard(m.g, &mesh));
            for (int k = 0; k < 3; k++) {
                float got[16 * 16];
                char name[64];
                int64_t width = 16 / ranks, first = k * 16 + rank * width;
                snprintf(name, sizeof name, "transformer.h.2.attn.c_attn.%s.weight", part[k]);
                OK(dt_weights_read(m.bb, m.g, dt_graph_find(m.g, name), got));
                for (int64_t i = 0; i < 16 * width; i++)
                    cr_assert_eq(got[i], w[i / width * 48 + first + i % width], "%s %lld", name, (long long)i);
                snprintf(name, sizeof name, "transformer.h.2.attn.c_attn.%s.bias", part[k]);
                OK(dt_weights_read(m.bb, m.g, dt_graph_find(m.g, name), got));
                for (int64_t i = 0; i < width; i++) cr_assert_eq(got[i], b[first + i]);
            }
            close_model(&m);
        }
    }
    dt_st_close(st);
}

Test(families, random_biases_are_zero_and_gains_one)
{
    model m = {0};
    OK(dt_backbone_open(GOLDEN "gpt2", true, 7, true, &m.bb));
    build(&m, 4);
    OK(dt_pass_shard(m.g, &alone));
    float x[16 * 24], sum = 0;
    OK(dt_weights_read(m.bb, m.g, dt_graph_find(m.g, "transformer.h.0.mlp.c_fc.bias"), x));
    for (int i = 0; i < 24; i++) cr_assert_eq(x[i], 0.0f);
    OK(dt_weights_read(m.bb, m.g, dt_graph_find(m.g, "transformer.h.0.ln_1.weight"), x));
    for (int i = 0; i < 16; i++) cr_assert_eq(x[i], 1.0f);
    OK(dt_weights_read(m.bb, m.g, dt_graph_find(m.g, "transformer.h.0.mlp.c_fc.weight"), x));
    for (int i = 0; i < 16 * 24; i++) sum += x[i] * x[i];
    cr_assert(fabsf(sqrtf(sum / (16 * 24)) - 0.02f) < 0.003f);
    close_model(&m);
}

/* ---- sites ---- */

static void check_sites(const char *type, const char *const *roles)
{
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%s", type);
    model m = open_model(path, 4);
    int found = 0, expected = 0;
    for (; roles[expected] != NULL; expected++)
        for (int64_t s = 0; s < m.g->sites; s++) found += strcmp(m.g->site[s].role, roles[expected]) == 0;
    cr_assert_eq(found, expected, "%s: %d of %d", type, found, expected);
    for (int64_t s = 0; s < m.g->sites; s++) { /* O and I are where the site says */
        const dt_site *site = &m.g->site[s];
        if (site->kind != DT_SITE_LINEAR) continue;
        const dt_value *w = &m.g->value[site->w];
        cr_assert_eq(w->dim[site->out_dim], m.g->value[site->y].dim[1], "%s", site->path);
        cr_assert_eq(w->dim[1 - site->out_dim], m.g->value[site->x].dim[1], "%s", site->path);
    }
    close_model(&m);
}

Test(families, roles_are_the_same_in_every_family)
{
    static const char *const llama[] = {"embed",          "block.2.norm1",    "block.2.attn.q", "block.2.attn.k",
                                        "block.2.attn.v", "block.2.attn.o",   "block.2.norm2",  "block.2.ffn.gate",
                                        "block.2.ffn.up", "block.2.ffn.down", "final_norm",     NULL};
    static const char *const gpt2[] = {"embed",          "embed.pos",        "block.2.norm1",  "block.2.attn.q",
                                       "block.2.attn.k", "block.2.attn.v",   "block.2.attn.o", "block.2.norm2",
                                       "block.2.ffn.up", "block.2.ffn.down", "final_norm",     NULL};
    for (int i = 0; i < 3; i++) check_sites(types[i], llama);
    check_sites("qwen3", (const char *const[]){"block.0.attn.q_norm", "block.0.attn.k_norm", "head", NULL});
    check_sites("gpt2", gpt2);
}

/* ---- config.json ---- */

/* Parses a configuration: `base` of golden type `type` with `changes`, a JSON object, laid over it. */
static dt_status parse(const char *type, const char *changes, dt_graph **g)
{
    char path[512];
    dt_json config, over;
    dt_backbone bb = {0};
    snprintf(path, sizeof path, GOLDEN "%s/config.json", type);
    OK(dt_json_parse_file(path, DT_ERR_MODEL, &config));
    OK(dt_json_parse(changes, strlen(changes), "changes", DT_ERR_MODEL, &over));
    cJSON *item;
    while ((item = over.node->child) != NULL) {
        cJSON_DetachItemViaPointer(over.node, item);
        cJSON_DeleteItemFromObjectCaseSensitive(config.node, item->string);
        if (cJSON_IsString(item) && strcmp(item->valuestring, "absent") == 0) cJSON_Delete(item);
        else cJSON_AddItemToObject(config.node, item->string, item);
    }
    for (const dt_family *const *f = dt_families; *f != NULL && bb.family == NULL; f++)
        for (const char *const *t = (*f)->types; *t != NULL; t++)
            if (strcmp(*t, type) == 0) bb.family = *f;
    dt_status st = bb.family->parse(&config, &bb.region, &bb.own, &bb.info);
    if (st == DT_OK && g != NULL) {
        model m = {.bb = &bb};
        build(&m, 4);
        *g = m.g;
    }
    dt_region_free(&bb.region);
    dt_json_free(&over);
    dt_json_free(&config);
    return st;
}

Test(families, keys_that_change_the_computation_are_refused)
{
    static const struct {
        const char *type, *changes, *error;
    } bad[] = {
        {"mistral", "{\"layer_types\": [\"sliding_attention\"]}", "layer_types: is not known, and may change"},
        {"mistral", "{\"attention_bias\": true}", "attention_bias: is not known"},
        {"mistral", "{\"quantization_config\": {\"bits\": 4}}", "quantization_config: is not known"},
        {"mistral", "{\"sliding_window\": 0}", "sliding_window: 0 is not >= 1"},
        {"mistral", "{\"num_hidden_layers\": 9007199254740992}",
         "num_hidden_layers: 9007199254740992 is not <= 16777216"},
        {"mistral", "{\"num_hidden_layers\": 16777217}", "num_hidden_layers: 16777217 is not <= 16777216"},
        {"mistral", "{\"max_position_embeddings\": 0}", "max_position_embeddings: 0 is not >= 1"},
        {"mistral", "{\"head_dim\": 4194306}", "head_dim: 4194306 times num_attention_heads 4 is not <= 16777216"},
        {"mistral", "{\"num_key_value_heads\": \"absent\"}", "num_key_value_heads: is missing"},
        {"mistral", "{\"hidden_act\": \"gelu\"}", "hidden_act: gelu is not known; known: silu"},
        {"qwen2", "{\"layer_types\": [\"full_attention\"]}", "layer_types: has 1 entries, not num_hidden_layers 3"},
        {"qwen2", "{\"layer_types\": [\"full_attention\", \"linear_attention\", \"full_attention\"]}",
         "layer_types[1]: linear_attention is not known; known: full_attention, sliding_attention"},
        {"qwen2", "{\"use_sliding_window\": false}", "layer_types[1]: sliding_attention without"},
        {"qwen2", "{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4}}",
         "rope_parameters.rope_type: yarn is not known"},
        {"qwen3", "{\"rope_parameters\": {\"rope_type\": \"default\", \"partial_rotary_factor\": 0.5}}",
         "rope_parameters.partial_rotary_factor: 0.5 is not 1"},
        {"qwen3", "{\"rope_parameters\": {\"rope_type\": \"default\", \"mrope_section\": [1]}}",
         "rope_parameters.mrope_section: is not known"},
        {"qwen3", "{\"head_dim\": \"absent\"}", "head_dim: is missing"},
        {"gpt2", "{\"scale_attn_by_inverse_layer_idx\": true}", "scale_attn_by_inverse_layer_idx: is not known"},
        {"gpt2", "{\"scale_attn_weights\": false}", "scale_attn_weights: false is not known; known: true"},
        {"gpt2", "{\"add_cross_attention\": true}", "add_cross_attention: is not known"},
        {"gpt2", "{\"activation_function\": \"relu\"}", "activation_function: relu is not known; known: gelu_new"},
        {"gpt2", "{\"n_head\": 5}", "n_head: 5 does not divide n_embd 16"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect_eq(parse(bad[i].type, bad[i].changes, NULL), DT_ERR_MODEL, "%s %s", bad[i].type, bad[i].changes);
        cr_expect(strstr(dt_error_text(), bad[i].error), "%s %s: %s", bad[i].type, bad[i].changes, dt_error_text());
    }
    OK(parse("gpt2", "{\"new_option\": false, \"pruned_heads\": {}, \"n_inner\": null, \"top_k\": 50}", NULL));
}

/* The window of each layer's attention. */
static void check_windows(const char *type, const char *changes, const int64_t expected[3])
{
    dt_graph *g = NULL;
    int layer = 0;
    OK(parse(type, changes, &g));
    DT_FOR_NODES (g, i) {
        if (g->node[i].op != &dt_op_attention) continue;
        cr_assert_eq(DT_ATTR(dt_attention_attr, &g->node[i])->window, expected[layer], "%s %s, layer %d", type, changes,
                     layer);
        layer++;
    }
    cr_assert_eq(layer, 3);
    dt_graph_destroy(g);
}

Test(families, windows_are_those_of_config_json)
{
    check_windows("mistral", "{}", (const int64_t[]){8, 8, 8});
    check_windows("mistral", "{\"sliding_window\": null}", (const int64_t[]){0, 0, 0});
    check_windows("mistral", "{\"sliding_window\": \"absent\"}", (const int64_t[]){4096, 4096, 4096});
    check_windows("qwen2", "{}", (const int64_t[]){0, 12, 12});
    check_windows("qwen2", "{\"layer_types\": [\"sliding_attention\", \"full_attention\", \"sliding_attention\"]}",
                  (const int64_t[]){12, 0, 12});
    check_windows("qwen2", "{\"layer_types\": null, \"max_window_layers\": 2}", (const int64_t[]){0, 0, 12});
    check_windows("qwen2", "{\"layer_types\": null, \"use_sliding_window\": false}", (const int64_t[]){0, 0, 0});
    check_windows("qwen3", "{}", (const int64_t[]){0, 0, 0});
}
