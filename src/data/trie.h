/* The tokens of a vocabulary as a trie of their bytes: all that a place in a text begins with are found in one walk. */
#ifndef DT_DATA_TRIE_H
#define DT_DATA_TRIE_H

#include "data/vocab.h" // dt_vocab
#include <stdint.h>     // int32_t, int64_t

/** Zero-initialise, free with dt_trie_free. Node 0 is the root. */
typedef struct dt_trie {
    struct dt_trie_edge *slot; /* open addressing */
    int shift;                 /* 64 - log2 of the slots */
    int32_t *token;            /* [nodes] the token that ends here; -1: none */
    int64_t nodes;
} dt_trie;

dt_status dt_trie_build(const dt_vocab *vocab, dt_trie *out) DT_WARN_UNUSED;
void dt_trie_free(dt_trie *trie);

/** The node behind `node` by one byte; 0: no token goes on so. */
int64_t dt_trie_next(const dt_trie *trie, int64_t node, unsigned char byte);

#endif
