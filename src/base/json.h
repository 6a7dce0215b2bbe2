/* Reading JSON files with errors that say where: "config.json: rope_scaling.factor: is a string, expected a number".
 * The tree is cJSON's; these are typed getters over it. */
#ifndef DT_BASE_JSON_H
#define DT_BASE_JSON_H

#include "base/status.h" // dt_status
#include <cjson/cJSON.h> // cJSON
#include <stddef.h>      // size_t
#include <stdint.h>      // int64_t

/** A place in a document. The one that dt_json_parse* fills owns the tree; the others are views of it. */
typedef struct dt_json {
    cJSON *node;
    const char *file; /* for messages; borrowed */
    dt_status kind;   /* status of errors in the contents: DT_ERR_MODEL, DT_ERR_DATA, ... */
    char path[200];   /* of the node in the document: "model.vocab"; "" at the root */
} dt_json;

/** Parses a file, or `bytes` of text (any bytes: deep nesting, a wrong syntax or more after the value are errors that
 *  name the line). `file` must outlive *out, which is freed with dt_json_free. */
dt_status dt_json_parse_file(const char *file, dt_status kind, dt_json *out) DT_WARN_UNUSED;
dt_status dt_json_parse(const char *text, size_t bytes, const char *file, dt_status kind, dt_json *out) DT_WARN_UNUSED;
void dt_json_free(dt_json *document);

/** Whether the object has `key` with a value other than null. Keys match exactly; the first of equal ones counts. */
int dt_json_has(const dt_json *at, const char *key);

/* Value of `key`, which must be there and of the type. Integers are those that a double holds exactly (|x| <= 2^53). */
dt_status dt_json_i64(const dt_json *at, const char *key, int64_t *out) DT_WARN_UNUSED;
dt_status dt_json_f64(const dt_json *at, const char *key, double *out) DT_WARN_UNUSED;
dt_status dt_json_bool(const dt_json *at, const char *key, int *out) DT_WARN_UNUSED;
dt_status dt_json_string(const dt_json *at, const char *key, const char **out) DT_WARN_UNUSED; /* view */
dt_status dt_json_object(const dt_json *at, const char *key, dt_json *out) DT_WARN_UNUSED;
dt_status dt_json_array(const dt_json *at, const char *key, dt_json *out) DT_WARN_UNUSED;

/* The same; `otherwise` where the key is missing or null. A value of another type is still an error. */
dt_status dt_json_i64_or(const dt_json *at, const char *key, int64_t otherwise, int64_t *out) DT_WARN_UNUSED;
dt_status dt_json_f64_or(const dt_json *at, const char *key, double otherwise, double *out) DT_WARN_UNUSED;
dt_status dt_json_bool_or(const dt_json *at, const char *key, int otherwise, int *out) DT_WARN_UNUSED;
dt_status dt_json_string_or(const dt_json *at, const char *key, const char *otherwise, const char **out) DT_WARN_UNUSED;

/** View of an element met while iterating (cJSON_ArrayForEach over at->node): named by its key, else by `index`. */
dt_json dt_json_child(const dt_json *at, cJSON *child, int64_t index);

/** Sets the error text "file: path.key: <text>" and returns at->kind; key may be NULL: the place itself. */
dt_status dt_json_fail(const dt_json *at, const char *key, const char *fmt, ...) DT_PRINTF(3, 4) DT_WARN_UNUSED;

#endif
