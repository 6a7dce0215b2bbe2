/* What ops share that update flat buffers in place. Not for users of the ops. */
#ifndef DT_OP_INPLACE_H
#define DT_OP_INPLACE_H
#include "graph/op.h"
/** Placement of an op that works on what a rank holds, whatever it is a part of: outputs lie as the inputs whose
 * storage they take, others are replicated. */
void dt_place_local(const dt_placing *p);
/** Shape of an update: outputs are the inputs whose storage they take, all of the size of input 0; the inputs `grad`,
 *  `hyper` and `normsq` are checked. */
void dt_shape_update(dt_graph *g, dt_node *n, int grad, int hyper, int normsq);
#endif
