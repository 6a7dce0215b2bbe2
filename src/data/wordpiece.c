/* WordPiece (Schuster and Nakajima 2012; Devlin et al. 2018): of each word the longest piece of the vocabulary that it
 * begins with, then the longest that goes on from there, whose text in the vocabulary starts with a prefix ("##"). A
 * word of which something is left over becomes the unknown token as a whole. */
#include "base/memory.h" // dt_alloc
#include "data/parts.h"  // dt_parts_check_keys
#include "data/token_model.h"
#include "data/trie.h" // dt_trie

#include <stdlib.h> // free
#include <string.h> // strlen

typedef struct wordpiece {
    dt_trie trie;
    int64_t behind; /* the prefix's node, from which all pieces but a word's first are looked for; -1: there is none */
    int64_t max_chars; /* longer words are unknown */
    int32_t unk;
} wordpiece;

static int64_t find_prefix(const dt_trie *trie, const char *prefix)
{
    int64_t node = 0;
    for (; *prefix; prefix++) {
        node = dt_trie_next(trie, node, (unsigned char)*prefix);
        if (!node) return -1;
    }
    return node;
}

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
    DT_TRY(dt_trie_build(vocab, &m->trie));
    m->behind = find_prefix(&m->trie, prefix);
    return DT_OK;
}

static void destroy(void *model)
{
    wordpiece *m = model;
    if (m) dt_trie_free(&m->trie);
    free(m);
}

static int64_t count_chars(const char *word, size_t bytes)
{
    int64_t n = 0;
    for (size_t i = 0; i < bytes; i++) n += ((unsigned char)word[i] & 0xC0) != 0x80;
    return n;
}

/* The longest token that text[bytes] begins with, from a node of the trie on, and its length; -1 if there is none. */
static int32_t find_longest(const dt_trie *trie, int64_t node, const char *text, size_t bytes, size_t *length)
{
    int32_t longest = -1;
    for (size_t i = 0; i < bytes; i++) {
        node = dt_trie_next(trie, node, (unsigned char)text[i]);
        if (!node) break;
        const int inside = i + 1 < bytes && ((unsigned char)text[i + 1] & 0xC0) == 0x80; // of a character
        if (trie->token[node] < 0 || inside) continue;
        longest = trie->token[node];
        *length = i + 1;
    }
    return longest;
}

static dt_status encode(const void *model, const dt_vocab *vocab, const char *word, size_t bytes, dt_token_room *room,
                        dt_ids *ids)
{
    const wordpiece *m = model;
    int64_t first = ids->n;
    size_t length = 0;
    if (count_chars(word, bytes) > m->max_chars) return dt_ids_append(ids, m->unk);
    for (size_t at = 0; at < bytes; at += length) {
        const int64_t from = at ? m->behind : 0;
        int32_t id = from < 0 ? -1 : find_longest(&m->trie, from, word + at, bytes - at, &length);
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
