/* Added tokens: texts that become one id wherever they stand, before the model sees anything of them. */
#ifndef DT_DATA_ADDED_H
#define DT_DATA_ADDED_H

#include "base/json.h"       // dt_json
#include "data/normalizer.h" // dt_normalizer
#include "data/vocab.h"      // dt_vocab

typedef struct dt_added_token {
    const char *text;
    size_t bytes;
    int32_t id;
    int single_word, lstrip, rstrip; /* only as a whole word; takes the spaces at its left, at its right */
} dt_added_token;

/** Tokens that are looked for together; sorted by first byte, then from long to short. */
typedef struct dt_added_set {
    dt_added_token *token; /* [n] */
    int64_t n, cap;
    int64_t start[257]; /* token[start[b] .. start[b + 1]) begin with byte b */
} dt_added_set;

/** Zero-initialise, free with dt_added_free. */
typedef struct dt_added {
    dt_added_set raw;        /* looked for in the text as it was given */
    dt_added_set normalized; /* looked for in the normalised text */
} dt_added;

/** Loads root.added_tokens and gives their ids their texts in `vocab`, which has the model's tokens and is indexed. */
dt_status dt_added_load(const dt_json *root, const dt_normalizer *normalizer, dt_vocab *vocab,
                        dt_added *out) DT_WARN_UNUSED;
void dt_added_free(dt_added *added);

/** A piece of text; id >= 0: it is that token. */
typedef dt_status dt_added_fn(void *ctx, const char *piece, size_t bytes, int32_t id);

/** Cuts text[bytes] into tokens of the set (leftmost, then longest) and what lies between, and calls `fn` on each. */
dt_status dt_added_each(const dt_added_set *set, const char *text, size_t bytes, dt_added_fn *fn,
                        void *ctx) DT_WARN_UNUSED;

#endif
