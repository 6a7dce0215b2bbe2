/* Several tensors as one, and one as several. */
#ifndef DT_OP_PARTS_H
#define DT_OP_PARTS_H
#include "graph/graph.h"

/** Most tensors that make one. */
enum { DT_MAX_PARTS = DT_MAX_OUT };
typedef struct dt_parts_attr {
    int dim; /* along which the parts lie one behind the other */
    int n;
    dt_type type; /* of the whole */
    int64_t size[DT_MAX_PARTS];
} dt_parts_attr;

/** y = x[0] .. x[n - 1], one behind the other along `dim`, in `type`. An x that is absent (DT_NONE) counts as zeros of
 * attr.size. Differentiable in all. Placement: linear; `dim` itself must not be split. */
dt_val dt_concat(dt_graph *g, const dt_parts_attr *attr, const dt_val *x);
/** The reverse: out[i] is the i-th part of x, in x's type; attr.type is not looked at. */
void dt_parts(dt_graph *g, dt_val x, const dt_parts_attr *attr, dt_val *out);
#endif
