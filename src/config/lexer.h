/* Protobuf text format as tokens, each with its place. */
#ifndef DT_CONFIG_LEXER_H
#define DT_CONFIG_LEXER_H

#include "base/status.h"  // dt_status
#include "config/place.h" // dt_place, dt_path
#include <stddef.h>       // size_t

typedef enum dt_token_kind {
    DT_TOKEN_END,
    DT_TOKEN_NAME,    /* name, true, inf */
    DT_TOKEN_INTEGER, /* 12, 017, 0x1f: no sign */
    DT_TOKEN_FLOAT,   /* 1.5, .5, 1e3, 2f */
    DT_TOKEN_STRING,  /* one literal with its quotes */
    DT_TOKEN_SYMBOL   /* any other character */
} dt_token_kind;

typedef struct dt_token {
    dt_token_kind kind;
    const char *text; /* view of n bytes */
    size_t n;
    dt_place place;
} dt_token;

typedef struct dt_lexer {
    const char *at, *end;
    dt_place here;       /* line 0: all of the text is one place */
    const dt_path *path; /* for messages */
    dt_token token;      /* the current one */
} dt_lexer;

/** Starts at text[bytes] and reads the first token. The text must outlive the lexer; so must `path`. */
dt_status dt_lexer_start(dt_lexer *lexer, dt_place start, const dt_path *path, const char *text,
                         size_t bytes) DT_WARN_UNUSED;
dt_status dt_lexer_next(dt_lexer *lexer) DT_WARN_UNUSED;

/** Is the current token this symbol? */
int dt_lexer_at(const dt_lexer *lexer, char symbol);
/** Goes past this symbol, which must be the current token. */
dt_status dt_lexer_expect(dt_lexer *lexer, char symbol) DT_WARN_UNUSED;

/** A token as messages show it: cut where it is long, without control characters. Returns `out`. */
typedef char dt_shown[64];
const char *dt_token_show(const dt_token *token, dt_shown out);

#endif
