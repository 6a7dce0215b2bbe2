/* The normalizer of a tokenizer.json. */
#include "data/normalizer.h"
#include "base/memory.h" // dt_grow
#include "data/parts.h"  // dt_parts_load
#include "data/regex.h"  // dt_regex_each

#include <stdlib.h>   // free
#include <string.h>   // strdup, strlen, strchr
#include <utf8proc.h> // utf8proc_map

typedef struct dt_normalizer_step {
    dt_status (*run)(const struct dt_normalizer_step *step, const dt_text *text, dt_text *out);
    char *content;    /* Prepend, Replace: what is put in */
    dt_regex *regex;  /* Replace: what goes out */
    int unicode_form; /* options of utf8proc_map */
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

static dt_status run_unicode(const step *s, const dt_text *text, dt_text *out)
{
    if (!text->n) return DT_OK;
    utf8proc_uint8_t *mapped = NULL;
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

static const dt_part_kind KINDS[] = {
    {"Prepend", "prepend", load_prepend},
    {"Replace", "pattern content", load_replace},
    {"NFC", "", load_nfc},
    {"NFD", "", load_nfd},
    {"NFKC", "", load_nfkc},
    {"NFKD", "", load_nfkd},
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
    }
    free(normalizer->step);
    *normalizer = (dt_normalizer){0};
}

dt_status dt_normalizer_run(const dt_normalizer *normalizer, dt_text *text, dt_text *spare)
{
    for (int64_t i = 0; i < normalizer->n; i++) {
        spare->n = 0;
        DT_TRY(normalizer->step[i].run(&normalizer->step[i], text, spare));
        dt_text swap = *text;
        *text = *spare;
        *spare = swap;
    }
    return DT_OK;
}
