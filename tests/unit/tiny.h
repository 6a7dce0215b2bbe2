/* A tiny model without files: config.json from a text, random weights, and its graphs as jobs build them, for any rank
 * of any mesh. The widths differ from each other and from the number of tokens, so that shapes tell values apart. */
#ifndef DT_TESTS_UNIT_TINY_H
#define DT_TESTS_UNIT_TINY_H

#include "graph/op.h"
#include "graph/passes.h"
#include "op/op.h"
#include "train/job.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define OK(expr) cr_assert_eq((expr), DT_OK, "%s", dt_error_text())

/** A llama, and what of it varies (0: the default), or any model by its config.json. */
typedef struct tiny_model {
    int layers, heads, kv_heads, vocab; /* 2, 8, 4, 64 */
    bool tied, bias;
    const char *json;
} tiny_model;
enum { TINY_SEQ = 8, TINY_HEAD_DIM = 6, TINY_WIDTH = 20, TINY_FFN = 40 };

typedef struct tiny {
    Dtrain__Config *config;
    dt_backbone backbone;
    dt_json json;
    dt_job job;
    dt_graph *g;
    dt_program_io io;
    int64_t sequences;
} tiny;

/** One rank, until tiny_place says otherwise. */
static inline void tiny_open(tiny *t, tiny_model m, const char *config)
{
    char text[512];
    snprintf(text, sizeof text,
             "{\"model_type\": \"llama\", \"hidden_size\": %d, \"intermediate_size\": %d, "
             "\"num_hidden_layers\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
             "\"head_dim\": %d, \"vocab_size\": %d, \"rms_norm_eps\": 1e-5, \"initializer_range\": 0.3, "
             "\"tie_word_embeddings\": %s, \"attention_bias\": %s}",
             TINY_WIDTH, TINY_FFN, m.layers ? m.layers : 2, m.heads ? m.heads : 8, m.kv_heads ? m.kv_heads : 4,
             TINY_HEAD_DIM, m.vocab ? m.vocab : 64, m.tied ? "true" : "false", m.bias ? "true" : "false");
    const char *json = m.json != NULL ? m.json : text;
    memset(t, 0, sizeof *t);
    t->sequences = 1;
    OK(dt_config_parse("test", config, strlen(config), NULL, 0, &t->config));
    OK(dt_json_parse(json, strlen(json), "config.json", DT_ERR_MODEL, &t->json));
    const char *type;
    t->backbone = (dt_backbone){.random_init = true, .seed = 1};
    OK(dt_json_string(&t->json, "model_type", &type));
    for (const dt_family *const *f = dt_families; *f != NULL; f++) {
        for (const char *const *known = (*f)->types; *known != NULL; known++) {
            if (strcmp(*known, type) != 0) continue;
            t->backbone.family = *f;
            t->backbone.type = *known;
        }
    }
    cr_assert_neq(t->backbone.family, NULL, "%s", json);
    OK(t->backbone.family->parse(&t->json, &t->backbone.region, &t->backbone.own, &t->backbone.info));
    t->job = (dt_job){.config = t->config, .backbone = &t->backbone, .seq = TINY_SEQ};
    OK(dt_deltas_create(t->config, &t->job.deltas));
    OK(dt_device_cpu(1, &t->job.device));
    OK(dt_mesh_make(0, 1, 1, (int)t->backbone.info.kv_heads, &t->job.mesh));
}

/** Graphs built from now on are those of `rank` of `ranks`; parallel.tensor says how they are laid out. */
static inline void tiny_place(tiny *t, int rank, int ranks)
{
    OK(dt_mesh_make(rank, ranks, t->config->parallel->tensor, (int)t->backbone.info.kv_heads, &t->job.mesh));
}

/** Build, attach, grad, shard. Methods that select have taken an even share, but in the pass that scores. */
static inline void tiny_build(tiny *t, dt_purpose purpose)
{
    dt_graph_destroy(t->g);
    t->g = NULL;
    for (int i = 0; i < t->job.deltas.n; i++) { /* what was taken may have been another rank's */
        dt_delta *d = &t->job.deltas.delta[i];
        if (d->method->destroy != NULL) d->method->destroy(d);
    }
    if (purpose != DT_FOR_FISHER) OK(dt_job_assume_selection(&t->job, &t->job.mesh));
    OK(dt_job_build(&t->job, &t->job.mesh, purpose, t->sequences, TINY_SEQ, false, &t->g, &t->io));
}

static inline void tiny_close(tiny *t)
{
    dt_graph_destroy(t->g);
    dt_deltas_destroy(&t->job.deltas);
    dt_device_destroy(&t->job.device);
    dt_region_free(&t->backbone.region);
    dt_json_free(&t->json);
    dt_config_free(t->config);
}

/** Nodes of an op (NULL: of any) that grad emitted, or (backward false) that it did not. */
static inline int count_nodes(const dt_graph *g, const dt_op *op, bool backward)
{
    int n = 0;
    DT_FOR_NODES (g, i) n += (op == NULL || g->node[i].op == op) && g->node[i].backward == backward;
    return n;
}

/** Bytes of what the prologue computes, each rounded up as in an arena: it is there in every micro-batch. */
static inline int64_t prologue_bytes(const dt_graph *g)
{
    int64_t bytes = 0;
    DT_FOR_NODES (g, i)
        for (int k = 0; k < g->node[i].nout && g->node[i].program == DT_PROLOGUE; k++)
            if (g->node[i].out[k] != DT_NONE) bytes += (dt_value_local_count(g, g->node[i].out[k]) * 4 + 63) / 64 * 64;
    return bytes;
}

/** The value of a name that must be there. */
static inline dt_val value_named(const dt_graph *g, const char *name)
{
    dt_val v = dt_graph_find(g, name);
    cr_assert_neq(v, DT_NONE, "no value %s", name);
    return v;
}

#define ALL_LINEARS "re:.*_proj"

#endif
