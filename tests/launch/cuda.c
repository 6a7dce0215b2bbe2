/* Training with `device: CUDA` on the emulated GPU (tests/emulate) against the CPU: a real model, whole steps, recorded
 * programs, one rank and ranks that share the GPU. */
#include "base/file.h"
#include "launch/run.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h> // symlink

#define EMULATED DT_BINARY_DIR "/tests/emulate/dtrain"
#define LORA "delta { name: \"d\" lora { rank: 4 alpha: 8 dropout: 0.1 } target: \"re:.*_proj\" } "
#define MERGED "delta { name: \"d\" lora { rank: 4 alpha: 8 } target: \"re:.*_proj\" } "
#define FISH "delta { name: \"d\" fish { keep: 0.02 samples: 4 } } "
#define BITFIT "delta { name: \"d\" bitfit {} } "
#define FULL "delta { name: \"d\" full {} } "
#define ADAMW "optim { adamw { lr: 2e-3 } schedule { kind: COSINE warmup_steps: 2 } clip_norm: 1 } "
#define SGD "optim { sgd { lr: 1e-3 momentum: 0.9 } clip_norm: 0.5 } "
#define CUDA "device=CUDA "
#define FP32 CUDA "backbone.precision=FP32 "
enum { STEPS = 5 };

static void set_up(void)
{
    if (!dt_path_exists(EMULATED)) cr_skip_test("skipped: no " EMULATED);
    if (!dt_path_exists(RUN_STORIES)) cr_skip_test("skipped: no " RUN_STORIES);
    run_set_up();
    setenv("XDG_CACHE_HOME", run_path("cache"), 1); /* where choices of products are kept */
}

TestSuite(cuda, .init = set_up, .fini = run_tear_down);

/* Sequences short enough for a GPU whose threads take turns: two micro-batches a step, several rows in each. */
static void configure(const char *backbone, const char *text)
{
    char all[2048];
    snprintf(all, sizeof all,
             "run { dir: \"%s\" seed: 7 } backbone { path: \"%s\" } "
             "data { train { jsonl: \"%s\" } seq_len: 48 packing: true } "
             "train { steps: %d global_batch: 2 micro_batch: 1 } %s",
             run_path("run"), backbone, run_path("rows.jsonl"), STEPS, text);
    run_write("config.pbtxt", all);
    run_program(DT_SPAWN_DTRAIN);
    run_train("cpu", "-np 1", "device=CPU");
    run_program(EMULATED);
}

/* bf16: the losses alone. */
static void compare_losses(const char *name)
{
    for (int step = 1; step <= STEPS; step++) {
        const double cpu = run_metric("cpu", step, "loss"), cuda = run_metric(name, step, "loss");
        cr_expect_leq(fabs(cuda - cpu), 1e-2 * cpu, "%s, step %d: loss %g, on the CPU %g", name, step, cuda, cpu);
    }
}

static void check(const char *backbone, const char *text)
{
    configure(backbone, text);
    run_train("fp32", "-np 1", FP32);
    run_compare("cpu", "fp32", "1e-4", "1e-4");
    run_train("bf16", "-np 1", CUDA);
    compare_losses("bf16");
    cr_expect_lt(run_metric("cpu", STEPS, "loss"), run_metric("cpu", 1, "loss"), "nothing was learnt");
}

Test(cuda, lora_trains_as_on_the_cpu)
{
    check(RUN_STORIES, LORA ADAMW);
}

/* Without dropout q, k and v read one value, gate and up another: their first products are one. */
Test(cuda, merged_lora_trains_as_on_the_cpu)
{
    check(RUN_STORIES, MERGED ADAMW);
}

Test(cuda, fish_trains_as_on_the_cpu)
{
    check(RUN_STORIES, FISH ADAMW);
}

Test(cuda, full_trains_as_on_the_cpu)
{
    check(RUN_STORIES, FULL SGD);
}

/* Its vectors alone: biases and norms of a GPT-2. */
Test(cuda, bitfit_trains_as_on_the_cpu)
{
    static const char *const files[] = {"gpt2/config.json", "gpt2/model.safetensors", "tokenizer.json"};
    cr_assert_eq(dt_dir_make(run_path("gpt2")), DT_OK);
    for (int i = 0; i < 3; i++) {
        char from[512];
        const char *name = strrchr(files[i], '/');
        snprintf(from, sizeof from, DT_SOURCE_DIR "/tests/golden/families/%s", files[i]);
        cr_assert_eq(symlink(from, run_path("gpt2/%s", name != NULL ? name + 1 : files[i])), 0);
    }
    check(run_path("gpt2"), BITFIT "optim { sgd { lr: 1 } clip_norm: 1 }");
}

static void expect_output(const char *name, const char *mpirun, const char *text)
{
    dt_spawn job = run_start(name, mpirun, "device=AUTO train.steps=1");
    dt_spawn_finish(&job);
    cr_assert_eq(job.exit_code, 0, "%s", job.output);
    cr_expect(strstr(job.output, text) != NULL, "expected \"%s\" in:\n%s", text, job.output);
    dt_spawn_free(&job);
}

/* One for each rank, or none. */
Test(cuda, auto_takes_gpus_that_need_not_be_shared)
{
    configure(RUN_STORIES, LORA SGD);
    expect_output("one", "-np 1", "device: cuda;");
    expect_output("two", "-np 2", "device: cpu;");
    run_program(DT_SPAWN_DTRAIN);
    expect_output("none", "-np 1", "device: cpu;");
}

/* The Fisher information decides between scores that bf16 could not tell apart. */
Test(cuda, fish_chooses_as_on_the_cpu)
{
    configure(RUN_STORIES, FISH SGD);
    run_train("bf16", "-np 1", CUDA "train.steps=1");
    dt_spawn p = dt_spawn_run(60, "%s %s %s - masks", RUN_DIFF, run_path("cpu"), run_path("bf16"));
    int differ = -1, entries = 0;
    cr_assert_eq(sscanf(p.output, "%d of %d", &differ, &entries), 2, "%s", p.output);
    cr_expect_gt(entries, 1000);
    cr_expect_leq(1000 * differ, entries, "%s", p.output);
    dt_spawn_free(&p);
}

Test(cuda, ranks_that_share_a_gpu_train_as_one)
{
    configure(RUN_STORIES, LORA SGD);
    run_train("data", "-np 2", FP32);
    run_compare("cpu", "data", "1e-4", "1e-4");
    run_train("tensor", "-np 2", FP32 "parallel.tensor=2 parallel.sequence=true");
    run_compare("cpu", "tensor", "1e-4", "1e-4");
    run_train("bf16", "-np 2", CUDA "parallel.tensor=2 parallel.sequence=true");
    compare_losses("bf16");
}

/* What rank 0 sends, as planned and as counted. */
static void check_wire(const char *name, int ranks, const char *sets, const char *key)
{
    char quoted[32];
    dt_spawn p = dt_spawn_run(60, "OMP_NUM_THREADS=1 %s plan %s --ranks %d --json %s", EMULATED,
                              run_path("config.pbtxt"), ranks, sets);
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *planned = strstr(p.output, quoted);
    cr_assert(p.exit_code == 0 && planned != NULL, "%s", p.output);
    const double bytes = atof(planned + strlen(quoted));
    for (int step = 1; step <= STEPS; step++)
        cr_expect_eq(run_metric(name, step, key), bytes, "%s, step %d: %s %.0f, not %.0f", name, step, key,
                     run_metric(name, step, key), bytes);
    dt_spawn_free(&p);
}

/* Beside the last of several micro-batches. */
Test(cuda, gradients_are_reduced_while_backward_goes_on)
{
    configure(RUN_STORIES, FULL SGD);
    run_program(DT_SPAWN_DTRAIN);
    run_train("one", "-np 1", "device=CPU train.global_batch=8");
    run_program(EMULATED);
    run_train("two", "-np 2", FP32 "train.global_batch=8");
    run_compare("one", "two", "1e-4", "1e-4");
    check_wire("two", 2, "--set device=CUDA --set train.global_batch=8", "delta_comm_bytes");
    run_train("four", "-np 4", FP32 "train.global_batch=8 parallel.tensor=2 parallel.sequence=true");
    run_compare("one", "four", "1e-4", "1e-4");
    const char *sets = "--set device=CUDA --set backbone.precision=FP32 --set train.global_batch=8 "
                       "--set parallel.tensor=2 --set parallel.sequence=true";
    check_wire("four", 4, sets, "delta_comm_bytes");
    check_wire("four", 4, sets, "tp_comm_bytes");
}
