/* BOS and EOS: which tokens they are, and whether the tokenizer itself puts them around a text. */
#ifndef DT_DATA_SPECIAL_H
#define DT_DATA_SPECIAL_H

#include "base/json.h"  // dt_json
#include "data/vocab.h" // dt_vocab

typedef struct dt_special {
    int32_t bos, eos;       /* -1: none */
    int adds_bos, adds_eos; /* by itself */
} dt_special;

/** Reads root.post_processor, then `<folder>/tokenizer_config.json` and `<folder>/config.json` where present. Each of
 * the two tokens is the one that the post-processor puts there; else what tokenizer_config.json says (null: none); else
 *  config.json's (of a list the first). add_bos_token and add_eos_token of tokenizer_config.json overrule the
 *  post-processor. */
dt_status dt_special_load(const char *folder, const dt_json *root, const dt_vocab *vocab,
                          dt_special *out) DT_WARN_UNUSED;

#endif
