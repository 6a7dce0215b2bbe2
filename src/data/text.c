/* Growable text, and UTF-8. */
#include "data/text.h"
#include "base/memory.h" // dt_grow

#include <stdlib.h>   // free
#include <string.h>   // memchr, memcmp, memcpy, strlen
#include <utf8proc.h> // utf8proc_category, utf8proc_encode_char

dt_status dt_text_append(dt_text *text, const char *data, size_t bytes)
{
    if (text->most && text->n + (int64_t)bytes > text->most)
        return dt_fail(DT_ERR_DATA, "the tokenizer's steps make more than %lld bytes of a text", (long long)text->most);
    DT_TRY(dt_grow(&text->data, &text->cap, text->n + (int64_t)bytes, 1));
    if (bytes) memcpy(text->data + text->n, data, bytes);
    text->n += (int64_t)bytes;
    return DT_OK;
}

dt_status dt_text_append_char(dt_text *text, int32_t code_point)
{
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char(code_point, bytes);
    return dt_text_append(text, (const char *)bytes, (size_t)n);
}

void dt_text_free(dt_text *text)
{
    free(text->data);
    *text = (dt_text){0};
}

int dt_utf8_next(const char *text, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned char lead = s[0], low = 0x80,
                  high = 0xBF; // range of the second byte: excludes overlong, surrogates, > 10FFFF
    if (lead < 0x80) return 1;
    if (lead < 0xC2 || lead > 0xF4) return -1;
    int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
    for (int i = 1; i < length; i++) {
        if ((size_t)i >= bytes || s[i] < low || s[i] > high) return -i;
        low = 0x80;
        high = 0xBF;
    }
    return length;
}

size_t dt_utf8_valid(const char *text, size_t bytes)
{
    size_t at = 0;
    while (at < bytes) {
        int length = dt_utf8_next(text + at, bytes - at);
        if (length < 0) break;
        at += (size_t)length;
    }
    return at;
}

int dt_text_has_nul(const char *json, size_t bytes)
{
    if (memchr(json, '\0', bytes)) return 1;
    for (size_t i = 0; i + 5 < bytes; i++) {
        if (json[i] != '\\') continue;
        if (memcmp(json + i + 1, "u0000", 5) == 0) return 1;
        i++; // the escaped character, a backslash perhaps
    }
    return 0;
}

int32_t dt_utf8_decode(const char *text, int *length)
{
    const unsigned char *s = (const unsigned char *)text;
    *length = s[0] < 0x80 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    int32_t c = *length == 1 ? s[0] : s[0] & (0x7F >> *length);
    for (int i = 1; i < *length; i++) c = c << 6 | (s[i] & 0x3F);
    return c;
}

int32_t dt_utf8_single(const char *text)
{
    int length;
    size_t bytes = strlen(text);
    if (!bytes || dt_utf8_next(text, bytes) != (int)bytes) return -1;
    return dt_utf8_decode(text, &length);
}

int dt_char_is_space(int32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

int dt_char_is_word(int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return 1;
    default: break;
    }
    // Join controls, and the symbols that are alphabetic: letters in circles and squares.
    return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
           (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}
