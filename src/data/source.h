/* The rows of one source, tokenised: taken from the cache where it has them, else made (and put there). */
#ifndef DT_DATA_SOURCE_H
#define DT_DATA_SOURCE_H

#include "data/encode.h" // dt_encoder
#include "data/shards.h" // dt_shards, dt_rows

/** A file of rows, or files of ids. */
typedef struct dt_source {
    const char *jsonl;  /* or: */
    const char *tokens; /* path or pattern of files of ids */
    dt_id_type type;    /* of those ids */
    int split_at_eos;   /* their rows end behind each EOS */
    int64_t max_rows;   /* 0: all */
    double weight;      /* of its share among several sources; 0 stands for 1 */
} dt_source;

/** How rows are made. */
typedef struct dt_source_options {
    dt_encoder encoder;
    int32_t seq_len; /* most ids in a row of a file of ids */
    int skip_bad_rows;
    const char *cache; /* folder; NULL: in memory */
    int verify;        /* read all of a cached file and compare its checksum */
    dt_pulse pulse;
} dt_source_options;

/** Zero-initialise, free with dt_source_rows_close. */
typedef struct dt_source_rows {
    dt_rows rows;
    dt_shards shards; /* of a source of ids */
} dt_source_rows;

/** DT_ERR_DATA: "file:line: what is wrong"; no row that can be used; a file that changed while it was read. Local: of
 *  several that make the same file of a cache at once, the last wins, and all have the same. */
dt_status dt_source_open(const dt_source *source, const dt_source_options *options, dt_source_rows *out) DT_WARN_UNUSED;
void dt_source_rows_close(dt_source_rows *rows);

/** Row i as it is, of any length. */
dt_row dt_source_row(const dt_source_rows *rows, int64_t i);

#endif
