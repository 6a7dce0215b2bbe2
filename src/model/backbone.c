/* Opening a checkpoint folder: which family it is, what it says of itself, its fingerprint. */
#include "base/file.h" // dt_path_is_dir, dt_map_forget
#include "base/hash.h" // dt_digest_bytes
#include "model/model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DT_FAMILY(name) extern const dt_family dt_family_##name;
#include "model/families.def"
#undef DT_FAMILY
const dt_family *const dt_families[] = {
#define DT_FAMILY(name) &dt_family_##name,
#include "model/families.def"
#undef DT_FAMILY
    NULL};

static dt_status find_family(const dt_json *config, dt_backbone *bb)
{
    char known[256] = "";
    const char *type = NULL;
    DT_TRY(dt_json_string(config, "model_type", &type));
    for (const dt_family *const *f = dt_families; *f != NULL; f++) {
        for (const char *const *t = (*f)->types; *t != NULL; t++) {
            if (strcmp(*t, type) == 0) {
                bb->family = *f;
                bb->type = *t;
                return DT_OK;
            }
            size_t n = strlen(known);
            snprintf(known + n, sizeof known - n, "%s%s", n != 0 ? ", " : "", *t);
        }
    }
    return dt_json_fail(config, "model_type", "%s is not known; known: %s", type, known);
}

/* Which weights these are: names, types, shapes, and bytes sampled from each tensor, so that it costs no full read. */
static dt_status fingerprint(dt_backbone *bb)
{
    uint64_t h = bb->seed;
    for (int64_t i = 0; bb->weights != NULL && i < dt_st_count(bb->weights); i++) {
        const dt_st_tensor *t = dt_st_at(bb->weights, i);
        h = dt_hash_bytes(t->name, strlen(t->name), h);
        h = dt_hash_bytes(t->dim, sizeof t->dim[0] * (size_t)t->ndim, h + (uint64_t)t->type);
        const size_t piece = 256, pieces = 16;
        for (size_t k = 0; k < pieces; k++) {
            size_t at = t->bytes > piece ? (t->bytes - piece) / (pieces - 1) * k : 0;
            h = dt_hash_bytes(t->data + at, t->bytes - at < piece ? t->bytes - at : piece, h);
        }
        dt_map_forget(t->data, t->bytes); /* the system maps far more around a sample than that */
    }
    snprintf(bb->fingerprint, sizeof bb->fingerprint, "%s%016llx", bb->random_init ? "random-" : "",
             (unsigned long long)h);
    return DT_OK;
}

dt_status dt_backbone_open(const char *path, bool random_init, uint64_t seed, bool load_weights, dt_backbone **out)
{
    dt_backbone *bb = NULL;
    dt_json config = {0};
    dt_status st;
    DT_TRY(dt_alloc(1, sizeof *bb, &bb));
    bb->random_init = random_init;
    bb->seed = random_init ? seed : 0;
    bb->path = dt_region_strdup(&bb->region, path);
    char *file = dt_region_printf(&bb->region, "%s/config.json", path);
    if (bb->path == NULL || file == NULL) DT_GOTO(dt_fail(DT_ERR_MEMORY, "out of memory"), failed);
    if (!dt_path_is_dir(path))
        DT_GOTO(dt_fail(DT_ERR_MODEL, "backbone.path: %s is no folder; expected one with config.json and *.safetensors",
                        path),
                failed);
    DT_GOTO(dt_json_parse_file(file, DT_ERR_MODEL, &config), failed);
    DT_GOTO(find_family(&config, bb), failed);
    DT_GOTO(bb->family->parse(&config, &bb->region, &bb->own, &bb->info), failed);
    if (load_weights && !random_init) DT_GOTO(dt_st_open(path, &bb->weights), failed);
    DT_GOTO(fingerprint(bb), failed);
    dt_json_free(&config);
    *out = bb;
    return DT_OK;
failed:
    dt_json_free(&config);
    dt_backbone_close(bb);
    return st;
}

void dt_backbone_close(dt_backbone *bb)
{
    if (bb == NULL) return;
    dt_weights_forget(bb);
    dt_st_close(bb->weights);
    dt_region_free(&bb->region);
    free(bb);
}
