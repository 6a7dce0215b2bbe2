/* Files of token ids (.bin), mapped as they are: ids of 2 or 4 bytes, little-endian, one behind the other, with or
 * without the header of 256 int32 that llm.c writes (magic, version, number of ids). */
#ifndef DT_DATA_SHARDS_H
#define DT_DATA_SHARDS_H

#include "data/rows.h" // dt_rows_writer

typedef struct dt_shard {
    dt_map map;
    char *path;
    const void *ids;
    int64_t n;
} dt_shard;

/** Zero-initialise, free with dt_shards_close. */
typedef struct dt_shards {
    dt_shard *shard; /* [n], in the order of their names */
    int64_t n, cap;
    dt_id_type type; /* DT_IDS_U16 or DT_IDS_U32 */
} dt_shards;

/** Maps the files that match the pattern. DT_ERR_DATA names the file whose length or header is wrong. Local. */
dt_status dt_shards_open(const char *pattern, dt_id_type type, dt_shards *out) DT_WARN_UNUSED;
void dt_shards_close(dt_shards *shards);

typedef struct dt_shards_options {
    int32_t vocab; /* ids are below */
    int32_t eos;   /* >= 0: a row ends behind this id */
    int32_t most;  /* ids in a row */
    int64_t max_rows;
} dt_shards_options;

/** Writes the rows of all files; a row does not go on in the next file, and a single id is no row. DT_ERR_DATA names
 * file, byte and value of an id that the vocabulary does not have. Local. */
dt_status dt_shards_scan(const dt_shards *shards, const dt_shards_options *options, dt_rows_writer *out) DT_WARN_UNUSED;

#endif
