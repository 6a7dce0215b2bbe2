/* A checkpoint of random weights: the stored tensors of a family's graph, drawn shard by shard. */
#include "base/file.h"
#include "model/model.h"
#include "model/weights.h"
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The stored tensors, each once, in the order in which the graph meets them, and the shard of each. */
typedef struct checkpoint {
    dt_st_entry *tensor;
    int *shard;
    int64_t n;
    int shards;
    int64_t bytes;
} checkpoint;

static int64_t count_of(const dt_st_entry *t)
{
    int64_t n = 1;
    for (int d = 0; d < t->ndim; d++) n *= t->dim[d];
    return n;
}

static bool is_listed(const checkpoint *c, const char *name)
{
    for (int64_t i = 0; i < c->n; i++)
        if (strcmp(c->tensor[i].name, name) == 0) return true;
    return false;
}

/* The tensors that the graph's weights are stored in; their names are the graph's. */
static dt_status list_tensors(const dt_graph *g, dt_st_type type, int64_t shard_bytes, checkpoint *c)
{
    int64_t filled = 0;
    DT_TRY(dt_alloc((size_t)g->values + 1, sizeof *c->tensor, &c->tensor));
    DT_TRY(dt_alloc((size_t)g->values + 1, sizeof *c->shard, &c->shard));
    for (dt_val v = 0; v < g->values; v++) {
        int64_t dim[DT_DIMS];
        if (g->value[v].kind != DT_KIND_WEIGHT) continue;
        const char *name = dt_weights_stored(&g->value[v], dim);
        if (is_listed(c, name)) continue;
        dt_st_entry *t = &c->tensor[c->n];
        *t = (dt_st_entry){.name = name, .type = type, .ndim = g->value[v].ndim};
        memcpy(t->dim, dim, sizeof dim);
        int64_t bytes = count_of(t) * (int64_t)dt_st_type_size(type);
        if (c->n == 0 || filled + bytes > shard_bytes) {
            c->shards++;
            filled = 0;
        }
        c->shard[c->n++] = c->shards - 1;
        filled += bytes;
        c->bytes += bytes;
    }
    return DT_OK;
}

/* Row by row: a conversion then needs little memory. By all of the machine's threads: each number is a function of its
 * place, whoever draws it. */
static dt_status draw(const dt_backbone *bb, dt_st_entry *t)
{
    const int64_t cols = t->dim[t->ndim - 1], rows = count_of(t) / cols;
    const size_t size = dt_st_type_size(t->type);
    unsigned char *data = NULL;
    bool drawn = true;
    DT_TRY(dt_alloc((size_t)(rows * cols) + 1, size, &data));
    t->data = data;
#pragma omp parallel reduction(&& : drawn)
    {
        float *row = malloc((size_t)cols * sizeof *row);
        drawn = row != NULL;
#pragma omp for
        for (int64_t r = 0; r < rows; r++) {
            if (row == NULL) continue;
            dt_weights_draw(bb, t->name, t->ndim, (dt_slice){r * cols, 1, cols, cols}, row);
            dt_st_from_f32(t->type, row, cols, data + (size_t)(r * cols) * size);
        }
        free(row);
    }
    return drawn ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: no memory for a row of %lld", t->name, (long long)cols);
}

static void name_shard(const checkpoint *c, int shard, char *name, size_t bytes)
{
    if (c->shards == 1) snprintf(name, bytes, "model.safetensors");
    else snprintf(name, bytes, "model-%05d-of-%05d.safetensors", shard + 1, c->shards);
}

static dt_status write_shard(const dt_backbone *bb, checkpoint *c, int shard, const char *folder)
{
    static const char *const metadata[] = {"format", "pt"};
    char name[64], path[4096];
    int64_t first = 0, n = 0;
    dt_status st = DT_OK;
    for (int64_t i = c->n - 1; i >= 0; i--) {
        if (c->shard[i] != shard) continue;
        first = i;
        n++;
    }
    for (int64_t i = first; i < first + n && st == DT_OK; i++) st = draw(bb, &c->tensor[i]);
    name_shard(c, shard, name, sizeof name);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (st == DT_OK) st = dt_st_write(path, c->tensor + first, n, metadata, 1);
    for (int64_t i = first; i < first + n; i++) {
        free((void *)(uintptr_t)c->tensor[i].data);
        c->tensor[i].data = NULL;
    }
    return st;
}

/* Which shard each tensor is in, as transformers looks it up. */
static dt_status write_index(const checkpoint *c, const char *folder)
{
    char path[4096];
    cJSON *root = cJSON_CreateObject(), *meta = cJSON_AddObjectToObject(root, "metadata");
    cJSON_AddNumberToObject(meta, "total_size", (double)c->bytes);
    cJSON *map = cJSON_AddObjectToObject(root, "weight_map");
    for (int64_t i = 0; i < c->n; i++) {
        char name[64];
        name_shard(c, c->shard[i], name, sizeof name);
        cJSON_AddStringToObject(map, c->tensor[i].name, name);
    }
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    dt_status st = dt_file_write_atomic(path, text, strlen(text));
    cJSON_free(text);
    return st;
}

/* The family's graph over one sequence, for the weights that it declares. */
static dt_status declare(const dt_backbone *bb, dt_graph *g)
{
    const int64_t n = 8;
    const dt_val tokens = dt_graph_input(g, "tokens", DT_TYPE_I32, 1, &n, DT_NO_SPLIT);
    const dt_batch batch = {tokens, dt_graph_input(g, "pos", DT_TYPE_I32, 1, &n, DT_NO_SPLIT), n, 0, DT_NONE};
    dt_val head = DT_NONE;
    g->tokens = n;
    bb->family->build(g, bb->own, &bb->info, &batch, &head);
    return dt_graph_status(g);
}

dt_status dt_weights_write_random(const dt_backbone *bb, dt_st_type type, int64_t shard_bytes, const char *folder)
{
    checkpoint c = {0};
    dt_graph *g = NULL;
    DT_TRY(dt_graph_create(&g));
    dt_status st = declare(bb, g);
    if (st == DT_OK) st = list_tensors(g, type, shard_bytes, &c);
    for (int s = 0; s < c.shards && st == DT_OK; s++) st = write_shard(bb, &c, s, folder);
    if (st == DT_OK && c.shards > 1) st = write_index(&c, folder);
    free(c.tensor);
    free(c.shard);
    dt_graph_destroy(g);
    return st;
}
