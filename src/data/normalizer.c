/* The normalizer of a tokenizer.json. */
#include "data/normalizer.h"
#include "base/memory.h"    // dt_grow
#include "data/charclass.h" // dt_char_append_lower
#include "data/charsmap.h"  // dt_charsmap
#include "data/parts.h"     // dt_parts_load
#include "data/regex.h"     // dt_regex_each

#include <stdlib.h>   // free
#include <string.h>   // strdup, strlen, strchr
#include <utf8proc.h> // utf8proc_map

typedef struct dt_normalizer_step {
    dt_status (*run)(const struct dt_normalizer_step *step, const dt_text *text, dt_text *out);
    char *content;                                 /* Prepend, Replace: what is put in */
    dt_regex *regex;                               /* Replace: what goes out */
    dt_status (*rewrite)(int32_t c, dt_text *out); /* what a character becomes */
    dt_charsmap *charsmap;                         /* Precompiled */
    int unicode_form;                              /* options of utf8proc_map */
    int strip_left, strip_right;                   /* Strip */
} step;

/* A new step; NULL if memory is exhausted (the error text is set). */
static step *push(dt_normalizer *normalizer, const char *content)
{
    char *copy = content ? strdup(content) : NULL;
    if ((content && !copy) || dt_grow(&normalizer->step, &normalizer->cap, normalizer->n + 1, sizeof(step)) != DT_OK) {
        free(copy);
        return NULL;
    }
    step *s = &normalizer->step[normalizer->n++];
    *s = (step){.content = copy};
    return s;
}

/* Prepend: in front of any text but the empty one. */
static dt_status run_prepend(const step *s, const dt_text *text, dt_text *out)
{
    if (!text->n) return DT_OK;
    DT_TRY(dt_text_append(out, s->content, strlen(s->content)));
    return dt_text_append(out, text->data, (size_t)text->n);
}

static dt_status load_prepend(void *owner, const dt_json *part)
{
    const char *content;
    DT_TRY(dt_json_string(part, "prepend", &content));
    step *s = push(owner, content);
    if (!s) return DT_ERR_MEMORY;
    s->run = run_prepend;
    return DT_OK;
}

struct replacing {
    const char *content;
    size_t bytes;
    dt_text *out;
};

static dt_status replace_stretch(void *ctx, const char *stretch, size_t bytes, int is_match)
{
    struct replacing *r = ctx;
    return is_match ? dt_text_append(r->out, r->content, r->bytes) : dt_text_append(r->out, stretch, bytes);
}

static dt_status run_replace(const step *s, const dt_text *text, dt_text *out)
{
    struct replacing r = {s->content, strlen(s->content), out};
    return dt_regex_each(s->regex, text->data, (size_t)text->n, replace_stretch, &r);
}

static dt_status load_replace(void *owner, const dt_json *part)
{
    const char *content;
    DT_TRY(dt_json_string(part, "content", &content));
    if (strchr(content, '$'))
        return dt_json_fail(part, "content", "group references ($) are not understood: %s", content);
    step *s = push(owner, content);
    if (!s) return DT_ERR_MEMORY;
    s->run = run_replace;
    return dt_regex_load(part, &s->regex);
}

/* Putting combining marks into their order takes the square of their number: text has a few on a letter, and what has
 * thousands is broken. */
enum { MOST_MARKS = 4096 };
static dt_status check_marks(const dt_text *text)
{
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)text->data;
    utf8proc_int32_t code;
    int64_t left = (int64_t)text->n;
    for (int marks = 0; left > 0;) {
        utf8proc_ssize_t bytes = utf8proc_iterate(at, left, &code);
        if (bytes <= 0) return DT_OK; // what follows will say so
        marks = utf8proc_get_property(code)->combining_class != 0 ? marks + 1 : 0;
        if (marks > MOST_MARKS) return dt_fail(DT_ERR_DATA, "more than %d combining marks in a row", MOST_MARKS);
        at += bytes;
        left -= bytes;
    }
    return DT_OK;
}

static dt_status run_unicode(const step *s, const dt_text *text, dt_text *out)
{
    if (!text->n) return DT_OK;
    utf8proc_uint8_t *mapped = NULL;
    DT_TRY(check_marks(text));
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text->data, (utf8proc_ssize_t)text->n, &mapped,
                                      (utf8proc_option_t)(UTF8PROC_STABLE | s->unicode_form));
    if (n < 0) return dt_fail(n == UTF8PROC_ERROR_NOMEM ? DT_ERR_MEMORY : DT_ERR_DATA, "%s", utf8proc_errmsg(n));
    dt_status st = dt_text_append(out, (const char *)mapped, (size_t)n);
    free(mapped);
    return st;
}

static dt_status load_unicode(void *owner, int form)
{
    step *s = push(owner, NULL);
    if (!s) return DT_ERR_MEMORY;
    s->run = run_unicode;
    s->unicode_form = form;
    return DT_OK;
}

static dt_status load_nfc(void *owner, const dt_json *part)
{
    return load_unicode(owner, UTF8PROC_COMPOSE);
}

static dt_status load_nfd(void *owner, const dt_json *part)
{
    return load_unicode(owner, UTF8PROC_DECOMPOSE);
}

static dt_status load_nfkc(void *owner, const dt_json *part)
{
    return load_unicode(owner, UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
}

static dt_status load_nfkd(void *owner, const dt_json *part)
{
    return load_unicode(owner, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
}

/* ---- character by character ---- */

/* Appends what a character becomes to *out. */
typedef dt_status rewrite_fn(int32_t c, dt_text *out);

static dt_status rewrite(rewrite_fn *fn, const dt_text *text, dt_text *out)
{
    int length;
    for (int64_t at = 0; at < text->n; at += length) {
        int32_t c = dt_utf8_decode(text->data + at, &length);
        DT_TRY(fn(c, out));
    }
    return DT_OK;
}

static dt_status to_lower(int32_t c, dt_text *out)
{
    return dt_char_append_lower(out, c);
}

static dt_status drop_combining(int32_t c, dt_text *out)
{
    return dt_char_is_combining_mark(c) ? DT_OK : dt_text_append_char(out, c);
}

static dt_status drop_nonspacing(int32_t c, dt_text *out)
{
    return dt_char_is_nonspacing_mark(c) ? DT_OK : dt_text_append_char(out, c);
}

static dt_status clean(int32_t c, dt_text *out)
{
    if (c == 0xFFFD || dt_char_is_control(c)) return DT_OK;
    return dt_text_append_char(out, dt_char_is_space(c) ? ' ' : c);
}

static dt_status set_chinese_apart(int32_t c, dt_text *out)
{
    if (!dt_char_is_chinese(c)) return dt_text_append_char(out, c);
    DT_TRY(dt_text_append(out, " ", 1));
    DT_TRY(dt_text_append_char(out, c));
    return dt_text_append(out, " ", 1);
}

static dt_status run_rewrite(const step *s, const dt_text *text, dt_text *out)
{
    return rewrite(s->rewrite, text, out);
}

static dt_status load_rewrite(void *owner, rewrite_fn *fn)
{
    step *s = push(owner, NULL);
    if (!s) return DT_ERR_MEMORY;
    s->run = run_rewrite;
    s->rewrite = fn;
    return DT_OK;
}

static dt_status load_lowercase(void *owner, const dt_json *part)
{
    return load_rewrite(owner, to_lower);
}

static dt_status load_strip_accents(void *owner, const dt_json *part)
{
    return load_rewrite(owner, drop_combining);
}

/* BertNormalizer (Devlin et al. 2018): the steps that it asks for, in this order. */
static dt_status load_bert(void *owner, const dt_json *part)
{
    int cleans, chinese, accents, lower;
    DT_TRY(dt_json_bool_or(part, "clean_text", 1, &cleans));
    DT_TRY(dt_json_bool_or(part, "handle_chinese_chars", 1, &chinese));
    DT_TRY(dt_json_bool_or(part, "lowercase", 1, &lower));
    DT_TRY(dt_json_bool_or(part, "strip_accents", lower, &accents));
    if (cleans) DT_TRY(load_rewrite(owner, clean));
    if (chinese) DT_TRY(load_rewrite(owner, set_chinese_apart));
    if (accents) {
        DT_TRY(load_nfd(owner, part));
        DT_TRY(load_rewrite(owner, drop_nonspacing));
    }
    return lower ? load_rewrite(owner, to_lower) : DT_OK;
}

/* Strip: white space at the two ends. */
static dt_status run_strip(const step *s, const dt_text *text, dt_text *out)
{
    int length;
    int64_t from = 0, end = 0;
    for (int64_t at = 0; at < text->n; at += length) {
        int space = dt_char_is_space(dt_utf8_decode(text->data + at, &length));
        if (space && at == from && s->strip_left) from = at + length;
        if (!space || !s->strip_right) end = at + length;
    }
    return from < end ? dt_text_append(out, text->data + from, (size_t)(end - from)) : DT_OK;
}

static dt_status load_strip(void *owner, const dt_json *part)
{
    step *s = push(owner, NULL);
    if (!s) return DT_ERR_MEMORY;
    s->run = run_strip;
    DT_TRY(dt_json_bool(part, "strip_left", &s->strip_left));
    return dt_json_bool(part, "strip_right", &s->strip_right);
}

static dt_status run_precompiled(const step *s, const dt_text *text, dt_text *out)
{
    return dt_charsmap_run(s->charsmap, text->data, (size_t)text->n, out);
}

static dt_status load_precompiled(void *owner, const dt_json *part)
{
    step *s = push(owner, NULL);
    if (!s) return DT_ERR_MEMORY;
    s->run = run_precompiled;
    return dt_charsmap_load(part, &s->charsmap);
}

static const dt_part_kind KINDS[] = {
    {"Prepend", "prepend", load_prepend},
    {"Replace", "pattern content", load_replace},
    {"NFC", "", load_nfc},
    {"NFD", "", load_nfd},
    {"NFKC", "", load_nfkc},
    {"NFKD", "", load_nfkd},
    {"Lowercase", "", load_lowercase},
    {"StripAccents", "", load_strip_accents},
    {"Strip", "strip_left strip_right", load_strip},
    {"BertNormalizer", "clean_text handle_chinese_chars strip_accents lowercase", load_bert},
    {"Precompiled", "precompiled_charsmap", load_precompiled},
};

dt_status dt_normalizer_load(const dt_json *root, dt_normalizer *out)
{
    return dt_parts_load(root, "normalizer", "normalizers", KINDS, sizeof KINDS / sizeof *KINDS, out);
}

void dt_normalizer_free(dt_normalizer *normalizer)
{
    for (int64_t i = 0; i < normalizer->n; i++) {
        free(normalizer->step[i].content);
        dt_regex_destroy(normalizer->step[i].regex);
        dt_charsmap_destroy(normalizer->step[i].charsmap);
    }
    free(normalizer->step);
    *normalizer = (dt_normalizer){0};
}

dt_status dt_normalizer_run(const dt_normalizer *normalizer, dt_text *text, dt_text *spare)
{
    text->most = spare->most = dt_text_most(text->n);
    for (int64_t i = 0; i < normalizer->n; i++) {
        spare->n = 0;
        DT_TRY(normalizer->step[i].run(&normalizer->step[i], text, spare));
        dt_text swap = *text;
        *text = *spare;
        *spare = swap;
    }
    text->most = spare->most = 0;
    return DT_OK;
}
