/* Asked to stop, a job finishes the step, saves, says so and ends well; the same command goes on. */
#include "launch/run.h"
#include <criterion/criterion.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(train_stop, .init = run_set_up, .fini = run_tear_down);

#define LORA "delta { name: \"d\" lora { rank: 4 alpha: 8 } target: \"re:.*_proj\" } "
#define REST "train { global_batch: 8 } optim { adamw { lr: 1e-3 } } "
#define STOPPED "stopped by signal after step "
#define DATA2_TENSOR2 "parallel.tensor=2"

/* Sends the signal to mpirun (0 ranks), or to so many of the ranks, somewhere behind step 5. Returns the step of the
 * end. */
static int stop(const char *name, int signal, int ranks)
{
    pid_t pid[64];
    dt_spawn job = run_start_endless(name, "-np 4", DATA2_TENSOR2);
    cr_assert(run_await_step(&job, name, 5), "ended before step 5:\n%s", job.output);
    int n = run_ranks(&job, pid, 64);
    cr_assert_eq(n, 4, "%d ranks", n);
    if (ranks == 0) dt_spawn_signal(&job, signal);
    for (int r = 0; r < ranks; r++) kill(pid[r], signal);
    dt_spawn_set_timeout(&job, 30);
    dt_spawn_finish(&job);
    cr_assert_eq(job.exit_code, 0, "exit code %d:\n%s", job.exit_code, job.output);
    const char *said = strstr(job.output, STOPPED);
    cr_assert(said, "nothing was said:\n%s", job.output);
    int step = atoi(said + strlen(STOPPED));
    dt_spawn_free(&job);
    cr_expect_geq(step, 5);
    cr_expect_eq(run_count(name, "\"loss\":"), step, "the step was not finished");
    return step;
}

static void check(int signal, int ranks)
{
    run_config(LORA REST);
    int step = stop("run", signal, ranks);
    char sets[64], resumed[64];
    snprintf(sets, sizeof sets, DATA2_TENSOR2 " train.steps=%d", step + 5);
    run_train("whole", "-np 4", sets);
    run_train("run", "-np 4", sets);
    run_compare("whole", "run", "0", "0");
    snprintf(resumed, sizeof resumed, "{\"event\":\"resume\",\"from_step\":%d}", step);
    cr_expect_eq(run_count("run", resumed), 1, "it did not go on after step %d", step);
}

Test(train_stop, sigterm_to_the_ranks)
{
    check(SIGTERM, 4);
}

Test(train_stop, sigterm_to_one_rank_stops_all)
{
    check(SIGTERM, 1);
}

Test(train_stop, sigusr1_to_mpirun)
{
    check(SIGUSR1, 0);
}

/* Data ranks that train apart go on to where they meet. */
Test(train_stop, local_steps_end_where_data_ranks_meet)
{
    run_config("delta { name: \"d\" fish { keep: 0.1 samples: 16 local_steps: 8 } } " REST);
    int step = stop("run", SIGTERM, 4);
    cr_expect_eq(step % 8, 0, "stopped after step %d", step);
}

/* Half a run goes on with the rest, a whole one has nothing to do, --fresh forgets both. */
Test(train_stop, a_finished_run_has_nothing_left_to_do)
{
    run_config(LORA REST);
    run_train("run", "-np 2", "train.steps=3");
    run_train("run", "-np 2", "train.steps=3");
    cr_expect_eq(run_count("run", "\"loss\":"), 3);
    dt_spawn p = dt_spawn_run(60, "OMP_NUM_THREADS=1 %s -np 2 %s %s --fresh --set run.dir=%s --set train.steps=2",
                              DT_SPAWN_MPIRUN, DT_SPAWN_DTRAIN, run_path("config.pbtxt"), run_path("run"));
    cr_assert_eq(p.exit_code, 0, "%s", p.output);
    dt_spawn_free(&p);
    cr_expect_eq(run_count("run", "\"loss\":"), 2);
    cr_expect_eq(run_count("run", "resume"), 0);
}
