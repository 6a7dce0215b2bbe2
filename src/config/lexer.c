/* Protobuf text format as tokens, each with its place. */
#include "config/lexer.h"

#include <stdio.h>  // snprintf
#include <stdlib.h> // strtod, free
#include <string.h> // memchr, strndup, strspn

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

static void skip_blank(dt_lexer *l)
{
    for (; l->at < l->end; l->at++) {
        if (*l->at == '#') {
            const char *end = memchr(l->at, '\n', (size_t)(l->end - l->at));
            l->at = end ? end : l->end;
            if (!end) return;
        }
        if (*l->at == '\n' && l->here.line) {
            l->here.line++;
            l->here.column = 1;
        } else if (memchr(" \t\r\v\f\n", *l->at, 6)) {
            l->here.column++;
        } else {
            return;
        }
    }
}

/* The run of characters that could belong to a number; what it is, is decided afterwards. */
static size_t number_length(const char *at, const char *end)
{
    const char *p = at;
    int hex = end - at > 1 && at[0] == '0' && (at[1] | 32) == 'x';
    while (p < end && (is_word(*p) || *p == '.' || ((*p == '+' || *p == '-') && !hex && (p[-1] | 32) == 'e'))) p++;
    return (size_t)(p - at);
}

/* INTEGER, FLOAT, or END for no number at all. */
static dt_token_kind number_kind(const char *text)
{
    size_t n = strlen(text);
    if (text[0] == '0' && (text[1] | 32) == 'x') {
        return n > 2 && strspn(text + 2, "0123456789abcdefABCDEF") == n - 2 ? DT_TOKEN_INTEGER : DT_TOKEN_END;
    }
    if (strspn(text, "0123456789") == n) {
        return text[0] != '0' || strspn(text, "01234567") == n ? DT_TOKEN_INTEGER : DT_TOKEN_END;
    }
    char *rest;
    strtod(text, &rest);
    if (*rest && (*rest | 32) == 'f') rest++;
    return *rest == '\0' ? DT_TOKEN_FLOAT : DT_TOKEN_END;
}

static dt_status read_number(dt_lexer *l)
{
    dt_token *t = &l->token;
    t->n = number_length(l->at, l->end);
    char *copy = strndup(l->at, t->n);
    if (!copy) return dt_fail(DT_ERR_MEMORY, "no memory for a number of %zu characters", t->n);
    t->kind = number_kind(copy);
    free(copy);
    if (t->kind != DT_TOKEN_END) return DT_OK;
    t->kind = DT_TOKEN_INTEGER; // as it was meant
    dt_shown shown;
    return dt_fail_at(t->place, l->path->text, "%s is not a number", dt_token_show(t, shown));
}

static dt_status read_string(dt_lexer *l)
{
    char quote = *l->at;
    const char *p = l->at + 1;
    while (p < l->end && *p != quote && *p != '\n') p += *p == '\\' && l->end - p > 1 && p[1] != '\n' ? 2 : 1;
    if (p >= l->end || *p != quote) {
        return dt_fail_at(l->here, l->path->text, "the string that starts here has no closing %c on its line", quote);
    }
    l->token.kind = DT_TOKEN_STRING;
    l->token.n = (size_t)(p + 1 - l->at);
    return DT_OK;
}

/* Any other character, a whole one where it has several bytes. */
static void read_symbol(dt_lexer *l)
{
    l->token.kind = DT_TOKEN_SYMBOL;
    l->token.n = 1;
    if ((*l->at & 0xc0) != 0xc0) return;
    while (l->at + l->token.n < l->end && (l->at[l->token.n] & 0xc0) == 0x80 && l->token.n < 4) l->token.n++;
}

dt_status dt_lexer_next(dt_lexer *l)
{
    skip_blank(l);
    l->token = (dt_token){DT_TOKEN_END, l->at, 0, l->here};
    if (l->at >= l->end) return DT_OK;
    char c = *l->at;
    if (is_digit(c) || (c == '.' && l->end - l->at > 1 && is_digit(l->at[1]))) {
        DT_TRY(read_number(l));
    } else if (c == '"' || c == '\'') {
        DT_TRY(read_string(l));
    } else if (is_word(c)) {
        l->token.kind = DT_TOKEN_NAME;
        while (l->at + l->token.n < l->end && is_word(l->at[l->token.n])) l->token.n++;
    } else {
        read_symbol(l);
    }
    for (size_t i = 0; i < l->token.n; i++, l->at++) l->here.column += (*l->at & 0xc0) != 0x80;
    return DT_OK;
}

dt_status dt_lexer_start(dt_lexer *lexer, dt_place start, const dt_path *path, const char *text, size_t bytes)
{
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { // a byte order mark
        text += 3;
        bytes -= 3;
    }
    *lexer = (dt_lexer){.at = text, .end = text + bytes, .here = start, .path = path};
    return dt_lexer_next(lexer);
}

int dt_lexer_at(const dt_lexer *lexer, char symbol)
{
    return lexer->token.kind == DT_TOKEN_SYMBOL && *lexer->token.text == symbol;
}

dt_status dt_lexer_expect(dt_lexer *lexer, char symbol)
{
    dt_shown shown;
    if (dt_lexer_at(lexer, symbol)) return dt_lexer_next(lexer);
    return dt_fail_at(lexer->token.place, lexer->path->text, "expected \"%c\", not %s", symbol,
                      dt_token_show(&lexer->token, shown));
}

const char *dt_token_show(const dt_token *token, dt_shown out)
{
    enum { LONGEST = 40 };
    if (token->kind == DT_TOKEN_END) {
        snprintf(out, sizeof(dt_shown), "the end");
        return out;
    }
    const char *quote = token->kind == DT_TOKEN_SYMBOL ? "\"" : "";
    size_t n = token->n;
    if (n > LONGEST) {
        for (n = LONGEST; n > 0 && (token->text[n] & 0xc0) == 0x80;) n--; // no half characters
    }
    snprintf(out, sizeof(dt_shown), "%s%.*s%s%s", quote, (int)n, token->text, n < token->n ? "..." : "", quote);
    for (char *c = out; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) *c = '?';
    }
    return out;
}
