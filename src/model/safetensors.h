/* safetensors files: an 8-byte little-endian header length, a JSON header, raw little-endian data. Reading maps the
 * file copy-on-write; a tensor's data is a view into the mapping. Local; a file that cannot be read is DT_ERR_IO, a
 * malformed one DT_ERR_MODEL; both name the file, and the tensor where there is one. */
#ifndef DT_MODEL_SAFETENSORS_H
#define DT_MODEL_SAFETENSORS_H

#include "base/status.h" // dt_status
#include <stddef.h>      // size_t
#include <stdint.h>      // int64_t

#define DT_TENSOR_DIMS 8

typedef enum dt_st_type {
    DT_ST_F64, /* up to BF16: those of real numbers */
    DT_ST_F32,
    DT_ST_F16,
    DT_ST_BF16,
    DT_ST_I64,
    DT_ST_I32,
    DT_ST_I16,
    DT_ST_I8,
    DT_ST_U8,
    DT_ST_BOOL,
    DT_ST_OTHER /* a type that is listed but not converted */
} dt_st_type;
size_t dt_st_type_size(dt_st_type type);
const char *dt_st_type_name(dt_st_type type);

typedef struct dt_st_tensor {
    const char *name;
    dt_st_type type;
    int ndim;
    int64_t dim[DT_TENSOR_DIMS];
    unsigned char *data; /* view */
    size_t bytes;
    const char *file; /* path it came from */
    int64_t offset;   /* of its data in that file */
} dt_st_tensor;

typedef struct dt_st dt_st; /* one file, or a folder's index and shards, as one set of tensors */

/** Opens one .safetensors file; or a folder: model.safetensors, else model.safetensors.index.json and its shards, else
 *  the only *.safetensors in it. Headers are checked fully: tensors tile the data, sizes = shape x type, each
 *  name once, each tensor in the shard that the index says. */
dt_status dt_st_open(const char *path, dt_st **out) DT_WARN_UNUSED;
void dt_st_close(dt_st *st);
int64_t dt_st_count(const dt_st *st);
const dt_st_tensor *dt_st_at(const dt_st *st, int64_t i);          /* sorted by name */
const dt_st_tensor *dt_st_find(const dt_st *st, const char *name); /* NULL: not there */
/** Value of a key of "__metadata__" (of the first file); NULL: not there. */
const char *dt_st_metadata(const dt_st *st, const char *key);

/** dst[rows, cols] (fp32, contiguous) <- src viewed as [.., ld] of `type`: rows x cols elements from element `offset`,
 *  row stride ld elements. DT_ERR_MODEL if the type is no float type, also where there is nothing to convert. */
dt_status dt_st_to_f32(dt_st_type type, const unsigned char *src, int64_t offset, int64_t rows, int64_t cols,
                       int64_t ld, float *dst) DT_WARN_UNUSED;

/** dst[n] of `type` (DT_ST_F32 or DT_ST_BF16, rounded to nearest, ties to even; contiguous) <- src[n]. */
void dt_st_from_f32(dt_st_type type, const float *src, int64_t n, void *dst);

/** One tensor to write. */
typedef struct dt_st_entry {
    const char *name;
    dt_st_type type;
    int ndim;
    int64_t dim[DT_TENSOR_DIMS];
    const void *data; /* contiguous */
} dt_st_entry;
/** Writes a whole file atomically (header padded to 64 bytes, tensors in the order given). metadata: 2 * n_metadata
 *  strings, key then value; may be NULL. May run on a thread. DT_ERR_IO names the path. */
dt_status dt_st_write(const char *path, const dt_st_entry *entry, int64_t n, const char *const *metadata,
                      int n_metadata) DT_WARN_UNUSED;

#endif
