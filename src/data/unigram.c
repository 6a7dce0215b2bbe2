/* Unigram (Kudo 2018): of all ways to cut a word into tokens, the one whose scores (log-probabilities) sum to the most.
 * Viterbi over the bytes of the word: the best way to each place, found through a trie of the vocabulary. A character
 * that is no token costs more than any token; neighbours of that kind are one unknown token, or their bytes. */
#include "base/memory.h" // dt_alloc, dt_grow
#include "data/parts.h"  // dt_parts_check_keys
#include "data/text.h"   // dt_utf8_next
#include "data/token_model.h"
#include "data/trie.h" // dt_trie

#include <math.h>   // isfinite, INFINITY
#include <stdlib.h> // free
#include <string.h> // strlen

static const double UNKNOWN_PENALTY = 10; // below the lowest score

typedef struct unigram {
    double *score; /* [tokens], by id */
    double unknown_score;
    dt_trie trie;
    int32_t byte_id[256]; /* of <0x00> ... <0xFF>; -1: not in the vocabulary */
    int32_t unk;          /* -1: none */
    int byte_fallback;
} unigram;

/* The best way to the place in the word that it is the index of. */
typedef struct place {
    double score;
    int32_t from, id; /* the last token's beginning (-1: no way yet) and id */
    int32_t next;     /* on the best way to the end: the place behind this one */
} place;

/* ---- loading ---- */

static dt_status load_token(const dt_json *tokens, cJSON *item, int64_t id, dt_vocab *vocab, unigram *m)
{
    const cJSON *text = cJSON_IsArray(item) ? item->child : NULL, *score = text ? text->next : NULL;
    if (!cJSON_IsString(text) || !cJSON_IsNumber(score) || score->next || !isfinite(score->valuedouble)) {
        dt_json at = dt_json_child(tokens, item, id);
        return dt_json_fail(&at, NULL, "is not [\"TOKEN\", SCORE] with a finite score");
    }
    dt_status st = dt_vocab_set(vocab, id, text->valuestring);
    if (st != DT_OK) return dt_fail_in(st, "%s: %s[%lld]", tokens->file, tokens->path, (long long)id);
    m->score[id] = score->valuedouble;
    if (m->score[id] < m->unknown_score) m->unknown_score = m->score[id];
    return DT_OK;
}

static dt_status load_vocab(const dt_json *model, dt_vocab *vocab, unigram *m)
{
    dt_json tokens;
    DT_TRY(dt_json_array(model, "vocab", &tokens));
    int64_t n = cJSON_GetArraySize(tokens.node), id = 0;
    if (!n) return dt_json_fail(model, "vocab", "is empty");
    DT_TRY(dt_alloc((size_t)n, sizeof *m->score, &m->score));
    m->unknown_score = INFINITY;
    cJSON *item;
    cJSON_ArrayForEach(item, tokens.node) DT_TRY(load_token(&tokens, item, id++, vocab, m));
    m->unknown_score -= UNKNOWN_PENALTY;
    dt_status st = dt_vocab_index(vocab);
    return st == DT_OK ? st : dt_fail_in(st, "%s: %s", tokens.file, tokens.path);
}

static dt_status load(const dt_json *model, dt_vocab *vocab, void **out)
{
    unigram *m;
    int64_t unk;
    DT_TRY(dt_alloc(1, sizeof *m, &m));
    *out = m;
    // alpha and nbest_size ask for sampling: null, or refused.
    DT_TRY(dt_parts_check_keys(model, "type unk_id vocab byte_fallback alpha nbest_size"));
    static const char *const SAMPLING[] = {"alpha", "nbest_size"};
    for (int i = 0; i < 2; i++)
        if (dt_json_has(model, SAMPLING[i]))
            return dt_json_fail(model, SAMPLING[i], "is not null: sampling is not understood");
    DT_TRY(load_vocab(model, vocab, m));
    DT_TRY(dt_json_i64_or(model, "unk_id", -1, &unk));
    if (dt_json_has(model, "unk_id") && (unk < 0 || unk >= vocab->size))
        return dt_json_fail(model, "unk_id", "%lld is the id of no token", (long long)unk);
    m->unk = (int32_t)unk;
    DT_TRY(dt_json_bool_or(model, "byte_fallback", 0, &m->byte_fallback));
    dt_vocab_find_bytes(vocab, m->byte_id);
    return dt_trie_build(vocab, &m->trie);
}

static void destroy(void *model)
{
    unigram *m = model;
    if (!m) return;
    free(m->score);
    dt_trie_free(&m->trie);
    free(m);
}

/* ---- encoding ---- */

/* A way to `to` over the token `id` from `from` on: kept if it is the first or better than the one known. Of equal
 * ones the first found stays. */
static void offer(place *places, int32_t from, int32_t to, int32_t id, double score)
{
    score += places[from].score;
    if (places[to].from >= 0 && score <= places[to].score) return;
    places[to].score = score;
    places[to].from = from;
    places[to].id = id;
}

static dt_status find_ways(const unigram *m, const char *word, int32_t bytes, place *places)
{
    places[0] = (place){.from = -1};
    for (int32_t i = 1; i <= bytes; i++) places[i] = (place){.from = -1};
    for (int32_t at = 0, length; at < bytes; at += length) {
        int known = 0;
        int64_t node = 0;
        length = (int32_t)dt_utf8_next(word + at, (size_t)(bytes - at));
        for (int32_t i = at; i < bytes; i++) {
            node = dt_trie_next(&m->trie, node, (unsigned char)word[i]);
            if (!node) break;
            int32_t id = m->trie.token[node];
            if (id < 0) continue;
            offer(places, at, i + 1, id, m->score[id]);
            known |= i + 1 == at + length;
        }
        if (known) continue;
        if (m->unk < 0) {
            const char *c = word + at;
            return dt_fail(DT_ERR_DATA, "\"%.*s\" is not in the vocabulary, which has no unknown token", length, c);
        }
        offer(places, at, at + length, m->unk, m->unknown_score);
    }
    return DT_OK;
}

/* A run of unknown characters. Together they may be a token after all. */
static dt_status append_unknown(const unigram *m, const dt_vocab *vocab, const char *text, int32_t bytes, dt_ids *ids)
{
    int32_t id = dt_vocab_find(vocab, text, (size_t)bytes);
    if (id >= 0) return dt_ids_append(ids, id);
    int has_bytes = m->byte_fallback;
    for (int32_t i = 0; has_bytes && i < bytes; i++) has_bytes = m->byte_id[(unsigned char)text[i]] >= 0;
    if (!has_bytes) return dt_ids_append(ids, m->unk);
    for (int32_t i = 0; i < bytes; i++) DT_TRY(dt_ids_append(ids, m->byte_id[(unsigned char)text[i]]));
    return DT_OK;
}

static dt_status encode(const void *model, const dt_vocab *vocab, const char *word, size_t bytes, dt_token_room *room,
                        dt_ids *ids)
{
    const unigram *m = model;
    if (bytes >= INT32_MAX) return dt_fail(DT_ERR_DATA, "a word of more than 2^31 bytes");
    int32_t n = (int32_t)bytes;
    DT_TRY(dt_grow(&room->first, &room->first_cap, (int64_t)n + 1, sizeof(place)));
    place *places = room->first;
    DT_TRY(find_ways(m, word, n, places));
    for (int32_t at = n; at > 0; at = places[at].from) places[places[at].from].next = at;
    for (int32_t at = 0, end; at < n; at = end) {
        end = places[at].next;
        if (places[end].id != m->unk) {
            DT_TRY(dt_ids_append(ids, places[end].id));
            continue;
        }
        while (end < n && places[places[end].next].id == m->unk) end = places[end].next;
        DT_TRY(append_unknown(m, vocab, word + at, end - at, ids));
    }
    return DT_OK;
}

const dt_token_model_ops dt_token_unigram = {
    .type = "Unigram", .mark = "unk_id", .load = load, .destroy = destroy, .encode = encode};
