/* The pre-tokenizer of a tokenizer.json: cuts normalised text into the words that the model encodes one by one. */
#ifndef DT_DATA_PRETOKENIZER_H
#define DT_DATA_PRETOKENIZER_H

#include "base/json.h" // dt_json
#include "data/text.h" // dt_text

typedef struct dt_pretokenizer {
    struct dt_pretokenizer_step *step; /* [n], each on the pieces of the one before */
    int64_t n, cap;
} dt_pretokenizer;

/** Loads root.pre_tokenizer: null, Sequence, ByteLevel, Metaspace, Split, Digits, Punctuation, WhitespaceSplit,
 *  Whitespace, BertPreTokenizer. */
dt_status dt_pretokenizer_load(const dt_json *root, dt_pretokenizer *out) DT_WARN_UNUSED;
void dt_pretokenizer_free(dt_pretokenizer *pretokenizer);

typedef dt_status dt_word_fn(void *ctx, const char *word, size_t bytes);

/** Calls `fn` on each word of text[bytes], from left to right. at_start: the text is the beginning of what the user
 * gave. buffers[2 n]: to work in. Safe to call from several threads, each with its own buffers. */
dt_status dt_pretokenizer_run(const dt_pretokenizer *pretokenizer, const char *text, size_t bytes, int at_start,
                              dt_text *buffers, dt_word_fn *fn, void *ctx) DT_WARN_UNUSED;

#endif
