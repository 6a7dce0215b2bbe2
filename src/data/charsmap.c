/* Sentencepiece's precompiled charsmap. */
#include "data/charsmap.h"
#include "base/memory.h" // dt_alloc

#include <stdlib.h>   // free
#include <string.h>   // strlen
#include <utf8proc.h> // utf8proc_grapheme_break_stateful

struct dt_charsmap {
    uint32_t *unit; /* [units] */
    size_t units;
    char *texts; /* [bytes], views into `data` */
    size_t bytes;
    unsigned char *data;
};

/* ---- the array ----
 * A unit is the byte that leads to it (bits 0-7; bit 31: a value instead), whether a text ends here (bit 8), and where
 * its children lie: their places are (its own ^ offset) ^ byte, the text's value at byte 0. */

static uint32_t offset_of(uint32_t unit)
{
    return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

static int is_value(uint32_t unit)
{
    return unit >> 31;
}

static int ends_text(uint32_t unit)
{
    return unit >> 8 & 1;
}

/* Can a walk that reaches the unit go on by any byte, and does its value lead to the start of a character? */
static int is_sound(const dt_charsmap *map, size_t at)
{
    uint32_t unit = map->unit[at];
    uint64_t children = at ^ offset_of(unit);
    if (is_value(unit)) return 1;
    if ((children | 0xFF) >= map->units) return 0;
    if (!ends_text(unit)) return 1;
    uint32_t value = map->unit[children] & 0x7FFFFFFF;
    return value < map->bytes && ((unsigned char)map->texts[value] & 0xC0) != 0x80;
}

/* ---- loading ---- */

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes text (RFC 4648, padded) into out, which has room for 3/4 of it. Returns the bytes written; -1: it is broken.
 */
static int64_t base64_decode(const char *text, unsigned char *out)
{
    size_t length = strlen(text), n = length;
    int64_t bytes = 0;
    if (length % 4) return -1;
    while (n && length - n < 2 && text[n - 1] == '=') n--;
    uint32_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        int value = base64_value(text[i]);
        if (value < 0) return -1;
        bits = bits << 6 | (uint32_t)value;
        if (i % 4) out[bytes++] = (unsigned char)(bits >> (6 - 2 * (i % 4)));
    }
    uint32_t left = n % 4 == 2 ? 0xF : n % 4 == 3 ? 0x3 : 0; // bits that padding leaves over must be 0
    return bits & left ? -1 : bytes;
}

static uint32_t little_endian(const unsigned char *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static dt_status parse(const dt_json *part, size_t bytes, dt_charsmap *map)
{
    static const char *const KEY = "precompiled_charsmap";
    uint32_t size = bytes >= 4 ? little_endian(map->data) : 0;
    if (bytes < 4 || size > bytes - 4) return dt_json_fail(part, KEY, "ends inside of its array");
    if (!size || size % 4) return dt_json_fail(part, KEY, "has an array of %u bytes, not of 4-byte units", size);
    map->units = size / 4;
    DT_TRY(dt_alloc(map->units, sizeof *map->unit, &map->unit));
    for (size_t i = 0; i < map->units; i++) map->unit[i] = little_endian(map->data + 4 + 4 * i);
    map->texts = (char *)map->data + 4 + size;
    map->bytes = bytes - 4 - size;
    if (dt_utf8_valid(map->texts, map->bytes) < map->bytes)
        return dt_json_fail(part, KEY, "has texts that are not UTF-8");
    if (map->bytes && map->texts[map->bytes - 1]) return dt_json_fail(part, KEY, "ends inside of a text");
    if (is_value(map->unit[0])) return dt_json_fail(part, KEY, "has an array that starts with a value");
    for (size_t i = 0; i < map->units; i++)
        if (!is_sound(map, i)) return dt_json_fail(part, KEY, "has an array whose unit %zu leads out of it", i);
    return DT_OK;
}

dt_status dt_charsmap_load(const dt_json *part, dt_charsmap **out)
{
    const char *text;
    dt_charsmap *map = NULL;
    dt_status st = DT_OK;
    DT_TRY(dt_json_string(part, "precompiled_charsmap", &text));
    DT_TRY(dt_alloc(1, sizeof *map, &map));
    DT_GOTO(dt_alloc(strlen(text) / 4 * 3 + 1, 1, &map->data), done);
    int64_t bytes = base64_decode(text, map->data);
    if (bytes < 0) st = dt_json_fail(part, "precompiled_charsmap", "is not base64");
    if (st != DT_OK) goto done;
    DT_GOTO(parse(part, (size_t)bytes, map), done);
    *out = map;
    map = NULL;
done:
    dt_charsmap_destroy(map);
    return st;
}

void dt_charsmap_destroy(dt_charsmap *map)
{
    if (!map) return;
    free(map->unit);
    free(map->data);
    free(map);
}

/* ---- mapping ---- */

/* What text[bytes] becomes by the shortest entry that it begins with; NULL: there is none. */
static const char *find(const dt_charsmap *map, const char *text, size_t bytes)
{
    size_t at = offset_of(map->unit[0]);
    for (size_t i = 0; i < bytes && text[i]; i++) {
        unsigned char byte = (unsigned char)text[i];
        at ^= byte;
        uint32_t unit = map->unit[at];
        if (is_value(unit) || (unit & 0xFF) != byte) return NULL;
        at ^= offset_of(unit);
        if (ends_text(unit)) return map->texts + (map->unit[at] & 0x7FFFFFFF);
    }
    return NULL;
}

/* Bytes of the extended grapheme cluster (UAX #29) that text[bytes] begins with. */
static size_t grapheme_bytes(const char *text, size_t bytes)
{
    int length;
    utf8proc_int32_t state = 0;
    int32_t c = dt_utf8_decode(text, &length);
    for (size_t at = (size_t)length; at < bytes; at += (size_t)length) {
        int32_t next = dt_utf8_decode(text + at, &length);
        if (utf8proc_grapheme_break_stateful(c, next, &state)) return at;
        c = next;
    }
    return bytes;
}

static dt_status append_mapped(const dt_charsmap *map, const char *text, size_t bytes, int whole, dt_text *out)
{
    const char *mapped = whole ? find(map, text, bytes) : NULL;
    if (mapped) return dt_text_append(out, mapped, strlen(mapped));
    for (size_t at = 0, length; at < bytes; at += length) {
        length = (size_t)dt_utf8_next(text + at, bytes - at);
        mapped = find(map, text + at, length);
        DT_TRY(mapped ? dt_text_append(out, mapped, strlen(mapped)) : dt_text_append(out, text + at, length));
    }
    return DT_OK;
}

dt_status dt_charsmap_run(const dt_charsmap *map, const char *text, size_t bytes, dt_text *out)
{
    for (size_t at = 0, length; at < bytes; at += length) {
        length = grapheme_bytes(text + at, bytes - at);
        DT_TRY(append_mapped(map, text + at, length, length < 6, out));
    }
    return DT_OK;
}
