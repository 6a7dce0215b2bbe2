/* Recomputation: what the backward may read of the forward, what it costs, what it saves. */
#include "unit/sizes.h"
#include "unit/tiny.h"

static tiny t;

static void build(int layers, int tensor, bool recompute)
{
    char config[256];
    snprintf(config, sizeof config,
             "delta { lora { rank: 2 } target: \"" ALL_LINEARS "\" } parallel { tensor: %d } train { recompute: %s }",
             tensor, recompute ? "true" : "false");
    tiny_open(&t, (tiny_model){.layers = layers}, config);
    tiny_place(&t, 0, tensor);
    t.sequences = 8;
    tiny_build(&t, DT_FOR_TRAINING);
}

/* Forward values that a backward node reads: in a block only its input and what a collective brought. */
static void check_kept(void)
{
    const dt_graph *g = t.g;
    DT_FOR_NODES (g, i) {
        const dt_node *n = &g->node[i];
        for (int k = 0; k < n->nin && n->backward; k++) {
            if (n->in[k] == DT_NONE || g->value[n->in[k]].producer == DT_NONE) continue;
            const dt_node *from = &g->node[g->value[n->in[k]].producer];
            if (from->backward || from->block == DT_NONE || from->op->communicates) continue;
            bool enters_next = false;
            DT_FOR_NODES (g, j)
                for (int m = 0; m < g->node[j].nin; m++)
                    enters_next |=
                        !g->node[j].backward && g->node[j].block != from->block && g->node[j].in[m] == n->in[k];
            cr_expect(enters_next, "%s of block %d is kept for %s", g->value[n->in[k]].name, from->block, n->op->name);
        }
    }
}

Test(graph_recompute, backward_reads_only_what_a_block_keeps)
{
    for (int tensor = 1; tensor <= 4; tensor *= 2) {
        build(3, tensor, true);
        check_kept();
        tiny_close(&t);
    }
}

static dt_plan plan(void)
{
    dt_plan p;
    OK(dt_pass_fuse(t.g));
    OK(dt_pass_plan(t.g, &device_fp32, &p));
    return p;
}

Test(graph_recompute, memory_grows_by_a_block_input_a_block)
{
    int64_t arena[2];
    for (int i = 0; i < 2; i++) {
        build(4 + 4 * i, 1, true);
        dt_plan p = plan();
        arena[i] = p.peak_live_bytes - prologue_bytes(t.g);
        dt_plan_free(&p);
        tiny_close(&t);
    }
    int64_t input = 8 * TINY_SEQ * TINY_WIDTH * (int64_t)sizeof(float);
    cr_expect_eq(arena[1] - arena[0], 4 * input, "%ld bytes for four blocks more, their inputs are %ld",
                 (long)(arena[1] - arena[0]), (long)(4 * input));
}

Test(graph_recompute, compute_grows_by_at_most_one_forward)
{
    double flops[2], forward;
    for (int i = 0; i < 2; i++) {
        build(4, 1, i == 1);
        dt_plan p = plan();
        flops[i] = dt_plan_cost(&p, DT_MICRO, sizeof(float), NULL).flops;
        dt_plan_free(&p);
        if (i == 0) {
            tiny_build(&t, DT_FOR_EVAL);
            p = plan();
            forward = dt_plan_cost(&p, DT_MICRO, sizeof(float), NULL).flops;
            dt_plan_free(&p);
        }
        tiny_close(&t);
    }
    cr_expect_gt(flops[1], flops[0] + 0.5 * forward);
    cr_expect_lt(flops[1], flops[0] + forward);
}

Test(graph_recompute, collectives_are_not_repeated)
{
    int with[2];
    for (int i = 0; i < 2; i++) {
        build(3, 4, i == 1);
        with[i] = 0;
        DT_FOR_NODES (t.g, n) with[i] += t.g->node[n].op->communicates;
        tiny_close(&t);
    }
    cr_expect_eq(with[0], with[1]);
}
