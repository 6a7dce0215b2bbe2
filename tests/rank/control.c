/* rank_control MODE: what the control functions do when ranks fail, hang, die or are asked to stop.
 *
 *   agree   every set of failing ranks (up to 6 ranks): status and text as comm.h promises, on every rank
 *   stuck   rank 1 never reaches the barrier that the others wait in
 *   reduce  all-reduces for ever; SIGUSR1 or SIGTERM ends it in good order, on all ranks after the same one
 *   abort   the last rank fails inside a step while the others wait for it
 *   return  the last rank leaves with an error after an agreement, as everyone then does
 *
 * Prints "pid RANK is PID" first, and "ready" once all ranks are there. */
#include "base/log.h"
#include "comm/comm.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t asked;

static void on_signal(int signal)
{
    asked = 1;
}

static void must(dt_status status)
{
    if (status != DT_OK) dt_world_abort(status);
}

/* Rank r's own error: another status and text on each rank. */
static dt_status own_error(int rank)
{
    return dt_fail((dt_status)(DT_ERR_DATA + rank % 3), "file-%d: %d is not >= 1", rank, -rank);
}

static int check_agreement(unsigned failing)
{
    int rank = dt_world_rank(), ranks = dt_world_size(), lowest = 0;
    dt_error_clear();
    dt_status got = dt_world_agree(failing >> rank & 1 ? own_error(rank) : DT_OK);
    if (!failing) {
        if (got == DT_OK) return 0;
        fprintf(stderr, "rank %d: nobody failed, yet: %s\n", rank, dt_error_text());
        return 1;
    }
    while (!(failing >> lowest & 1)) lowest++;
    char text[256], expected[256];
    snprintf(text, sizeof text, "%s", dt_error_text());
    dt_status status = own_error(lowest);
    if (failing + 1 == 1u << ranks) snprintf(expected, sizeof expected, "%s", dt_error_text());
    else snprintf(expected, sizeof expected, "rank %d: %s", lowest, dt_error_text());
    if (got == status && strcmp(text, expected) == 0) return 0;
    fprintf(stderr, "rank %d, failing %x: '%s' (%d), not '%s' (%d)\n", rank, failing, text, got, expected, status);
    return 1;
}

static int agree(void)
{
    int wrong = 0;
    for (unsigned failing = 0; failing < 1u << dt_world_size(); failing++) wrong += check_agreement(failing);
    must(dt_world_all_reduce(&wrong, 1, DT_COMM_I32, DT_COMM_SUM));
    if (dt_world_rank() == 0 && wrong == 0) puts("agreed");
    return wrong != 0;
}

static int reduce(void)
{
    static float data[100000];
    int64_t rounds = 0;
    for (int stop = 0; !stop; rounds++) {
        must(dt_world_all_reduce(data, sizeof data / sizeof *data, DT_COMM_F32, DT_COMM_SUM));
        stop = asked;
        must(dt_world_all_reduce(&stop, 1, DT_COMM_I32, DT_COMM_MAX));
    }
    int64_t most = rounds;
    must(dt_world_all_reduce(&most, 1, DT_COMM_I64, DT_COMM_MAX));
    if (dt_world_rank() == 0 && most == rounds) puts("stopped");
    return most != rounds;
}

static int run(const char *mode)
{
    int last = dt_world_rank() == dt_world_size() - 1;
    if (strcmp(mode, "agree") == 0) return agree();
    if (strcmp(mode, "reduce") == 0) return reduce();
    if (strcmp(mode, "stuck") == 0) {
        while (dt_world_rank() == 1) pause();
        must(dt_world_barrier());
        return 0;
    }
    if (strcmp(mode, "abort") == 0) {
        if (last) dt_world_abort(dt_fail(DT_ERR_CONFIG, "the last rank cannot go on"));
        must(dt_world_barrier());
        return 0;
    }
    if (strcmp(mode, "return") == 0) {
        dt_status st = dt_world_agree(last ? dt_fail(DT_ERR_CONFIG, "the last rank says no") : DT_OK);
        if (dt_world_rank() == 0) dt_log(DT_LOG_ERROR, "%s", dt_error_text());
        return dt_status_exit_code(st);
    }
    fprintf(stderr, "unknown mode '%s'\n", mode);
    return 3;
}

int main(int argc, char **argv)
{
    dt_status st = dt_world_init(&argc, &argv);
    if (st != DT_OK) {
        dt_log(DT_LOG_ERROR, "%s", dt_error_text());
        dt_world_finalize();
        return dt_status_exit_code(st);
    }
    signal(SIGUSR1, on_signal);
    signal(SIGTERM, on_signal);
    printf("pid %d is %d\n", dt_world_rank(), (int)getpid());
    fflush(stdout);
    must(dt_world_barrier());
    if (dt_world_rank() == 0) puts("ready");
    fflush(stdout);
    int code = run(argc > 1 ? argv[1] : "");
    dt_world_finalize();
    dt_world_finalize(); // harmless
    return code;
}
