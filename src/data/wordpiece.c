/* WordPiece (Schuster and Nakajima 2012; Devlin et al. 2018): of each word the longest piece of the vocabulary that it
 * begins with, then the longest that goes on from there, whose text in the vocabulary starts with a prefix ("##"). A
 * word of which something is left over becomes the unknown token as a whole. */
#include "base/memory.h" // dt_alloc, dt_grow
#include "data/parts.h"  // dt_parts_check_keys
#include "data/token_model.h"

#include <stdlib.h> // free
#include <string.h> // memcpy, strdup, strlen

typedef struct wordpiece {
    char *prefix;                 /* of all pieces but a word's first */
    size_t prefix_bytes, longest; /* longest: bytes of the longest token */
    int64_t max_chars;            /* longer words are unknown */
    int32_t unk;
} wordpiece;

static dt_status load(const dt_json *model, dt_vocab *vocab, void **out)
{
    wordpiece *m;
    const char *prefix, *unk;
    DT_TRY(dt_alloc(1, sizeof *m, &m));
    *out = m;
    DT_TRY(dt_parts_check_keys(model, "type unk_token continuing_subword_prefix max_input_chars_per_word vocab"));
    DT_TRY(dt_vocab_load(model, vocab));
    DT_TRY(dt_json_string_or(model, "continuing_subword_prefix", "##", &prefix));
    DT_TRY(dt_json_i64_or(model, "max_input_chars_per_word", 100, &m->max_chars));
    DT_TRY(dt_json_string_or(model, "unk_token", "[UNK]", &unk));
    if (m->max_chars < 0) return dt_json_fail(model, "max_input_chars_per_word", "is negative");
    m->unk = dt_vocab_find(vocab, unk, strlen(unk));
    if (m->unk < 0) return dt_json_fail(model, "unk_token", "\"%s\" is not in model.vocab", unk);
    m->prefix = strdup(prefix);
    if (!m->prefix) return dt_fail(DT_ERR_MEMORY, "no memory for a prefix");
    m->prefix_bytes = strlen(prefix);
    for (int32_t id = 0; id < vocab->size; id++) {
        const dt_token *token = dt_vocab_token(vocab, id);
        if (token && (size_t)token->bytes > m->longest) m->longest = (size_t)token->bytes;
    }
    return DT_OK;
}

static void destroy(void *model)
{
    wordpiece *m = model;
    if (m) free(m->prefix);
    free(m);
}

static int64_t count_chars(const char *word, size_t bytes)
{
    int64_t n = 0;
    for (size_t i = 0; i < bytes; i++) n += ((unsigned char)word[i] & 0xC0) != 0x80;
    return n;
}

/* The longest token that text[bytes] begins with, and its length; -1 if there is none. The text follows the prefix's
 * `before` bytes, which count as part of the token. */
static int32_t find_longest(const wordpiece *m, const dt_vocab *vocab, const char *text, size_t bytes, size_t before,
                            size_t *length)
{
    if (m->longest < before) return -1;
    size_t n = bytes < m->longest - before ? bytes : m->longest - before;
    for (; n; n--) {
        if (n < bytes && ((unsigned char)text[n] & 0xC0) == 0x80) continue; // inside of a character
        int32_t id = dt_vocab_find(vocab, text - before, before + n);
        if (id < 0) continue;
        *length = n;
        return id;
    }
    return -1;
}

static dt_status encode(const void *model, const dt_vocab *vocab, const char *word, size_t bytes, dt_token_room *room,
                        dt_ids *ids)
{
    const wordpiece *m = model;
    int64_t first = ids->n;
    size_t length = 0, before = 0;
    if (count_chars(word, bytes) > m->max_chars) return dt_ids_append(ids, m->unk);
    // The prefix is written over what lies in front of each piece, in a copy that has room for it at the start.
    DT_TRY(dt_grow(&room->first, &room->first_cap, (int64_t)(m->prefix_bytes + bytes), 1));
    char *copy = (char *)room->first + m->prefix_bytes;
    memcpy(copy, word, bytes);
    for (size_t at = 0; at < bytes; at += length, before = m->prefix_bytes) {
        if (before) memcpy(copy + at - before, m->prefix, before);
        int32_t id = find_longest(m, vocab, copy + at, bytes - at, before, &length);
        if (id < 0) {
            ids->n = first;
            return dt_ids_append(ids, m->unk);
        }
        DT_TRY(dt_ids_append(ids, id));
    }
    return DT_OK;
}

const dt_token_model_ops dt_token_wordpiece = {
    .type = "WordPiece", .mark = "max_input_chars_per_word", .load = load, .destroy = destroy, .encode = encode};
