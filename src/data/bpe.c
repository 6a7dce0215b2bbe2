/* Byte pair encoding (Sennrich et al. 2016): a word starts as its characters; of all neighbours that a merge knows, the
 * pair of the lowest rank (of these, the leftmost) is joined, until none is left. A heap of the pairs makes it
 * O(n log n) in the length of the word: a sentencepiece-style file has no word split, so a word may be a whole text. */
#include "base/hash.h"   // dt_hash_bytes
#include "base/memory.h" // dt_alloc, dt_grow
#include "data/parts.h"  // dt_parts_check_keys
#include "data/text.h"   // dt_utf8_next
#include "data/token_model.h"

#include <stdlib.h> // free
#include <string.h> // strchr, strlen, memcpy

/* What the pair (left, right) becomes. */
typedef struct merge {
    uint64_t pair; /* left << 32 | right */
    int32_t id;    /* of both together; -1: a free slot */
    uint32_t rank;
} merge;

typedef struct bpe {
    merge *slot; /* [mask + 1], open addressing by pair */
    uint64_t mask;
    int32_t byte_id[256]; /* of <0x00> ... <0xFF>; -1: not in the vocabulary */
    int32_t unk;          /* -1: none */
    int byte_fallback, fuse_unk, ignore_merges;
} bpe;

/* A piece of the word; a doubly linked list over the places of its characters. */
typedef struct symbol {
    int32_t id; /* -1: joined to the one at its left */
    int32_t prev, next;
} symbol;

/* A pair that may be joined: the heap's order is rank, then place. */
typedef struct candidate {
    uint64_t key; /* rank << 32 | place of the left symbol */
    int32_t id;   /* what it becomes */
} candidate;

static merge *slot_of(const bpe *m, uint64_t pair)
{
    uint64_t at = dt_hash_bytes(&pair, sizeof pair, 0) & m->mask;
    while (m->slot[at].id >= 0 && m->slot[at].pair != pair) at = (at + 1) & m->mask;
    return &m->slot[at];
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* ---- loading ---- */

/* The two texts of a merge, "left right" or ["left", "right"]; *left is not NUL-terminated in the first form. */
static int merge_texts(const cJSON *item, const char **left, size_t *left_bytes, const char **right)
{
    if (cJSON_IsString(item)) {
        const char *space = strchr(item->valuestring, ' ');
        if (!space || strchr(space + 1, ' ')) return 0;
        *left = item->valuestring;
        *left_bytes = (size_t)(space - *left);
        *right = space + 1;
        return 1;
    }
    if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != 2) return 0;
    const cJSON *a = item->child, *b = a->next;
    if (!cJSON_IsString(a) || !cJSON_IsString(b)) return 0;
    *left = a->valuestring;
    *left_bytes = strlen(*left);
    *right = b->valuestring;
    return 1;
}

static dt_status load_merge(const dt_json *merges, cJSON *item, int64_t index, uint32_t rank, const dt_vocab *vocab,
                            bpe *m, dt_text *both)
{
    const char *left, *right;
    size_t left_bytes;
    if (!merge_texts(item, &left, &left_bytes, &right)) {
        dt_json at = dt_json_child(merges, item, index);
        return dt_json_fail(&at, NULL, "is not \"LEFT RIGHT\" or [\"LEFT\", \"RIGHT\"]");
    }
    both->n = 0;
    DT_TRY(dt_text_append(both, left, left_bytes));
    DT_TRY(dt_text_append(both, right, strlen(right)));
    int32_t a = dt_vocab_find(vocab, left, left_bytes), b = dt_vocab_find(vocab, right, strlen(right));
    int32_t joined = dt_vocab_find(vocab, both->data, (size_t)both->n);
    if (a < 0 || b < 0 || joined < 0) {
        dt_json at = dt_json_child(merges, item, index);
        const char *which = a < 0 ? left : b < 0 ? right : both->data;
        size_t bytes = a < 0 ? left_bytes : b < 0 ? strlen(right) : (size_t)both->n;
        return dt_json_fail(&at, NULL, "\"%.*s\" is not in model.vocab", (int)bytes, which);
    }
    uint64_t pair = pair_of(a, b);
    *slot_of(m, pair) = (merge){pair, joined, rank}; // of equal pairs the last counts
    return DT_OK;
}

static dt_status load_merges(const dt_json *model, const dt_vocab *vocab, bpe *m)
{
    dt_json merges;
    DT_TRY(dt_json_array(model, "merges", &merges));
    uint64_t slots = 16, n = 0;
    cJSON *item;
    cJSON_ArrayForEach(item, merges.node) n++;
    while (slots < 2 * n) slots *= 2;
    DT_TRY(dt_alloc(slots, sizeof *m->slot, &m->slot));
    m->mask = slots - 1;
    for (uint64_t i = 0; i < slots; i++) m->slot[i].id = -1;
    dt_text both = {0};
    dt_status st = DT_OK;
    int64_t index = 0;
    uint32_t rank = 0;
    cJSON_ArrayForEach(item, merges.node)
    {
        // A list copied from a merges.txt begins with its "#version" line.
        int comment = cJSON_IsString(item) && strncmp(item->valuestring, "#version", 8) == 0;
        if (!comment) DT_GOTO(load_merge(&merges, item, index, rank++, vocab, m, &both), done);
        index++;
    }
done:
    dt_text_free(&both);
    return st;
}

static dt_status load_options(const dt_json *model, const dt_vocab *vocab, bpe *m)
{
    double dropout;
    const char *affix, *unk;
    DT_TRY(dt_parts_check_keys(model, "type dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk "
                                      "byte_fallback ignore_merges vocab merges"));
    DT_TRY(dt_json_f64_or(model, "dropout", 0, &dropout));
    if (dropout != 0) return dt_json_fail(model, "dropout", "is %g; only 0 is understood", dropout);
    static const char *const AFFIXES[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        DT_TRY(dt_json_string_or(model, AFFIXES[i], "", &affix));
        if (*affix) return dt_json_fail(model, AFFIXES[i], "is \"%s\"; only none is understood", affix);
    }
    DT_TRY(dt_json_bool_or(model, "byte_fallback", 0, &m->byte_fallback));
    DT_TRY(dt_json_bool_or(model, "fuse_unk", 0, &m->fuse_unk));
    DT_TRY(dt_json_bool_or(model, "ignore_merges", 0, &m->ignore_merges));
    DT_TRY(dt_json_string_or(model, "unk_token", NULL, &unk));
    m->unk = unk ? dt_vocab_find(vocab, unk, strlen(unk)) : -1;
    if (unk && m->unk < 0) return dt_json_fail(model, "unk_token", "\"%s\" is not in model.vocab", unk);
    dt_vocab_find_bytes(vocab, m->byte_id);
    return DT_OK;
}

static dt_status load(const dt_json *model, dt_vocab *vocab, void **out)
{
    bpe *m;
    DT_TRY(dt_alloc(1, sizeof *m, &m));
    *out = m;
    DT_TRY(dt_vocab_load(model, vocab));
    DT_TRY(load_options(model, vocab, m));
    return load_merges(model, vocab, m);
}

static void destroy(void *model)
{
    bpe *m = model;
    if (m) free(m->slot);
    free(m);
}

/* ---- encoding ---- */

/* Moves heap[at] down to where neither child is smaller. */
static void sift_down(candidate *heap, int64_t n, int64_t at)
{
    candidate moving = heap[at];
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1].key < heap[child].key) child++;
        if (heap[child].key >= moving.key) break;
        heap[at] = heap[child];
    }
    heap[at] = moving;
}

static candidate pop(candidate *heap, int64_t *n)
{
    candidate top = heap[0];
    heap[0] = heap[--*n];
    if (*n) sift_down(heap, *n, 0);
    return top;
}

static dt_status push(dt_token_room *room, int64_t *n, candidate c)
{
    DT_TRY(dt_grow(&room->second, &room->second_cap, *n + 1, sizeof c));
    candidate *heap = room->second;
    int64_t at = (*n)++;
    for (int64_t parent; at && heap[parent = (at - 1) / 2].key > c.key; at = parent) heap[at] = heap[parent];
    heap[at] = c;
    return DT_OK;
}

/* The symbol at `place` and the one behind it as a candidate. Is there a merge for them? */
static int candidate_at(const bpe *m, const symbol *s, int32_t place, candidate *out)
{
    if (place < 0 || s[place].next < 0) return 0;
    const merge *found = slot_of(m, pair_of(s[place].id, s[s[place].next].id));
    if (found->id < 0) return 0;
    *out = (candidate){(uint64_t)found->rank << 32 | (uint32_t)place, found->id};
    return 1;
}

static dt_status join_pairs(const bpe *m, dt_token_room *room, int32_t n)
{
    symbol *s = room->first;
    int64_t waiting = 0;
    candidate c;
    for (int32_t i = 0; i + 1 < n; i++)
        if (candidate_at(m, s, i, &c)) DT_TRY(push(room, &waiting, c));
    while (waiting) {
        candidate top = pop(room->second, &waiting);
        int32_t left = (int32_t)(uint32_t)top.key, right;
        // Out of date? One of the two may have been joined to something else since.
        if (s[left].id < 0 || !candidate_at(m, s, left, &c) || c.id != top.id) continue;
        right = s[left].next;
        s[left].id = top.id;
        s[left].next = s[right].next;
        s[right].id = -1;
        if (s[left].next >= 0) s[s[left].next].prev = left;
        if (candidate_at(m, s, s[left].prev, &c)) DT_TRY(push(room, &waiting, c));
        if (candidate_at(m, s, left, &c)) DT_TRY(push(room, &waiting, c));
    }
    return DT_OK;
}

static dt_status add_symbol(dt_token_room *room, int32_t *n, int32_t id)
{
    if (*n == INT32_MAX) return dt_fail(DT_ERR_DATA, "a word of more than 2^31 characters");
    DT_TRY(dt_grow(&room->first, &room->first_cap, *n + 1, sizeof(symbol)));
    symbol *s = room->first;
    s[*n] = (symbol){id, *n - 1, -1};
    if (*n) s[*n - 1].next = *n;
    (*n)++;
    return DT_OK;
}

static int has_bytes(const bpe *m, const char *text, int length)
{
    for (int i = 0; i < length; i++)
        if (m->byte_id[(unsigned char)text[i]] < 0) return 0;
    return 1;
}

/* The word's characters as symbols. One that is not in the vocabulary becomes its bytes if these are there, else the
 * unknown token (which waits for the next known character, so that a run can be one), else nothing. */
static dt_status split_characters(const bpe *m, const dt_vocab *vocab, const char *word, size_t bytes,
                                  dt_token_room *room, int32_t *n)
{
    int unknown = 0;
    for (size_t at = 0; at < bytes;) {
        int length = dt_utf8_next(word + at, bytes - at);
        int32_t id = dt_vocab_find(vocab, word + at, (size_t)length);
        if (id >= 0) {
            if (unknown) DT_TRY(add_symbol(room, n, m->unk));
            unknown = 0;
            DT_TRY(add_symbol(room, n, id));
        } else if (m->byte_fallback && has_bytes(m, word + at, length)) {
            for (int i = 0; i < length; i++)
                DT_TRY(add_symbol(room, n, m->byte_id[(unsigned char)word[at + (size_t)i]]));
        } else if (m->unk >= 0) {
            if (unknown && !m->fuse_unk) DT_TRY(add_symbol(room, n, m->unk));
            unknown = 1;
        }
        at += (size_t)length;
    }
    return unknown ? add_symbol(room, n, m->unk) : DT_OK;
}

static dt_status encode(const void *model, const dt_vocab *vocab, const char *word, size_t bytes, dt_token_room *room,
                        dt_ids *ids)
{
    const bpe *m = model;
    int32_t n = 0, whole = m->ignore_merges ? dt_vocab_find(vocab, word, bytes) : -1;
    if (whole >= 0) {
        DT_TRY(dt_grow(&ids->id, &ids->cap, ids->n + 1, sizeof *ids->id));
        ids->id[ids->n++] = whole;
        return DT_OK;
    }
    DT_TRY(split_characters(m, vocab, word, bytes, room, &n));
    DT_TRY(join_pairs(m, room, n));
    DT_TRY(dt_grow(&ids->id, &ids->cap, ids->n + n, sizeof *ids->id));
    const symbol *s = room->first;
    for (int32_t i = n ? 0 : -1; i >= 0; i = s[i].next) ids->id[ids->n++] = s[i].id;
    return DT_OK;
}

const dt_token_model_ops dt_token_bpe = {
    .type = "BPE", .mark = "merges", .load = load, .destroy = destroy, .encode = encode};
