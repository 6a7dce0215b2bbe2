/* Tensors as a tree of their dotted names, with repeated layers folded into one. */
#ifndef DT_CLI_TREE_H
#define DT_CLI_TREE_H

#include "base/status.h"       // dt_status
#include "model/safetensors.h" // DT_TENSOR_DIMS
#include <stdbool.h>
#include <stdint.h> // int64_t

/** How a tensor is marked. */
typedef enum dt_mark { DT_MARK_NONE, DT_MARK_TRAINABLE, DT_MARK_WRONG } dt_mark;

/** One tensor. Strings are copied. */
typedef struct dt_leaf {
    const char *name; /* "model.layers.0.self_attn.q_proj.weight" */
    const char *type; /* "F32"; "": none is known */
    int ndim;
    int64_t dim[DT_TENSOR_DIMS];
    int64_t bytes; /* 0: not known */
    dt_mark mark;
    const char *note; /* behind the line: which delta, what is wrong; NULL: nothing */
    int64_t selected; /* values of it that the note speaks of; -1: all */
} dt_leaf;

typedef struct dt_tree dt_tree;
dt_status dt_tree_create(dt_tree **out) DT_WARN_UNUSED;
void dt_tree_destroy(dt_tree *tree);
/** Adds a tensor: behind its siblings, numbers in their own order. */
dt_status dt_tree_add(dt_tree *tree, const dt_leaf *leaf) DT_WARN_UNUSED;
/** Marks the tensor of a name; *found: is it there? A second note is put behind the first. */
dt_status dt_tree_mark(dt_tree *tree, const char *name, dt_mark mark, const char *note, int64_t selected,
                       bool *found) DT_WARN_UNUSED;
/** Prints the tree on stdout. Siblings whose names are numbers and that are alike (but for how many values are
 * selected) are one: layers.{0-4} x5. Shapes and counts are then those of one of them. */
dt_status dt_tree_print(const dt_tree *tree, bool colour) DT_WARN_UNUSED;

#endif
