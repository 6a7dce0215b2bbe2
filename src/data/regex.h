/* The regular expressions of tokenizer.json. They are written for Oniguruma; PCRE2 runs them here. What the two read
 * differently (\s, \w, \v, scripts) is rewritten, and what cannot be is an error: never a silent difference. Classes of
 * characters are those of PCRE2's Unicode version. */
#ifndef DT_DATA_REGEX_H
#define DT_DATA_REGEX_H

#include "base/json.h" // dt_json

typedef struct dt_regex dt_regex;

/** Compiles `pattern`, or with `literal` the text itself. Errors name at.key. */
dt_status dt_regex_compile(const dt_json *at, const char *key, const char *pattern, int literal,
                           dt_regex **out) DT_WARN_UNUSED;
/** Compiles part.pattern, which is {"Regex": ...} or {"String": ...}. */
dt_status dt_regex_load(const dt_json *part, dt_regex **out) DT_WARN_UNUSED;
void dt_regex_destroy(dt_regex *regex);

/** A stretch of the text: one match, or what lies between two. */
typedef dt_status dt_regex_fn(void *ctx, const char *stretch, size_t bytes, int is_match);

/** Cuts text[bytes] (valid UTF-8) into matches and what lies between them and calls `fn` on each, from left to right.
 *  Linear in the text. Safe to call from several threads. */
dt_status dt_regex_each(const dt_regex *regex, const char *text, size_t bytes, dt_regex_fn *fn,
                        void *ctx) DT_WARN_UNUSED;

#endif
