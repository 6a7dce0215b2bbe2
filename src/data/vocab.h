/* Tokens by id, and the ids of the model's own tokens by their text. */
#ifndef DT_DATA_VOCAB_H
#define DT_DATA_VOCAB_H

#include "base/json.h"   // dt_json
#include "base/memory.h" // dt_region
#include "base/status.h" // dt_status
#include <stddef.h>      // size_t
#include <stdint.h>      // int32_t, int64_t, uint32_t

enum { DT_VOCAB_MOST = 1 << 22 }; /* ids are below this: a larger one in a file is a mistake, not a vocabulary */

typedef struct dt_token {
    const char *text;  /* NULL: no token has this id */
    const char *shown; /* what decoding starts from: the text, or its normalised form */
    int32_t bytes;     /* of the text */
    int special;       /* left out by a decoding that skips such tokens */
} dt_token;

/** Zero-initialise, free with dt_vocab_free. */
typedef struct dt_vocab {
    dt_token *token; /* [size], by id */
    int64_t cap;
    int32_t size;  /* largest id + 1 */
    int32_t *slot; /* [mask + 1], open addressing: id, or -1 */
    uint32_t mask;
    dt_region texts;
} dt_vocab;

/** Gives the id a text (copied). DT_ERR_DATA if it has one already or is out of range: the text says "id N ...". */
dt_status dt_vocab_set(dt_vocab *vocab, int64_t id, const char *text) DT_WARN_UNUSED;
/** Makes the tokens set so far findable by text. DT_ERR_DATA if two have the same: the text names it. */
dt_status dt_vocab_index(dt_vocab *vocab) DT_WARN_UNUSED;
/** Sets and indexes the tokens of model.vocab, an object {TEXT: ID}. */
dt_status dt_vocab_load(const dt_json *model, dt_vocab *vocab) DT_WARN_UNUSED;
/** Id of an indexed token; -1 if there is none. */
int32_t dt_vocab_find(const dt_vocab *vocab, const char *text, size_t bytes);
/** Ids of the tokens <0x00> ... <0xFF>, by byte; -1 for one that there is not. */
void dt_vocab_find_bytes(const dt_vocab *vocab, int32_t byte_id[256]);
/** The token of an id; NULL if there is none. */
const dt_token *dt_vocab_token(const dt_vocab *vocab, int64_t id);
void dt_vocab_free(dt_vocab *vocab);

#endif
