/* Ranks under launch/mpirun.sh: collectives, agreement, and the ways in which a job ends. */
#include "launch/spawn.h"
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLLECTIVES DT_SPAWN_RANK("collectives")
#define CONTROL DT_SPAWN_RANK("control")

/* The command ended with this exit code, and its output contains `expected`. Frees p. */
static void expect(dt_spawn p, int exit_code, const char *expected)
{
    cr_expect_eq(p.exit_code, exit_code, "exit code %d, not %d:\n%s", p.exit_code, exit_code, p.output);
    cr_expect(strstr(p.output, expected), "no '%s' in:\n%s", expected, p.output);
    dt_spawn_free(&p);
}

static void check_mesh(int ranks, int tensor, int kv_heads, const char *shape)
{
    char expected[64];
    snprintf(expected, sizeof expected, "%s: all agree", shape);
    expect(dt_spawn_run(120, "%s -np %d %s %d %d", DT_SPAWN_MPIRUN, ranks, COLLECTIVES, tensor, kv_heads), 0, expected);
}

Test(comm, collectives_match_a_serial_reference_over_data)
{
    check_mesh(1, 1, 1, "data 1 x tensor (1 x 1)");
    check_mesh(2, 1, 1, "data 2 x tensor (1 x 1)");
    check_mesh(3, 1, 8, "data 3 x tensor (1 x 1)");
    check_mesh(8, 1, 4, "data 8 x tensor (1 x 1)");
}

Test(comm, collectives_match_a_serial_reference_over_tensor)
{
    check_mesh(4, 4, 4, "data 1 x tensor (4 x 1)");
    check_mesh(3, 3, 4, "data 1 x tensor (1 x 3)");
}

Test(comm, collectives_match_a_serial_reference_over_mixed_axes)
{
    check_mesh(6, 2, 2, "data 3 x tensor (2 x 1)");
    check_mesh(4, 2, 1, "data 2 x tensor (1 x 2)");
    check_mesh(8, 4, 2, "data 2 x tensor (2 x 2)");
}

Test(comm, one_process_needs_no_mpirun)
{
    expect(dt_spawn_run(60, "%s 1 1", COLLECTIVES), 0, "data 1 x tensor (1 x 1): all agree");
    expect(dt_spawn_run(60, "%s agree", CONTROL), 0, "agreed");
}

Test(comm, ranks_agree_on_the_error_of_the_lowest_failing_rank)
{
    for (int ranks = 1; ranks <= 6; ranks++)
        expect(dt_spawn_run(60, "%s -np %d %s agree", DT_SPAWN_MPIRUN, ranks, CONTROL), 0, "agreed");
}

Test(comm, ranks_leave_together_after_an_error)
{
    expect(dt_spawn_run(60, "%s -np 3 %s return", DT_SPAWN_MPIRUN, CONTROL), 2,
           "dtrain: rank 2: the last rank says no");
}

Test(comm, watchdog_ends_the_job_of_a_stuck_rank)
{
    expect(dt_spawn_run(30, "DTRAIN_TIMEOUT=2 %s -np 3 %s stuck", DT_SPAWN_MPIRUN, CONTROL), 1,
           "barrier over all ranks: not done after 2 s (DTRAIN_TIMEOUT)");
}

/* Did a job whose collectives are all short live for three times the limit of one? */
static int outlives(int limit_s)
{
    dt_spawn p = dt_spawn_start(60, "DTRAIN_TIMEOUT=%d %s -np 2 %s reduce", limit_s, DT_SPAWN_MPIRUN, CONTROL);
    if (dt_spawn_await(&p, "ready")) dt_spawn_await_seconds(&p, 3 * limit_s);
    dt_spawn_signal(&p, SIGUSR1);
    dt_spawn_finish(&p);
    int well = p.exit_code == 0 && strstr(p.output, "stopped") != NULL;
    dt_spawn_free(&p);
    return well;
}

/* On a busy machine a rank may rightly wait longer for another one than a small limit allows. */
Test(comm, watchdog_leaves_a_working_job_alone)
{
    int limit_s = 1;
    while (limit_s <= 64 && !outlives(limit_s)) limit_s *= 4;
    cr_expect_leq(limit_s, 64, "no limit was left alone");
}

Test(comm, a_limit_that_is_no_number_is_an_error)
{
    expect(dt_spawn_run(60, "DTRAIN_TIMEOUT=soon %s agree", CONTROL), 2,
           "DTRAIN_TIMEOUT: 'soon' is not a number of seconds > 0");
}

Test(comm, abort_ends_the_job_with_the_status_of_the_error)
{
    expect(dt_spawn_run(30, "%s -np 4 %s abort", DT_SPAWN_MPIRUN, CONTROL), 2,
           "dtrain: rank 3: the last rank cannot go on");
}

/* Starts four ranks in `mode`; pids[r] is rank r's process. */
static dt_spawn start_four(const char *mode, pid_t pids[4])
{
    dt_spawn p = dt_spawn_start(60, "%s -np 4 %s %s", DT_SPAWN_MPIRUN, CONTROL, mode);
    cr_assert(dt_spawn_await(&p, "ready"), "%s", p.output);
    for (int rank = 0; rank < 4; rank++) {
        char key[32];
        snprintf(key, sizeof key, "pid %d is ", rank);
        cr_assert(dt_spawn_await(&p, key), "%s", p.output); // the output of two ranks comes in any order
        pids[rank] = (pid_t)atoi(strstr(p.output, key) + strlen(key));
    }
    return p;
}

/* Kills one rank of a job in `mode`, which then has ten seconds to end: long before the watchdog would end it. */
static void check_death(const char *mode, int victim)
{
    pid_t pids[4];
    dt_spawn p = start_four(mode, pids);
    kill(pids[victim], SIGKILL);
    dt_spawn_set_timeout(&p, 10);
    dt_spawn_finish(&p);
    cr_expect_gt(p.exit_code, 0, "exit code %d:\n%s", p.exit_code, p.output);
    for (int rank = 0; rank < 4; rank++) cr_expect(dt_spawn_await_gone(pids[rank]), "rank %d still runs", rank);
    dt_spawn_free(&p);
}

Test(comm, a_killed_rank_ends_a_job_that_reduces)
{
    check_death("reduce", 0);
    check_death("reduce", 2);
}

Test(comm, a_killed_rank_ends_a_job_that_waits_for_it)
{
    check_death("stuck", 1);
}

Test(comm, a_signal_to_mpirun_stops_all_ranks_after_the_same_round)
{
    pid_t pids[4];
    dt_spawn p = start_four("reduce", pids);
    dt_spawn_signal(&p, SIGUSR1);
    dt_spawn_finish(&p);
    expect(p, 0, "stopped");
}

Test(comm, sigterm_to_the_ranks_does_not_break_a_collective)
{
    pid_t pids[4];
    dt_spawn p = start_four("reduce", pids);
    for (int rank = 0; rank < 4; rank++) kill(pids[rank], SIGTERM);
    dt_spawn_finish(&p);
    expect(p, 0, "stopped");
}

Test(comm, mpirun_settings_of_the_caller_win)
{
    expect(dt_spawn_run(30, "OMPI_MCA_mpi_yield_when_idle=0 %s -np 1 env", DT_SPAWN_MPIRUN), 0,
           "OMPI_MCA_mpi_yield_when_idle=0");
    expect(dt_spawn_run(30, "%s -np 1 env", DT_SPAWN_MPIRUN), 0, "OMPI_MCA_mpi_yield_when_idle=1");
    expect(dt_spawn_run(30, "%s -np 3 printf '<%%s>' 'two words'", DT_SPAWN_MPIRUN), 0, "<two words>");
}

/* oneDNN's kernels do not survive a signal: none may reach a thread that computes. */
Test(comm, signals_do_not_meet_products)
{
    expect(dt_spawn_run(60, "OMP_NUM_THREADS=2 %s -np 1 %s", DT_SPAWN_MPIRUN, DT_SPAWN_RANK("signals")), 0,
           "0 products were wrong; many signals were handled");
}
