/* Rows of a source as one flat file: marked ids one behind the other, then a table of where each row lies. It is
 * written as a stream and read through a mapping, so it may be larger than memory; it lives in a cache folder or, with
 * no name, in memory. Of a source that has its ids in files of its own, only the table is here. */
#ifndef DT_DATA_ROWS_H
#define DT_DATA_ROWS_H

#include "base/file.h" // dt_draft, dt_map
#include "base/hash.h" // dt_digest
#include "data/row.h"  // dt_id_type

/** Called now and then while something long goes on; an error ends it. fn may be NULL. */
typedef struct dt_pulse {
    dt_status (*fn)(void *ctx);
    void *ctx;
} dt_pulse;

/** Where a row lies: ids [at, at + n) of a file, or of the words here (file 0). */
typedef struct dt_rows_entry {
    int64_t at;
    int32_t n;
    int32_t file;
} dt_rows_entry;

/** Zero-initialise, free with dt_rows_close. */
typedef struct dt_rows {
    dt_map map;
    const uint32_t *word;       /* marked ids; views of the map */
    const dt_rows_entry *entry; /* [n] */
    int64_t n;
    int64_t skipped;  /* bad rows that were left out */
    uint64_t content; /* hash of all ids, marks and lengths */
} dt_rows;

/** Opens the file at `path` if it is whole and was made under `key`: *usable tells. Something else there is logged and
 *  may be written over. `verify`: reads all of it and compares its checksum. Local. */
dt_status dt_rows_open(const char *path, const dt_digest *key, int verify, dt_pulse pulse, dt_rows *out,
                       int *usable) DT_WARN_UNUSED;
void dt_rows_close(dt_rows *rows);

/* ---- writing ---- */

/** Zero-initialise, free with dt_rows_writer_close. */
typedef struct dt_rows_writer {
    dt_draft draft;
    dt_pulse pulse;
    uint32_t *block; /* words that are not written yet */
    int64_t used, words;
    dt_rows_entry *entry;
    int64_t n, cap;
    uint64_t checksum; /* of the words that are written */
    int64_t skipped;   /* set by the caller */
    uint64_t outside;  /* hash of ids that lie elsewhere, set by the caller */
} dt_rows_writer;

/** Starts a file; `path` NULL: in memory. */
dt_status dt_rows_writer_open(const char *path, dt_pulse pulse, dt_rows_writer *out) DT_WARN_UNUSED;
/** Appends a row of marked ids. */
dt_status dt_rows_writer_append(dt_rows_writer *w, const uint32_t *ids, int64_t n) DT_WARN_UNUSED;
/** Appends a row whose ids lie in a file of the source. */
dt_status dt_rows_writer_point(dt_rows_writer *w, dt_rows_entry entry) DT_WARN_UNUSED;
/** Ends the file, gives it its name and opens it. */
dt_status dt_rows_writer_finish(dt_rows_writer *w, const dt_digest *key, dt_rows *out) DT_WARN_UNUSED;
void dt_rows_writer_close(dt_rows_writer *w);

#endif
