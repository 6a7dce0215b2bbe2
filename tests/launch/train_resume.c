/* A rank that dies ends the job, and the same command goes on as if nothing had happened: the same bits on the same
 * layout, within 1e-5 on another. */
#include "base/file.h"
#include "launch/run.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

TestSuite(train_resume, .init = run_set_up, .fini = run_tear_down);

/* What a step computes does not depend on the last one, which is chosen when the kills are over. */
#define WARMUP 16
#define REST                                                                                                           \
    "train { global_batch: 8 } optim { adamw { lr: 4e-3 } schedule { kind: CONSTANT warmup_steps: 16 } } "             \
    "checkpoint { every: 1 keep: 2 } "
#define RESUME "\"event\":\"resume\""
#define LORA "delta { name: \"d\" lora { rank: 4 alpha: 8 dropout: 0.1 } target: \"re:.*_proj\" } " REST
#define LION                                                                                                           \
    "delta { name: \"d\" lora { rank: 4 alpha: 8 } target: \"re:.*_proj\" } train { steps: 24 global_batch: 8 } "      \
    "optim { lion { lr: 1e-3 weight_decay: 0.1 } } checkpoint { every: 1 keep: 2 } "
#define FISH "delta { name: \"d\" fish { keep: 0.1 samples: 16 } } " REST
#define FULL "delta { name: \"d\" full {} } " REST

#define STACKED                                                                                                        \
    "delta { name: \"a\" fish { keep: 0.1 samples: 16 } target: \"re:.*_proj\" } "                                     \
    "delta { name: \"b\" fish { keep: 0.1 samples: 8 } target: \"q_proj\" target: \"re:.*norm\" } "                    \
    "delta { name: \"c\" lora { rank: 4 alpha: 8 } target: \"q_proj\" target: \"v_proj\" } " REST

/* A layout and the arguments that make it. */
typedef struct layout {
    const char *mpirun, *sets;
    int ranks, tensor;
} layout;
static const layout alone = {"-np 1", "", 1, 1};
static const layout data4 = {"-np 4", "", 4, 1};
static const layout both = {"-np 4", "parallel.tensor=2", 4, 2};
static const layout tensor4 = {"-np 4", "parallel.tensor=4 parallel.sequence=true", 4, 4};

/* Is a checkpoint being written? */
static int is_saving(const char *name)
{
    int found = 0;
    DIR *folder = opendir(run_path("%s/ckpt", name));
    for (const struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
        found |= strstr(entry->d_name, ".tmp") != NULL;
    if (folder != NULL) closedir(folder);
    return found;
}

/* Step of the newest checkpoint; 0: none is saved. */
static int saved_step(const char *name)
{
    int newest = 0, step, end;
    DIR *folder = opendir(run_path("%s/ckpt", name));
    for (const struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        if (sscanf(entry->d_name, "step-%d%n", &step, &end) == 1 && entry->d_name[end] == '\0' && step > newest)
            newest = step;
    }
    if (folder != NULL) closedir(folder);
    return newest;
}

/* Starts run "killed", or goes on with it, and kills a rank some time after the third step from there; while a
 * checkpoint is written, if asked. A save is written beside the steps and committed before the next one begins: the
 * first step's stands then, and each life gets further. */
static void interrupt(const layout *l, int life, double seconds, bool saving)
{
    int from = saved_step("killed");
    dt_spawn job = run_start_endless("killed", l->mpirun, l->sets);
    cr_assert(run_await(&job, "killed", RESUME, life), "did not go on after step %d:\n%s", from, job.output);
    cr_assert(run_await_step(&job, "killed", from + 3), "ended before step %d:\n%s", from + 3, job.output);
    if (!saving) dt_spawn_await_seconds(&job, seconds);
    while (saving && !is_saving("killed")) {
        dt_spawn_await_seconds(&job, 0);
        cr_assert(job.pid > 0, "it ended while a save was waited for:\n%s", job.output);
    }
    run_kill(&job, l->ranks, life);
    cr_assert_gt(saved_step("killed"), from, "nothing was saved behind step %d", from);
}

/* Goes on with "killed" for so many steps behind its checkpoint, and trains "whole" as far. Returns the last step. */
static int finish(int steps, const layout *whole, const layout *killed)
{
    char sets[128];
    int last = saved_step("killed") + steps;
    if (last < WARMUP) last = WARMUP;
    snprintf(sets, sizeof sets, "%s train.steps=%d", whole->sets, last);
    run_train("whole", whole->mpirun, sets);
    snprintf(sets, sizeof sets, "%s train.steps=%d", killed->sets, last);
    run_train("killed", killed->mpirun, sets);
    return last;
}

static void check_bits(const char *config, const layout *l, bool saving)
{
    run_config(config);
    for (int life = 0; life < 3; life++) interrupt(l, life, 0.003 * life, saving);
    int last = finish(4, l, l);
    run_compare("whole", "killed", "0", "0");
    run_same_files("whole", "killed", last, l->tensor);
    cr_expect_eq(run_count("killed", RESUME), 3);
}

Test(train_resume, lora_killed_at_some_step)
{
    check_bits(LORA, &both, false);
}

Test(train_resume, lion_killed_at_some_step)
{
    check_bits(LION, &both, false);
}

Test(train_resume, fish_killed_at_some_step)
{
    check_bits(FISH, &both, false);
}

Test(train_resume, full_killed_at_some_step)
{
    check_bits(FULL, &data4, false);
}

Test(train_resume, lora_killed_while_saving)
{
    check_bits(LORA, &both, true);
}

Test(train_resume, full_killed_while_saving)
{
    check_bits(FULL, &tensor4, true);
}

/* Rows that take a rank minutes to go through. */
static void write_many_rows(const char *name)
{
    FILE *f = fopen(run_path("%s", name), "w");
    cr_assert(f);
    for (int row = 0; row < 100000; row++) fputs("{\"text\": \"two dogs ran and a red cat saw the house\"}\n", f);
    fclose(f);
}

/* Nothing is saved yet: the run starts over. */
Test(train_resume, fish_killed_while_selecting)
{
    char sets[1024];
    run_config(FISH);
    snprintf(sets, sizeof sets, "%s train.steps=%d", both.sets, WARMUP);
    run_train("whole", both.mpirun, sets);
    write_many_rows("many.jsonl");
    snprintf(sets, sizeof sets, "%s delta[0].fish.samples=100000 data.train.jsonl=%s", both.sets,
             run_path("many.jsonl"));
    dt_spawn job = run_start_endless("killed", both.mpirun, sets);
    cr_assert(dt_spawn_await(&job, "selecting by the Fisher information"), "%s", job.output);
    run_kill(&job, both.ranks, 1);
    cr_assert_eq(run_count("killed", "step"), 0, "it came to train");
    snprintf(sets, sizeof sets, "%s train.steps=%d", both.sets, WARMUP);
    run_train("killed", both.mpirun, sets);
    run_compare("whole", "killed", "0", "0");
}

/* A schedule that ends with the run goes on where it was: here a whole run lost its second half. */
Test(train_resume, a_schedule_goes_on)
{
    run_config("delta { name: \"d\" lora { rank: 4 alpha: 8 } target: \"re:.*_proj\" } "
               "train { steps: 24 global_batch: 8 } checkpoint { every: 1 keep: 24 } "
               "optim { adamw { lr: 2e-3 } schedule { kind: COSINE warmup_steps: 3 } }");
    run_train("whole", both.mpirun, both.sets);
    dt_spawn p = dt_spawn_run(60, "cp -r %s %s", run_path("whole"), run_path("killed"));
    cr_assert_eq(p.exit_code, 0, "%s", p.output);
    dt_spawn_free(&p);
    for (int step = 12; step <= 24; step++)
        cr_assert_eq(dt_dir_remove(run_path("killed/ckpt/step-%06d", step)), DT_OK, "%s", dt_error_text());
    run_train("killed", both.mpirun, both.sets);
    run_compare("whole", "killed", "0", "0");
    run_same_files("whole", "killed", 24, both.tensor);
    cr_expect_eq(run_count("killed", RESUME), 1);
}

static void check_layouts(const char *config, const layout *from, const layout *to)
{
    run_config(config);
    interrupt(from, 0, 0, false);
    finish(15, from, to);
    run_compare("whole", "killed", "1e-5", "1e-5");
}

Test(train_resume, lora_goes_on_on_tensor_ranks)
{
    check_layouts(LORA, &both, &tensor4);
}

Test(train_resume, lion_goes_on_on_tensor_ranks)
{
    check_layouts(LION, &both, &tensor4);
}

Test(train_resume, fish_goes_on_on_tensor_ranks)
{
    check_layouts(FISH, &both, &tensor4);
}

Test(train_resume, fish_goes_on_on_one_rank)
{
    check_layouts(FISH, &data4, &alone);
}

Test(train_resume, lora_goes_on_on_one_rank)
{
    check_layouts(LORA, &data4, &alone);
}

Test(train_resume, full_goes_on_on_one_rank)
{
    check_layouts(FULL, &data4, &alone);
}

Test(train_resume, stacked_deltas_go_on_on_tensor_ranks)
{
    check_layouts(STACKED, &both, &tensor4);
}

Test(train_resume, full_goes_on_on_tensor_ranks)
{
    check_layouts(FULL, &both, &tensor4);
}
