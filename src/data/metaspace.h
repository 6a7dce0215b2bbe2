/* Metaspace: spaces written as a visible mark, with or without one put in front of the text. Both a pre-tokenizer and a
 * decoder. */
#ifndef DT_DATA_METASPACE_H
#define DT_DATA_METASPACE_H

#include "base/json.h" // dt_json

#define DT_METASPACE_KEYS "replacement str_rep add_prefix_space prepend_scheme split"

typedef enum dt_metaspace_prepend {
    DT_METASPACE_NEVER,
    DT_METASPACE_FIRST, /* only where the text starts, not behind an added token */
    DT_METASPACE_ALWAYS
} dt_metaspace_prepend;

typedef struct dt_metaspace {
    char mark[8]; /* one character */
    dt_metaspace_prepend prepend;
    int split; /* a word ends in front of each mark */
} dt_metaspace;

dt_status dt_metaspace_load(const dt_json *part, dt_metaspace *out) DT_WARN_UNUSED;

#endif
