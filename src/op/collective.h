/* The ops that move data between ranks (builders: graph/emit.h). all_reduce writes on x's storage where x has no later
 * reader. Global shapes do not change. */
#ifndef DT_OP_COLLECTIVE_H
#define DT_OP_COLLECTIVE_H
#include "graph/emit.h" // dt_all_reduce ...
#include "graph/op.h"   // dt_call

typedef struct dt_collective_attr {
    dt_axes axes;
    int dim;       /* gather, scatter, slice: which dimension; lse_finish: the stage */
    dt_comm_op op; /* all_reduce */
} dt_collective_attr;

/** How a tensor is made of the parts of `ranks` ranks along the call's dimension: `pieces` rows, each of which is one
 * run of `run` bytes from every rank in turn. Communicators move a rank's part as one run, so with more pieces than one
 * the kernels take the whole apart first, or put it together after. */
typedef struct dt_parts {
    int64_t ranks, pieces;
    size_t run;
} dt_parts;
dt_status dt_parts_of(const dt_call *call, const dt_tensor *whole, const dt_tensor *part, size_t element_size,
                      dt_parts *out) DT_WARN_UNUSED;
#endif
