/* Low-rank addends: an elementwise op reads x + alpha op(U) op(B) where x is, so that the sum is never in memory. */
#ifndef DT_OP_LOWRANK_H
#define DT_OP_LOWRANK_H
#include "graph/op.h"

/** An op whose `fuse` is dt_lowrank_fuse takes an addend for each of its nin_max operands, of one shape [N,F], and has
 *  these as its attributes. Operand i's U and B (op(U)[N,R], op(B)[R,F]; DT_NONE: no addend) are inputs
 *  nin_max + 2 i and nin_max + 2 i + 1, behind all operands; a node without addends has nin_max inputs. */
enum { DT_LOWRANK_OPERANDS = 3 };
typedef struct dt_lowrank {
    bool ta, tb; /* use U^T, B^T */
    double alpha;
} dt_lowrank;
typedef struct dt_lowrank_attr {
    dt_lowrank of[DT_LOWRANK_OPERANDS];
} dt_lowrank_attr;

/** Terms of an addend's products at most: with more, arithmetic costs more than reading and writing the sum. */
enum { DT_LOWRANK_MOST = 64 };

/** Fuse: an operand that is a product with C, of the same program, not an output and read only as such an operand,
 *  becomes an addend at all its readers, forward and backward alike, and its node disappears. Either product of
 *  a1 b1 + a2 b2 may be the addend; the smaller inner dimension decides. An op of this kind is elementwise and not
 *  linear: its operands are placed alike, and never partial. */
bool dt_lowrank_fuse(dt_graph *g, int32_t node);

/** For examples: 0.5 x + 0.7 op(U) op(B) [n,f] of parameters named after `name`, which the fuse pass makes an addend.
 */
dt_val dt_lowrank_example(dt_graph *g, const char *name, int64_t n, int64_t f, bool ta, bool tb);
/** For examples: h W^T + (h A^T) B^T, of which the gradient of h is such a sum. */
dt_val dt_lowrank_example_behind(dt_graph *g, dt_val h);

/** What is added to a call's operand `i`. */
static inline const dt_tensor *dt_lowrank_u(const dt_call *call, int i)
{
    return &call->in[call->op->nin_max + 2 * i];
}
static inline const dt_tensor *dt_lowrank_b(const dt_call *call, int i)
{
    return &call->in[call->op->nin_max + 2 * i + 1];
}
static inline bool dt_lowrank_any(const dt_call *call)
{
    return call->nin > call->op->nin_max;
}
static inline bool dt_lowrank_has(const dt_call *call, int i)
{
    return dt_lowrank_any(call) && dt_lowrank_u(call, i)->data != NULL;
}
/** R of operand i's addend. */
static inline int64_t dt_lowrank_rank(const dt_call *call, int i)
{
    return dt_lowrank_u(call, i)->dim[!DT_ATTR(dt_lowrank_attr, call)->of[i].ta];
}
/** Operations of a call's addends. */
double dt_lowrank_flops(const dt_call *call);

/** On the CPU a call with addends is done tile by tile, its operands' sums in the workspace. */
enum { DT_LOWRANK_ROWS = 64, DT_LOWRANK_COLUMNS = 1024 };
size_t dt_lowrank_workspace(const dt_call *call, size_t real_size);

#endif
