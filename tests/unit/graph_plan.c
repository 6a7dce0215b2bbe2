/* Fixed offsets in one arena: played through call by call, every value is still there when it is read, and the arena is
 * hardly larger than what lives at once. */
#include "op/add.h"
#include "unit/sizes.h"
#include "unit/tiny.h"
#include <stdlib.h>

enum { CELL = 64 }; /* offsets are multiples of it */

static tiny t;
static dt_plan plan;

static dt_val root_of(dt_val v)
{
    while (v != DT_NONE && t.g->value[v].base != DT_NONE) v = t.g->value[v].base;
    return v;
}

static int64_t cells_of(dt_val v)
{
    return (dt_value_local_count(t.g, v) * 4 + CELL - 1) / CELL;
}

/* A memory that remembers which value each cell holds. */
typedef struct memory {
    dt_val *owner;      /* cell -> the value that was written there last */
    int64_t cells, now; /* calls played so far */
    int64_t *live;      /* call -> cells written by then and read then or later (NULL: not counted) */
    int64_t *counted;   /* cell -> the last call that it is counted in */
} memory;

static memory new_memory(bool count)
{
    memory m = {.cells = plan.arena_bytes / CELL};
    m.owner = malloc((size_t)(m.cells + 1) * sizeof *m.owner);
    m.counted = malloc((size_t)(m.cells + 1) * sizeof *m.counted);
    if (count) m.live = calloc((size_t)(plan.calls[DT_PROLOGUE] + 2 * plan.calls[DT_MICRO]) + 1, sizeof *m.live);
    for (int64_t c = 0; c <= m.cells; c++) {
        m.owner[c] = DT_NONE;
        m.counted[c] = -1;
    }
    return m;
}

static void free_memory(memory *m)
{
    free(m->owner);
    free(m->counted);
    free(m->live);
}

static void write_value(memory *m, dt_val v)
{
    for (int64_t c = plan.offset[v] / CELL, i = 0; i < cells_of(v); i++) {
        m->owner[c + i] = v;
        if (m->live == NULL || m->counted[c + i] == m->now) continue;
        m->counted[c + i] = m->now;
        m->live[m->now]++;
    }
}

static void read_value(memory *m, dt_val v, const char *reader)
{
    for (int64_t c = plan.offset[v] / CELL, i = 0; i < cells_of(v); i++) {
        cr_assert_eq(m->owner[c + i], v, "%s reads %s where %s is", reader, t.g->value[v].name,
                     m->owner[c + i] != DT_NONE ? t.g->value[m->owner[c + i]].name : "nothing");
        while (m->live != NULL && m->counted[c + i] < m->now) m->live[++m->counted[c + i]]++;
    }
}

/* May output k of a node lie on input i? Only exactly, and where the op takes it over or does not mind. */
static void check_overlap(const dt_node *n, int k, int i)
{
    dt_val out = root_of(n->out[k]), in = root_of(n->in[i]);
    if (out == in || plan.offset[in] < 0 || plan.offset[out] >= plan.offset[in] + cells_of(in) * CELL ||
        plan.offset[in] >= plan.offset[out] + cells_of(out) * CELL)
        return;
    cr_assert(n->op->reuse[k] != 0 && root_of(n->in[n->op->reuse[k] - 1]) == in, "%s writes %s over %s", n->op->name,
              t.g->value[out].name, t.g->value[in].name);
    cr_assert_eq(plan.offset[in], plan.offset[out]);
    cr_assert_eq(dt_value_local_count(t.g, in), dt_value_local_count(t.g, out));
}

static void play_program(memory *m, dt_program program)
{
    for (int64_t c = 0; c < plan.calls[program]; c++, m->now++) {
        const dt_node *n = &t.g->node[plan.call_node[program][c]];
        cr_assert_eq(n->program, program);
        for (int i = 0; i < n->nin; i++) {
            dt_val v = root_of(n->in[i]);
            if (v != DT_NONE && t.g->value[v].kind == DT_KIND_TEMP) read_value(m, v, n->op->name);
        }
        for (int k = 0; k < n->nout; k++) {
            dt_val v = root_of(n->out[k]);
            if (v == DT_NONE || t.g->value[v].kind != DT_KIND_TEMP) continue;
            cr_assert_geq(plan.offset[v], 0);
            cr_assert_eq(plan.offset[v] % CELL, 0);
            cr_assert_leq(plan.offset[v] + cells_of(v) * CELL, plan.arena_bytes);
            for (int i = 0; i < n->nin; i++)
                if (n->in[i] != DT_NONE) check_overlap(n, k, i);
            for (int j = 0; j < k; j++) { /* two results of one call */
                dt_val w = root_of(n->out[j]);
                cr_assert(w == DT_NONE || w == v || plan.offset[w] < 0 ||
                          plan.offset[w] >= plan.offset[v] + cells_of(v) * CELL ||
                          plan.offset[v] >= plan.offset[w] + cells_of(w) * CELL);
            }
        }
        for (int k = 0; k < n->nout; k++) {
            dt_val v = root_of(n->out[k]);
            if (v != DT_NONE && t.g->value[v].kind == DT_KIND_TEMP) write_value(m, v);
        }
    }
}

static void read_outputs(memory *m, dt_program program)
{
    for (int64_t i = 0; i < t.g->outputs; i++) {
        dt_val v = root_of(t.g->output[i]);
        int32_t producer = t.g->value[v].producer;
        if (t.g->value[v].kind == DT_KIND_TEMP && t.g->node[producer].program == program) read_value(m, v, "the host");
    }
}

/* Two steps of three micro-batches. */
static void check_plan(void)
{
    OK(dt_pass_plan(t.g, &device_fp32, &plan));
    memory m = new_memory(false);
    for (int step = 0; step < 2; step++) {
        for (int program = 0; program < DT_PROGRAM_COUNT; program++) {
            for (int repeat = 0; repeat < (program == DT_MICRO ? 3 : 1); repeat++) {
                play_program(&m, (dt_program)program);
                read_outputs(&m, (dt_program)program);
            }
        }
        for (int program = 0; program < DT_PROGRAM_COUNT; program++) read_outputs(&m, (dt_program)program);
    }
    free_memory(&m);
}

static void check_size(void)
{
    cr_assert_geq(plan.arena_bytes, plan.peak_live_bytes);
    cr_assert_leq(plan.arena_bytes, plan.peak_live_bytes * 13 / 10, "%lld bytes for %lld alive at once",
                  (long long)plan.arena_bytes, (long long)plan.peak_live_bytes);
    dt_plan_free(&plan);
}

/* What is alive at once, counted from the calls alone: the most bytes of values written by then and read later, in the
 * next micro-batch too. */
static int64_t peak_of_micro(void)
{
    memory m = new_memory(true);
    int64_t peak = 0;
    play_program(&m, DT_PROLOGUE);
    for (int repeat = 0; repeat < 2; repeat++) play_program(&m, DT_MICRO);
    for (int64_t c = 0; c < plan.calls[DT_PROLOGUE] + plan.calls[DT_MICRO]; c++)
        if (m.live[c] > peak) peak = m.live[c];
    free_memory(&m);
    return peak * CELL;
}

static const char *const configs[] = {
    "delta { lora { rank: 2 } target: \"" ALL_LINEARS "\" }",
    "delta { lora { rank: 2 dropout: 0.1 } } train { recompute: true }",
    "delta { full {} }",
    "delta { fish { keep: 0.05 } }",
    "delta { fish { keep: 0.4 } } delta { lora { rank: 3 } } parallel { tensor: 4 sequence: true }",
    "delta { full {} } parallel { tensor: 4 }",
};

Test(graph_plan, every_value_is_there_when_it_is_read)
{
    for (size_t c = 0; c < sizeof configs / sizeof *configs; c++) {
        for (int variant = 0; variant < 6; variant++) {
            tiny_open(&t, (tiny_model){.layers = 3, .kv_heads = 2, .tied = variant & 1, .bias = variant & 1},
                      configs[c]);
            tiny_place(&t, 0, t.config->parallel->tensor);
            tiny_build(&t, (dt_purpose)(variant / 2));
            if (variant & 1) OK(dt_pass_fuse(t.g));
            check_plan();
            cr_assert_gt(plan.calls[DT_MICRO], 50);
            check_size();
            tiny_close(&t);
        }
    }
}

Test(graph_plan, the_peak_is_what_lives_at_once)
{
    for (size_t c = 0; c < sizeof configs / sizeof *configs; c++) {
        tiny_open(&t, (tiny_model){.layers = 3}, configs[c]);
        tiny_place(&t, 0, t.config->parallel->tensor);
        tiny_build(&t, DT_FOR_TRAINING);
        OK(dt_pass_fuse(t.g));
        OK(dt_pass_plan(t.g, &device_fp32, &plan));
        cr_assert_eq(plan.peak_live_bytes, peak_of_micro(), "%s: %lld, not %lld", configs[c],
                     (long long)plan.peak_live_bytes, (long long)peak_of_micro());
        check_size();
        tiny_close(&t);
    }
}

/* The backward needs of each block only what it saved: memory grows by that, not by all that a block computes. */
Test(graph_plan, evaluation_needs_no_more_memory_for_more_layers)
{
    int64_t bytes[2];
    for (int i = 0; i < 2; i++) {
        tiny_open(&t, (tiny_model){.layers = i == 0 ? 2 : 12}, configs[0]);
        tiny_build(&t, DT_FOR_EVAL);
        OK(dt_pass_fuse(t.g));
        OK(dt_pass_plan(t.g, &device_fp32, &plan));
        bytes[i] = plan.arena_bytes - prologue_bytes(t.g);
        check_size();
        tiny_close(&t);
    }
    cr_assert_eq(bytes[0], bytes[1]);
}

/* ---- Toys: a chain x -> a -> b -> c in two programs. ---- */

static dt_val x;

static void begin(void)
{
    memset(&t, 0, sizeof t);
    OK(dt_graph_create(&t.g));
    x = dt_graph_input(t.g, "x", DT_TYPE_ACT, 1, (int64_t[]){100}, DT_NO_SPLIT);
}

static void end(void)
{
    dt_plan_free(&plan);
    dt_graph_destroy(t.g);
}

Test(graph_plan, a_result_takes_the_storage_of_an_operand_that_dies, .init = begin, .fini = end)
{
    dt_val a = dt_scale(t.g, x, 2), b = dt_scale(t.g, a, 3), c = dt_scale(t.g, b, 4);
    dt_graph_mark_output(t.g, c);
    check_plan();
    cr_assert_eq(plan.arena_bytes, 448, "one vector of 100 numbers, rounded up");
    cr_assert_eq(plan.offset[a], plan.offset[c]);
    cr_assert_eq(plan.offset[x], -1, "an input has storage of its own");
}

Test(graph_plan, an_operand_that_is_read_later_keeps_its_storage, .init = begin, .fini = end)
{
    dt_val a = dt_scale(t.g, x, 2), b = dt_scale(t.g, a, 3), c = dt_add(t.g, b, a);
    dt_graph_mark_output(t.g, c);
    check_plan();
    cr_assert_eq(plan.arena_bytes, 2 * 448);
    cr_assert_neq(plan.offset[a], plan.offset[b]);
    cr_assert_eq(plan.offset[b], plan.offset[c]);
}

Test(graph_plan, what_the_host_reads_is_not_written_over, .init = begin, .fini = end)
{
    dt_val a = dt_scale(t.g, x, 2), b = dt_scale(t.g, a, 3), c = dt_scale(t.g, b, 4);
    dt_graph_mark_output(t.g, a);
    dt_graph_mark_output(t.g, c);
    check_plan();
    cr_assert_eq(plan.arena_bytes, 2 * 448);
    cr_assert_neq(plan.offset[a], plan.offset[b]);
}

Test(graph_plan, what_the_prologue_computes_outlives_every_micro_batch, .init = begin, .fini = end)
{
    t.g->program = DT_PROLOGUE;
    dt_val a = dt_scale(t.g, x, 2);
    t.g->program = DT_MICRO;
    dt_val b = dt_scale(t.g, a, 3), c = dt_scale(t.g, b, 4), d = dt_scale(t.g, c, 5);
    dt_graph_mark_output(t.g, d);
    check_plan();
    const dt_val later[] = {b, c, d};
    for (int i = 0; i < 3; i++) cr_assert_neq(plan.offset[a], plan.offset[later[i]]);
}

Test(graph_plan, a_result_of_another_type_has_storage_of_its_own, .init = begin, .fini = end)
{
    /* bf16: a result in fp32 does not fit where its operand was, though both round up to the same size */
    dt_val small = dt_graph_input(t.g, "small", DT_TYPE_ACT, 1, (int64_t[]){8}, DT_NO_SPLIT),
           a = dt_scale(t.g, small, 2);
    dt_val b = dt_scale(t.g, a, 3);
    t.g->value[b].type = DT_TYPE_ACC;
    dt_graph_mark_output(t.g, b);
    OK(dt_pass_plan(t.g, &device_bf16, &plan));
    cr_assert_neq(plan.offset[a], plan.offset[b]);
}
