/* The ops that move data between ranks (builders: graph/emit.h). all_reduce writes on x's storage where x has no later
 * reader. Global shapes do not change. */
#ifndef DT_OP_COLLECTIVE_H
#define DT_OP_COLLECTIVE_H
#include "graph/emit.h" // dt_all_reduce ...

typedef struct dt_collective_attr {
    dt_axes axes;
    int dim;       /* gather, scatter, slice: which dimension; lse_finish: the stage */
    dt_comm_op op; /* all_reduce */
} dt_collective_attr;
#endif
