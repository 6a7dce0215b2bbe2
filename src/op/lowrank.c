/* Low-rank addends: which sums become one, and what they cost. */
#include "op/lowrank.h"
#include "op/add.h"    // dt_add, dt_scale
#include "op/matmul.h" // dt_matmul
#include "op/op.h"
#include "op/storage.h"
#include <stdio.h>

enum { U, B, C }; /* of matmul */

static int32_t matmul_of(const dt_graph *g, dt_val v)
{
    int32_t id = v != DT_NONE ? dt_value_of(g, v)->producer : DT_NONE;
    return id != DT_NONE && g->node[id].op == &dt_op_matmul ? id : DT_NONE;
}

static int64_t rank_of(const dt_graph *g, int32_t product)
{
    const dt_node *n = &g->node[product];
    return dt_value_of(g, n->in[U])->local[!DT_ATTR(dt_matmul_attr, n)->ta];
}

/* Of the two products whose sum `sum` computes, the one to take out of it; DT_NONE: neither. */
static int32_t addend_of(const dt_graph *g, int32_t sum)
{
    dt_val c = g->node[sum].in[C];
    int32_t inner = matmul_of(g, c), best = sum;
    bool plain = inner != DT_NONE && g->node[inner].in[C] == DT_NONE && dt_graph_use_count(g, c) == 1 &&
                 g->node[inner].program == g->node[sum].program;
    if (plain && rank_of(g, inner) < rank_of(g, sum)) best = inner;
    return rank_of(g, best) <= DT_LOWRANK_MOST ? best : DT_NONE;
}

static bool takes_addend(const dt_node *n, int operand)
{
    if (n->op->fuse != dt_lowrank_fuse || operand >= n->op->nin_max) return false;
    return n->nin == n->op->nin_max || n->in[n->op->nin_max + 2 * operand] == DT_NONE;
}

/* May `n` read x, u and b in the place of the sum v? Its outputs may take over an operand's storage, which then must
 * not be an addend's. */
static bool storage_fits(const dt_graph *g, const dt_node *n, dt_val v, dt_val x, dt_val u, dt_val b)
{
    const dt_val home = dt_storage_of(g, x), home_u = dt_storage_of(g, u), home_b = dt_storage_of(g, b);
    if (home == home_u || home == home_b) return false;
    for (int k = 0; k < n->nin; k++) {
        if (n->in[k] == DT_NONE || n->in[k] == v) continue;
        const dt_val other = dt_storage_of(g, n->in[k]);
        if (k < n->op->nin_max ? other == home_u || other == home_b : other == home) return false;
    }
    return true;
}

/* Can every reader of v, which `sum` computes, take it as x + u b? The last of them goes to `last`. */
static bool readers_agree(const dt_graph *g, int32_t sum, dt_val v, dt_val x, dt_val u, dt_val b, int32_t *last)
{
    int uses = 0;
    DT_FOR_NODES (g, i) {
        const dt_node *n = &g->node[i];
        for (int k = 0; k < n->nin; k++) {
            if (n->in[k] != v) continue;
            if (!takes_addend(n, k) || n->program != g->node[sum].program || !storage_fits(g, n, v, x, u, b))
                return false;
            *last = i;
            uses++;
        }
    }
    return uses == dt_graph_use_count(g, v); /* else the host reads it */
}

static void give(dt_node *n, int operand, dt_val x, dt_val u, dt_val b, dt_lowrank how)
{
    const int operands = n->op->nin_max, at = operands + 2 * operand;
    for (int k = n->nin; k < 3 * operands; k++) n->in[k] = DT_NONE;
    n->nin = 3 * operands;
    n->in[operand] = x;
    n->in[at] = u;
    n->in[at + 1] = b;
    ((dt_lowrank_attr *)(void *)n->attr.byte)->of[operand] = how;
}

static bool take(dt_graph *g, dt_val v)
{
    const int32_t sum = matmul_of(g, v);
    if (sum == DT_NONE || g->node[sum].in[C] == DT_NONE) return false;
    const int32_t addend = addend_of(g, sum);
    if (addend == DT_NONE) return false;
    const dt_node product = g->node[addend];
    const dt_matmul_attr *attr = DT_ATTR(dt_matmul_attr, &product);
    const dt_val u = product.in[U], b = product.in[B], x = addend == sum ? product.in[C] : v;
    int32_t last = DT_NONE;
    if (!readers_agree(g, sum, v, x, u, b, &last)) return false;
    if (dt_storage_is_written(g, dt_storage_of(g, x), sum, last)) return false;
    if (dt_storage_is_written(g, dt_storage_of(g, u), addend, last)) return false;
    if (dt_storage_is_written(g, dt_storage_of(g, b), addend, last)) return false;
    for (int32_t i = g->node[sum].next; i != g->node[last].next; i = g->node[i].next)
        for (int k = 0; k < g->node[i].op->nin_max && k < g->node[i].nin; k++)
            if (g->node[i].in[k] == v) give(&g->node[i], k, x, u, b, (dt_lowrank){attr->ta, attr->tb, attr->alpha});
    if (addend != sum) { /* the other product is alone in its value now */
        g->node[sum].in[C] = DT_NONE;
        g->node[sum].nin = C;
        dt_value_of(g, v)->base = DT_NONE;
    }
    dt_graph_remove(g, addend);
    return true;
}

bool dt_lowrank_fuse(dt_graph *g, int32_t node)
{
    bool taken = false;
    for (int k = 0; k < g->node[node].op->nin_max; k++)
        if (takes_addend(&g->node[node], k)) taken |= take(g, g->node[node].in[k]);
    return taken;
}

double dt_lowrank_flops(const dt_call *call)
{
    double flops = 0;
    for (int i = 0; i < call->op->nin_max; i++)
        if (dt_lowrank_has(call, i))
            flops += 2.0 * (double)call->in[i].dim[0] * (double)call->in[i].dim[1] * (double)dt_lowrank_rank(call, i);
    return flops;
}

size_t dt_lowrank_workspace(const dt_call *call, size_t real_size)
{
    int sums = 0;
    for (int i = 0; i < call->op->nin_max; i++) sums += dt_lowrank_has(call, i);
    return (size_t)call->threads * (size_t)sums * DT_LOWRANK_ROWS * DT_LOWRANK_COLUMNS * real_size;
}

static dt_val example_param(dt_graph *g, const char *name, const char *of, int64_t rows, int64_t cols)
{
    char text[64];
    snprintf(text, sizeof text, "%s.%s", name, of);
    return dt_graph_param(g, text, 2, (int64_t[]){rows, cols}, NULL);
}

enum { EXAMPLE_RANK = 3 };

dt_val dt_lowrank_example(dt_graph *g, const char *name, int64_t n, int64_t f, bool ta, bool tb)
{
    const int64_t r = EXAMPLE_RANK;
    dt_val u = example_param(g, name, "u", ta ? r : n, ta ? n : r);
    dt_val b = example_param(g, name, "b", tb ? f : r, tb ? r : f);
    dt_val x = dt_scale(g, example_param(g, name, "x", n, f), 0.5); /* a temporary, which can be added to */
    return dt_add(g, x, dt_matmul(g, u, b, ta, tb, 0.7, DT_TYPE_ACC));
}

dt_val dt_lowrank_example_behind(dt_graph *g, dt_val h)
{
    if (h == DT_NONE) return DT_NONE;
    const dt_value v = *dt_value_of(g, h);
    const int64_t r = EXAMPLE_RANK, o = r + 2;
    dt_val u = dt_matmul(g, h, example_param(g, "down", "a", r, v.dim[1]), false, true, 1, v.type);
    dt_val y = dt_matmul(g, h, example_param(g, "down", "w", o, v.dim[1]), false, true, 1, v.type);
    return dt_add(g, y, dt_matmul(g, u, example_param(g, "down", "b", o, r), false, true, 1, v.type));
}
