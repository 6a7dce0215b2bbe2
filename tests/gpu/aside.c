/* gpu_aside [cpu]: calls that run aside, on a GPU: behind all that was asked for before them, and done where the
 * program ends, whether it is run, recorded or replayed. Sums of small integers, so that every result is exact. Exit
 * code 77 where there is no GPU; "cpu" takes the CPU in its place, to test the test. A plain program, as gpu_ops. */
#include "device/module.h"
#include "graph/exec.h"
#include "op/add.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 50000, WORK = 20, MICRO_BATCHES = 3, STEPS = 4 };

static void must(dt_status st)
{
    if (st == DT_OK) return;
    fprintf(stderr, "gpu_aside: %s\n", dt_error_text());
    exit(1);
}

static const dt_mesh alone = {0, 1, {1, 1, 1}, {0, 0, 0}};

static dt_val state(dt_graph *g, const char *name)
{
    return dt_graph_state(g, name, DT_TYPE_ACC, 1, (int64_t[]){COUNT}, DT_NO_SPLIT);
}

/* state += x */
static void add(dt_graph *g, dt_program program, bool aside, dt_val to, dt_val x)
{
    g->program = program;
    dt_val sum = dt_accumulate(g, to, x);
    if (sum != DT_NONE) g->node[g->value[sum].producer].aside = aside;
    g->program = DT_MICRO;
}

/* In each micro-batch the first two grow by one, work before, between and behind; each is added aside to what the
 * epilogue reads, as soon as it is there. */
static dt_graph *build(dt_val total[2])
{
    static float one[COUNT];
    dt_graph *g = NULL;
    must(dt_graph_create(&g));
    for (int i = 0; i < COUNT; i++) one[i] = 1;
    dt_val x = dt_graph_const(g, "one", DT_TYPE_ACC, 1, (int64_t[]){COUNT}, one), grown[2];
    dt_val busy = state(g, "busy");
    for (int k = 0; k < 2; k++) {
        grown[k] = state(g, k == 0 ? "grown:0" : "grown:1");
        dt_val read = state(g, k == 0 ? "read:0" : "read:1");
        total[k] = state(g, k == 0 ? "total:0" : "total:1");
        for (int i = 0; i < WORK; i++) add(g, DT_MICRO, false, busy, x);
        add(g, DT_MICRO, false, grown[k], x);
        add(g, DT_LAST, true, read, grown[k]);
        int32_t end = g->cursor;
        add(g, DT_EPILOGUE, false, total[k], read);
        add(g, DT_EPILOGUE, false, grown[k], x); /* what was read aside may be written again */
        dt_graph_seek(g, end);
    }
    for (int i = 0; i < WORK; i++) add(g, DT_MICRO, false, busy, x);
    must(dt_graph_status(g));
    return g;
}

static int check(dt_exec *exec, const dt_val total[2])
{
    static float got[COUNT];
    double grown = 0, read = 0, want = 0;
    for (int s = 0; s < STEPS; s++) {
        grown += MICRO_BATCHES;
        read += grown;
        want += read;
        grown += 1;
    }
    for (int k = 0; k < 2; k++) {
        must(dt_exec_get_f32(exec, total[k], got));
        for (int i = 0; i < COUNT; i++) {
            if ((double)got[i] == want) continue;
            printf("FAIL  total %d, element %d: %g, not %g\n", k, i, (double)got[i], want);
            return 1;
        }
    }
    return 0;
}

static int run(dt_device *device)
{
    dt_val total[2];
    dt_graph *g = build(total);
    dt_comm comm;
    dt_store *store = NULL;
    dt_exec *exec = NULL;
    must(dt_pass_shard(g, &alone));
    must(dt_comm_create_host(&alone, &comm));
    must(dt_store_create(device, &store));
    must(dt_exec_create(g, device, &comm, store, &exec));
    for (int s = 0; s < STEPS; s++) {
        for (int m = 0; m < MICRO_BATCHES; m++) must(dt_exec_run(exec, m < MICRO_BATCHES - 1 ? DT_MICRO : DT_LAST));
        must(dt_exec_run(exec, DT_EPILOGUE));
    }
    int failed = check(exec, total);
    dt_exec_destroy(exec);
    dt_store_destroy(store);
    dt_comm_destroy(&comm);
    dt_graph_destroy(g);
    return failed;
}

int main(int argc, char **argv)
{
    bool on_cpu = argc > 1 && strcmp(argv[1], "cpu") == 0;
    dt_device device;
    must(dt_world_init(&argc, &argv));
    dt_status st = on_cpu ? dt_device_cpu(1, &device) : dt_device_cuda(0, DT_CUDA_FP32, &device);
    if (st == DT_ERR_DEVICE) {
        printf("skipped: %s\n", dt_error_text());
        dt_world_finalize();
        return 77;
    }
    must(st);
    int failed = run(&device);
    if (!failed) printf("%s: %d steps, worst 0: sums of integers are exact\n", device.ops->name, STEPS);
    dt_device_destroy(&device);
    dt_world_finalize();
    return failed;
}
