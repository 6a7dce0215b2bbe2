/* String literals of the text format: escapes to bytes and back. */
#include "config/text.h"

#include <stdint.h>   // uint8_t, uint32_t
#include <string.h>   // strchr, memcpy
#include <utf8proc.h> // utf8proc_iterate, utf8proc_encode_char

static int digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

/* Up to `most` digits of the base; the number of digits read. */
static size_t read_digits(const char *at, const char *end, int base, size_t most, uint32_t *value)
{
    size_t n = 0;
    for (*value = 0; n < most && at + n < end && digit(at[n]) < base; n++) {
        *value = *value * (uint32_t)base + (uint32_t)digit(at[n]);
    }
    return n;
}

/* \uXXXX or \UXXXXXXXX, the cursor on the letter; a pair of surrogates is one character. Bytes taken, 0 if it is none.
 */
static size_t read_unicode(const char *at, const char *end, char **out)
{
    uint32_t code, low;
    size_t digits = *at == 'u' ? 4 : 8, taken = 1 + digits;
    if (read_digits(at + 1, end, 16, digits, &code) != digits) return 0;
    if (code >= 0xd800 && code < 0xdc00 && end - at > (ptrdiff_t)taken + 2 && at[taken] == '\\' &&
        at[taken + 1] == 'u' && read_digits(at + taken + 2, end, 16, 4, &low) == 4 && low >= 0xdc00 && low < 0xe000) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        taken += 6;
    }
    if (code >= 0x110000 || (code >= 0xd800 && code < 0xe000)) return 0;
    *out += utf8proc_encode_char((utf8proc_int32_t)code, (utf8proc_uint8_t *)*out);
    return taken;
}

/* What follows a backslash. Bytes taken, 0 if it is no escape. */
static size_t read_escape(const char *at, const char *end, char **out)
{
    static const char letter[] = "abfnrtv\\'\"?", meaning[] = "\a\b\f\n\r\t\v\\'\"?";
    uint32_t code;
    size_t n = 0;
    if (at == end) return 0;
    const char *simple = strchr(letter, *at);
    if (simple && *at) {
        *(*out)++ = meaning[simple - letter];
        return 1;
    }
    if (*at == 'u' || *at == 'U') return read_unicode(at, end, out);
    if (*at == 'x') {
        n = read_digits(at + 1, end, 16, 2, &code);
        n += n > 0;
    } else {
        n = read_digits(at, end, 8, 3, &code);
    }
    if (n == 0 || code > 255) return 0;
    *(*out)++ = (char)code;
    return n;
}

const char *dt_string_decode(const char *text, size_t n, char *out, size_t *len)
{
    char *to = out;
    const char *end = text + n - 1;
    for (const char *at = text + 1; at < end;) {
        if (*at != '\\') {
            *to++ = *at++;
            continue;
        }
        size_t taken = read_escape(at + 1, end, &to);
        if (taken == 0) return at;
        at += 1 + taken;
    }
    *len = (size_t)(to - out);
    return NULL;
}

void dt_string_print(FILE *out, const void *data, size_t n)
{
    static const char letter[] = "nrt\\\"", meaning[] = "\n\r\t\\\"";
    const uint8_t *at = data, *end = at + n;
    fputc('"', out);
    while (at < end) {
        utf8proc_int32_t code;
        utf8proc_ssize_t bytes = utf8proc_iterate(at, end - at, &code);
        const char *simple = *at ? strchr(meaning, *at) : NULL;
        if (simple) {
            fprintf(out, "\\%c", letter[simple - meaning]);
        } else if (bytes < 1 || code < ' ' || code == 0x7f) {
            fprintf(out, "\\%03o", *at);
            bytes = 1;
        } else {
            fwrite(at, 1, (size_t)bytes, out);
        }
        at += bytes;
    }
    fputc('"', out);
}
