/* Lion's update of flat buffers in place. */
#include "op/inplace.h"
#include "op/op.h"
#include "op/update.h"

/* p, m, grad, hyper, normsq -> p, m */

static void shape(dt_graph *g, dt_node *n)
{
    dt_shape_update(g, n, 2, 3, 4);
}

static void cost(const dt_call *c, size_t real_size, dt_cost *out)
{
    out->flops = 10.0 * (double)c->in[0].dim[0];
}

const dt_op dt_op_lion = {
    .name = "lion",
    .nin_min = 5,
    .nin_max = 5,
    .nout = 2,
    .inplace = {1, 2},
    .shape = shape,
    .place = dt_place_local,
    .cost = cost,
};

void dt_lion(dt_graph *g, dt_val p, dt_val m, dt_val grad, dt_val hyper, dt_val normsq, dt_lion_attr attr)
{
    dt_val in[] = {p, m, grad, hyper, normsq};
    dt_graph_node(g, &dt_op_lion, &attr, sizeof attr, 5, in);
}
