/* Opening checkpoints, and reading tensors out of the pieces that some layout of ranks wrote into the slices that this
 * one needs. */
#include "base/file.h" // dt_path_exists
#include "base/hash.h" // dt_digest_file
#include "base/json.h" // dt_json
#include "train/checkpoint_layout.h"

#include <stdlib.h> // qsort, bsearch, free
#include <string.h> // memcpy, strcmp

/* What one file holds of a tensor. */
typedef struct piece {
    dt_ckpt_tensor t; // off and len, or count, are the piece's; count is -1 if dense
    int rank;
    const dt_st_tensor *data, *index;
} piece;

/* A tensor: a run of the sorted pieces. */
typedef struct record {
    dt_ckpt_tensor t; // as dt_ckpt_describe gives it
    const piece *piece;
    int pieces;
} record;

struct dt_ckpt {
    dt_region region;
    const char *path;
    dt_ckpt_meta meta;
    const char (*digest)[33];
    dt_st **file; // [part * tensor_ranks + rank]
    piece *piece[DT_CKPT_PARTS];
    int64_t pieces[DT_CKPT_PARTS], cap[DT_CKPT_PARTS];
    record *record[DT_CKPT_PARTS];
    int64_t records[DT_CKPT_PARTS];
};

/* ---- opening ---- */

static dt_status read_shape(const dt_json *at, dt_ckpt_tensor *t)
{
    dt_json shape;
    const cJSON *item;
    int64_t size = 1;
    DT_TRY(dt_json_array(at, "shape", &shape));
    cJSON_ArrayForEach(item, shape.node)
    {
        double length = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (t->ndim == DT_TENSOR_DIMS || !(length >= 0 && length <= 0x1p53) ||
            __builtin_mul_overflow(size, (int64_t)length, &size))
            return dt_json_fail(at, "shape", "is no shape");
        t->dim[t->ndim++] = (int64_t)length;
    }
    return DT_OK;
}

static dt_status find_sparse(const dt_json *at, dt_region *region, const dt_st *file, piece *p)
{
    const char *index = dt_region_printf(region, "%s:index", p->t.name);
    const char *value = dt_region_printf(region, "%s:value", p->t.name);
    if (!index || !value) return dt_json_fail(at, NULL, "no memory for its name");
    p->index = dt_st_find(file, index);
    p->data = dt_st_find(file, value);
    if (!p->index || !p->data || p->index->ndim != 1 || p->data->ndim != 1 || p->index->dim[0] != p->data->dim[0] ||
        (p->index->type != DT_ST_I32 && p->index->type != DT_ST_I64) || p->data->type != DT_ST_F32)
        return dt_json_fail(at, NULL, "its indices and values are not in the file");
    p->t.count = p->data->dim[0];
    return DT_OK;
}

static dt_status find_dense(const dt_json *at, const dt_st *file, piece *p)
{
    int64_t split;
    DT_TRY(dt_json_i64_or(at, "split", -1, &split));
    DT_TRY(dt_json_i64_or(at, "offset", 0, &p->t.off));
    if (split < -1 || split >= p->t.ndim) return dt_json_fail(at, "split", "is no dimension of the shape");
    p->t.split = (int)split;
    p->data = dt_st_find(file, p->t.name);
    if (!p->data || p->data->type != DT_ST_F32 || p->data->ndim != p->t.ndim)
        return dt_json_fail(at, NULL, "its values are not in the file");
    for (int d = 0; d < p->t.ndim; d++)
        if (d != split && p->data->dim[d] != p->t.dim[d])
            return dt_json_fail(at, "shape", "is not that of the values in the file");
    if (split >= 0) p->t.len = p->data->dim[split];
    if (split >= 0 && (p->t.off < 0 || p->t.off > p->t.dim[split] - p->t.len))
        return dt_json_fail(at, "offset", "puts the piece outside the tensor");
    return DT_OK;
}

/* Adds the pieces that a file describes in its metadata. */
static dt_status collect(dt_ckpt *ck, dt_ckpt_part part, int rank, const dt_st *file, const char *path)
{
    dt_json doc = {0};
    cJSON *item;
    dt_status st;
    const char *text = dt_st_metadata(file, "tensors");
    if (!text) return dt_fail(DT_ERR_STATE, "%s: does not describe its tensors", path);
    DT_GOTO(dt_json_parse(text, strlen(text), path, DT_ERR_STATE, &doc), done);
    cJSON_ArrayForEach(item, doc.node)
    {
        dt_json at = dt_json_child(&doc, item, 0);
        int sparse;
        const char *name = dt_region_strdup(&ck->region, item->string ? item->string : "");
        piece p = {.t = {.name = name, .split = -1, .count = -1}, .rank = rank};
        if (!name) {
            st = dt_json_fail(&at, NULL, "no memory for its name");
            goto done;
        }
        DT_GOTO(read_shape(&at, &p.t), done);
        DT_GOTO(dt_json_bool_or(&at, "sparse", 0, &sparse), done);
        DT_GOTO(sparse ? find_sparse(&at, &ck->region, file, &p) : find_dense(&at, file, &p), done);
        DT_GOTO(dt_grow(&ck->piece[part], &ck->cap[part], ck->pieces[part] + 1, sizeof p), done);
        ck->piece[part][ck->pieces[part]++] = p;
    }
done:
    dt_json_free(&doc);
    return st;
}

static int by_place(const void *a, const void *b)
{
    const piece *x = a, *y = b;
    int order = strcmp(x->t.name, y->t.name);
    if (order == 0) order = (x->t.off > y->t.off) - (x->t.off < y->t.off);
    return order ? order : x->rank - y->rank;
}

/* Sorted pieces -> tensors. The pieces of one must agree on what it is, and leave no part of it out. */
static dt_status assemble(dt_ckpt *ck, dt_ckpt_part part)
{
    piece *all = ck->piece[part];
    const int64_t n = ck->pieces[part];
    record *rec = dt_region_alloc(&ck->region, (size_t)n * sizeof *rec);
    if (!rec) return dt_fail(DT_ERR_MEMORY, "%s: no memory for its tensors", ck->path);
    if (n > 0) qsort(all, (size_t)n, sizeof *all, by_place);
    ck->record[part] = rec;
    for (int64_t i = 0; i < n; ck->records[part]++, rec++) {
        *rec = (record){.t = all[i].t, .piece = &all[i]};
        dt_ckpt_tensor *t = &rec->t;
        const int sparse = t->count >= 0;
        int64_t covered = 0;
        t->off = 0;
        t->len = t->split >= 0 ? t->dim[t->split] : 0;
        t->count = sparse ? 0 : -1;
        for (; i < n && strcmp(all[i].t.name, t->name) == 0; i++, rec->pieces++) {
            const dt_ckpt_tensor *p = &all[i].t;
            if (p->ndim != t->ndim || memcmp(p->dim, t->dim, sizeof t->dim) != 0 || p->split != t->split ||
                (p->count >= 0) != sparse)
                return dt_fail(DT_ERR_STATE, "%s: %s: the files of two ranks disagree on its shape or split",
                               all[i].data->file, t->name);
            if (sparse) t->count += p->count;
            if (p->off <= covered && p->off + p->len > covered) covered = p->off + p->len;
        }
        if (covered < t->len)
            return dt_fail(DT_ERR_STATE, "%s: %s: no file holds what follows %lld of dimension %d", ck->path, t->name,
                           (long long)covered, t->split);
    }
    return DT_OK;
}

static dt_status open_file(dt_ckpt *ck, dt_ckpt_part part, int rank)
{
    const int i = part * ck->meta.tensor_ranks + rank;
    const dt_ckpt_name name = dt_ckpt_file_name(part, rank, ck->meta.tensor_ranks);
    const char *path = dt_region_printf(&ck->region, "%s/%s", ck->path, name.text);
    dt_digest digest;
    if (!path) return dt_fail(DT_ERR_MEMORY, "%s: no memory for a name", ck->path);
    if (!dt_path_exists(path)) return dt_fail(DT_ERR_STATE, "%s: is missing", path);
    DT_TRY(dt_digest_file(path, &digest));
    if (strcmp(digest.hex, ck->digest[i]) != 0)
        return dt_fail(DT_ERR_STATE, "%s: is damaged: its digest is %s, the manifest says %s", path, digest.hex,
                       ck->digest[i]);
    dt_status st = dt_st_open(path, &ck->file[i]);
    if (st != DT_OK) return st == DT_ERR_MODEL ? DT_ERR_STATE : st; // here it is no backbone's file
    return collect(ck, part, rank, ck->file[i], path);
}

/* `path` itself if it is a checkpoint, or the newest one of the run that it is. */
static dt_status find_folder(dt_region *region, const char *path, const char **folder)
{
    const char *manifest = dt_region_printf(region, "%s/%s", path, DT_CKPT_MANIFEST);
    const char *root = dt_ckpt_root_path(region, path);
    int64_t step;
    if (!manifest || !root) return dt_fail(DT_ERR_MEMORY, "%s: no memory for a name", path);
    *folder = dt_region_strdup(region, path);
    if (!dt_path_exists(manifest) && dt_path_exists(root)) {
        DT_TRY(dt_ckpt_latest(path, &step));
        if (step < 0) return dt_fail(DT_ERR_STATE, "%s: has no complete checkpoint", root);
        *folder = dt_ckpt_step_path(region, path, step);
    }
    return *folder ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: no memory for a name", path);
}

dt_status dt_ckpt_open(const char *path, dt_ckpt **out)
{
    dt_ckpt *ck;
    DT_TRY(dt_alloc(1, sizeof *ck, &ck));
    dt_status st;
    DT_GOTO(find_folder(&ck->region, path, &ck->path), fail);
    DT_GOTO(dt_ckpt_manifest_read(ck->path, &ck->region, &ck->meta, &ck->digest), fail);
    DT_GOTO(dt_alloc((size_t)(DT_CKPT_PARTS * ck->meta.tensor_ranks), sizeof *ck->file, &ck->file), fail);
    for (dt_ckpt_part part = 0; part < DT_CKPT_PARTS; part++) {
        for (int r = 0; r < ck->meta.tensor_ranks; r++) DT_GOTO(open_file(ck, part, r), fail);
        DT_GOTO(assemble(ck, part), fail);
    }
    *out = ck;
    return DT_OK;
fail:
    dt_ckpt_close(ck);
    return st;
}

void dt_ckpt_close(dt_ckpt *ck)
{
    if (!ck) return;
    for (int i = 0; ck->file && i < DT_CKPT_PARTS * ck->meta.tensor_ranks; i++) dt_st_close(ck->file[i]);
    for (int part = 0; part < DT_CKPT_PARTS; part++) free(ck->piece[part]);
    free(ck->file);
    dt_region_free(&ck->region);
    free(ck);
}

const dt_ckpt_meta *dt_ckpt_get_meta(const dt_ckpt *ck)
{
    return &ck->meta;
}

const char *dt_ckpt_path(const dt_ckpt *ck)
{
    return ck->path;
}

int64_t dt_ckpt_count(const dt_ckpt *ck, dt_ckpt_part part)
{
    return ck->records[part];
}

dt_status dt_ckpt_describe(const dt_ckpt *ck, dt_ckpt_part part, int64_t i, dt_ckpt_tensor *out)
{
    if (i < 0 || i >= ck->records[part])
        return dt_fail(DT_ERR_INTERNAL, "%s: no tensor %lld among %lld", ck->path, (long long)i,
                       (long long)ck->records[part]);
    *out = ck->record[part][i].t;
    return DT_OK;
}

/* ---- reading ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const record *)a)->t.name, ((const record *)b)->t.name);
}

static dt_status find(const dt_ckpt *ck, dt_ckpt_part part, const char *name, int sparse, const record **out)
{
    const record key = {.t.name = name}, *rec = NULL;
    if (ck->records[part] > 0) rec = bsearch(&key, ck->record[part], (size_t)ck->records[part], sizeof key, by_name);
    if (!rec) return dt_fail(DT_ERR_STATE, "%s: has no tensor %s", ck->path, name);
    if (sparse != (rec->t.count >= 0))
        return dt_fail(DT_ERR_STATE, "%s: %s: is stored %s", ck->path, name, sparse ? "dense" : "sparse");
    *out = rec;
    return DT_OK;
}

static const char *shape_text(const dt_ckpt_tensor *t, dt_region *region)
{
    const char *text = "[";
    for (int d = 0; d < t->ndim && text; d++)
        text = dt_region_printf(region, "%s%s%lld", text, d ? ", " : "", (long long)t->dim[d]);
    return text ? text : "[";
}

static dt_status check_shape(const dt_ckpt *ck, const dt_ckpt_tensor *stored, const dt_ckpt_tensor *wanted)
{
    int same = stored->ndim == wanted->ndim;
    for (int d = 0; same && d < wanted->ndim; d++) same = stored->dim[d] == wanted->dim[d];
    if (same) return DT_OK;
    dt_region region = {0};
    dt_status st = dt_fail(DT_ERR_STATE, "%s: %s: is stored with shape %s], expected %s]", ck->path, wanted->name,
                           shape_text(stored, &region), shape_text(wanted, &region));
    dt_region_free(&region);
    return st;
}

/* The part of its tensor that a dense piece, or the caller's slice, is. */
typedef struct box {
    int64_t lo[DT_TENSOR_DIMS], len[DT_TENSOR_DIMS];
} box;

static box box_of(const dt_ckpt_tensor *t)
{
    box b = {{0}, {0}};
    memcpy(b.len, t->dim, sizeof b.len);
    if (t->split >= 0) b.lo[t->split] = t->off, b.len[t->split] = t->len;
    return b;
}

/* dst <- src where the two boxes overlap, row by row of the last dimension. */
static void copy_overlap(int ndim, const box *from, const unsigned char *src, const box *to, float *dst)
{
    int64_t lo[DT_TENSOR_DIMS], hi[DT_TENSOR_DIMS], at[DT_TENSOR_DIMS];
    for (int d = 0; d < ndim; d++) {
        const int64_t from_end = from->lo[d] + from->len[d], to_end = to->lo[d] + to->len[d];
        at[d] = lo[d] = from->lo[d] > to->lo[d] ? from->lo[d] : to->lo[d];
        hi[d] = from_end < to_end ? from_end : to_end;
        if (lo[d] >= hi[d]) return;
    }
    const int64_t row = ndim > 0 ? hi[ndim - 1] - lo[ndim - 1] : 1;
    for (int d = 0; d >= 0;) {
        int64_t s = 0, t = 0;
        for (d = 0; d < ndim; d++) {
            s = s * from->len[d] + at[d] - from->lo[d];
            t = t * to->len[d] + at[d] - to->lo[d];
        }
        memcpy(dst + t, src + (size_t)s * sizeof *dst, (size_t)row * sizeof *dst);
        for (d = ndim - 2; d >= 0 && ++at[d] == hi[d]; d--) at[d] = lo[d];
    }
}

static int64_t index_at(const piece *p, int64_t i)
{
    int32_t narrow;
    int64_t wide;
    if (p->index->type == DT_ST_I64) return memcpy(&wide, p->index->data + 8 * i, 8), wide;
    return memcpy(&narrow, p->index->data + 4 * i, 4), narrow;
}

/* Merges the ascending, disjoint pieces of a sparse tensor: the one with the smallest head gives values up to the next
 * smallest head. */
static dt_status merge(const dt_ckpt *ck, const record *rec, int64_t *index, float *value)
{
    int64_t *at, done = 0, last = -1;
    const int64_t size = dt_ckpt_global_size(&rec->t);
    dt_status st = DT_OK;
    DT_TRY(dt_alloc((size_t)rec->pieces, sizeof *at, &at));
    while (done < rec->t.count && st == DT_OK) {
        int best = -1;
        int64_t head = INT64_MAX, limit = INT64_MAX;
        for (int p = 0; p < rec->pieces; p++) {
            if (at[p] == rec->piece[p].t.count) continue;
            int64_t i = index_at(&rec->piece[p], at[p]);
            if (best < 0 || i < head) limit = head, head = i, best = p;
            else if (i < limit) limit = i;
        }
        const piece *p = &rec->piece[best];
        do {
            if (head <= last || head >= size) {
                st = dt_fail(DT_ERR_STATE, "%s: %s: index %lld after %lld: not ascending below %lld", p->data->file,
                             rec->t.name, (long long)head, (long long)last, (long long)size);
                break;
            }
            index[done] = last = head;
            memcpy(&value[done++], p->data->data + 4 * at[best], sizeof *value);
            if (++at[best] == p->t.count) break;
            head = index_at(p, at[best]);
        } while (head < limit);
    }
    free(at);
    return st;
}

dt_status dt_ckpt_read_sparse(const dt_ckpt *ck, dt_ckpt_part part, const char *name, int64_t **index, float **value,
                              int64_t *count)
{
    const record *rec;
    int64_t *i = NULL;
    float *v = NULL;
    dt_status st;
    DT_TRY(find(ck, part, name, 1, &rec));
    DT_GOTO(dt_alloc((size_t)rec->t.count, sizeof *i, &i), fail);
    DT_GOTO(dt_alloc((size_t)rec->t.count, sizeof *v, &v), fail);
    DT_GOTO(merge(ck, rec, i, v), fail);
    *index = i, *value = v, *count = rec->t.count;
    return DT_OK;
fail:
    free(i);
    free(v);
    return st;
}

/* The values at the caller's ascending indices. */
static dt_status read_at_indices(const dt_ckpt *ck, dt_ckpt_part part, const dt_ckpt_tensor *out)
{
    int64_t *index, n, from = 0;
    float *value;
    dt_status st = DT_OK;
    DT_TRY(dt_ckpt_read_sparse(ck, part, out->name, &index, &value, &n));
    for (int64_t i = 0; i < out->count && st == DT_OK; i++) {
        while (from < n && index[from] < out->index[i]) from++;
        if (from < n && index[from] == out->index[i]) out->data[i] = value[from];
        else
            st = dt_fail(DT_ERR_STATE, "%s: %s: has no value at index %lld", ck->path, out->name,
                         (long long)out->index[i]);
    }
    free(index);
    free(value);
    return st;
}

dt_status dt_ckpt_read(const dt_ckpt *ck, dt_ckpt_part part, const dt_ckpt_tensor *out)
{
    const record *rec;
    DT_TRY(find(ck, part, out->name, out->index != NULL, &rec));
    DT_TRY(check_shape(ck, &rec->t, out));
    if (out->index) return read_at_indices(ck, part, out);
    const box to = box_of(out);
    for (int p = 0; p < rec->pieces; p++) {
        const box from = box_of(&rec->piece[p].t);
        copy_overlap(out->ndim, &from, rec->piece[p].data->data, &to, out->data);
    }
    return DT_OK;
}
