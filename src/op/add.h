/* Sums and multiples of tensors of one shape: dt_add, dt_accumulate, dt_square (graph/emit.h) and dt_scale. */
#ifndef DT_OP_ADD_H
#define DT_OP_ADD_H
#include "graph/emit.h" // dt_add, dt_accumulate, dt_square

typedef struct dt_scale_attr {
    double factor;
} dt_scale_attr;
/** y = factor * x. Linear: partial stays partial. */
dt_val dt_scale(dt_graph *g, dt_val x, double factor);
#endif
