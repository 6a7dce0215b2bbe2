/* The pre-tokenizer of a tokenizer.json: each step cuts or rewrites a piece and hands its parts to the next one. */
#include "data/pretokenizer.h"
#include "base/memory.h"    // dt_grow
#include "data/bytelevel.h" // dt_bytelevel_alphabet
#include "data/charclass.h" // dt_char_is_punctuation
#include "data/metaspace.h" // dt_metaspace
#include "data/parts.h"     // dt_parts_load
#include "data/regex.h"     // dt_regex_each

#include <stdlib.h> // free
#include <string.h> // strcmp, strlen, memchr

/* What becomes of the matches ("delimiters") of an expression that cuts. */
typedef enum behavior { ISOLATED, REMOVED, CONTIGUOUS, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT } behavior;
static const char *const BEHAVIORS[] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"};

struct walk;
typedef struct dt_pretokenizer_step {
    dt_status (*run)(struct walk *walk, int64_t k, const char *text, size_t bytes, int at_start);
    dt_regex *regex;            /* cuts at its matches; or at */
    int (*delimits)(int32_t c); /* each character of this class; both NULL: does not cut */
    behavior behavior;
    int invert;          /* the matches are what is between the delimiters */
    int prefix_space;    /* ByteLevel */
    int32_t letter[256]; /* ByteLevel */
    dt_metaspace metaspace;
} step;

/* One run: where the words go, and the buffers of each step (two for step k, from 2 k on). */
typedef struct walk {
    const dt_pretokenizer *pre;
    dt_text *buffers;
    dt_word_fn *fn;
    void *ctx;
} walk;

static dt_status run_from(walk *w, int64_t k, const char *text, size_t bytes, int at_start)
{
    if (!bytes) return DT_OK;
    if (k == w->pre->n) return w->fn(w->ctx, text, bytes);
    return w->pre->step[k].run(w, k, text, bytes, at_start);
}

/* A cut in progress: stretches that belong together are held back until the next one is known. */
typedef struct cutting {
    walk *w;
    const step *s;
    const char *text, *held;
    size_t held_bytes;
    int held_is_match, holding, at_start;
    dt_status (*emit)(struct cutting *c, const char *piece, size_t bytes);
    int64_t k;
} cutting;

static dt_status flush(cutting *c)
{
    if (!c->holding || (c->held_is_match && c->s->behavior == REMOVED)) return DT_OK;
    return c->emit(c, c->held, c->held_bytes);
}

static int joins(behavior b, int held_is_match, int is_match)
{
    switch (b) {
    case CONTIGUOUS: return held_is_match == is_match;
    case MERGED_WITH_PREVIOUS: return is_match && !held_is_match;
    case MERGED_WITH_NEXT: return held_is_match && !is_match;
    default: return 0;
    }
}

static dt_status cut_stretch(void *ctx, const char *stretch, size_t bytes, int is_match)
{
    cutting *c = ctx;
    is_match ^= c->s->invert;
    if (c->holding && joins(c->s->behavior, c->held_is_match, is_match)) {
        c->held_bytes += bytes;
    } else {
        DT_TRY(flush(c));
        c->held = stretch;
        c->held_bytes = bytes;
        c->holding = 1;
    }
    c->held_is_match = is_match;
    return DT_OK;
}

static dt_status emit_to_next(cutting *c, const char *piece, size_t bytes)
{
    return run_from(c->w, c->k + 1, piece, bytes, c->at_start && piece == c->text);
}

/* Like dt_regex_each: each character of the class is a match. */
static dt_status class_each(int (*holds)(int32_t c), const char *text, size_t bytes, cutting *c)
{
    size_t done = 0;
    int length;
    for (size_t at = 0; at < bytes; at += (size_t)length) {
        if (!holds(dt_utf8_decode(text + at, &length))) continue;
        if (done < at) DT_TRY(cut_stretch(c, text + done, at - done, 0));
        DT_TRY(cut_stretch(c, text + at, (size_t)length, 1));
        done = at + (size_t)length;
    }
    return done < bytes ? cut_stretch(c, text + done, bytes - done, 0) : DT_OK;
}

/* Cuts with the step's expression or class, if it has one, and hands the pieces to `emit`. */
static dt_status cut(walk *w, int64_t k, const char *text, size_t bytes, int at_start,
                     dt_status (*emit)(cutting *c, const char *piece, size_t bytes))
{
    cutting c = {.w = w, .s = &w->pre->step[k], .text = text, .at_start = at_start, .emit = emit, .k = k};
    if (c.s->delimits) DT_TRY(class_each(c.s->delimits, text, bytes, &c));
    else if (c.s->regex) DT_TRY(dt_regex_each(c.s->regex, text, bytes, cut_stretch, &c));
    else return emit(&c, text, bytes);
    return flush(&c);
}

static dt_status run_split(walk *w, int64_t k, const char *text, size_t bytes, int at_start)
{
    return cut(w, k, text, bytes, at_start, emit_to_next);
}

static dt_status run_metaspace(walk *w, int64_t k, const char *text, size_t bytes, int at_start)
{
    const dt_metaspace *m = &w->pre->step[k].metaspace;
    dt_text *out = &w->buffers[2 * k];
    size_t mark = strlen(m->mark);
    int marked = *text == ' ' || (bytes >= mark && memcmp(text, m->mark, mark) == 0);
    int prepend = m->prepend == DT_METASPACE_ALWAYS || (m->prepend == DT_METASPACE_FIRST && at_start);
    out->n = 0;
    if (prepend && !marked) DT_TRY(dt_text_append(out, m->mark, mark));
    for (const char *from = text, *end = text + bytes; from < end;) {
        const char *space = memchr(from, ' ', (size_t)(end - from));
        DT_TRY(dt_text_append(out, from, (size_t)((space ? space : end) - from)));
        if (space) DT_TRY(dt_text_append(out, m->mark, mark));
        from = space ? space + 1 : end;
    }
    return cut(w, k, out->data, (size_t)out->n, at_start, emit_to_next);
}

/* ByteLevel cuts first and spells the pieces in letters of bytes after. */
static dt_status emit_letters(cutting *c, const char *piece, size_t bytes)
{
    dt_text *out = &c->w->buffers[2 * c->k + 1];
    out->n = 0;
    for (size_t i = 0; i < bytes; i++) DT_TRY(dt_text_append_char(out, c->s->letter[(unsigned char)piece[i]]));
    return run_from(c->w, c->k + 1, out->data, (size_t)out->n, c->at_start && piece == c->text);
}

static dt_status run_bytelevel(walk *w, int64_t k, const char *text, size_t bytes, int at_start)
{
    dt_text *spaced = &w->buffers[2 * k];
    if (w->pre->step[k].prefix_space && *text != ' ') {
        spaced->n = 0;
        DT_TRY(dt_text_append(spaced, " ", 1));
        DT_TRY(dt_text_append(spaced, text, bytes));
        text = spaced->data;
        bytes = (size_t)spaced->n;
    }
    return cut(w, k, text, bytes, at_start, emit_letters);
}

/* Appends a step; it owns its expression from then on. */
static dt_status push(dt_pretokenizer *pre, const step *s)
{
    dt_status st = dt_grow(&pre->step, &pre->cap, pre->n + 1, sizeof *s);
    if (st == DT_OK) pre->step[pre->n++] = *s;
    else dt_regex_destroy(s->regex);
    return st;
}

static dt_status read_behavior(const dt_json *part, const char *name, behavior *out)
{
    size_t b = 0, n = sizeof BEHAVIORS / sizeof *BEHAVIORS;
    while (b < n && strcmp(name, BEHAVIORS[b])) b++;
    if (b == n) return dt_json_fail(part, "behavior", "\"%s\" is not understood", name);
    *out = (behavior)b;
    return DT_OK;
}

static dt_status load_split(void *owner, const dt_json *part)
{
    step s = {.run = run_split};
    const char *name;
    DT_TRY(dt_json_string(part, "behavior", &name));
    DT_TRY(dt_json_bool_or(part, "invert", 0, &s.invert));
    DT_TRY(read_behavior(part, name, &s.behavior));
    DT_TRY(dt_regex_load(part, &s.regex));
    return push(owner, &s);
}

static dt_status load_digits(void *owner, const dt_json *part)
{
    step s = {.run = run_split};
    int individual;
    DT_TRY(dt_json_bool(part, "individual_digits", &individual));
    s.behavior = individual ? ISOLATED : CONTIGUOUS;
    DT_TRY(dt_regex_compile(part, NULL, "\\p{N}", 0, &s.regex));
    return push(owner, &s);
}

static dt_status push_class(dt_pretokenizer *pre, int (*delimits)(int32_t c), behavior b)
{
    return push(pre, &(step){.run = run_split, .delimits = delimits, .behavior = b});
}

static dt_status load_punctuation(void *owner, const dt_json *part)
{
    const char *name;
    behavior b = ISOLATED;
    DT_TRY(dt_json_string_or(part, "behavior", BEHAVIORS[ISOLATED], &name));
    DT_TRY(read_behavior(part, name, &b));
    return push_class(owner, dt_char_is_punctuation, b);
}

static dt_status load_whitespace_split(void *owner, const dt_json *part)
{
    return push_class(owner, dt_char_is_space, REMOVED);
}

/* Whitespace: between spaces, runs of word characters and runs of others. */
static dt_status load_whitespace(void *owner, const dt_json *part)
{
    DT_TRY(push_class(owner, dt_char_is_space, REMOVED));
    return push_class(owner, dt_char_is_word, CONTIGUOUS);
}

static dt_status load_bert(void *owner, const dt_json *part)
{
    DT_TRY(push_class(owner, dt_char_is_space, REMOVED));
    return push_class(owner, dt_char_is_punctuation, ISOLATED);
}

static dt_status load_metaspace(void *owner, const dt_json *part)
{
    step s = {.run = run_metaspace, .behavior = MERGED_WITH_NEXT};
    DT_TRY(dt_metaspace_load(part, &s.metaspace));
    if (s.metaspace.split) DT_TRY(dt_regex_compile(part, "replacement", s.metaspace.mark, 1, &s.regex));
    return push(owner, &s);
}

static dt_status load_bytelevel(void *owner, const dt_json *part)
{
    // GPT-2's own expression (Radford et al. 2019).
    static const char *const WORDS =
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    step s = {.run = run_bytelevel};
    int use_regex;
    DT_TRY(dt_json_bool(part, "add_prefix_space", &s.prefix_space));
    DT_TRY(dt_json_bool_or(part, "use_regex", 1, &use_regex));
    dt_bytelevel_alphabet(s.letter);
    if (use_regex) DT_TRY(dt_regex_compile(part, NULL, WORDS, 0, &s.regex));
    return push(owner, &s);
}

static const dt_part_kind KINDS[] = {
    {"ByteLevel", "add_prefix_space trim_offsets use_regex", load_bytelevel},
    {"Metaspace", DT_METASPACE_KEYS, load_metaspace},
    {"Split", "pattern behavior invert", load_split},
    {"Digits", "individual_digits", load_digits},
    {"Punctuation", "behavior", load_punctuation},
    {"WhitespaceSplit", "", load_whitespace_split},
    {"Whitespace", "", load_whitespace},
    {"BertPreTokenizer", "", load_bert},
};

dt_status dt_pretokenizer_load(const dt_json *root, dt_pretokenizer *out)
{
    return dt_parts_load(root, "pre_tokenizer", "pretokenizers", KINDS, sizeof KINDS / sizeof *KINDS, out);
}

void dt_pretokenizer_free(dt_pretokenizer *pretokenizer)
{
    for (int64_t i = 0; i < pretokenizer->n; i++) dt_regex_destroy(pretokenizer->step[i].regex);
    free(pretokenizer->step);
    *pretokenizer = (dt_pretokenizer){0};
}

dt_status dt_pretokenizer_run(const dt_pretokenizer *pretokenizer, const char *text, size_t bytes, int at_start,
                              dt_text *buffers, dt_word_fn *fn, void *ctx)
{
    walk w = {pretokenizer, buffers, fn, ctx};
    for (int64_t i = 0; i < 2 * pretokenizer->n; i++) buffers[i].most = dt_text_most((int64_t)bytes);
    return run_from(&w, 0, text, bytes, at_start);
}
