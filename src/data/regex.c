/* Oniguruma's regular expressions, as tokenizer.json writes them, run by PCRE2. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/regex.h"
#include "base/memory.h" // dt_alloc
#include "data/text.h"   // dt_text

#include <ctype.h>  // isalnum, isxdigit
#include <pcre2.h>  // pcre2_*
#include <stdlib.h> // strtoul, free
#include <string.h> // strlen, strchr, strcspn

struct dt_regex {
    pcre2_code *code;
};

/* What they stand for, inside of a class. PCRE2's own \s takes U+180E too, its \w neither marks nor joiners. */
#define SPACE                                                                                                          \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define WORD                                                                                                           \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{"    \
    "1f189}"

/* Outside of a class, Oniguruma takes Latin-1's superscripts and fractions for word characters too. */
#define LATIN_NUMBERS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"

static dt_status put(dt_text *out, const char *text)
{
    return dt_text_append(out, text, strlen(text));
}

/* \p{...} at *p (behind the p): a general category stays, anything longer is the name of a script. */
static dt_status put_property(dt_text *out, const char **p, char kind, const char **why)
{
    size_t n = **p == '{' ? strcspn(*p, "}") : 0;
    if (n < 2 || (*p)[n] != '}') {
        *why = "\\p without {name}";
        return DT_OK;
    }
    const char *name = *p + 1;
    size_t length = n - 1;
    int negated = *name == '^';
    name += negated;
    length -= (size_t)negated;
    DT_TRY(put(out, (kind == 'P') != negated ? "\\P{" : "\\p{"));
    if (length > 2) DT_TRY(put(out, "sc:"));
    DT_TRY(dt_text_append(out, name, length));
    *p += n + 1;
    return put(out, "}");
}

/* \xHH, \x{H...} and \uHHHH at *p (behind the letter). */
static dt_status put_code(dt_text *out, const char **p, char kind, const char **why)
{
    char digits[9] = "";
    size_t n = 0;
    int braces = kind == 'x' && **p == '{';
    *p += braces;
    size_t most = braces ? 8 : kind == 'x' ? 2 : 4;
    while (n < most && isxdigit((unsigned char)**p)) digits[n++] = *(*p)++;
    if (!n || (kind == 'u' && n != 4) || (braces && **p != '}')) *why = "a broken character code";
    else *p += braces;
    if (!braces && kind == 'x' && strtoul(digits, NULL, 16) > 0x7F) *why = "a byte that is no character";
    DT_TRY(put(out, "\\x{"));
    DT_TRY(put(out, digits));
    return put(out, "}");
}

/* The escape at *p (behind the backslash), in a class or not. */
static dt_status put_escape(dt_text *out, const char **p, int in_class, const char **why)
{
    char c = *(*p)++;
    switch (c) {
    case 's': return put(out, in_class ? SPACE : "[" SPACE "]");
    case 'w': return put(out, in_class ? WORD : "[" WORD LATIN_NUMBERS "]");
    case 'd': return put(out, "\\p{Nd}");
    case 'D': return put(out, "\\P{Nd}");
    case 'S':
    case 'W':
        if (in_class) break;
        return put(out, c == 'S' ? "[^" SPACE "]" : "[^" WORD LATIN_NUMBERS "]");
    case 'n': return put(out, "\\x{a}");
    case 'r': return put(out, "\\x{d}");
    case 't': return put(out, "\\x{9}");
    case 'f': return put(out, "\\x{c}");
    case 'v': return put(out, "\\x{b}");
    case 'p':
    case 'P': return put_property(out, p, c, why);
    case 'x':
    case 'u': return put_code(out, p, c, why);
    default:
        if (c && !isalnum((unsigned char)c) && (unsigned char)c < 0x80)
            return dt_text_append(out, (char[]){'\\', c}, 2);
    }
    *why = in_class ? "an escape in a class" : "an escape";
    if (!c) (*p)--;
    return DT_OK;
}

/* Groups whose meaning is the same in both. (?i) only in front of all: inside, Ruby's syntax lets it reach over "|". */
static int group_is_known(const char *p, int at_start)
{
    static const char *const KNOWN[] = {"?:", "?=", "?!", "?<=", "?<!", "?>", "?i:", "?-i:"};
    if (*p != '?') return *p != '*';
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++)
        if (strncmp(p, KNOWN[i], strlen(KNOWN[i])) == 0) return 1;
    return at_start && strncmp(p, "?i)", 3) == 0;
}

/* Rewrites `pattern` for PCRE2. *why is set to what could not be. */
static dt_status translate(const char *pattern, dt_text *out, const char **why)
{
    int in_class = 0;
    for (const char *p = pattern; *p && !*why;) {
        if (*p == '\\') {
            p++;
            DT_TRY(put_escape(out, &p, in_class, why));
            continue;
        }
        if (in_class) {
            if (*p == '[') *why = "a class in a class";
            if (p[0] == '&' && p[1] == '&') *why = "an intersection of classes";
            if (*p == ']') in_class = 0;
        } else if (*p == '[') {
            in_class = 1;
            if (p[1] == ']' || (p[1] == '^' && p[2] == ']')) *why = "a class that starts with ]";
        } else if (*p == '(') {
            if (!group_is_known(p + 1, p == pattern)) *why = "a group";
        } else if (p[0] == '}' && p[1] == '+') {
            *why = "+ behind }"; // possessive in PCRE2, a repetition in Oniguruma
        } else if (p[0] == '{' && p[1] == ',') {
            *why = "{,"; // no repetition in PCRE2
        }
        DT_TRY(dt_text_append(out, p++, 1));
    }
    return DT_OK;
}

dt_status dt_regex_compile(const dt_json *at, const char *key, const char *pattern, int literal, dt_regex **out)
{
    dt_status st = DT_OK;
    dt_text text = {0};
    dt_regex *regex = NULL;
    const char *why = NULL;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context || !*pattern) {
        st = context ? dt_json_fail(at, key, "is empty") : dt_fail(DT_ERR_MEMORY, "no memory for a regular expression");
        goto done;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    DT_GOTO(literal ? put(&text, pattern) : translate(pattern, &text, &why), done);
    if (why) {
        st = dt_json_fail(at, key, "%s in the expression is not understood: %s", why, pattern);
        goto done;
    }
    uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE);
    int error;
    PCRE2_SIZE where;
    DT_GOTO(dt_alloc(1, sizeof *regex, &regex), done);
    regex->code = pcre2_compile((PCRE2_SPTR)text.data, (PCRE2_SIZE)text.n, options, &error, &where, context);
    if (!regex->code) {
        char message[128] = "";
        pcre2_get_error_message(error, (PCRE2_UCHAR *)message, sizeof message);
        st = dt_json_fail(at, key, "%s: %s", message, pattern);
        goto done;
    }
    pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE); // where there is no JIT, matching is interpreted
    *out = regex;
    regex = NULL;
done:
    free(regex);
    dt_text_free(&text);
    pcre2_compile_context_free(context);
    return st;
}

dt_status dt_regex_load(const dt_json *part, dt_regex **out)
{
    dt_json pattern;
    const char *text;
    DT_TRY(dt_json_object(part, "pattern", &pattern));
    const char *key = dt_json_has(&pattern, "Regex") ? "Regex" : "String";
    DT_TRY(dt_json_string(&pattern, key, &text));
    return dt_regex_compile(&pattern, key, text, *key == 'S', out);
}

void dt_regex_destroy(dt_regex *regex)
{
    if (!regex) return;
    pcre2_code_free(regex->code);
    free(regex);
}

/* First match at or behind `from`. The text is known to be valid, and must not be checked again for every match. */
static int match(const dt_regex *regex, const char *text, size_t bytes, size_t from, pcre2_match_data *found,
                 pcre2_match_context *limits)
{
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    int rc = pcre2_match(regex->code, subject, bytes, from, PCRE2_NO_UTF_CHECK, found, limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(regex->code, subject, bytes, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, found, limits);
    return rc;
}

dt_status dt_regex_each(const dt_regex *regex, const char *text, size_t bytes, dt_regex_fn *fn, void *ctx)
{
    pcre2_match_data *found = pcre2_match_data_create(1, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    if (!found || !limits) {
        pcre2_match_data_free(found);
        pcre2_match_context_free(limits);
        return dt_fail(DT_ERR_MEMORY, "no memory to match a regular expression");
    }
    // From each start an expression of words goes over the text a few times at most; one that tries ever more ways, as
    // "(a+)+$" does, would go on for hours.
    const size_t steps = 10000 + 10 * bytes;
    pcre2_set_match_limit(limits, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
    dt_status st = DT_OK;
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(found);
    size_t from = 0, done = 0;
    int matched = 0;
    while (from <= bytes) {
        int rc = match(regex, text, bytes, from, found, limits);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc < 0) {
            char message[128] = "";
            pcre2_get_error_message(rc, (PCRE2_UCHAR *)message, sizeof message);
            st = dt_fail(DT_ERR_DATA, "regular expression: %s", message);
            goto out;
        }
        size_t start = span[0], end = span[1];
        if (start == end && matched && end == done) { // an empty match right behind the last one: go on
            from += from < bytes ? (size_t)dt_utf8_next(text + from, bytes - from) : 1;
            continue;
        }
        if (start > done) DT_GOTO(fn(ctx, text + done, start - done, 0), out);
        DT_GOTO(fn(ctx, text + start, end - start, 1), out);
        from = done = end;
        matched = 1;
    }
    if (done < bytes) DT_GOTO(fn(ctx, text + done, bytes - done, 0), out);
out:
    pcre2_match_data_free(found);
    pcre2_match_context_free(limits);
    return st;
}
