/* Model selection: the checkpoint of the lowest evaluation loss, early stopping, and that a run which was interrupted
 * decides as one that was not. */
#include "base/file.h"
#include "launch/run.h"
#include "train/checkpoint.h"
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(train_best, .init = run_set_up, .fini = run_tear_down);

/* A learning rate at which the loss on held-out rows soon rises again, and does so unevenly. */
#define OVERFIT                                                                                                        \
    "delta { name: \"d\" lora { rank: 8 alpha: 64 } target: \"re:.*_proj\" } optim { adamw { lr: 0.03 } } "            \
    "train { steps: 20 global_batch: 8 eval_every: 2 } checkpoint { every: 5 keep: 1 best: true } "
#define STEPS 20

/* Trains on the first rows and evaluates on all; behind that, what the test sets besides. */
static const char *sets(const char *more)
{
    static char text[1024];
    snprintf(text, sizeof text, "data.train.examples=2 data.eval.jsonl=%s %s", run_path("rows.jsonl"), more);
    return text;
}

/* The evaluation with the lowest loss, read from metrics.jsonl; the first one is of step 2. */
static int lowest(const char *name, int last)
{
    int best = 2;
    for (int step = 2; step <= last; step += 2)
        if (run_metric(name, step, "eval_loss") < run_metric(name, best, "eval_loss")) best = step;
    return best;
}

/* Checks ckpt/best and that beside it there is only the newest checkpoint. */
static void check_kept(const char *name, int best, int newest)
{
    dt_ckpt *ck = NULL;
    cr_assert_eq(dt_ckpt_open(run_path("%s/ckpt/best", name), &ck), DT_OK, "%s", dt_error_text());
    cr_expect_eq(dt_ckpt_get_meta(ck)->step, best, "%s: best is %lld", name, (long long)dt_ckpt_get_meta(ck)->step);
    dt_ckpt_close(ck);
    for (int step = 1; step <= STEPS; step++)
        cr_expect_eq(dt_ckpt_has(run_path("%s", name), step), step == best || step == newest, "%s: step %d", name,
                     step);
}

Test(train_best, the_lowest_loss_is_kept_beside_the_newest)
{
    run_config(OVERFIT);
    run_train("run", "-np 4", sets("parallel.tensor=2"));
    int best = lowest("run", STEPS);
    cr_assert(best > 2 && best < STEPS && best % 5 != 0, "no test: the best of all is step %d", best);
    check_kept("run", best, STEPS);
    for (int kept = 0; kept < 2; kept++) {
        char option[600] = "";
        if (kept) snprintf(option, sizeof option, "--delta %s", run_path("run/ckpt/best"));
        dt_spawn p = dt_spawn_run(60, "%s -np 2 %s eval %s --json --set data.eval.jsonl=%s %s", DT_SPAWN_MPIRUN,
                                  DT_SPAWN_DTRAIN, run_path("config.pbtxt"), run_path("rows.jsonl"), option);
        cr_assert_eq(p.exit_code, 0, "%s", p.output);
        const char *said = strstr(p.output, "\"eval_loss\":");
        cr_assert(said, "%s", p.output);
        double expected = run_metric("run", kept ? best : STEPS, "eval_loss");
        cr_expect_float_eq(strtod(said + 12, NULL), expected, 1e-5 * expected, "%s: not %g", p.output, expected);
        dt_spawn_free(&p);
    }
}

#define PATIENT "parallel.tensor=2 train.early_stop.patience=3 train.early_stop.min_delta=0.01"

/* Interrupts run "stopped" behind a step, and goes on with it to the end. */
static void interrupt(int step, int signal)
{
    pid_t pid[64];
    dt_spawn job = run_start("stopped", "-np 4", sets(PATIENT));
    cr_assert(run_await_step(&job, "stopped", step), "ended before step %d:\n%s", step, job.output);
    int n = run_ranks(&job, pid, 64);
    cr_assert_eq(n, 4);
    kill(pid[1], signal);
    dt_spawn_set_timeout(&job, 30);
    dt_spawn_finish(&job);
    cr_expect_eq(job.exit_code == 0, signal == SIGTERM, "exit code %d:\n%s", job.exit_code, job.output);
    dt_spawn_free(&job);
}

static void check_interrupted(int signal)
{
    run_config(OVERFIT);
    run_train("whole", "-np 4", sets(PATIENT));
    for (int step = 3; step <= 7; step += 4) interrupt(step, signal);
    run_train("stopped", "-np 4", sets(PATIENT));
    run_compare("whole", "stopped", "0", "0");
    cr_expect_gt(run_count("stopped", "\"event\":\"resume\""), 0);
    cr_expect_eq(run_count("stopped", "eval_loss"), run_count("whole", "eval_loss"));
    cr_expect_eq(run_count("stopped", "early_stop"), 1);
    char event[128];
    int best = 0;
    for (int step = 2; step < STEPS && best == 0; step += 2) {
        snprintf(event, sizeof event, "{\"event\":\"early_stop\",\"step\":%d,", step);
        if (run_count("whole", event) == 0) continue;
        cr_expect_eq(run_count("stopped", event), 1);
        best = lowest("whole", step);
        check_kept("whole", best, step);
        check_kept("stopped", best, step);
    }
    cr_expect_neq(best, 0, "it did not stop early");
}

Test(train_best, a_killed_run_decides_as_a_whole_one)
{
    check_interrupted(SIGKILL);
}

Test(train_best, a_stopped_run_decides_as_a_whole_one)
{
    check_interrupted(SIGTERM);
}

/* What ends early says so, has nothing left to do, and goes on where its patience grows. */
Test(train_best, an_early_end_is_an_end)
{
    run_config(OVERFIT);
    int steps = 0;
    for (int again = 0; again < 2; again++) {
        dt_spawn p = run_start("run", "-np 2", sets("train.early_stop.patience=2"));
        dt_spawn_finish(&p);
        cr_assert_eq(p.exit_code, 0, "exit code %d:\n%s", p.exit_code, p.output);
        const char *said = strstr(p.output, "stopped early after step ");
        cr_assert(said, "%s", p.output);
        cr_expect(strstr(p.output, "run/ckpt/best"), "%s", p.output);
        if (again == 0) steps = atoi(said + 25);
        cr_expect_eq(atoi(said + 25), steps);
        cr_expect_eq(run_count("run", "\"loss\":"), steps);
        cr_expect_eq(run_count("run", "early_stop"), 1);
        dt_spawn_free(&p);
    }
    cr_assert(steps > 4 && steps < STEPS, "no test: it ends after step %d", steps);
    cr_expect(dt_ckpt_has(run_path("run"), steps), "the last step is not saved");
    run_train("run", "-np 2", sets("train.early_stop.patience=100"));
    cr_expect_eq(run_count("run", "\"loss\":"), STEPS);
}

/* The best of a run that did not keep it is gone: what follows counts. */
Test(train_best, keeping_may_begin_later)
{
    run_config(OVERFIT);
    run_train("run", "-np 2", sets("checkpoint.best=false train.steps=14"));
    cr_expect_not(dt_path_exists(run_path("run/ckpt/best")));
    cr_assert_lt(lowest("run", 14), 14);
    run_train("run", "-np 2", sets(""));
    int best = 16;
    for (int step = 16; step <= STEPS; step += 2)
        if (run_metric("run", step, "eval_loss") < run_metric("run", best, "eval_loss")) best = step;
    check_kept("run", best, STEPS);
}
