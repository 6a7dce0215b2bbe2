/* Tokens by id and by text. */
#include "data/vocab.h"
#include "base/hash.h" // dt_hash_bytes

#include <stdio.h>  // snprintf
#include <stdlib.h> // free
#include <string.h> // strlen, memcmp, memset

dt_status dt_vocab_set(dt_vocab *vocab, int64_t id, const char *text)
{
    if (id < 0 || id >= DT_VOCAB_MOST) return dt_fail(DT_ERR_DATA, "id %lld is not in [0, 2^22)", (long long)id);
    const dt_token *other = dt_vocab_token(vocab, id);
    if (other) return dt_fail(DT_ERR_DATA, "id %lld is \"%s\" already", (long long)id, other->text);
    size_t bytes = strlen(text);
    DT_TRY(dt_grow(&vocab->token, &vocab->cap, id + 1, sizeof *vocab->token));
    char *copy = dt_region_strdup(&vocab->texts, text);
    if (!copy) return dt_fail(DT_ERR_MEMORY, "no memory for the vocabulary");
    vocab->token[id] = (dt_token){.text = copy, .shown = copy, .bytes = (int32_t)bytes};
    if (id >= vocab->size) vocab->size = (int32_t)id + 1;
    return DT_OK;
}

/* The slot of the token with this text, or the free one where it would go. */
static uint32_t slot_of(const dt_vocab *vocab, const char *text, size_t bytes)
{
    uint32_t at = (uint32_t)dt_hash_bytes(text, bytes, 0) & vocab->mask;
    for (; vocab->slot[at] >= 0; at = (at + 1) & vocab->mask) {
        const dt_token *token = &vocab->token[vocab->slot[at]];
        if ((size_t)token->bytes == bytes && memcmp(token->text, text, bytes) == 0) break;
    }
    return at;
}

dt_status dt_vocab_index(dt_vocab *vocab)
{
    uint32_t slots = 16;
    while (slots < 2 * (uint32_t)vocab->size) slots *= 2;
    free(vocab->slot);
    vocab->slot = NULL;
    DT_TRY(dt_alloc(slots, sizeof *vocab->slot, &vocab->slot));
    memset(vocab->slot, -1, slots * sizeof *vocab->slot);
    vocab->mask = slots - 1;
    for (int32_t id = 0; id < vocab->size; id++) {
        const dt_token *token = dt_vocab_token(vocab, id);
        if (!token) continue;
        uint32_t at = slot_of(vocab, token->text, (size_t)token->bytes);
        if (vocab->slot[at] >= 0)
            return dt_fail(DT_ERR_DATA, "\"%s\" has the ids %d and %d", token->text, vocab->slot[at], id);
        vocab->slot[at] = id;
    }
    return DT_OK;
}

dt_status dt_vocab_load(const dt_json *model, dt_vocab *vocab)
{
    dt_json tokens;
    DT_TRY(dt_json_object(model, "vocab", &tokens));
    cJSON *item;
    cJSON_ArrayForEach(item, tokens.node)
    {
        double id = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (!(id >= 0 && id < DT_VOCAB_MOST) || id != (int32_t)id)
            return dt_json_fail(&tokens, item->string, "is not an id in [0, 2^22)");
        dt_status st = dt_vocab_set(vocab, (int64_t)id, item->string);
        if (st != DT_OK) return dt_fail_in(st, "%s: %s.%s", tokens.file, tokens.path, item->string);
    }
    dt_status st = dt_vocab_index(vocab);
    return st == DT_OK ? st : dt_fail_in(st, "%s: %s", tokens.file, tokens.path);
}

int32_t dt_vocab_find(const dt_vocab *vocab, const char *text, size_t bytes)
{
    return vocab->slot ? vocab->slot[slot_of(vocab, text, bytes)] : -1;
}

void dt_vocab_find_bytes(const dt_vocab *vocab, int32_t byte_id[256])
{
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        byte_id[b] = dt_vocab_find(vocab, name, 6);
    }
}

const dt_token *dt_vocab_token(const dt_vocab *vocab, int64_t id)
{
    return id >= 0 && id < vocab->size && vocab->token[id].text ? &vocab->token[id] : NULL;
}

void dt_vocab_free(dt_vocab *vocab)
{
    free(vocab->token);
    free(vocab->slot);
    dt_region_free(&vocab->texts);
    *vocab = (dt_vocab){0};
}
