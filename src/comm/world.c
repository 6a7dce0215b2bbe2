/* Control over MPI_COMM_WORLD: start and end, agreement on errors, small collectives, the abrupt end. */
#include "comm/group.h"  // dt_group
#include "comm/tables.h" // dt_watchdog_start

#include "base/log.h" // dt_log_setup
#include <signal.h>   // signal, pthread_sigmask
#include <stdio.h>    // fflush
#include <unistd.h>   // alarm, _exit

static struct {
    int open; /* between init and finalize */
    int rank, ranks, node_rank, node_ranks;
    dt_group group;
} world = {.ranks = 1, .node_ranks = 1};

dt_status dt_world_init(int *argc, char ***argv)
{
    int level = MPI_THREAD_SINGLE;
    if (MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &level) != MPI_SUCCESS)
        return dt_fail(DT_ERR_COMM, "MPI_Init_thread failed");
    MPI_Comm comm;
    if (MPI_Comm_dup(MPI_COMM_WORLD, &comm) != MPI_SUCCESS) return dt_fail(DT_ERR_COMM, "MPI_Comm_dup failed");
    DT_TRY(dt_group_open(comm, "all ranks", &world.group));
    world.open = 1;
    world.rank = world.group.rank;
    world.ranks = world.group.ranks;
    world.node_rank = world.group.node_rank;
    world.node_ranks = world.group.node_ranks;
    dt_log_setup(world.rank, DT_LOG_INFO);
    if (level < MPI_THREAD_MULTIPLE)
        return dt_fail(DT_ERR_COMM, "this MPI library was built without MPI_THREAD_MULTIPLE, which the watchdog needs");
    return dt_watchdog_start();
}

void dt_world_finalize(void)
{
    if (!world.open) return;
    dt_watchdog_begin("finalize");
    dt_group_close(&world.group);
    MPI_Finalize();
    dt_watchdog_end();
    dt_watchdog_stop();
    world.open = 0;
}

int dt_world_rank(void)
{
    return world.rank;
}

int dt_world_size(void)
{
    return world.ranks;
}

int dt_world_node_size(void)
{
    return world.node_ranks;
}

int dt_world_node_rank(void)
{
    return world.node_rank;
}

dt_group *dt_world_group(void)
{
    return world.open ? &world.group : NULL;
}

static int alone(void)
{
    return !world.open || world.ranks == 1;
}

/* The lowest failing rank tells the others its status and text. */
static dt_status take_error_of(int rank, dt_status local, int all_failed)
{
    struct {
        int32_t status;
        char text[4096];
    } error = {.status = (int32_t)local};
    snprintf(error.text, sizeof error.text, "%s", dt_error_text());
    DT_TRY(dt_group_broadcast(&world.group, &error, sizeof error, DT_COMM_BYTE, rank));
    if (all_failed) return dt_fail((dt_status)error.status, "%s", error.text);
    return dt_fail((dt_status)error.status, "rank %d: %s", rank, error.text);
}

dt_status dt_world_agree(dt_status local)
{
    if (alone()) return local;
    int failed = local != DT_OK;
    int32_t lowest[2] = {failed ? world.rank : world.ranks, failed}; // of the failing ranks; 1 if none succeeded
    DT_TRY(dt_group_all_reduce(&world.group, lowest, 2, DT_COMM_I32, DT_COMM_MIN));
    return lowest[0] == world.ranks ? DT_OK : take_error_of(lowest[0], local, lowest[1]);
}

dt_status dt_world_all_reduce(void *buf, int64_t count, dt_comm_type type, dt_comm_op op)
{
    return alone() ? DT_OK : dt_group_all_reduce(&world.group, buf, count, type, op);
}

dt_status dt_world_broadcast(void *buf, int64_t count, dt_comm_type type, int root)
{
    return alone() ? DT_OK : dt_group_broadcast(&world.group, buf, count, type, root);
}

dt_status dt_world_barrier(void)
{
    return alone() ? DT_OK : dt_group_barrier(&world.group);
}

void dt_world_end(int exit_code)
{
    /* MPI_Abort, or the flush, may wait for a lock that a stuck thread holds; the alarm waits for nobody, and mpirun
     * ends the job of a rank that dies. */
    signal(SIGALRM, SIG_DFL);
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    alarm(30);
    fflush(stdout);
    if (world.open) MPI_Abort(MPI_COMM_WORLD, exit_code);
    _exit(exit_code);
}

void dt_world_abort(dt_status status)
{
    dt_log(DT_LOG_ERROR, "%s", dt_error_text());
    dt_world_end(dt_status_exit_code(status != DT_OK ? status : DT_ERR_INTERNAL));
}
