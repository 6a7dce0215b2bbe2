/* The backbone's weights in memory: each rank reads only its slice; fp32 slices that are contiguous in the file are
 * used where they lie in the (private, copy-on-write) mapping, and those that another rank read (fetch.c) where they
 * are.
 */
#include "model/weights.h"
#include "base/file.h"     // dt_map_forget
#include "base/hash.h"     // dt_hash_string
#include "base/rng.h"      // dt_rng_normal
#include "config/config.h" // dt_nearest_name
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *dt_weights_stored(const dt_value *v, int64_t dim[DT_DIMS])
{
    memcpy(dim, v->dim, sizeof v->dim);
    if (v->part.tensor == NULL) return v->name;
    dim[v->part.dim] = v->part.full;
    return v->part.tensor;
}

/* This rank's slice of the stored tensor. */
dt_slice dt_weights_slice(const dt_value *v)
{
    int64_t dim[DT_DIMS], off[DT_DIMS];
    dt_weights_stored(v, dim);
    memcpy(off, v->off, sizeof off);
    if (v->part.tensor != NULL) off[v->part.dim] += v->part.first;
    if (v->ndim == 1) return (dt_slice){off[0], 1, v->local[0], dim[0]};
    return (dt_slice){off[0] * dim[1] + off[1], v->local[0], v->local[1], dim[1]};
}

static void shape_text(char *text, size_t bytes, const int64_t *dim, int ndim)
{
    size_t n = (size_t)snprintf(text, bytes, "[");
    for (int i = 0; i < ndim && n < bytes; i++)
        n += (size_t)snprintf(text + n, bytes - n, "%s%lld", i != 0 ? "," : "", (long long)dim[i]);
    if (n < bytes) snprintf(text + n, bytes - n, "]");
}

const dt_st_tensor *dt_weights_find(const dt_backbone *bb, const dt_value *v, bool *fits)
{
    int64_t dim[DT_DIMS];
    const char *name = dt_weights_stored(v, dim), *prefix = bb->family->prefix;
    const dt_st_tensor *t = dt_st_find(bb->weights, name);
    if (t == NULL && strncmp(name, prefix, strlen(prefix)) == 0) t = dt_st_find(bb->weights, name + strlen(prefix));
    if (t == NULL || fits == NULL) return t;
    *fits = t->ndim == v->ndim;
    for (int i = 0; i < v->ndim && *fits; i++) *fits = t->dim[i] == dim[i];
    return t;
}

dt_status dt_weights_tensor(const dt_backbone *bb, const dt_value *v, const dt_st_tensor **out)
{
    char expected[96], found[96];
    int64_t dim[DT_DIMS];
    bool fits = false;
    const char *name = dt_weights_stored(v, dim);
    shape_text(expected, sizeof expected, dim, v->ndim);
    const dt_st_tensor *t = dt_weights_find(bb, v, &fits);
    if (t == NULL) {
        int64_t n = dt_st_count(bb->weights);
        const char **names = NULL;
        DT_TRY(dt_alloc((size_t)n + 1, sizeof *names, &names));
        for (int64_t i = 0; i < n; i++) names[i] = dt_st_at(bb->weights, i)->name;
        const char *near = dt_nearest_name(name, names, (int)n);
        free(names);
        return dt_fail(DT_ERR_MODEL, "%s: no tensor %s (expected, of shape %s)%s%s", bb->path, name, expected,
                       near != NULL ? "; nearest: " : "", near != NULL ? near : "");
    }
    shape_text(found, sizeof found, t->dim, t->ndim);
    if (!fits) return dt_fail(DT_ERR_MODEL, "%s: %s is %s, expected %s", t->file, t->name, found, expected);
    *out = t;
    return DT_OK;
}

void dt_weights_draw(const dt_backbone *bb, const char *tensor, int ndim, dt_slice s, float *dst)
{
    const char *leaf = strrchr(tensor, '.');
    const uint64_t hi = dt_hash_string(tensor);
    const float vector = leaf != NULL && strcmp(leaf, ".bias") == 0 ? 0.0f : 1.0f;
    const dt_family *family = bb->family;
    const float scale = (float)(family->init_std != NULL ? family->init_std(&bb->info, tensor) : bb->info.init_std);
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t c = 0; c < s.cols; c++) {
            float x = vector;
            if (ndim > 1) x = scale * dt_rng_normal(bb->seed, DT_RNG_INIT, hi, (uint64_t)(s.offset + r * s.ld + c));
            dst[r * s.cols + c] = x;
        }
}

/* May the slice be used, and written to, where it is mapped? */
static bool lies_ready(const dt_st_tensor *t, dt_slice s)
{
    return t->type == DT_ST_F32 && (s.rows == 1 || s.cols == s.ld) && (uintptr_t)t->data % 4 == 0;
}

dt_status dt_weights_read(const dt_backbone *bb, const dt_graph *g, dt_val v, float *dst)
{
    const dt_value *val = &g->value[v];
    dt_slice s = dt_weights_slice(val);
    if (bb->random_init) {
        int64_t dim[DT_DIMS];
        dt_weights_draw(bb, dt_weights_stored(val, dim), val->ndim, s, dst);
        return DT_OK;
    }
    if (bb->fetched != NULL) {
        dt_fetched *f = NULL;
        DT_TRY(dt_weights_fetched(bb, val, &f));
        memcpy(dst, f->data, (size_t)(s.rows * s.cols) * sizeof *dst);
        return DT_OK;
    }
    const dt_st_tensor *t = NULL;
    DT_TRY(dt_weights_tensor(bb, val, &t));
    dt_status st = dt_st_to_f32(t->type, t->data, s.offset, s.rows, s.cols, s.ld, dst);
    if (!lies_ready(t, s) && s.rows > 0) { /* held once: as what it was made */
        const size_t size = dt_st_type_size(t->type);
        dt_map_forget(t->data + (size_t)s.offset * size, (size_t)((s.rows - 1) * s.ld + s.cols) * size);
    }
    return dt_fail_in(st, "%s: %s", t->file, t->name);
}

/* Where the slice lies in fp32 already; NULL: nowhere. */
static dt_status find_in_place(const dt_backbone *bb, const dt_value *v, dt_slice s, float **out)
{
    *out = NULL;
    if (bb->random_init) return DT_OK;
    if (bb->fetched != NULL) {
        dt_fetched *f = NULL;
        DT_TRY(dt_weights_fetched(bb, v, &f));
        f->lent = true;
        *out = f->data;
        return DT_OK;
    }
    const dt_st_tensor *t = NULL;
    DT_TRY(dt_weights_tensor(bb, v, &t));
    if (lies_ready(t, s)) *out = (float *)(void *)t->data + s.offset;
    return DT_OK;
}

/* What the device holds in the type that it is stored in, as a whole, goes there as bytes: no value is looked at. */
static dt_status put_as_stored(const dt_backbone *bb, const dt_value *v, dt_slice s, dt_device *device, void *data,
                               bool *put)
{
    const dt_st_tensor *t = NULL;
    *put = false;
    if (bb->random_init || bb->fetched != NULL) return DT_OK;
    DT_TRY(dt_weights_tensor(bb, v, &t));
    const size_t size = dt_st_type_size(t->type), bytes = (size_t)(s.rows * s.cols) * size;
    if (t->type != DT_ST_BF16 || device->ops->act_size != size || (s.rows > 1 && s.cols != s.ld)) return DT_OK;
    DT_TRY(device->ops->put_bytes(device, data, t->data + (size_t)s.offset * size, bytes));
    dt_map_forget(t->data + (size_t)s.offset * size, bytes);
    *put = true;
    return DT_OK;
}

static dt_status load(const dt_backbone *bb, const dt_graph *g, dt_val v, dt_device *device, dt_store *store)
{
    const dt_value *val = &g->value[v];
    dt_slice s = dt_weights_slice(val);
    size_t count = (size_t)(s.rows * s.cols);
    if (device->ops->host_memory && device->ops->act_size == sizeof(float)) {
        float *there = NULL;
        DT_TRY(find_in_place(bb, val, s, &there));
        if (there != NULL) return dt_store_put(store, val->name, there, count * sizeof(float));
    }
    void *data = NULL;
    DT_TRY(dt_store_new(store, val->name, count * device->ops->act_size, &data));
    if (device->ops->host_memory && device->ops->act_size == sizeof(float)) return dt_weights_read(bb, g, v, data);
    bool put = false;
    DT_TRY(put_as_stored(bb, val, s, device, data, &put));
    if (put) return DT_OK;
    float *staging = NULL;
    DT_TRY(dt_alloc(count, sizeof *staging, &staging));
    dt_status st = dt_weights_read(bb, g, v, staging);
    if (st == DT_OK) st = device->ops->put(device, data, device->ops->act_size, staging, count);
    free(staging);
    return st;
}

dt_status dt_weights_load(const dt_backbone *bb, const dt_graph *g, dt_device *device, dt_store *store)
{
    for (int64_t v = 0; v < g->values; v++) {
        bool weight = g->value[v].kind == DT_KIND_WEIGHT && g->value[v].base == DT_NONE;
        if (weight && dt_store_find(store, g->value[v].name) == NULL) DT_TRY(load(bb, g, (dt_val)v, device, store));
    }
    return DT_OK;
}
