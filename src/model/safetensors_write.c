/* Writing a safetensors file: the header is made with cJSON, the data go from the caller's memory to the file. */
#include "base/file.h"   // dt_file_write_pieces
#include "base/memory.h" // dt_alloc
#include "model/safetensors.h"

#include <cjson/cJSON.h> // cJSON
#include <stdlib.h>      // free, qsort
#include <string.h>      // strcmp, memcpy, memset

enum { PREFIX = 8, ALIGN = 64 };

static size_t entry_bytes(const dt_st_entry *e)
{
    size_t bytes = dt_st_type_size(e->type);
    for (int d = 0; d < e->ndim; d++) bytes *= (size_t)e->dim[d];
    return bytes;
}

/* Adds `value` to an array. Integers up to 2^53 are printed exactly. */
static int add_number(cJSON *array, double value)
{
    return cJSON_AddItemToArray(array, cJSON_CreateNumber(value));
}

/* The header as text, freed with free(); NULL if memory is exhausted. */
static char *header_text(const dt_st_entry *entry, int64_t n, const char *const *metadata, int n_metadata)
{
    cJSON *root = cJSON_CreateObject();
    int ok = root != NULL;
    if (n_metadata > 0) {
        cJSON *object = cJSON_AddObjectToObject(root, "__metadata__");
        for (int i = 0; i < n_metadata; i++)
            ok = ok && cJSON_AddStringToObject(object, metadata[2 * i], metadata[2 * i + 1]);
    }
    size_t offset = 0;
    for (int64_t i = 0; i < n && ok; i++) {
        const dt_st_entry *e = &entry[i];
        cJSON *item = cJSON_AddObjectToObject(root, e->name);
        ok = ok && cJSON_AddStringToObject(item, "dtype", dt_st_type_name(e->type));
        cJSON *shape = cJSON_AddArrayToObject(item, "shape");
        for (int d = 0; d < e->ndim; d++) ok = ok && add_number(shape, (double)e->dim[d]);
        cJSON *offsets = cJSON_AddArrayToObject(item, "data_offsets");
        ok = ok && add_number(offsets, (double)offset);
        offset += entry_bytes(e);
        ok = ok && add_number(offsets, (double)offset);
    }
    char *text = ok ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    return text;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A file with two tensors of one name could be written, but never read again. */
static dt_status check_names(const char *path, const dt_st_entry *entry, int64_t n)
{
    const char **name;
    dt_status st = DT_OK;
    DT_TRY(dt_alloc((size_t)n, sizeof *name, &name));
    for (int64_t i = 0; i < n; i++) name[i] = entry[i].name;
    qsort(name, (size_t)n, sizeof *name, by_text);
    for (int64_t i = 1; i < n && st == DT_OK; i++)
        if (strcmp(name[i - 1], name[i]) == 0) st = dt_fail(DT_ERR_INTERNAL, "%s: two tensors named %s", path, name[i]);
    free(name);
    return st;
}

dt_status dt_st_write(const char *path, const dt_st_entry *entry, int64_t n, const char *const *metadata,
                      int n_metadata)
{
    DT_TRY(check_names(path, entry, n));
    dt_status st = DT_OK;
    dt_bytes *piece = NULL;
    char *head = NULL, *text = header_text(entry, n, metadata, n_metadata);
    if (!text) return dt_fail(DT_ERR_MEMORY, "%s: no memory for its header", path);

    // Prefix and header take a multiple of 64 bytes, so that the data are aligned in a mapping of the file.
    const size_t length = strlen(text), total = (PREFIX + length + ALIGN - 1) / ALIGN * ALIGN;
    DT_GOTO(dt_alloc(total, 1, &head), done);
    DT_GOTO(dt_alloc((size_t)n + 1, sizeof *piece, &piece), done);
    for (int i = 0; i < PREFIX; i++) head[i] = (char)((uint64_t)(total - PREFIX) >> (8 * i));
    memcpy(head + PREFIX, text, length);
    memset(head + PREFIX + length, ' ', total - PREFIX - length);
    piece[0] = (dt_bytes){head, total};
    for (int64_t i = 0; i < n; i++) piece[i + 1] = (dt_bytes){entry[i].data, entry_bytes(&entry[i])};
    st = dt_file_write_pieces(path, piece, n + 1);
done:
    free(piece);
    free(head);
    cJSON_free(text);
    return st;
}
