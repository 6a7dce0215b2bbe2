/* JSONL files: one row of training text a line. Errors say file:line. */
#ifndef DT_DATA_JSONL_H
#define DT_DATA_JSONL_H

#include "base/json.h" // dt_json
#include <stdio.h>     // FILE

typedef struct dt_jsonl {
    FILE *file;
    const char *path; /* borrowed */
    int64_t number;   /* of the line read last, from 1 */
    char *line;
    size_t cap;
} dt_jsonl;

/** A row {text}, {prompt, completion} or {messages}; what it is not is NULL; other keys are let be. Views of the line's
 *  document. */
typedef struct dt_jsonl_row {
    const char *text;
    const char *prompt, *completion;
    const cJSON *messages; /* an array of at least one object {role, content}, whose role is a dt_chat_role's */
    dt_json document;      /* freed with dt_json_free */
    char where[4128];      /* "file:line" */
} dt_jsonl_row;

dt_status dt_jsonl_open(const char *path, dt_jsonl *out) DT_WARN_UNUSED;
void dt_jsonl_close(dt_jsonl *in);

/** Moves to the next line that is not blank; *bytes = 0 at the end of the file. DT_ERR_IO names the file. */
dt_status dt_jsonl_next(dt_jsonl *in, size_t *bytes) DT_WARN_UNUSED;
/** Reads the line of `bytes` as a row. DT_ERR_DATA: "file:line: what is wrong"; nothing to free then. */
dt_status dt_jsonl_row_read(const dt_jsonl *in, size_t bytes, dt_jsonl_row *out) DT_WARN_UNUSED;

#endif
