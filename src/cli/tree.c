/* A tree of dotted names: building, folding, printing. */
#include "cli/tree.h"
#include "base/memory.h" // dt_region
#include "base/units.h"  // dt_words_count
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct node {
    const char *name; /* one part of the dotted name */
    struct node **child;
    int64_t n, cap;
    bool is_leaf;
    dt_leaf leaf;
} node;

struct dt_tree {
    dt_region region;
    node root;
};

static void free_children(node *at)
{
    for (int64_t i = 0; i < at->n; i++) free_children(at->child[i]);
    free(at->child);
}

dt_status dt_tree_create(dt_tree **out)
{
    return dt_alloc(1, sizeof **out, out);
}

void dt_tree_destroy(dt_tree *tree)
{
    if (tree == NULL) return;
    free_children(&tree->root);
    dt_region_free(&tree->region);
    free(tree);
}

/* ---- building ---- */

static bool is_number(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n < 10 && strspn(name, "0123456789") == n;
}

/* A new child: behind the others, a number in front of larger ones. */
static dt_status add_child(dt_tree *tree, node *at, const char *name, size_t length, node **out)
{
    DT_TRY(dt_grow(&at->child, &at->cap, at->n + 1, sizeof(node *)));
    node *fresh = dt_region_alloc(&tree->region, sizeof *fresh);
    if (fresh != NULL) fresh->name = dt_region_printf(&tree->region, "%.*s", (int)length, name);
    if (fresh == NULL || fresh->name == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    int64_t place = at->n;
    while (is_number(fresh->name) && place > 0 && is_number(at->child[place - 1]->name) &&
           atol(at->child[place - 1]->name) > atol(fresh->name))
        place--;
    memmove(at->child + place + 1, at->child + place, (size_t)(at->n - place) * sizeof(node *));
    at->child[place] = fresh;
    at->n++;
    *out = fresh;
    return DT_OK;
}

/* The child of a name; leaf: one that is a tensor, or one that is not. */
static node *find_child(const node *at, const char *name, size_t length, bool leaf)
{
    for (int64_t i = at->n - 1; i >= 0; i--) { /* names come in order: it is mostly the last */
        node *c = at->child[i];
        if (c->is_leaf == leaf && strlen(c->name) == length && strncmp(c->name, name, length) == 0) return c;
    }
    return NULL;
}

static dt_status copy_text(dt_tree *tree, const char **text)
{
    if (*text == NULL) return DT_OK;
    *text = dt_region_strdup(&tree->region, *text);
    return *text != NULL ? DT_OK : dt_fail(DT_ERR_MEMORY, "out of memory");
}

dt_status dt_tree_add(dt_tree *tree, const dt_leaf *leaf)
{
    node *at = &tree->root;
    const char *part = leaf->name;
    for (const char *dot; (dot = strchr(part, '.')) != NULL; part = dot + 1) {
        node *next = find_child(at, part, (size_t)(dot - part), false);
        if (next == NULL) DT_TRY(add_child(tree, at, part, (size_t)(dot - part), &next));
        at = next;
    }
    node *fresh = NULL;
    DT_TRY(add_child(tree, at, part, strlen(part), &fresh));
    fresh->is_leaf = true;
    fresh->leaf = *leaf;
    DT_TRY(copy_text(tree, &fresh->leaf.name));
    DT_TRY(copy_text(tree, &fresh->leaf.type));
    return copy_text(tree, &fresh->leaf.note);
}

dt_status dt_tree_mark(dt_tree *tree, const char *name, dt_mark mark, const char *note, int64_t selected, bool *found)
{
    node *at = &tree->root;
    const char *part = name;
    for (const char *dot; at != NULL && (dot = strchr(part, '.')) != NULL; part = dot + 1)
        at = find_child(at, part, (size_t)(dot - part), false);
    if (at != NULL) at = find_child(at, part, strlen(part), true);
    *found = at != NULL;
    if (at == NULL) return DT_OK;
    dt_leaf *leaf = &at->leaf;
    leaf->mark = mark;
    leaf->selected = leaf->note == NULL ? selected : leaf->selected + selected;
    leaf->note = leaf->note == NULL ? note : dt_region_printf(&tree->region, "%s, %s", leaf->note, note);
    return copy_text(tree, &leaf->note);
}

/* ---- folding ---- */

static bool same_text(const char *a, const char *b)
{
    return (a == NULL) == (b == NULL) && (a == NULL || strcmp(a, b) == 0);
}

/* Notes that may stand on one line: the same, or one that speaks of some values beside none. */
static bool same_note(const dt_leaf *x, const dt_leaf *y)
{
    if (same_text(x->note, y->note)) return (x->selected < 0) == (y->selected < 0);
    return (x->note == NULL && y->selected >= 0) || (y->note == NULL && x->selected >= 0);
}

static bool alike(const node *a, const node *b)
{
    if (a->n != b->n || a->is_leaf != b->is_leaf) return false;
    const dt_leaf *x = &a->leaf, *y = &b->leaf;
    bool same = x->ndim == y->ndim && x->bytes == y->bytes && same_text(x->type, y->type) && same_note(x, y);
    for (int i = 0; same && i < x->ndim; i++) same = x->dim[i] == y->dim[i];
    for (int64_t i = 0; same && i < a->n; i++)
        same = strcmp(a->child[i]->name, b->child[i]->name) == 0 && alike(a->child[i], b->child[i]);
    return same;
}

/* Children from `i` on that are shown as one: numbers that follow each other, all alike. */
static int64_t run_of(const node *at, int64_t i)
{
    int64_t end = i + 1;
    for (; is_number(at->child[i]->name) && end < at->n; end++) {
        const node *next = at->child[end];
        bool fits = is_number(next->name) && atol(next->name) == atol(at->child[end - 1]->name) + 1;
        for (int64_t k = i; fits && k < end; k++) fits = alike(at->child[k], next);
        if (!fits) break;
    }
    return end - i;
}

/* ---- printing ---- */

typedef struct line {
    const char *left, *shape, *type, *values, *bytes, *note;
    dt_mark mark;
} line;

typedef struct printer {
    dt_region region;
    line *line;
    int64_t lines, cap;
} printer;

static int64_t leaf_values(const dt_leaf *leaf)
{
    int64_t n = 1;
    for (int i = 0; i < leaf->ndim; i++) n *= leaf->dim[i];
    return n;
}

static void sum_up(const node *at, int64_t *values, int64_t *bytes)
{
    if (at->is_leaf) {
        *values += leaf_values(&at->leaf);
        *bytes += at->leaf.bytes;
    }
    for (int64_t i = 0; i < at->n; i++) sum_up(at->child[i], values, bytes);
}

static dt_status put_line(printer *p, line l)
{
    const char *const *text = &l.left;
    for (int i = 0; i < 6; i++)
        if (text[i] == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    DT_TRY(dt_grow(&p->line, &p->cap, p->lines + 1, sizeof *p->line));
    p->line[p->lines++] = l;
    return DT_OK;
}

static const char *shape_text(printer *p, const dt_leaf *leaf)
{
    const char *text = "";
    for (int i = 0; text != NULL && i < leaf->ndim; i++)
        text = dt_region_printf(&p->region, "%s%s%lld", text, i != 0 ? ", " : "", (long long)leaf->dim[i]);
    return text != NULL ? dt_region_printf(&p->region, "[%s]", text) : NULL;
}

/* The note of tensors that are shown as one, with how many values it speaks of; the first that has one gives it. */
static const char *note_text(printer *p, node *const *like, int64_t n, dt_mark *mark)
{
    const char *note = NULL;
    int64_t least = INT64_MAX, most = -1;
    for (int64_t i = 0; i < n; i++) {
        const dt_leaf *leaf = &like[i]->leaf;
        int64_t selected = leaf->note != NULL ? leaf->selected : 0;
        if (note == NULL && leaf->note != NULL) *mark = leaf->mark;
        if (note == NULL) note = leaf->note;
        least = selected < least ? selected : least;
        most = selected > most ? selected : most;
    }
    if (note == NULL || most < 0) return note != NULL ? note : "";
    if (least == most) return dt_region_printf(&p->region, "%s %s", note, dt_words_count(least).text);
    return dt_region_printf(&p->region, "%s %s .. %s", note, dt_words_count(least).text, dt_words_count(most).text);
}

static const char *bytes_text(printer *p, int64_t bytes)
{
    return bytes != 0 ? dt_region_strdup(&p->region, dt_words_bytes((double)bytes).text) : "";
}

static dt_status put_leaf(printer *p, const char *left, node *const *like, int64_t n)
{
    const dt_leaf *leaf = &like[0]->leaf;
    const char *values = dt_region_strdup(&p->region, dt_words_count(leaf_values(leaf)).text);
    dt_mark mark = DT_MARK_NONE;
    const char *note = note_text(p, like, n, &mark);
    return put_line(p, (line){left, shape_text(p, leaf), leaf->type, values, bytes_text(p, leaf->bytes), note, mark});
}

/* The header of children that are shown as one sums them all up. */
static dt_status put_fold(printer *p, const char *left, node *const *like, int64_t n)
{
    int64_t values = 0, bytes = 0;
    for (int64_t i = 0; i < n; i++) sum_up(like[i], &values, &bytes);
    const char *text = dt_region_strdup(&p->region, dt_words_count(values).text);
    return put_line(p, (line){left, "", "", text, bytes_text(p, bytes), "", DT_MARK_NONE});
}

/* Nodes that are alike, in different places, shown as one. */
typedef struct bundle {
    node **node;
    int64_t n;
    const char *name;
    int64_t times; /* of siblings: how many of them the name stands for */
} bundle;

/* The children from `i` on that are shown as one, of every node of `of`. */
static dt_status bundle_children(printer *p, const bundle *of, int64_t i, bundle *out)
{
    const node *one = of->node[0];
    bundle b = {.times = run_of(one, i), .name = one->child[i]->name};
    b.n = of->n * b.times;
    b.node = dt_region_alloc(&p->region, (size_t)b.n * sizeof *b.node);
    if (b.times > 1) b.name = dt_region_printf(&p->region, "{%s-%s}", b.name, one->child[i + b.times - 1]->name);
    if (b.node == NULL || b.name == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    for (int64_t k = 0; k < of->n; k++)
        memcpy(b.node + k * b.times, of->node[k]->child + i, (size_t)b.times * sizeof *b.node);
    *out = b;
    return DT_OK;
}

static dt_status put_children(printer *p, const char *indent, const bundle *b);

static dt_status put_bundle(printer *p, const char *indent, bool last, bundle b)
{
    /* A node whose children are shown as one shares its line with them. */
    while (!b.node[0]->is_leaf && b.times == 1 && run_of(b.node[0], 0) == b.node[0]->n) {
        bundle inner;
        DT_TRY(bundle_children(p, &b, 0, &inner));
        inner.name = dt_region_printf(&p->region, "%s.%s", b.name, inner.name);
        if (inner.name == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
        b = inner;
    }
    const char *count = b.times > 1 ? dt_region_printf(&p->region, " x%lld", (long long)b.times) : "";
    const char *left = dt_region_printf(&p->region, "%s%s%s%s", indent, last ? "└─ " : "├─ ", b.name, count);
    const char *inner = dt_region_printf(&p->region, "%s%s", indent, last ? "   " : "│  ");
    if (left == NULL || inner == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    if (b.node[0]->is_leaf) return put_leaf(p, left, b.node, b.n);
    if (b.times > 1) DT_TRY(put_fold(p, left, b.node, b.n));
    else DT_TRY(put_line(p, (line){left, "", "", "", "", "", DT_MARK_NONE}));
    return put_children(p, inner, &b);
}

static dt_status put_children(printer *p, const char *indent, const bundle *b)
{
    bundle next;
    for (int64_t i = 0, n = b->node[0]->n; i < n; i += next.times) {
        DT_TRY(bundle_children(p, b, i, &next));
        DT_TRY(put_bundle(p, indent, i + next.times == n, next));
    }
    return DT_OK;
}

/* Characters, which stand in one column each. */
static int columns_of(const char *text)
{
    int n = 0;
    for (; *text != '\0'; text++) n += (*text & 0xC0) != 0x80;
    return n;
}

static int widest(const printer *p, size_t offset)
{
    int most = 0;
    for (int64_t i = 0; i < p->lines; i++) {
        int n = columns_of(*(const char *const *)(const void *)((const char *)&p->line[i] + offset));
        most = n > most ? n : most;
    }
    return most;
}

static void print_lines(const printer *p, bool colour)
{
    static const char *const start[] = {"", "\033[32m", "\033[31m"};
    const int left = widest(p, offsetof(line, left)), shape = widest(p, offsetof(line, shape));
    const int type = widest(p, offsetof(line, type)), values = widest(p, offsetof(line, values));
    const int bytes = widest(p, offsetof(line, bytes));
    for (int64_t i = 0; i < p->lines; i++) {
        const line *l = &p->line[i];
        bool coloured = colour && l->mark != DT_MARK_NONE;
        char text[1024];
        int n = snprintf(text, sizeof text, "%s%*s  %-*s  %-*s  %*s  %*s  %s", l->left, left - columns_of(l->left), "",
                         shape, l->shape, type, l->type, values, l->values, bytes, l->bytes, l->note);
        if (n >= (int)sizeof text) n = (int)sizeof text - 1;
        while (n > 0 && text[n - 1] == ' ') text[--n] = '\0';
        printf("%s%s%s\n", coloured ? start[l->mark] : "", text, coloured ? "\033[0m" : "");
    }
}

dt_status dt_tree_print(const dt_tree *tree, bool colour)
{
    printer p = {0};
    node *root = (node *)(uintptr_t)&tree->root;
    dt_status st = put_children(&p, "", &(bundle){.node = &root, .n = 1, .times = 1});
    if (st == DT_OK) print_lines(&p, colour);
    free(p.line);
    dt_region_free(&p.region);
    return st;
}
