/* The last micro-batch's own program, and calls that run aside: what is planned, and in which order a device is asked.
 */
#include "graph/exec.h"
#include "op/add.h"
#include "op/collective.h"
#include "unit/sizes.h"
#include "unit/tiny.h"

enum { COUNT = 6 };

static dt_graph *g;
static dt_val x, a, b, twice, thrice;

/* Both accumulators in each micro-batch, a first. */
static void begin(void)
{
    const int64_t count = COUNT;
    OK(dt_graph_create(&g));
    x = dt_graph_input(g, "x", DT_TYPE_ACC, 1, &count, DT_NO_SPLIT);
    a = dt_graph_state(g, "a", DT_TYPE_ACC, 1, &count, DT_NO_SPLIT);
    b = dt_graph_state(g, "b", DT_TYPE_ACC, 1, &count, DT_NO_SPLIT);
    twice = dt_scale(g, x, 2);
    dt_accumulate(g, a, twice);
    thrice = dt_scale(g, twice, 1.5);
    dt_accumulate(g, b, thrice);
}

static void end(void)
{
    dt_graph_destroy(g);
}

/* A node of the last micro-batch behind the first that writes to `state`: it is summed over the data ranks aside. */
static int32_t reduce_last(dt_val state)
{
    DT_FOR_NODES (g, i) {
        if (g->node[i].in[0] != state) continue;
        dt_graph_seek(g, i);
        g->program = DT_LAST;
        dt_val sum = dt_all_reduce(g, state, DT_AXES_DATA, DT_COMM_SUM);
        cr_assert_neq(sum, DT_NONE);
        g->value[sum].base = state;
        g->node[g->value[sum].producer].aside = true;
        g->program = DT_MICRO;
        dt_graph_seek_end(g);
        return g->value[sum].producer;
    }
    return DT_NONE;
}

/* ---- the plan ---- */

Test(graph_last, its_calls_are_a_micro_batch_s_and_its_own_in_their_places, .init = begin, .fini = end)
{
    dt_plan without, with;
    OK(dt_pass_plan(g, &device_fp32, &without));
    cr_assert_eq(without.calls[DT_LAST], 0, "nothing is its own: there is no such program");
    const int32_t own = reduce_last(a);
    OK(dt_pass_plan(g, &device_fp32, &with));
    cr_assert_eq(with.calls[DT_MICRO], 4);
    cr_assert_eq(with.calls[DT_LAST], 5);
    for (int i = 0; i < 5; i++) {
        const int32_t node = with.call_node[DT_LAST][i];
        if (i == 2) cr_assert_eq(node, own);
        else cr_assert_eq(node, with.call_node[DT_MICRO][i < 2 ? i : i - 1]);
        cr_assert_eq(with.call[DT_LAST][i].op, g->node[node].op);
    }
    cr_assert_eq(with.arena_bytes, without.arena_bytes);
    cr_assert_eq(with.peak_live_bytes, without.peak_live_bytes);
    cr_assert_eq(with.offset[twice], without.offset[twice]);
    cr_assert_eq(with.offset[thrice], without.offset[thrice]);
    dt_plan_free(&with);
    dt_plan_free(&without);
}

/* The epilogue's temporaries may lie where a micro-batch's do, the last one's included. */
Test(graph_last, it_takes_no_place_on_the_time_line, .init = begin, .fini = end)
{
    dt_plan p;
    reduce_last(a);
    g->program = DT_EPILOGUE;
    dt_val late = dt_scale(g, a, 4);
    dt_accumulate(g, b, late);
    OK(dt_pass_plan(g, &device_fp32, &p));
    cr_assert_eq(p.offset[late], 0);
    cr_assert_eq(p.arena_bytes, 64);
    dt_plan_free(&p);
}

static void refuse(const dt_device *device, const char *expected)
{
    dt_plan p;
    cr_assert_eq(dt_pass_plan(g, device, &p), DT_ERR_INTERNAL);
    cr_assert(strstr(dt_error_text(), expected) != NULL, "%s", dt_error_text());
}

Test(graph_last, its_own_nodes_have_no_temporaries, .init = begin, .fini = end)
{
    g->program = DT_LAST;
    dt_accumulate(g, a, thrice);
    refuse(&device_fp32, "op accumulate: of the last micro-batch alone, with a temporary");
}

static size_t needs_scratch(const dt_device *device, int kernel, const dt_call *call)
{
    return call->op->communicates ? 32 : 0;
}

Test(graph_last, what_runs_aside_has_no_workspace, .init = begin, .fini = end)
{
    const dt_device_ops ops = {.act_size = 4, .acc_size = 4, .workspace = needs_scratch};
    const dt_device device = {.ops = &ops, .threads = 1};
    const int32_t own = reduce_last(a);
    refuse(&device, "op all_reduce: aside, with 32 bytes of workspace");
    g->node[own].aside = false;
    dt_plan p;
    OK(dt_pass_plan(g, &device, &p));
    dt_plan_free(&p);
}

/* ---- what is asked of a device that writes down what it is asked ---- */

static char asked[64];

static void note(char what)
{
    size_t n = strlen(asked);
    cr_assert_lt(n + 1, sizeof asked);
    asked[n] = what;
    asked[n + 1] = '\0';
}

static dt_status note_begin(dt_device *device)
{
    return note('('), DT_OK;
}
static void note_end(dt_device *device)
{
    note(')');
}
static dt_status note_join(dt_device *device)
{
    return note('|'), DT_OK;
}
static dt_status note_call(const dt_call *call)
{
    return note(call->op->communicates ? 'c' : '.'), DT_OK;
}

static void expect(dt_program program, bool has_aside, bool one_at_a_time, const char *expected)
{
    dt_kernel kernels[DT_OP_COUNT];
    dt_device device;
    dt_store *store = NULL;
    dt_exec *exec = NULL;
    dt_comm comm;
    const dt_mesh alone = {0, 1, {1, 1, 1}, {0, 0, 0}};
    OK(dt_device_cpu(1, &device));
    OK(dt_comm_create_host(&alone, &comm));
    dt_device_ops ops = *device.ops;
    for (int i = 0; i < DT_OP_COUNT; i++) kernels[i] = note_call;
    if (has_aside) {
        ops.aside_begin = note_begin;
        ops.aside_end = note_end;
        ops.aside_join = note_join;
    }
    device.ops = &ops;
    device.kernels = kernels;
    comm.one_at_a_time = one_at_a_time;
    OK(dt_store_create(&device, &store));
    OK(dt_exec_create(g, &device, &comm, store, &exec));
    asked[0] = '\0';
    OK(dt_exec_run(exec, program));
    cr_expect_str_eq(asked, expected, "%s, not %s", asked, expected);
    dt_exec_destroy(exec);
    dt_store_destroy(store);
    dt_comm_destroy(&comm);
}

Test(graph_last, what_runs_aside_is_joined_at_the_end, .init = begin, .fini = end)
{
    reduce_last(a);
    expect(DT_MICRO, true, false, "....");
    expect(DT_LAST, true, false, "..(c)..|");
    expect(DT_LAST, false, false, "..c.."); /* a device that has one stream */
    reduce_last(b);
    expect(DT_LAST, true, false, "..(c)..(c)|");
}

/* A collective of the main stream behind one aside: where only one may be under way it waits. */
Test(graph_last, collectives_come_one_at_a_time_where_they_must, .init = begin, .fini = end)
{
    reduce_last(a);
    dt_all_reduce(g, thrice, DT_AXES_TENSOR, DT_COMM_SUM);
    dt_scale(g, x, 5);
    expect(DT_LAST, true, false, "..(c)..c.|");
    expect(DT_LAST, true, true, "..(c)..|c.");
    reduce_last(b);
    expect(DT_LAST, true, true, "..(c)..(c)|c.");
}
