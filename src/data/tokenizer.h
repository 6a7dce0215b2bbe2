/* Text <-> token ids, as a Hugging Face tokenizer.json says. Anything in the file that is not understood is an error
 * that names it, never a silent difference. All functions are local. */
#ifndef DT_DATA_TOKENIZER_H
#define DT_DATA_TOKENIZER_H

#include "base/hash.h"   // dt_digest
#include "base/status.h" // dt_status
#include <stddef.h>      // size_t
#include <stdint.h>      // int32_t, int64_t

typedef struct dt_tokenizer dt_tokenizer;

/** A growable list of ids; zero-initialise, free with dt_ids_free. */
typedef struct dt_ids {
    int32_t *id;
    int64_t n, cap;
} dt_ids;
void dt_ids_free(dt_ids *ids);
dt_status dt_ids_append(dt_ids *ids, int32_t id) DT_WARN_UNUSED;

/** Loads `<folder>/tokenizer.json`, or where there is none `<folder>/vocab.txt` as BERT's WordPiece (and, where
 * present, BOS, EOS and their defaults from tokenizer_config.json and config.json). DT_ERR_DATA names the file and the
 * key. */
dt_status dt_tokenizer_load(const char *folder, dt_tokenizer **out) DT_WARN_UNUSED;
void dt_tokenizer_destroy(dt_tokenizer *tok);

/** Appends the ids of text[bytes] (UTF-8; invalid bytes are errors) to *ids; no BOS or EOS added. Special tokens that
 *  stand in the text become their ids. Safe to call from several threads. */
dt_status dt_tokenizer_encode(const dt_tokenizer *tok, const char *text, size_t bytes, dt_ids *ids) DT_WARN_UNUSED;
/** A place in a text, and the ids of that text around it: how many end in front of it, and how many begin there. */
typedef struct dt_text_mark {
    size_t at; /* byte */
    int64_t ended, begun;
} dt_text_mark;
/** The same, and fills mark[n], whose places ascend; counts are from the first id of this text on. An id that stands
 *  across a mark has begun and has not ended. */
dt_status dt_tokenizer_encode_marked(const dt_tokenizer *tok, const char *text, size_t bytes, dt_text_mark *mark,
                                     int64_t n, dt_ids *ids) DT_WARN_UNUSED;
/** Id of an added token (one that text is searched for before all else); -1 if there is no such one. */
int32_t dt_tokenizer_find_added(const dt_tokenizer *tok, const char *text);
/** The text of ids[n]; *text is NUL-terminated and freed with free(). skip_special leaves BOS, EOS and the like out. */
dt_status dt_tokenizer_decode(const dt_tokenizer *tok, const int32_t *ids, int64_t n, int skip_special,
                              char **text) DT_WARN_UNUSED;

int32_t dt_tokenizer_bos(const dt_tokenizer *tok);  /* -1: none */
int32_t dt_tokenizer_eos(const dt_tokenizer *tok);  /* -1: none */
int dt_tokenizer_adds_bos(const dt_tokenizer *tok); /* does the tokenizer itself put BOS in front? */
int dt_tokenizer_adds_eos(const dt_tokenizer *tok); /* and EOS behind? */
int32_t dt_tokenizer_size(const dt_tokenizer *tok); /* largest id + 1 */

/** Digest of the files that it was loaded from, and of BOS and EOS. */
dt_digest dt_tokenizer_digest(const dt_tokenizer *tok);

#endif
