/* The backbone: which family a checkpoint is, the forward graph that the family builds, its weights in memory, and the
 * loss that stands on top. A family describes the model as a single device would compute it: no delta, no parallelism,
 * no backward. It says only how each weight is split (rows, columns, vocabulary, not at all). */
#ifndef DT_MODEL_MODEL_H
#define DT_MODEL_MODEL_H

#include "base/json.h"         // dt_json
#include "comm/comm.h"         // dt_team
#include "graph/exec.h"        // dt_store
#include "graph/graph.h"       // dt_graph
#include "model/safetensors.h" // dt_st

/** What everything outside a family needs to know of a backbone. */
typedef struct dt_model_info {
    int64_t layers, width, heads, kv_heads, head_dim, ffn, vocab, max_positions;
    double init_std; /* of random weights */
} dt_model_info;

/** The values that a family builds on. */
typedef struct dt_batch {
    dt_val tokens, pos; /* [N] I32 */
    int64_t seq;        /* T */
    int64_t cache;      /* S: generation with a key-value cache of S positions; 0: training, evaluation */
    dt_val start;       /* [1] I32, with a cache: position of the first token */
} dt_batch;

typedef struct dt_family {
    const char *const *types; /* values of "model_type" in config.json; NULL-terminated */
    const char *prefix;       /* in front of tensors' names; files saved from the model without its head lack it */
    /** Reads config.json into the family's own struct (in `region`) and *info. Errors name the key; one that asks for
     * what the family does not compute is an error (dt_model_check_keys). */
    dt_status (*parse)(const dt_json *config, dt_region *region, void **own, dt_model_info *info);
    /** Builds the graph up to the hidden states [N,C] that the head reads, registers the sites, and sets *head to the
     * head's weight [V,C] (a HEAD site). Errors are the graph's. */
    dt_val (*build)(dt_graph *g, const void *own, const dt_model_info *info, const dt_batch *batch, dt_val *head);
    /** Standard deviation of a random matrix, by its tensor's name. NULL: info->init_std for all. */
    double (*init_std)(const dt_model_info *info, const char *tensor);
} dt_family;
extern const dt_family *const dt_families[]; /* NULL-terminated: families.def */

typedef struct dt_backbone {
    const dt_family *family;
    const char *type; /* which of the family's types */
    dt_model_info info;
    void *own;
    char *path;
    bool random_init;
    uint64_t seed;              /* of random weights */
    dt_st *weights;             /* NULL: random_init, or another rank reads them */
    struct dt_fetched *fetched; /* [n_fetched] slices that dt_weights_fetch brought; else NULL */
    int64_t n_fetched;
    char fingerprint[33];
    dt_region region;
} dt_backbone;

/** Reads config.json, finds the family, maps the weights (random_init: needs none). DT_ERR_MODEL: unknown model_type
 * with the known ones, missing or wrong keys. load_weights 0: config.json only, as for `plan`. Local. */
dt_status dt_backbone_open(const char *path, bool random_init, uint64_t seed, bool load_weights,
                           dt_backbone **out) DT_WARN_UNUSED;
void dt_backbone_close(dt_backbone *bb);

/** Storage for every WEIGHT of a sharded graph that the store does not have yet: this rank's slice as fp32 -> ACT; a
 * view of the mapping where it is fp32, contiguous and the device computes in host memory. DT_ERR_MODEL names the
 * tensor, the expected shape and, if it is missing, the nearest name. Local. */
dt_status dt_weights_load(const dt_backbone *bb, const dt_graph *g, dt_device *device, dt_store *store) DT_WARN_UNUSED;
/** Host copy of this rank's slice of one value of the graph that bears a backbone tensor's name. */
dt_status dt_weights_read(const dt_backbone *bb, const dt_graph *g, dt_val v, float *dst) DT_WARN_UNUSED;

/** Brings this rank's slice of every WEIGHT of a sharded graph into memory: rank 0 of the team, which alone has opened
 * the backbone with its weights, reads each file once, front to back, in pieces of piece_bytes, and hands them to the
 * team. dt_weights_load and dt_weights_read then take them from there, the same bits as from the files. The others get
 * the reader's fingerprint. Errors are the reader's, as of dt_weights_load, and everybody's. Collective over the world
 * (the graphs of all ranks have the same weights); ends in an agreement. */
dt_status dt_weights_fetch(dt_backbone *bb, const dt_graph *g, dt_team *team, int64_t piece_bytes) DT_WARN_UNUSED;
enum { DT_FETCH_BYTES = 4 << 20 /* a piece that is worth a message and fits a cache */ };
/** Frees what was fetched and no store has a view of: when every graph has its weights. Nothing may be read after. */
void dt_weights_release(dt_backbone *bb);
/** Frees all that was fetched. For dt_backbone_close. */
void dt_weights_forget(dt_backbone *bb);

/** Writes random weights as a folder that dtrain and transformers read: model.safetensors, or, where that would be more
 *  than shard_bytes, shards of at most so many (or of one tensor) and their index. type: DT_ST_F32 or DT_ST_BF16. The
 *  same for the same seed; as F32 the very values that random_init computes with. Local. */
dt_status dt_weights_write_random(const dt_backbone *bb, dt_st_type type, int64_t shard_bytes,
                                  const char *folder) DT_WARN_UNUSED;

/** The checkpoint's tensor that holds a weight, under its name with or without the family's prefix; NULL: there is
 * none. *fits (may be NULL): has it the shape that the weight needs? */
const dt_st_tensor *dt_weights_find(const dt_backbone *bb, const dt_value *weight, bool *fits);

/* ---- Helpers of families that read config.json. ---- */

/** Refuses every key of an object that neither `known` lists (NULL-terminated) nor is known to leave training,
 * evaluation and generation as they are: what it asks for would silently be left out. null, false, {} and [] ask for
 * nothing. */
dt_status dt_model_check_keys(const dt_json *at, const char *const *known) DT_WARN_UNUSED;
/** An integer that must be there and in 1..DT_MODEL_SIZE_MAX: beyond any model, yet the product of two fits an int64.
 */
enum { DT_MODEL_SIZE_MAX = 1 << 24 };
dt_status dt_model_size(const dt_json *config, const char *key, int64_t *out) DT_WARN_UNUSED;
/** Inverse frequencies f[D/2] of rotary positions, scaling included (rope.c), in `region`. */
dt_status dt_model_rope(const dt_json *config, int64_t head_dim, dt_region *region, float **f) DT_WARN_UNUSED;

/* ---- Helpers of families (layers.c): each declares its weights, registers its site, returns its output. ---- */

/** Module path and role of a part of block i: <blocks>.<i>.<leaf> and block.<i>.<part>. */
typedef struct dt_layer_name {
    char path[128], role[64];
} dt_layer_name;
dt_layer_name dt_layer_name_of(const char *blocks, int64_t i, const char *leaf, const char *part);

/** How a linear's weight [O,I] is split over the tensor ranks. */
typedef enum dt_linear_split {
    DT_SPLIT_NONE,
    DT_SPLIT_COLUMN /* O */,
    DT_SPLIT_ROW /* I */,
    DT_SPLIT_KV /* O, kv heads */
} dt_linear_split;
/** Linear site `path` (weight `path`.weight, bias `path`.bias if has_bias). */
dt_val dt_layer_linear(dt_graph *g, const char *path, const char *role, dt_val x, int64_t out, int64_t in,
                       dt_linear_split split, bool has_bias);
/** The same with the weight in Conv1D's layout, [I,O], and always a bias. fused (NULL: the site's own): path of the
 * stored linear of `total` outputs of which these are [first, first + out). */
dt_val dt_layer_conv1d(dt_graph *g, const char *path, const char *role, dt_val x, int64_t out, int64_t in,
                       dt_linear_split split, const char *fused, int64_t first, int64_t total);
/** Normalises rows of `width` features: all of x's, or those of each head. */
dt_val dt_layer_rmsnorm(dt_graph *g, const char *path, const char *role, dt_val x, int64_t width, double eps);
dt_val dt_layer_layernorm(dt_graph *g, const char *path, const char *role, dt_val x, int64_t width, double eps);
/** Token embedding split along the vocabulary. */
dt_val dt_layer_embed(dt_graph *g, const char *path, dt_val tokens, int64_t vocab, int64_t width);
/** Learned positions, role embed.pos: on every rank whole. */
dt_val dt_layer_positions(dt_graph *g, const char *path, dt_val pos, int64_t positions, int64_t width);
/** The head's weight [V,C]: `tied` (the embedding's value) or its own. */
dt_val dt_layer_head(dt_graph *g, const char *path, dt_val tied, int64_t vocab, int64_t width);
/** Causal attention of a batch: over the batch's own tokens, or over the key-value cache of layer `layer`. window:
 * tokens that one sees, itself included; 0: all before it. */
dt_val dt_layer_attention(dt_graph *g, const dt_batch *batch, int64_t layer, dt_val q, dt_val k, dt_val v,
                          const dt_model_info *info, int64_t window);

/* ---- Heads (head.c). ---- */

/** Next-token loss: per-token negative log-likelihood *nll[N] (0 where targets is -1), and their sum [1]. */
dt_val dt_head_next_token(dt_graph *g, dt_val hidden, dt_val head, dt_val targets, dt_val *nll);

#endif
