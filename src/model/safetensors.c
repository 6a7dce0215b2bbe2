/* Opening safetensors files, alone or as the shards of a folder. Nothing in a header is believed before it is checked:
 * every view that leaves this file lies inside its mapping and has the size that its shape and type say. */
#include "model/safetensors.h"
#include "base/file.h"   // dt_map
#include "base/json.h"   // dt_json
#include "base/memory.h" // dt_region, dt_grow

#include <dirent.h> // opendir
#include <errno.h>  // errno
#include <stdlib.h> // qsort, bsearch, calloc
#include <string.h> // strcmp

enum { PREFIX = 8, HEADER_MAX = 100 * 1000 * 1000 }; // the limit of the reference implementation

struct dt_st {
    dt_region region; // names and paths
    dt_map *map;
    const char **file; // [maps] their paths
    int64_t maps, map_cap, file_cap;
    dt_st_tensor *tensor;
    int64_t tensors, tensor_cap;
    cJSON *metadata; // of the first file; NULL if it has none
};

/* Every element type of the format; types that are not converted can still be listed, as OTHER. */
static const struct {
    const char *name;
    dt_st_type type;
    size_t size;
} element[] = {
    [DT_ST_F64] = {"F64", DT_ST_F64, 8},
    [DT_ST_F32] = {"F32", DT_ST_F32, 4},
    [DT_ST_F16] = {"F16", DT_ST_F16, 2},
    [DT_ST_BF16] = {"BF16", DT_ST_BF16, 2},
    [DT_ST_I64] = {"I64", DT_ST_I64, 8},
    [DT_ST_I32] = {"I32", DT_ST_I32, 4},
    [DT_ST_I16] = {"I16", DT_ST_I16, 2},
    [DT_ST_I8] = {"I8", DT_ST_I8, 1},
    [DT_ST_U8] = {"U8", DT_ST_U8, 1},
    [DT_ST_BOOL] = {"BOOL", DT_ST_BOOL, 1},
    [DT_ST_OTHER] = {"U16", DT_ST_OTHER, 2},
    {"U32", DT_ST_OTHER, 4},
    {"U64", DT_ST_OTHER, 8},
    {"C64", DT_ST_OTHER, 8},
    {"F8_E4M3", DT_ST_OTHER, 1},
    {"F8_E5M2", DT_ST_OTHER, 1},
    {"F8_E8M0", DT_ST_OTHER, 1},
    {"F8_E4M3FNUZ", DT_ST_OTHER, 1},
    {"F8_E5M2FNUZ", DT_ST_OTHER, 1},
};
enum { ELEMENTS = sizeof element / sizeof element[0] };

size_t dt_st_type_size(dt_st_type type)
{
    return (unsigned)type < DT_ST_OTHER ? element[type].size : 0;
}

const char *dt_st_type_name(dt_st_type type)
{
    return (unsigned)type < DT_ST_OTHER ? element[type].name : "OTHER";
}

/* Shape of a tensor, and the bytes that it takes at `size` bytes an element. */
static dt_status read_shape(const dt_json *at, size_t size, dt_st_tensor *t)
{
    dt_json shape;
    cJSON *item;
    t->bytes = size;
    DT_TRY(dt_json_array(at, "shape", &shape));
    cJSON_ArrayForEach(item, shape.node)
    {
        double length = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (!(length >= 0 && length <= 0x1p53) || length != (double)(int64_t)length)
            return dt_json_fail(at, "shape", "dimension %d is no length", t->ndim);
        if (t->ndim == DT_TENSOR_DIMS) return dt_json_fail(at, "shape", "has more than %d dimensions", DT_TENSOR_DIMS);
        t->dim[t->ndim++] = (int64_t)length;
        if (__builtin_mul_overflow(t->bytes, (size_t)length, &t->bytes))
            return dt_json_fail(at, "shape", "is larger than memory can be");
    }
    return DT_OK;
}

/* One entry of a header; `data` are the bytes behind it. */
static dt_status read_tensor(dt_st *st, const dt_json *at, const unsigned char *data, size_t bytes)
{
    const char *type;
    dt_json offsets;
    DT_TRY(dt_json_string(at, "dtype", &type));
    int e = 0;
    while (e < ELEMENTS && strcmp(element[e].name, type) != 0) e++;
    if (e == ELEMENTS) return dt_json_fail(at, "dtype", "\"%s\" is no type of this format", type);
    dt_st_tensor t = {.type = element[e].type, .file = at->file};
    DT_TRY(read_shape(at, element[e].size, &t));

    DT_TRY(dt_json_array(at, "data_offsets", &offsets));
    const cJSON *first = offsets.node->child, *last = first ? first->next : NULL;
    if (!last || last->next || !cJSON_IsNumber(first) || !cJSON_IsNumber(last))
        return dt_json_fail(at, "data_offsets", "is not two numbers");
    double begin = first->valuedouble, end = last->valuedouble;
    if (!(begin >= 0 && begin <= end && end <= (double)bytes))
        return dt_json_fail(at, "data_offsets", "[%.17g, %.17g] is not inside the file's %zu bytes of data", begin, end,
                            bytes);
    if ((double)(size_t)begin != begin || (double)(size_t)end != end)
        return dt_json_fail(at, "data_offsets", "[%.17g, %.17g] are no byte offsets", begin, end);
    if ((size_t)end - (size_t)begin != t.bytes)
        return dt_json_fail(at, "data_offsets", "span %zu bytes, but its shape of type %s takes %zu",
                            (size_t)end - (size_t)begin, type, t.bytes);
    t.data = (unsigned char *)data + (size_t)begin;
    t.name = dt_region_strdup(&st->region, at->node->string);
    if (!t.name) return dt_json_fail(at, NULL, "no memory for its name");
    DT_TRY(dt_grow(&st->tensor, &st->tensor_cap, st->tensors + 1, sizeof *st->tensor));
    st->tensor[st->tensors++] = t;
    return DT_OK;
}

static dt_status check_metadata(const dt_json *at)
{
    cJSON *item;
    if (!cJSON_IsObject(at->node)) return dt_json_fail(at, NULL, "is no object");
    cJSON_ArrayForEach(item, at->node)
    {
        if (!cJSON_IsString(item)) return dt_json_fail(at, item->string, "is no string");
    }
    return DT_OK;
}

static int by_data(const void *a, const void *b)
{
    const dt_st_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The format asks that the tensors tile the data: an overlap, a hole and a tail that no tensor owns are all damage. */
static dt_status check_tiling(dt_st_tensor *t, int64_t n, const unsigned char *data, size_t bytes, const char *file)
{
    const unsigned char *end = data;
    if (n > 0) qsort(t, (size_t)n, sizeof *t, by_data);
    for (int64_t i = 0; i < n; end = t[i].data + t[i].bytes, i++) {
        if (t[i].data < end) return dt_fail(DT_ERR_MODEL, "%s: %s: overlaps %s", file, t[i].name, t[i - 1].name);
        if (t[i].data > end)
            return dt_fail(DT_ERR_MODEL, "%s: %s: %td bytes in front of it belong to no tensor", file, t[i].name,
                           t[i].data - end);
    }
    if (end != data + bytes)
        return dt_fail(DT_ERR_MODEL, "%s: its last %td bytes belong to no tensor", file, data + bytes - end);
    return DT_OK;
}

static dt_status read_header(dt_st *st, const char *file, const dt_map *map)
{
    if (map->bytes < PREFIX)
        return dt_fail(DT_ERR_MODEL, "%s: is %zu bytes long, too short for a safetensors file", file, map->bytes);
    uint64_t length = 0;
    for (int i = 0; i < PREFIX; i++) length |= (uint64_t)map->data[i] << (8 * i);
    if (length > map->bytes - PREFIX)
        return dt_fail(DT_ERR_MODEL,
                       "%s: says that its header takes %llu bytes, but has %zu (cut short, or no safetensors file)",
                       file, (unsigned long long)length, map->bytes - PREFIX);
    if (length > HEADER_MAX)
        return dt_fail(DT_ERR_MODEL, "%s: its header of %llu bytes is longer than the format's limit of %d", file,
                       (unsigned long long)length, HEADER_MAX);

    dt_json header;
    dt_status result = dt_json_parse((const char *)map->data + PREFIX, length, file, DT_ERR_MODEL, &header);
    if (result != DT_OK) return dt_fail_in(result, "safetensors header");
    const unsigned char *data = map->data + PREFIX + length;
    const size_t bytes = map->bytes - PREFIX - length;
    const int64_t first = st->tensors;
    cJSON *item, *metadata = NULL;
    if (!cJSON_IsObject(header.node)) result = dt_fail(DT_ERR_MODEL, "%s: its header is no JSON object", file);
    cJSON_ArrayForEach(item, header.node)
    {
        if (result != DT_OK) break;
        dt_json at = dt_json_child(&header, item, 0);
        if (strcmp(item->string, "__metadata__") != 0) {
            result = read_tensor(st, &at, data, bytes);
        } else if (metadata) {
            result = dt_json_fail(&at, NULL, "is there twice");
        } else {
            metadata = item;
            result = check_metadata(&at);
        }
    }
    for (int64_t i = first; i < st->tensors; i++) st->tensor[i].offset = st->tensor[i].data - map->data;
    dt_st_tensor *here = st->tensors > first ? st->tensor + first : NULL;
    if (result == DT_OK) result = check_tiling(here, st->tensors - first, data, bytes, file);
    if (result == DT_OK && metadata && st->maps == 1) st->metadata = cJSON_DetachItemViaPointer(header.node, metadata);
    dt_json_free(&header);
    return result;
}

static dt_status open_file(dt_st *st, const char *path)
{
    const char *file = dt_region_strdup(&st->region, path); // tensors keep it
    if (!file) return dt_fail(DT_ERR_MEMORY, "%s: no memory for its name", path);
    DT_TRY(dt_grow(&st->map, &st->map_cap, st->maps + 1, sizeof *st->map));
    DT_TRY(dt_grow(&st->file, &st->file_cap, st->maps + 1, sizeof *st->file));
    st->file[st->maps] = file;
    DT_TRY(dt_map_open(file, &st->map[st->maps]));
    st->maps++;
    return read_header(st, file, &st->map[st->maps - 1]);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const dt_st_tensor *)a)->name, ((const dt_st_tensor *)b)->name);
}

static dt_status sort_by_name(dt_st *st)
{
    if (st->tensors > 0) qsort(st->tensor, (size_t)st->tensors, sizeof *st->tensor, by_name);
    for (int64_t i = 1; i < st->tensors; i++) {
        const dt_st_tensor *a = &st->tensor[i - 1], *b = &st->tensor[i];
        if (strcmp(a->name, b->name) == 0)
            return dt_fail(DT_ERR_MODEL, "%s: %s: is there twice (also in %s)", b->file, b->name, a->file);
    }
    return DT_OK;
}

/* The shards that an index names: {"weight_map": {tensor: file beside the index, ...}}. */
static dt_status open_shards(dt_st *st, const char *folder, const dt_json *index)
{
    dt_json map;
    cJSON *item;
    DT_TRY(dt_json_object(index, "weight_map", &map));
    cJSON_ArrayForEach(item, map.node)
    {
        if (!cJSON_IsString(item) || strchr(item->valuestring, '/'))
            return dt_json_fail(&map, item->string, "is not the name of a file in this folder");
        const char *path = dt_region_printf(&st->region, "%s/%s", folder, item->valuestring);
        if (!path) return dt_json_fail(&map, item->string, "no memory for its path");
        int known = 0; // tensors of a shard lie together: the newest shards are the likely ones
        for (int64_t i = st->maps - 1; i >= 0 && !known; i--) known = strcmp(st->file[i], path) == 0;
        if (!known) DT_TRY(open_file(st, path));
    }
    DT_TRY(sort_by_name(st));
    cJSON_ArrayForEach(item, map.node)
    {
        const dt_st_tensor *t = dt_st_find(st, item->string);
        if (!t || strcmp(strrchr(t->file, '/') + 1, item->valuestring) != 0)
            return dt_json_fail(&map, item->string, "is not in %s/%s", folder, item->valuestring);
    }
    return DT_OK;
}

/* The one file of the folder that ends in .safetensors. */
static dt_status find_only(dt_region *region, const char *folder, const char **path)
{
    static const char suffix[] = ".safetensors";
    DIR *dir = opendir(folder);
    if (!dir) return dt_fail(DT_ERR_IO, "%s: %s", folder, strerror(errno));
    dt_status result = DT_OK;
    *path = NULL;
    for (struct dirent *entry; result == DT_OK && (entry = readdir(dir));) {
        size_t length = strlen(entry->d_name), tail = sizeof suffix - 1;
        if (length < tail || strcmp(entry->d_name + length - tail, suffix) != 0) continue;
        if (*path)
            result = dt_fail(DT_ERR_MODEL, "%s: has several .safetensors files, but no model.safetensors and no index",
                             folder);
        else if (!(*path = dt_region_printf(region, "%s/%s", folder, entry->d_name)))
            result = dt_fail(DT_ERR_MEMORY, "%s: no memory for a name", folder);
    }
    closedir(dir);
    if (result == DT_OK && !*path) result = dt_fail(DT_ERR_MODEL, "%s: has no .safetensors file", folder);
    return result;
}

static dt_status open_folder(dt_st *st, const char *folder)
{
    const char *whole = dt_region_printf(&st->region, "%s/model.safetensors", folder);
    const char *index_path = dt_region_printf(&st->region, "%s/model.safetensors.index.json", folder);
    if (!whole || !index_path) return dt_fail(DT_ERR_MEMORY, "%s: no memory for its name", folder);
    if (!dt_path_exists(whole) && dt_path_exists(index_path)) {
        dt_json index;
        DT_TRY(dt_json_parse_file(index_path, DT_ERR_MODEL, &index));
        dt_status result = open_shards(st, folder, &index);
        dt_json_free(&index);
        return result;
    }
    if (!dt_path_exists(whole)) DT_TRY(find_only(&st->region, folder, &whole));
    DT_TRY(open_file(st, whole));
    return sort_by_name(st);
}

dt_status dt_st_open(const char *path, dt_st **out)
{
    dt_st *st;
    DT_TRY(dt_alloc(1, sizeof *st, &st));
    dt_status result;
    if (dt_path_is_dir(path)) {
        result = open_folder(st, path);
    } else {
        result = open_file(st, path);
        if (result == DT_OK) result = sort_by_name(st);
    }
    if (result == DT_OK) *out = st;
    else dt_st_close(st);
    return result;
}

void dt_st_close(dt_st *st)
{
    if (!st) return;
    for (int64_t i = 0; i < st->maps; i++) dt_map_close(&st->map[i]);
    cJSON_Delete(st->metadata);
    free(st->map);
    free(st->file);
    free(st->tensor);
    dt_region_free(&st->region);
    free(st);
}

int64_t dt_st_count(const dt_st *st)
{
    return st->tensors;
}

const dt_st_tensor *dt_st_at(const dt_st *st, int64_t i)
{
    return &st->tensor[i];
}

const dt_st_tensor *dt_st_find(const dt_st *st, const char *name)
{
    if (st->tensors == 0) return NULL;
    return bsearch(&(dt_st_tensor){.name = name}, st->tensor, (size_t)st->tensors, sizeof *st->tensor, by_name);
}

const char *dt_st_metadata(const dt_st *st, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(st->metadata, key));
}
