/* The decoder of a tokenizer.json. */
#include "data/decoder.h"
#include "base/memory.h"    // dt_grow
#include "data/bytelevel.h" // dt_bytelevel_alphabet
#include "data/metaspace.h" // dt_metaspace
#include "data/parts.h"     // dt_parts_load
#include "data/regex.h"     // dt_regex_each

#include <ctype.h>  // isxdigit
#include <stdlib.h> // free, strtol
#include <string.h> // strdup, memcmp

typedef struct dt_decoder_step {
    dt_status (*run)(const struct dt_decoder_step *s, const dt_pieces *in, dt_pieces *out);
    dt_regex *regex;                     /* Replace */
    char *content;                       /* Replace, Strip; WordPiece: its prefix */
    int64_t start, stop;                 /* Strip: at most this many */
    int cleanup;                         /* WordPiece */
    uint8_t byte[DT_BYTELEVEL_LETTERS];  /* ByteLevel: byte of a letter */
    uint8_t known[DT_BYTELEVEL_LETTERS]; /* ByteLevel: is it one? */
    dt_metaspace metaspace;
} step;

static const char REPLACEMENT[] = "\xEF\xBF\xBD"; // U+FFFD

dt_status dt_pieces_close(dt_pieces *pieces)
{
    DT_TRY(dt_grow(&pieces->end, &pieces->cap, pieces->n + 1, sizeof *pieces->end));
    pieces->end[pieces->n++] = pieces->text.n;
    return DT_OK;
}

void dt_pieces_free(dt_pieces *pieces)
{
    dt_text_free(&pieces->text);
    free(pieces->end);
    *pieces = (dt_pieces){0};
}

static const char *piece_at(const dt_pieces *pieces, int64_t i, size_t *bytes)
{
    int64_t from = i ? pieces->end[i - 1] : 0;
    *bytes = (size_t)(pieces->end[i] - from);
    return *bytes ? pieces->text.data + from : "";
}

static step *push(dt_decoder *decoder, dt_status (*run)(const step *s, const dt_pieces *in, dt_pieces *out))
{
    if (dt_grow(&decoder->step, &decoder->cap, decoder->n + 1, sizeof(step)) != DT_OK) return NULL;
    step *s = &decoder->step[decoder->n++];
    *s = (step){.run = run};
    return s;
}

/* Replace: in each piece for itself. */
struct replacing {
    const step *s;
    dt_pieces *out;
};

static dt_status replace_stretch(void *ctx, const char *stretch, size_t bytes, int is_match)
{
    struct replacing *r = ctx;
    if (is_match) return dt_text_append(&r->out->text, r->s->content, strlen(r->s->content));
    return dt_text_append(&r->out->text, stretch, bytes);
}

static dt_status run_replace(const step *s, const dt_pieces *in, dt_pieces *out)
{
    struct replacing r = {s, out};
    for (int64_t i = 0; i < in->n; i++) {
        size_t bytes;
        const char *piece = piece_at(in, i, &bytes);
        DT_TRY(dt_regex_each(s->regex, piece, bytes, replace_stretch, &r));
        DT_TRY(dt_pieces_close(out));
    }
    return DT_OK;
}

static dt_status load_content(const dt_json *part, step *s)
{
    const char *content;
    DT_TRY(dt_json_string(part, "content", &content));
    s->content = strdup(content);
    return s->content ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a decoder");
}

static dt_status load_replace(void *owner, const dt_json *part)
{
    step *s = push(owner, run_replace);
    if (!s) return DT_ERR_MEMORY;
    DT_TRY(load_content(part, s));
    if (strchr(s->content, '$'))
        return dt_json_fail(part, "content", "group references ($) are not understood: %s", s->content);
    return dt_regex_load(part, &s->regex);
}

/* The byte that a piece "<0xNN>" stands for; -1 for any other piece. */
static int fallback_byte(const char *piece, size_t bytes)
{
    if (bytes != 6 || memcmp(piece, "<0x", 3) || piece[5] != '>') return -1;
    if (!isxdigit((unsigned char)piece[3]) || !isxdigit((unsigned char)piece[4])) return -1;
    return (int)strtol((char[]){piece[3], piece[4], '\0'}, NULL, 16);
}

/* ByteFallback: a run of pieces <0xNN> becomes the text of those bytes, or one U+FFFD for each if that is no UTF-8. */
static dt_status run_byte_fallback(const step *s, const dt_pieces *in, dt_pieces *out)
{
    for (int64_t i = 0; i < in->n;) {
        size_t bytes;
        int64_t from = out->text.n, first = i;
        const char *piece = piece_at(in, i, &bytes);
        for (int b; i < in->n && (b = fallback_byte(piece, bytes)) >= 0;) {
            DT_TRY(dt_text_append(&out->text, (char[]){(char)b}, 1));
            if (++i < in->n) piece = piece_at(in, i, &bytes);
        }
        size_t run = (size_t)(i - first);
        if (!run) {
            DT_TRY(dt_text_append(&out->text, piece, bytes));
            i++;
        } else if (dt_utf8_valid(out->text.data + from, run) < run) {
            out->text.n = from;
            for (size_t k = 0; k < run; k++) {
                DT_TRY(dt_text_append(&out->text, REPLACEMENT, 3));
                DT_TRY(dt_pieces_close(out));
            }
            continue;
        }
        DT_TRY(dt_pieces_close(out));
    }
    return DT_OK;
}

static dt_status load_byte_fallback(void *owner, const dt_json *part)
{
    return push(owner, run_byte_fallback) ? DT_OK : DT_ERR_MEMORY;
}

static dt_status run_fuse(const step *s, const dt_pieces *in, dt_pieces *out)
{
    DT_TRY(dt_text_append(&out->text, in->text.data, (size_t)in->text.n));
    return dt_pieces_close(out);
}

static dt_status load_fuse(void *owner, const dt_json *part)
{
    return push(owner, run_fuse) ? DT_OK : DT_ERR_MEMORY;
}

/* Strip: takes up to `start` of the character from the front of each piece, and up to `stop` from its back. */
static dt_status run_strip(const step *s, const dt_pieces *in, dt_pieces *out)
{
    size_t width = strlen(s->content);
    for (int64_t i = 0; i < in->n; i++) {
        size_t bytes;
        const char *piece = piece_at(in, i, &bytes);
        for (int64_t k = 0; k < s->start && bytes >= width && memcmp(piece, s->content, width) == 0; k++) {
            piece += width;
            bytes -= width;
        }
        for (int64_t k = 0; k < s->stop && bytes >= width && memcmp(piece + bytes - width, s->content, width) == 0; k++)
            bytes -= width;
        DT_TRY(dt_text_append(&out->text, piece, bytes));
        DT_TRY(dt_pieces_close(out));
    }
    return DT_OK;
}

static dt_status load_strip(void *owner, const dt_json *part)
{
    step *s = push(owner, run_strip);
    if (!s) return DT_ERR_MEMORY;
    DT_TRY(load_content(part, s));
    if (dt_utf8_single(s->content) < 0) return dt_json_fail(part, "content", "\"%s\" is not one character", s->content);
    DT_TRY(dt_json_i64(part, "start", &s->start));
    return dt_json_i64(part, "stop", &s->stop);
}

/* Metaspace: marks become spaces, but for those of the first piece where one was put in front of the text. */
static dt_status run_metaspace(const step *s, const dt_pieces *in, dt_pieces *out)
{
    size_t width = strlen(s->metaspace.mark);
    for (int64_t i = 0; i < in->n; i++) {
        size_t bytes;
        const char *piece = piece_at(in, i, &bytes);
        while (bytes) {
            int marked = bytes >= width && memcmp(piece, s->metaspace.mark, width) == 0;
            size_t n = marked ? width : (size_t)dt_utf8_next(piece, bytes);
            if (!marked) DT_TRY(dt_text_append(&out->text, piece, n));
            else if (i || s->metaspace.prepend == DT_METASPACE_NEVER) DT_TRY(dt_text_append(&out->text, " ", 1));
            piece += n;
            bytes -= n;
        }
        DT_TRY(dt_pieces_close(out));
    }
    return DT_OK;
}

static dt_status load_metaspace(void *owner, const dt_json *part)
{
    step *s = push(owner, run_metaspace);
    return s ? dt_metaspace_load(part, &s->metaspace) : DT_ERR_MEMORY;
}

/* Appends the bytes that a piece spells; the piece itself if it is not made of letters of bytes (an added token). */
static dt_status append_bytes(const step *s, const char *piece, size_t bytes, dt_text *out)
{
    int64_t from = out->n;
    for (size_t at = 0; at < bytes;) {
        int length;
        int32_t c = dt_utf8_decode(piece + at, &length);
        if (c >= DT_BYTELEVEL_LETTERS || !s->known[c]) {
            out->n = from;
            return dt_text_append(out, piece, bytes);
        }
        DT_TRY(dt_text_append(out, (const char *)&s->byte[c], 1));
        at += (size_t)length;
    }
    return DT_OK;
}

/* ByteLevel: all pieces become one; bytes that are no UTF-8 become U+FFFD. */
static dt_status run_bytelevel(const step *s, const dt_pieces *in, dt_pieces *out)
{
    dt_text raw = {0};
    dt_status st = DT_OK;
    for (int64_t i = 0; i < in->n; i++) {
        size_t bytes;
        const char *piece = piece_at(in, i, &bytes);
        DT_GOTO(append_bytes(s, piece, bytes, &raw), done);
    }
    for (int64_t at = 0; at < raw.n;) {
        int64_t valid = (int64_t)dt_utf8_valid(raw.data + at, (size_t)(raw.n - at));
        DT_GOTO(dt_text_append(&out->text, raw.data + at, (size_t)valid), done);
        at += valid;
        if (at == raw.n) break;
        DT_GOTO(dt_text_append(&out->text, REPLACEMENT, 3), done);
        at -= dt_utf8_next(raw.data + at, (size_t)(raw.n - at)); // minus the bytes to leave out
    }
    DT_GOTO(dt_pieces_close(out), done);
done:
    dt_text_free(&raw);
    return st;
}

static dt_status load_bytelevel(void *owner, const dt_json *part)
{
    step *s = push(owner, run_bytelevel);
    if (!s) return DT_ERR_MEMORY;
    int32_t letter[256];
    dt_bytelevel_alphabet(letter);
    for (int b = 0; b < 256; b++) {
        s->byte[letter[b]] = (uint8_t)b;
        s->known[letter[b]] = 1;
    }
    return DT_OK;
}

/* Appends text[bytes] with each `from` in it written as `to`. */
static dt_status append_replaced(const char *text, size_t bytes, const char *from, const char *to, dt_text *out)
{
    size_t n = strlen(from), done = 0;
    for (size_t at = 0; at + n <= bytes;) {
        if (memcmp(text + at, from, n)) {
            at++;
            continue;
        }
        DT_TRY(dt_text_append(out, text + done, at - done));
        DT_TRY(dt_text_append(out, to, strlen(to)));
        done = at += n;
    }
    return dt_text_append(out, text + done, bytes - done);
}

/* Takes back what setting words apart does to English, inside of one piece. */
static dt_status clean_up(dt_text *text, dt_text *spare)
{
    static const char *const UNDO[][2] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                          {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                          {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < sizeof UNDO / sizeof *UNDO && text->n; i++) {
        spare->n = 0;
        DT_TRY(append_replaced(text->data, (size_t)text->n, UNDO[i][0], UNDO[i][1], spare));
        dt_text swap = *text;
        *text = *spare;
        *spare = swap;
    }
    return DT_OK;
}

/* WordPiece: a piece with the prefix loses it, any other but the first gets a space in front. */
static dt_status run_wordpiece(const step *s, const dt_pieces *in, dt_pieces *out)
{
    dt_text text = {0}, spare = {0};
    dt_status st = DT_OK;
    size_t prefix = strlen(s->content);
    for (int64_t i = 0; i < in->n; i++) {
        size_t bytes, skip;
        const char *piece = piece_at(in, i, &bytes);
        int goes_on = i && bytes >= prefix && memcmp(piece, s->content, prefix) == 0;
        skip = goes_on ? prefix : 0;
        text.n = 0;
        if (i && !goes_on) DT_GOTO(dt_text_append(&text, " ", 1), done);
        DT_GOTO(dt_text_append(&text, piece + skip, bytes - skip), done);
        if (s->cleanup) DT_GOTO(clean_up(&text, &spare), done);
        DT_GOTO(dt_text_append(&out->text, text.data, (size_t)text.n), done);
        DT_GOTO(dt_pieces_close(out), done);
    }
done:
    dt_text_free(&text);
    dt_text_free(&spare);
    return st;
}

static dt_status load_wordpiece(void *owner, const dt_json *part)
{
    const char *prefix;
    step *s = push(owner, run_wordpiece);
    if (!s) return DT_ERR_MEMORY;
    DT_TRY(dt_json_string(part, "prefix", &prefix));
    DT_TRY(dt_json_bool(part, "cleanup", &s->cleanup));
    s->content = strdup(prefix);
    return s->content ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a decoder");
}

static const dt_part_kind KINDS[] = {
    {"ByteLevel", "add_prefix_space trim_offsets use_regex", load_bytelevel},
    {"Metaspace", DT_METASPACE_KEYS, load_metaspace},
    {"Replace", "pattern content", load_replace},
    {"ByteFallback", "", load_byte_fallback},
    {"Fuse", "", load_fuse},
    {"Strip", "content start stop", load_strip},
    {"WordPiece", "prefix cleanup", load_wordpiece},
};

/* Without a decoder, tokens are set apart by spaces. */
static dt_status run_spaces(const step *s, const dt_pieces *in, dt_pieces *out)
{
    for (int64_t i = 0; i < in->n; i++) {
        size_t bytes;
        const char *piece = piece_at(in, i, &bytes);
        if (i) DT_TRY(dt_text_append(&out->text, " ", 1));
        DT_TRY(dt_text_append(&out->text, piece, bytes));
        DT_TRY(dt_pieces_close(out));
    }
    return DT_OK;
}

dt_status dt_decoder_load(const dt_json *root, dt_decoder *out)
{
    if (!dt_json_has(root, "decoder")) return push(out, run_spaces) ? DT_OK : DT_ERR_MEMORY;
    return dt_parts_load(root, "decoder", "decoders", KINDS, sizeof KINDS / sizeof *KINDS, out);
}

void dt_decoder_free(dt_decoder *decoder)
{
    for (int64_t i = 0; i < decoder->n; i++) {
        dt_regex_destroy(decoder->step[i].regex);
        free(decoder->step[i].content);
    }
    free(decoder->step);
    *decoder = (dt_decoder){0};
}

dt_status dt_decoder_run(const dt_decoder *decoder, dt_pieces *pieces)
{
    const int64_t most = dt_text_most(pieces->text.n);
    for (int64_t i = 0; i < decoder->n; i++) {
        dt_pieces out = {.text.most = most};
        dt_status st = decoder->step[i].run(&decoder->step[i], pieces, &out);
        if (st != DT_OK) {
            dt_pieces_free(&out);
            return st;
        }
        dt_pieces_free(pieces);
        *pieces = out;
    }
    return DT_OK;
}
