/* A rank that dies ends the job, and the same command goes on as if nothing had happened: the same bits on the same
 * layout, within 1e-5 on another. */
#include "launch/run.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

TestSuite(train_resume, .init = run_set_up, .fini = run_tear_down);

#define STEPS 24
#define REST                                                                                                           \
    "train { steps: 24 global_batch: 8 } optim { adamw { lr: 2e-3 } schedule { kind: LINEAR warmup_steps: 3 } } "      \
    "checkpoint { every: 1 keep: 2 } "
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

/* Kills one rank (the victim'th that /proc lists), upon which the job has ten seconds to end with an error. */
static void kill_rank(dt_spawn *job, int ranks, int victim)
{
    pid_t pid[64];
    int n = run_ranks(job, pid, 64);
    cr_assert_eq(n, ranks, "%d ranks run, not %d:\n%s", n, ranks, job->output);
    kill(pid[victim % n], SIGKILL);
    dt_spawn_set_timeout(job, 10);
    dt_spawn_finish(job);
    cr_assert_gt(job->exit_code, 0, "exit code %d:\n%s", job->exit_code, job->output);
    dt_spawn_free(job);
}

/* Starts or resumes run "killed" and kills a rank some time after `step`; while a checkpoint is written, if asked. */
static void interrupt(const layout *l, int step, double seconds, bool saving, int victim)
{
    dt_spawn job = run_start("killed", l->mpirun, l->sets);
    cr_assert(run_await_step(&job, "killed", step), "ended before step %d:\n%s", step, job.output);
    if (!saving) dt_spawn_await_seconds(&job, seconds);
    while (saving && !is_saving("killed")) cr_assert(job.pid > 0 && kill(job.pid, 0) == 0, "%s", job.output);
    kill_rank(&job, l->ranks, victim);
}

static void check_bits(const char *config, const layout *l, bool saving)
{
    run_config(config);
    run_train("whole", l->mpirun, l->sets);
    /* A save is written beside the steps and committed before the next one begins: that of step 1 stands at step 3. */
    for (int i = 0; i < 3; i++) interrupt(l, 3 + 6 * i, 0.003 * i, saving, i);
    run_train("killed", l->mpirun, l->sets);
    run_compare("whole", "killed", "0", "0");
    run_same_files("whole", "killed", STEPS, l->tensor);
    cr_expect_eq(run_count("killed", "\"event\":\"resume\""), 3);
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

/* Nothing is saved yet: the run starts over. */
Test(train_resume, fish_killed_while_selecting)
{
    run_config(FISH);
    run_train("whole", both.mpirun, both.sets);
    dt_spawn job = run_start("killed", both.mpirun, both.sets);
    cr_assert(dt_spawn_await(&job, "selecting by the Fisher information"), "%s", job.output);
    kill_rank(&job, both.ranks, 1);
    run_train("killed", both.mpirun, both.sets);
    run_compare("whole", "killed", "0", "0");
}

static void check_layouts(const char *config, const layout *from, const layout *to)
{
    run_config(config);
    run_train("whole", from->mpirun, from->sets);
    interrupt(from, 9, 0, false, 2);
    run_train("killed", to->mpirun, to->sets);
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
