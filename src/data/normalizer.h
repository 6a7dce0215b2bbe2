/* The normalizer of a tokenizer.json: rewrites text before it is cut into words. */
#ifndef DT_DATA_NORMALIZER_H
#define DT_DATA_NORMALIZER_H

#include "base/json.h" // dt_json
#include "data/text.h" // dt_text

typedef struct dt_normalizer {
    struct dt_normalizer_step *step; /* [n], one behind the other */
    int64_t n, cap;
} dt_normalizer;

/** Loads root.normalizer: null, Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip,
 *  BertNormalizer, Precompiled. */
dt_status dt_normalizer_load(const dt_json *root, dt_normalizer *out) DT_WARN_UNUSED;
void dt_normalizer_free(dt_normalizer *normalizer);

/** Rewrites *text in place; `spare` is a buffer to work in. Safe to call from several threads. */
dt_status dt_normalizer_run(const dt_normalizer *normalizer, dt_text *text, dt_text *spare) DT_WARN_UNUSED;

#endif
