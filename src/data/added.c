/* Added tokens of a tokenizer.json: loading them, finding them in a text. */
#include "data/added.h"
#include "base/memory.h" // dt_region
#include "data/parts.h"  // dt_parts_check_keys
#include "data/text.h"   // dt_text

#include <stdlib.h> // qsort, free
#include <string.h> // memcmp, strlen

static dt_status normalize(const dt_normalizer *normalizer, const char *text, dt_region *region, const char **out)
{
    dt_text content = {0}, spare = {0};
    dt_status st = DT_OK;
    DT_GOTO(dt_text_append(&content, text, strlen(text)), done);
    DT_GOTO(dt_normalizer_run(normalizer, &content, &spare), done);
    DT_GOTO(dt_text_append(&content, "", 1), done); // ends the string
    *out = dt_region_strdup(region, content.data);
    if (!*out) st = dt_fail(DT_ERR_MEMORY, "no memory for added tokens");
done:
    dt_text_free(&content);
    dt_text_free(&spare);
    return st;
}

/* The token's id must be the one that the model gives the same text, if it does; else a free one. */
static dt_status claim_id(const dt_json *at, dt_vocab *vocab, int64_t id, const char *text, int special)
{
    int32_t known = dt_vocab_find(vocab, text, strlen(text));
    if (known >= 0 && known != id)
        return dt_json_fail(at, "id", "is %lld, but \"%s\" is %d in the model's vocabulary", (long long)id, text,
                            known);
    if (known < 0) {
        const dt_token *token = dt_vocab_token(vocab, id);
        if (token)
            return dt_json_fail(at, "id", "%lld is \"%s\" already, not \"%s\"", (long long)id, token->text, text);
        dt_status st = dt_vocab_set(vocab, id, text);
        if (st != DT_OK) return dt_fail_in(st, "%s: %s", at->file, at->path);
    }
    vocab->token[id].special = special;
    return DT_OK;
}

static dt_status load_token(const dt_json *at, const dt_normalizer *normalizer, dt_vocab *vocab, dt_added *out)
{
    int64_t id;
    int special, normalized;
    dt_added_token token = {0};
    DT_TRY(dt_parts_check_keys(at, "id content special normalized lstrip rstrip single_word"));
    DT_TRY(dt_json_i64(at, "id", &id));
    DT_TRY(dt_json_string(at, "content", &token.text));
    DT_TRY(dt_json_bool_or(at, "special", 0, &special));
    DT_TRY(dt_json_bool_or(at, "normalized", !special, &normalized));
    DT_TRY(dt_json_bool_or(at, "lstrip", 0, &token.lstrip));
    DT_TRY(dt_json_bool_or(at, "rstrip", 0, &token.rstrip));
    DT_TRY(dt_json_bool_or(at, "single_word", 0, &token.single_word));
    if (!*token.text) return dt_json_fail(at, "content", "is empty");
    DT_TRY(claim_id(at, vocab, id, token.text, special));
    token.id = (int32_t)id;
    token.text = vocab->token[id].text;
    if (normalized) DT_TRY(normalize(normalizer, token.text, &vocab->texts, &token.text));
    vocab->token[id].shown = token.text; // found normalised, it decodes to what it was found as
    token.bytes = strlen(token.text);
    if (!token.bytes) return dt_json_fail(at, "content", "is empty once it is normalised");
    dt_added_set *set = normalized ? &out->normalized : &out->raw;
    DT_TRY(dt_grow(&set->token, &set->cap, set->n + 1, sizeof token));
    set->token[set->n++] = token;
    return DT_OK;
}

static int by_first_byte_then_longest(const void *a, const void *b)
{
    const dt_added_token *x = a, *y = b;
    unsigned char first = (unsigned char)x->text[0], other = (unsigned char)y->text[0];
    if (first != other) return first < other ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return memcmp(x->text, y->text, x->bytes);
}

static dt_status sort(const dt_json *root, dt_added_set *set)
{
    if (set->n) qsort(set->token, (size_t)set->n, sizeof *set->token, by_first_byte_then_longest);
    for (int64_t i = 1; i < set->n; i++)
        if (strcmp(set->token[i - 1].text, set->token[i].text) == 0)
            return dt_json_fail(root, "added_tokens", "\"%s\" stands there twice", set->token[i].text);
    int64_t at = 0;
    for (int b = 0; b < 256; b++) {
        set->start[b] = at;
        while (at < set->n && (unsigned char)set->token[at].text[0] == b) at++;
    }
    set->start[256] = at;
    return DT_OK;
}

dt_status dt_added_load(const dt_json *root, const dt_normalizer *normalizer, dt_vocab *vocab, dt_added *out)
{
    dt_json tokens;
    int64_t index = 0;
    if (dt_json_has(root, "added_tokens")) {
        DT_TRY(dt_json_array(root, "added_tokens", &tokens));
        cJSON *item;
        cJSON_ArrayForEach(item, tokens.node)
        {
            dt_json at = dt_json_child(&tokens, item, index++);
            if (!cJSON_IsObject(item)) return dt_json_fail(&at, NULL, "is not an object");
            DT_TRY(load_token(&at, normalizer, vocab, out));
        }
    }
    DT_TRY(sort(root, &out->raw));
    return sort(root, &out->normalized);
}

void dt_added_free(dt_added *added)
{
    free(added->raw.token);
    free(added->normalized.token);
    *added = (dt_added){0};
}

/* The first token at or behind `from`; NULL if there is none. */
static const dt_added_token *find(const dt_added_set *set, const char *text, size_t bytes, size_t from, size_t *where)
{
    for (size_t at = from; at < bytes; at++) {
        unsigned char b = (unsigned char)text[at];
        for (int64_t i = set->start[b]; i < set->start[b + 1]; i++) {
            const dt_added_token *token = &set->token[i];
            if (token->bytes > bytes - at || memcmp(token->text, text + at, token->bytes)) continue;
            *where = at;
            return token;
        }
    }
    return NULL;
}

/* The code point in front of `at`; *start is where it begins. */
static int32_t char_before(const char *text, size_t at, size_t *start)
{
    int length;
    do at--;
    while (at && ((unsigned char)text[at] & 0xC0) == 0x80);
    *start = at;
    return dt_utf8_decode(text + at, &length);
}

static int is_whole_word(const char *text, size_t bytes, size_t start, size_t stop)
{
    size_t before;
    int length;
    if (start && dt_char_is_word(char_before(text, start, &before))) return 0;
    return stop == bytes || !dt_char_is_word(dt_utf8_decode(text + stop, &length));
}

dt_status dt_added_each(const dt_added_set *set, const char *text, size_t bytes, dt_added_fn *fn, void *ctx)
{
    size_t done = 0, from = 0, start, before;
    for (const dt_added_token *token; set->n && (token = find(set, text, bytes, from, &start));) {
        size_t stop = from = start + token->bytes;
        if (token->single_word && !is_whole_word(text, bytes, start, stop)) continue;
        if (token->lstrip) {
            while (start > done && dt_char_is_space(char_before(text, start, &before))) start = before;
            if (start < done) start = done; // the token in front took them
        }
        if (token->rstrip) {
            int length;
            while (stop < bytes && dt_char_is_space(dt_utf8_decode(text + stop, &length))) stop += (size_t)length;
        }
        if (start >= stop) continue;
        if (done < start) DT_TRY(fn(ctx, text + done, start - done, -1));
        DT_TRY(fn(ctx, text + start, stop - start, token->id));
        done = stop;
    }
    return done < bytes ? fn(ctx, text + done, bytes - done, -1) : DT_OK;
}
