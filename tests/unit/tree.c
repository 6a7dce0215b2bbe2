/* Trees of tensors: order, folding, marks, columns. */
#include "cli/tree.h"
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdio.h>
#include <string.h>

static dt_tree *tree;

static void set_up(void)
{
    cr_redirect_stdout();
    cr_assert_eq(dt_tree_create(&tree), DT_OK);
}

static void tear_down(void)
{
    dt_tree_destroy(tree);
}

TestSuite(tree, .init = set_up, .fini = tear_down);

/* A vector of so many values, in fp32. */
static void add(const char *name, int64_t values)
{
    const dt_leaf leaf = {.name = name, .type = "F32", .ndim = 1, .dim = {values}, .bytes = 4 * values, .selected = -1};
    cr_assert_eq(dt_tree_add(tree, &leaf), DT_OK);
}

static void mark(const char *name, const char *note, int64_t selected)
{
    bool found = false;
    cr_assert_eq(dt_tree_mark(tree, name, DT_MARK_TRAINABLE, note, selected, &found), DT_OK);
    cr_assert(found, "%s", name);
}

static void expect(bool colour, const char *expected)
{
    cr_assert_eq(dt_tree_print(tree, colour), DT_OK);
    fflush(stdout);
    cr_assert_stdout_eq_str(expected);
}

Test(tree, names_in_their_order_and_only_children_on_one_line)
{
    add("model.embed.weight", 1000);
    add("model.norm.weight", 8);
    add("head", 2);
    expect(false, "├─ model\n"
                  "│  ├─ embed.weight  [1000]  F32  1,000  4 kB\n"
                  "│  └─ norm.weight   [8]     F32      8  32 B\n"
                  "└─ head             [2]     F32      2   8 B\n");
}

Test(tree, layers_that_are_alike_are_one)
{
    char name[32];
    for (int i = 11; i >= 0; i--) { /* 10 stands behind 9, whatever the order in which they come */
        snprintf(name, sizeof name, "layers.%d.a.w", i);
        add(name, 4);
        snprintf(name, sizeof name, "layers.%d.b", i);
        add(name, 1);
    }
    expect(false, "└─ layers.{0-11} x12            60  240 B\n"
                  "   ├─ a.w             [4]  F32   4   16 B\n"
                  "   └─ b               [1]  F32   1    4 B\n");
}

Test(tree, what_differs_or_is_missing_ends_a_run)
{
    add("0.w", 4);
    add("1.w", 4);
    add("2.w", 5); /* another shape */
    add("4.w", 4); /* 3 is missing */
    add("5.w", 4);
    add("5.v", 4); /* another child */
    expect(false, "├─ {0-1} x2            8  32 B\n"
                  "│  └─ w      [4]  F32  4  16 B\n"
                  "├─ 2.w       [5]  F32  5  20 B\n"
                  "├─ 4.w       [4]  F32  4  16 B\n"
                  "└─ 5\n"
                  "   ├─ w      [4]  F32  4  16 B\n"
                  "   └─ v      [4]  F32  4  16 B\n");
}

Test(tree, layers_within_layers_fold_twice)
{
    char name[32];
    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "l.%d.e.%d.w", i / 3, i % 3);
        add(name, 2);
        if (i % 3 == 2) {
            snprintf(name, sizeof name, "l.%d.n", i / 3);
            add(name, 2);
        }
    }
    mark("l.0.e.0.w", "d", 1);
    mark("l.1.e.2.w", "d", 2);
    expect(false, "└─ l.{0-1} x2               16  64 B\n"
                  "   ├─ e.{0-2} x3            12  48 B\n"
                  "   │  └─ w        [2]  F32   2   8 B  d 0 .. 2\n"
                  "   └─ n           [2]  F32   2   8 B\n");
}

Test(tree, a_delta_on_some_layers_keeps_them_apart)
{
    add("l.0.w", 2);
    add("l.1.w", 2);
    add("l.2.w", 2);
    const dt_leaf a = {.name = "l.1.a",
                       .type = "F32",
                       .ndim = 2,
                       .dim = {3, 2},
                       .bytes = 24,
                       .mark = DT_MARK_TRAINABLE,
                       .note = "d (lora)",
                       .selected = -1};
    cr_assert_eq(dt_tree_add(tree, &a), DT_OK);
    expect(true, "└─ l\n"
                 "   ├─ 0.w   [2]     F32  2   8 B\n"
                 "   ├─ 1\n"
                 "   │  ├─ w  [2]     F32  2   8 B\n"
                 "\033[32m   │  └─ a  [3, 2]  F32  6  24 B  d (lora)\033[0m\n"
                 "   └─ 2.w   [2]     F32  2   8 B\n");
}

Test(tree, two_deltas_on_one_tensor_are_both_named)
{
    add("w", 2000);
    mark("w", "a", 10);
    mark("w", "b", 5);
    expect(false, "└─ w  [2000]  F32  2,000  8 kB  a, b 15\n");
}

Test(tree, a_tensor_that_is_not_there_is_not_marked)
{
    bool found = true;
    add("a.b", 1);
    cr_assert_eq(dt_tree_mark(tree, "a", DT_MARK_WRONG, "x", -1, &found), DT_OK);
    cr_expect_not(found, "a is no tensor");
    cr_assert_eq(dt_tree_mark(tree, "b.c.d", DT_MARK_WRONG, "x", -1, &found), DT_OK);
    cr_expect_not(found);
    cr_assert_eq(dt_tree_mark(tree, "a.b", DT_MARK_WRONG, "missing", -1, &found), DT_OK);
    cr_expect(found);
    expect(true, "\033[31m└─ a.b  [1]  F32  1  4 B  missing\033[0m\n");
}

Test(tree, without_tensors_nothing_is_printed)
{
    expect(false, "");
}
