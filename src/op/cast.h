/* A copy in another type. */
#ifndef DT_OP_CAST_H
#define DT_OP_CAST_H
#include "graph/graph.h"

typedef struct dt_cast_attr {
    dt_type type;
} dt_cast_attr;
/** y = x in `type`, ACT or ACC; the same values where the device has one type for both. Linear: partial stays partial.
 */
dt_val dt_cast(dt_graph *g, dt_val x, dt_type type);
#endif
