/* What holds of every tokenizer that was loaded. */
#ifndef DT_TESTS_FUZZ_TOKENS_H
#define DT_TESTS_FUZZ_TOKENS_H

#include "data/tokenizer.h" // dt_tokenizer
#include "fuzz.h"
#include <stdlib.h> // free

/** A text becomes ids that the tokenizer has, and these become a text, with and without the special ones. */
static inline void check_tokens(const dt_tokenizer *tok, const char *text, size_t bytes)
{
    dt_ids ids = {0};
    if (fuzz_took(dt_tokenizer_encode(tok, text, bytes, &ids))) {
        for (int64_t i = 0; i < ids.n; i++) FUZZ_CHECK(ids.id[i] >= 0 && ids.id[i] < dt_tokenizer_size(tok));
    }
    FUZZ_CHECK(dt_tokenizer_bos(tok) >= -1 && dt_tokenizer_bos(tok) < dt_tokenizer_size(tok));
    FUZZ_CHECK(dt_tokenizer_eos(tok) >= -1 && dt_tokenizer_eos(tok) < dt_tokenizer_size(tok));
    FUZZ_CHECK(dt_ids_append(&ids, dt_tokenizer_bos(tok)) == DT_OK);
    FUZZ_CHECK(dt_ids_append(&ids, dt_tokenizer_size(tok)) == DT_OK);
    for (int skip_special = 0; skip_special < 2; skip_special++) {
        char *back;
        if (fuzz_took(dt_tokenizer_decode(tok, ids.id, ids.n, skip_special, &back))) free(back);
    }
    dt_ids_free(&ids);
}

#endif
