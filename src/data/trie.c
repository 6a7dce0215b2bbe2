/* A trie whose edges lie in one hash table. */
#include "data/trie.h"
#include "base/memory.h" // dt_alloc

#include <stdlib.h> // free

/* From a node on by one byte. */
typedef struct dt_trie_edge {
    uint64_t key; /* node << 8 | byte */
    int64_t to;   /* 0: a free slot (no edge leads to the root) */
} edge;

/* Fibonacci hashing: the upper bits of a product (Knuth, volume 3, 6.4). A walk does little else. */
static edge *slot_of(const dt_trie *t, int64_t node, unsigned char byte)
{
    const uint64_t key = (uint64_t)node << 8 | byte, mask = UINT64_MAX >> t->shift;
    uint64_t at = key * 0x9E3779B97F4A7C15u >> t->shift;
    while (t->slot[at].to && t->slot[at].key != key) at = (at + 1) & mask;
    return &t->slot[at];
}

int64_t dt_trie_next(const dt_trie *trie, int64_t node, unsigned char byte)
{
    return slot_of(trie, node, byte)->to;
}

static void add(dt_trie *t, const dt_token *token, int32_t id)
{
    int64_t node = 0;
    for (int32_t i = 0; i < token->bytes; i++) {
        const unsigned char byte = (unsigned char)token->text[i];
        edge *e = slot_of(t, node, byte);
        if (!e->to) {
            *e = (edge){(uint64_t)node << 8 | byte, t->nodes};
            t->token[t->nodes++] = -1;
        }
        node = e->to;
    }
    t->token[node] = id;
}

dt_status dt_trie_build(const dt_vocab *vocab, dt_trie *out)
{
    uint64_t slots = 16, most = 1; // most: nodes that there can be
    for (int32_t id = 0; id < vocab->size; id++) {
        const dt_token *token = dt_vocab_token(vocab, id);
        if (token) most += (uint64_t)token->bytes;
    }
    out->shift = 60;
    for (; slots < 2 * most; slots *= 2) out->shift--;
    DT_TRY(dt_alloc(slots, sizeof *out->slot, &out->slot));
    DT_TRY(dt_alloc(most, sizeof *out->token, &out->token));
    out->token[out->nodes++] = -1;
    for (int32_t id = 0; id < vocab->size; id++) {
        const dt_token *token = dt_vocab_token(vocab, id);
        if (token) add(out, token, id);
    }
    return DT_OK;
}

void dt_trie_free(dt_trie *trie)
{
    free(trie->slot);
    free(trie->token);
    *trie = (dt_trie){0};
}
