/* Placement rules written as letters, one an operand: what is there, what the op wants, what its results are. */
#ifndef DT_TESTS_UNIT_PLACE_H
#define DT_TESTS_UNIT_PLACE_H

#include "graph/op.h"
#include <criterion/criterion.h>
#include <string.h>

/* r replicated, 0 and 1 split, p partial, l partial lse, u unset. */
static inline dt_place place_of(char letter)
{
    switch (letter) {
    case '0': return DT_PLACE_S(0);
    case '1': return DT_PLACE_S(1);
    case 'p': return DT_PLACE_P;
    case 'l': return DT_PLACE_LSE;
    case 'u': return (dt_place){DT_PLACE_UNSET, 0};
    default: return DT_PLACE_R;
    }
}

typedef struct rule {
    const char *have, *want, *out;
} rule;

static inline void check_places(const dt_graph *g, dt_axis axis, int32_t node, const rule *rules, size_t count)
{
    cr_assert_neq(node, DT_NONE);
    const dt_node *n = &g->node[node];
    for (size_t r = 0; r < count; r++) {
        dt_place in[DT_MAX_IN], want[DT_MAX_IN], out[DT_MAX_OUT];
        for (int i = 0; i < n->nin; i++) in[i] = want[i] = place_of(rules[r].have[i]);
        dt_placing p = {g, n, axis, in, want, out};
        if (n->op->place != NULL) n->op->place(&p);
        else dt_place_elementwise(&p);
        for (int i = 0; i < n->nin; i++)
            cr_assert(dt_place_equal(want[i], place_of(rules[r].want[i])), "%s of %s: input %d is wanted %d.%d",
                      n->op->name, rules[r].have, i, want[i].kind, want[i].dim);
        for (int i = 0; i < n->nout; i++)
            cr_assert(dt_place_equal(out[i], place_of(rules[r].out[i])), "%s of %s: output %d is %d.%d", n->op->name,
                      rules[r].have, i, out[i].kind, out[i].dim);
    }
}
/* Of a node of graph `g`, along a tensor axis or along the data axis. */
#define CHECK_ALONG(axis, node, ...)                                                                                   \
    check_places(g, axis, node, (const rule[]){__VA_ARGS__}, sizeof((const rule[]){__VA_ARGS__}) / sizeof(rule))
#define CHECK(node, ...) CHECK_ALONG(DT_AXIS_TENSOR_MAJOR, node, __VA_ARGS__)
#define CHECK_DATA(node, ...) CHECK_ALONG(DT_AXIS_DATA, node, __VA_ARGS__)

#endif
