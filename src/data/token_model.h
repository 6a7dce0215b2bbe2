/* Token models: how one word becomes ids. A model is one file that defines a table and one row in tokenizer.c. */
#ifndef DT_DATA_TOKEN_MODEL_H
#define DT_DATA_TOKEN_MODEL_H

#include "base/json.h"      // dt_json
#include "data/tokenizer.h" // dt_ids
#include "data/vocab.h"     // dt_vocab

/** Room to work in while words are encoded: two arrays that the model grows (dt_grow) and uses as it likes. */
typedef struct dt_token_room {
    void *first, *second;
    int64_t first_cap, second_cap;
} dt_token_room;

typedef struct dt_token_model_ops {
    const char *type; /* model.type in tokenizer.json */
    const char *mark; /* a key that tells the model where an old file names no type */
    /** Reads the model and gives its tokens their ids in `vocab`, which it indexes. *out also on errors, or NULL. */
    dt_status (*load)(const dt_json *model, dt_vocab *vocab, void **out);
    void (*destroy)(void *model);
    /** Appends the ids of word[bytes], which is valid UTF-8 and not empty. */
    dt_status (*encode)(const void *model, const dt_vocab *vocab, const char *word, size_t bytes, dt_token_room *room,
                        dt_ids *ids);
} dt_token_model_ops;

extern const dt_token_model_ops dt_token_bpe, dt_token_wordpiece, dt_token_unigram;

#endif
