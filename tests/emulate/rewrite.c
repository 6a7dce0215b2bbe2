/* rewrite IN OUT: makes plain C++ of a CUDA source, line by line the same, for tests/emulate.
 *
 *     kernel<<<grid, block, shared, stream>>>(a, b)   an object that starts the kernel, called with (a, b)
 *     extern __shared__ T name[];                     T *name = the block's dynamic shared memory
 *     __shared__ T name[32];                          a static array, poisoned as each block begins
 *     NULL                                            nullptr, which stays a null pointer when passed on */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *text; /* of the source */
static char *out;  /* what is made of it */
static size_t used, room;

static void put(const char *s, size_t n)
{
    if (used + n + 1 > room) out = realloc(out, room = 2 * (used + n + 1));
    if (out == NULL) exit(1);
    memcpy(out + used, s, n);
    used += n;
    out[used] = '\0';
}

static void puts_(const char *s)
{
    put(s, strlen(s));
}

static int is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static int line_of(const char *at)
{
    int line = 1;
    for (const char *c = text; c < at; c++) line += *c == '\n';
    return line;
}

static void refuse(const char *at, const char *what)
{
    fprintf(stderr, "line %d: %s\n", line_of(at), what);
    exit(1);
}

/* Behind a comment or a literal that begins at `at`; `at` itself if none does. */
static const char *skip_quoted(const char *at)
{
    if (at[0] == '/' && at[1] == '/') return at + strcspn(at, "\n");
    if (at[0] == '/' && at[1] == '*') return strstr(at + 2, "*/") != NULL ? strstr(at + 2, "*/") + 2 : at + strlen(at);
    if (*at != '"' && *at != '\'') return at;
    const char quote = *at++;
    while (*at != '\0' && *at != quote) at += *at == '\\' ? 2 : 1;
    return *at != '\0' ? at + 1 : at;
}

/* Where the kernel's name, with its template arguments, begins in what is already put out. */
static size_t name_begins(void)
{
    size_t at = used;
    if (at > 0 && out[at - 1] == '>')
        for (int depth = 0; at > 0;) {
            at--;
            depth += (out[at] == '>') - (out[at] == '<');
            if (depth == 0) break;
        }
    while (at > 0 && (is_word(out[at - 1]) || out[at - 1] == ':')) at--;
    return at;
}

/* `at` stands on "<<<"; returns behind ">>>". */
static const char *launch(const char *at)
{
    const size_t begin = name_begins();
    const char *end = strstr(at, ">>>");
    if (end == NULL || begin == used) refuse(at, "a launch without a kernel or without an end");
    char *name = strdup(out + begin);
    used = begin;
    puts_("emulate::launch(\"");
    puts_(name);
    puts_("\", [=](auto... dt_a) { ");
    puts_(name);
    puts_("(dt_a...); }, ");
    put(at + 3, (size_t)(end - at - 3));
    puts_(")");
    free(name);
    return end + 3;
}

/* Puts out "EMULATE_SHARED(name);" for each array that the declaration [at, end) makes. */
static void register_names(const char *at, const char *end)
{
    int depth = 0;
    for (const char *c = at; c <= end; c++) {
        if (c == end || (*c == ',' && depth == 0)) {
            const char *name = c;
            int inner = 0;
            while (name > at && (isspace((unsigned char)name[-1]) || name[-1] == ']' || inner > 0)) {
                name--;
                inner += (*name == ']') - (*name == '[');
            }
            const char *last = name;
            while (name > at && is_word(name[-1])) name--;
            if (name == last) refuse(at, "shared memory without a name");
            puts_(" EMULATE_SHARED(");
            put(name, (size_t)(last - name));
            puts_(");");
        } else {
            depth += (*c == '[' || *c == '<' || *c == '(') - (*c == ']' || *c == '>' || *c == ')');
        }
    }
}

/* `at` stands behind "__shared__" of a declaration; returns behind its semicolon. */
static const char *shared(const char *at, int dynamic)
{
    const char *end = strchr(at, ';');
    if (end == NULL) refuse(at, "shared memory without an end");
    if (!dynamic) {
        puts_("static");
        put(at, (size_t)(end - at + 1));
        register_names(at, end);
        return end + 1;
    }
    const char *bracket = memchr(at, '[', (size_t)(end - at)), *align = strstr(at, "__align__(");
    if (bracket == NULL) refuse(at, "dynamic shared memory that is no array");
    const char *name = bracket, *type = align != NULL && align < end ? strchr(align, ')') + 1 : at;
    while (name > at && is_word(name[-1])) name--;
    put(type, (size_t)(name - type));
    puts_("*");
    put(name, (size_t)(bracket - name));
    puts_(" = (");
    put(type, (size_t)(name - type));
    puts_("*)emulate::dynamic_shared();");
    return end + 1;
}

static void rewrite(void)
{
    for (const char *at = text; *at != '\0';) {
        const char *behind = skip_quoted(at);
        if (behind != at) {
            put(at, (size_t)(behind - at));
            at = behind;
        } else if (strncmp(at, "<<<", 3) == 0) {
            at = launch(at);
        } else if (is_word(*at)) {
            size_t n = 1, gap;
            while (is_word(at[n])) n++;
            gap = strspn(at + n, " \n");
            if (n == 4 && strncmp(at, "NULL", n) == 0) {
                puts_("nullptr");
                at += n;
            } else if (n == 6 && strncmp(at, "extern", n) == 0 && strncmp(at + n + gap, "__shared__", 10) == 0) {
                at = shared(at + n + gap + 10, 1);
            } else if (n == 10 && strncmp(at, "__shared__", n) == 0) {
                at = shared(at + n, 0);
            } else {
                put(at, n);
                at += n;
            }
        } else {
            put(at++, 1);
        }
    }
}

int main(int argc, char **argv)
{
    FILE *in = argc == 3 ? fopen(argv[1], "r") : NULL;
    if (in == NULL) {
        fprintf(stderr, "usage: rewrite IN OUT\n");
        return 2;
    }
    fseek(in, 0, SEEK_END);
    const size_t n = (size_t)ftell(in);
    rewind(in);
    text = calloc(n + 1, 1);
    if (text == NULL || fread(text, 1, n, in) != n) return 1;
    fclose(in);
    puts_("#line 1 \"");
    puts_(argv[1]);
    puts_("\"\n");
    rewrite();
    FILE *to = fopen(argv[2], "w");
    if (to == NULL || fwrite(out, 1, used, to) != used || fclose(to) != 0) {
        perror(argv[2]);
        return 1;
    }
    free(text);
    free(out);
    return 0;
}
