/* protodoc IN.proto OUT.c OUT.md: turns the comments of the configuration's .proto into a C table (src/config/doc.h)
 * and a page for people (docs/config.md).
 *
 * It reads the part of the language that dtrain.proto uses: // comments, messages with optional and repeated fields,
 * oneofs, defaults, and enums, all at the top level. Whatever else it meets is an error with its line, never skipped.
 * A comment belongs to what follows it directly; a group such as [>= 1], [0..1) or (0..1] in it is the field's range.
 */
#define _GNU_SOURCE // memmem
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct row {
    char *message, *field, *label, *type, *fallback, *range, *doc; /* as in src/config/doc.h */
    double lo, hi;
    int lo_open, hi_open, line;
} row;

typedef struct enumeration {
    char *name, *values; /* "LABEL | EXPECTED" */
} enumeration;

static const char *path;
static const char *at;
static int line = 1;
static int token_line;
static char *token;   /* the current one; "" at the end of the file */
static char *comment; /* what stands directly in front of it, or NULL */
static char *intro;   /* the comment at the head of the file */
static row *rows;
static int n_rows;
static enumeration *enums;
static int n_enums;

__attribute__((noreturn, format(printf, 2, 3))) static void fail(int where, const char *fmt, ...)
{
    fprintf(stderr, "%s:%d: ", path, where);
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static void *grow(void *array, size_t bytes)
{
    void *grown = realloc(array, bytes);
    if (!grown) fail(line, "out of memory");
    return grown;
}

/* A string of n bytes; all strings stay chained together to the end. */
static char *new_string(size_t n)
{
    static struct kept {
        struct kept *previous;
        char text[];
    } * kept;
    struct kept *k = grow(NULL, sizeof *k + n + 1);
    k->previous = kept;
    k->text[n] = '\0';
    kept = k;
    return k->text;
}

static char *copy(const char *text, size_t n)
{
    return memcpy(new_string(n), text, n);
}

static char *join(const char *text, const char *more, size_t n)
{
    size_t have = strlen(text);
    char *out = new_string(have + n);
    memcpy(out, text, have);
    memcpy(out + have, more, n);
    return out;
}

/* ---- tokens --------------------------------------------------------------------------------------------------------
 */

/* One // line, the cursor on its slashes: joined to the comment so far. */
static void read_comment(void)
{
    if (at[1] != '/') fail(line, "only // comments are understood");
    const char *text = at + 2, *end = text + strcspn(text, "\n");
    at = end;
    if (*text == ' ') text++;
    while (end > text && isspace((unsigned char)end[-1])) end--;
    if (comment) {
        comment = join(join(comment, "\n", 1), text, (size_t)(end - text));
    } else {
        comment = copy(text, (size_t)(end - text));
    }
}

/* The text without the line breaks and indents inside its paragraphs. */
static char *unwrap(const char *text)
{
    char *out = copy(text, strlen(text)), *to = out;
    for (const char *from = text; *from;) {
        size_t space = strspn(from, " \n");
        if (space == 0) {
            *to++ = *from++;
        } else if (memmem(from, space, "\n\n", 2)) {
            *to++ = '\n';
            *to++ = '\n';
        } else {
            *to++ = ' ';
        }
        from += space;
    }
    *to = '\0';
    return out;
}

static void next(void)
{
    int newlines = 0;
    comment = NULL;
    for (;; at++) {
        if (*at == '/') {
            if (newlines == 0 && token) fail(line, "a comment stands in front of what it describes, on its own line");
            read_comment();
            newlines = 0;
        }
        if (*at == '\n') {
            line++;
            if (++newlines == 2) comment = NULL; // an empty line: it describes nothing
        } else if (!isspace((unsigned char)*at)) {
            break;
        }
    }
    size_t n = strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-");
    if (*at == '"') {
        n = 1 + strcspn(at + 1, "\"\n");
        if (at[n] != '"' || memchr(at, '\\', n)) fail(line, "only plain strings on one line are understood");
        n++;
    } else if (n == 0 && *at) {
        n = 1;
    }
    token = copy(at, n);
    token_line = line;
    at += n;
}

static int is(const char *text)
{
    return strcmp(token, text) == 0;
}

static void expect(const char *text)
{
    if (!is(text)) fail(token_line, "expected %s, not \"%s\"", text, token);
    next();
}

static char *take_word(const char *what)
{
    if (!isalpha((unsigned char)*token)) fail(token_line, "expected %s, not \"%s\"", what, token);
    char *word = token;
    next();
    return word;
}

/* ---- declarations --------------------------------------------------------------------------------------------------
 */

static row *add_row(char *message, char *doc)
{
    rows = grow(rows, (size_t)(n_rows + 1) * sizeof *rows);
    rows[n_rows] =
        (row){.message = message, .doc = doc ? unwrap(doc) : NULL, .lo = -INFINITY, .hi = INFINITY, .line = token_line};
    return &rows[n_rows++];
}

/* Is text[n] one whole range? Fills the row's ends if so. */
static int parse_range(const char *text, size_t n, row *r)
{
    char *body = copy(text + 1, n - 2), *end = NULL;
    char first = text[0], last = text[n - 1];
    if (first == '[' && last == ']' && body[0] == '>') {
        r->lo_open = body[1] != '=';
        r->lo = strtod(body + 1 + !r->lo_open, &end);
        r->range = body;
        return *end == '\0' && isdigit((unsigned char)end[-1]);
    }
    char *dots = strstr(body, "..");
    if (!dots || dots == body || dots[2] == '\0') return 0;
    *dots = '\0';
    r->lo = strtod(body, &end);
    if (*end != '\0') return 0;
    r->hi = strtod(dots + 2, &end);
    r->lo_open = first == '(';
    r->hi_open = last == ')';
    r->range = copy(text, n);
    return *end == '\0' && r->lo < r->hi;
}

/* Moves the range out of the comment, if it has one. Square brackets are for ranges alone: a mistyped one is an error.
 */
static void take_range(row *r)
{
    for (char *open = r->doc; (open = strpbrk(open, "[(")); open++) {
        char *close = strpbrk(open, "])");
        size_t n = close ? (size_t)(close - open) + 1 : 0;
        row found = *r;
        if (n > 2 && parse_range(open, n, &found)) {
            if (r->range) fail(r->line, "%s has two ranges", r->field);
            *r = found;
            while (open > r->doc && open[-1] == ' ') open--;
            memmove(open, close + 1, strlen(close + 1) + 1);
            if (!*open) break;
        } else if (*open == '[' || (n && memmem(open, n, "..", 2))) {
            fail(r->line, "%s: \"%.*s\" is no range", r->field, n ? (int)n : 1, open);
        }
    }
    int numeric =
        strstr(r->type, "int") || strstr(r->type, "fixed") || !strcmp(r->type, "float") || !strcmp(r->type, "double");
    if (r->range && !numeric) fail(r->line, "%s has a range but is no number", r->field);
}

/* type name = number [default = value]; */
static void read_field(char *message, char *label, char *doc)
{
    int where = token_line;
    if (!doc) fail(where, "a field of %s has no comment", message);
    row *r = add_row(message, doc);
    r->label = label;
    r->type = take_word("a type");
    r->field = take_word("a name");
    r->line = where;
    expect("=");
    next();
    if (is("[")) {
        next();
        expect("default");
        expect("=");
        r->fallback = token;
        next();
        expect("]");
    }
    expect(";");
    take_range(r);
}

/* The members of a oneof may share one comment, the oneof's. */
static void read_oneof(char *message, char *doc)
{
    char *name = take_word("a name"), label[128];
    snprintf(label, sizeof label, "oneof %s", name);
    expect("{");
    while (!is("}")) {
        if (!comment && !doc) fail(token_line, "neither %s nor its member has a comment", name);
        char *own = comment ? comment : doc;
        read_field(message, copy(label, strlen(label)), copy(own, strlen(own)));
    }
    next();
}

static void read_message(char *doc)
{
    char *name = take_word("a name");
    add_row(name, doc);
    expect("{");
    while (!is("}")) {
        char *own = comment;
        int is_oneof = is("oneof");
        if (!is_oneof && !is("optional") && !is("repeated")) fail(token_line, "\"%s\" is not understood", token);
        char *label = take_word("a label");
        if (is_oneof) {
            read_oneof(name, own);
        } else {
            read_field(name, label, own);
        }
    }
    next();
}

static void read_enum(void)
{
    enums = grow(enums, (size_t)(n_enums + 1) * sizeof *enums);
    enumeration *e = &enums[n_enums++];
    *e = (enumeration){take_word("a name"), ""};
    expect("{");
    while (!is("}")) {
        if (comment) fail(token_line, "describe the values of %s at the fields that use it", e->name);
        char *value = take_word("a value");
        if (*e->values) e->values = join(e->values, " | ", 3);
        e->values = join(e->values, value, strlen(value));
        expect("=");
        next();
        expect(";");
    }
    next();
}

static void read_file(void)
{
    next();
    intro = comment;
    while (*token) {
        char *doc = comment, *word = take_word("a declaration");
        if (!strcmp(word, "syntax") || !strcmp(word, "package")) {
            while (!is(";") && *token) next();
            expect(";");
        } else if (!strcmp(word, "message")) {
            read_message(doc);
        } else if (!strcmp(word, "enum")) {
            read_enum();
        } else {
            fail(token_line, "\"%s\" is not understood", word);
        }
    }
    for (int i = 0; i < n_rows; i++) {
        for (int e = 0; rows[i].type && e < n_enums; e++) {
            if (!strcmp(rows[i].type, enums[e].name)) rows[i].type = enums[e].values;
        }
    }
}

/* ---- output --------------------------------------------------------------------------------------------------------
 */

static void put_string(FILE *out, const char *name, const char *text)
{
    if (!text) return;
    fprintf(out, ", .%s = \"", name);
    for (; *text; text++) {
        if (*text == '\n') {
            fputs("\\n", out);
        } else {
            if (*text == '"' || *text == '\\') fputc('\\', out);
            fputc(*text, out);
        }
    }
    fputc('"', out);
}

static void write_table(FILE *out)
{
    fputs("/* Made by tools/protodoc.c from the .proto. */\n#include \"config/doc.h\"\n\n#include <math.h> // "
          "INFINITY\n\n"
          "const dt_config_doc dt_config_docs[] = {\n",
          out);
    for (int i = 0; i < n_rows; i++) {
        const row *r = &rows[i];
        fprintf(out, "    {.message = \"%s\"", r->message);
        put_string(out, "field", r->field);
        put_string(out, "label", r->label);
        put_string(out, "type", r->type);
        put_string(out, "fallback", r->fallback);
        put_string(out, "range", r->range);
        if (r->range) {
            fprintf(out, ", .lo = %.17g, .lo_open = %d, ", r->lo, r->lo_open);
            if (isfinite(r->hi)) {
                fprintf(out, ".hi = %.17g, .hi_open = %d", r->hi, r->hi_open);
            } else {
                fputs(".hi = INFINITY", out);
            }
        }
        put_string(out, "doc", r->doc ? r->doc : "");
        fputs("},\n", out);
    }
    fprintf(out, "};\nconst int dt_config_doc_count = %d;\n", n_rows);
}

/* A cell of a table: no line breaks, and no bar that is not the table's. */
static void put_cell(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|') fputc('\\', out);
        fputc(*text == '\n' ? ' ' : *text, out);
    }
}

static int is_message(const char *type)
{
    for (int i = 0; i < n_rows; i++) {
        if (!rows[i].field && !strcmp(rows[i].message, type)) return 1;
    }
    return 0;
}

static void put_field(FILE *out, const row *r)
{
    fprintf(out, "| `%s` | ", r->field);
    if (strcmp(r->label, "optional") != 0) fprintf(out, "%s ", r->label);
    if (is_message(r->type)) {
        fprintf(out, "[%s](#", r->type);
        for (const char *c = r->type; *c; c++) fputc(tolower((unsigned char)*c), out);
        fputc(')', out);
    } else {
        put_cell(out, r->type);
    }
    fprintf(out, r->fallback ? " | `%s` | " : " | | ", r->fallback);
    fprintf(out, r->range ? "`%s` | " : "| ", r->range);
    put_cell(out, r->doc);
    fputs(" |\n", out);
}

static void write_page(FILE *out)
{
    fprintf(out, "# Configuration\n\n%s\n", intro ? intro : "");
    for (int i = 0; i < n_rows; i++) {
        const row *r = &rows[i];
        if (r->field) {
            put_field(out, r);
            continue;
        }
        fprintf(out, "\n## %s\n", r->message);
        if (r->doc) fprintf(out, "\n%s\n", r->doc);
        int has_fields = i + 1 < n_rows && rows[i + 1].field;
        fputs(has_fields ? "\n| field | type | default | range | meaning |\n|---|---|---|---|---|\n" : "\nNo fields.\n",
              out);
    }
}

static void write_file(const char *name, void (*write)(FILE *))
{
    FILE *out = fopen(name, "w");
    if (out) write(out);
    if (!out || fclose(out) != 0) {
        perror(name);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fputs("usage: protodoc IN.proto OUT.c OUT.md\n", stderr);
        return 2;
    }
    path = argv[1];
    FILE *in = fopen(path, "r");
    if (!in) {
        perror(path);
        return 1;
    }
    char piece[4096], *text = copy("", 0);
    for (size_t n; (n = fread(piece, 1, sizeof piece, in)) > 0;) text = join(text, piece, n);
    fclose(in);
    at = text;
    read_file();
    write_file(argv[2], write_table);
    write_file(argv[3], write_page);
    return 0;
}
