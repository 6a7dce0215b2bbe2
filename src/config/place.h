/* Where a value came from, for error messages: the path of its field, and file, line and column of its text. */
#ifndef DT_CONFIG_PLACE_H
#define DT_CONFIG_PLACE_H

#include "base/memory.h" // dt_region
#include "base/status.h" // dt_status, DT_PRINTF
#include <stddef.h>      // size_t
#include <stdint.h>      // int64_t

/** The path of a field, "delta[0].lora.rank", grown and shrunk on the way down and up; "" is the whole message. A path
 *  that does not fit is cut. Zero-initialise. */
typedef struct dt_path {
    char text[4096];
    size_t n;
} dt_path;

/** Goes down to a field; index -1: a singular one. Returns what dt_path_pop takes to come back. */
size_t dt_path_push(dt_path *path, const char *name, int64_t index);
void dt_path_pop(dt_path *path, size_t before);

/** A place in a source: a file, a --set argument. Line 0: the source as a whole. */
typedef struct dt_place {
    const char *source; /* NULL: unknown */
    int line, column;   /* from 1; columns count characters */
} dt_place;

/** The places of all values that were read. Zero-initialise, free with dt_places_free. */
typedef struct dt_places {
    dt_place otherwise; /* of what is not in the table */
    dt_region region;
    struct dt_place_entry *entry;
    int64_t n, cap;
} dt_places;

dt_status dt_places_note(dt_places *places, const char *path, dt_place place) DT_WARN_UNUSED;
/** The place noted last for exactly this path, or NULL. */
const dt_place *dt_places_find(const dt_places *places, const char *path);
/** Forgets a path and everything below it. */
void dt_places_forget(dt_places *places, const char *path);
void dt_places_free(dt_places *places);

/** Fails with DT_ERR_CONFIG: "file:12:9: path: text", leaving out what is unknown or empty. */
dt_status dt_fail_at(dt_place place, const char *path, const char *fmt, ...) DT_PRINTF(3, 4) DT_WARN_UNUSED;
/** The same, at the place noted for `path` or else for the nearest message around it; `places` may be NULL. */
dt_status dt_fail_field(const dt_places *places, const char *path, const char *fmt, ...) DT_PRINTF(3, 4) DT_WARN_UNUSED;

#endif
