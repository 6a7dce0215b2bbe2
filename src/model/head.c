/* Losses on top of a backbone. */
#include "model/model.h"
#include "op/xent.h"

dt_val dt_head_next_token(dt_graph *g, dt_val hidden, dt_val head, dt_val targets, dt_val *nll)
{
    dt_val lse = DT_NONE, target = DT_NONE;
    dt_xent(g, hidden, head, targets, &lse, &target);
    *nll = dt_nll(g, lse, target, targets);
    return dt_sum(g, *nll);
}
