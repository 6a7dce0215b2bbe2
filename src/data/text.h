/* Growable text, and UTF-8: validity, code points, the two Unicode classes that added tokens look at. */
#ifndef DT_DATA_TEXT_H
#define DT_DATA_TEXT_H

#include "base/status.h" // dt_status
#include <stddef.h>      // size_t
#include <stdint.h>      // int32_t, int64_t

/** Zero-initialise, free with dt_text_free. Not NUL-terminated. */
typedef struct dt_text {
    char *data;
    int64_t n, cap;
    int64_t most; /* a text longer than this is DT_ERR_DATA; 0: any length */
} dt_text;

dt_status dt_text_append(dt_text *text, const char *data, size_t bytes) DT_WARN_UNUSED;
dt_status dt_text_append_char(dt_text *text, int32_t code_point) DT_WARN_UNUSED;
void dt_text_free(dt_text *text);

/** How long a text of `bytes` may become while a tokenizer rewrites it. Steps that each replace a character by several
 *  multiply: a small file would ask for any amount of memory. Unicode's own forms make at most 11 bytes of one. */
static inline int64_t dt_text_most(int64_t bytes)
{
    return 64 * bytes + 4096;
}

/** Bytes of the character that text[bytes] starts with. If it is not valid: minus the bytes that the Unicode standard
 *  replaces by one U+FFFD (section 3.9, "maximal subpart"). bytes >= 1. */
int dt_utf8_next(const char *text, size_t bytes);
/** How many leading bytes of the text are valid UTF-8; `bytes` if all are. */
size_t dt_utf8_valid(const char *text, size_t bytes);
/** Does the JSON text hold a NUL byte or the escape \u0000, which a C string cannot? */
int dt_text_has_nul(const char *json, size_t bytes);
/** The code point at `text`, which is valid, and its length. */
int32_t dt_utf8_decode(const char *text, int *length);
/** The code point of a string that is one character long; -1 if it is not. */
int32_t dt_utf8_single(const char *text);

/** Unicode's White_Space, and word characters as UTS #18 defines them (Alphabetic, M, Nd, Pc, Join_Control). */
int dt_char_is_space(int32_t code_point);
int dt_char_is_word(int32_t code_point);

#endif
