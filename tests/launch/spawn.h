/* Starts a command (mpirun with rank programs, dtrain itself) for a test, and collects what it printed and how it
 * ended.
 *
 *     dt_spawn p = dt_spawn_run(60, "%s -np 4 %s 7", DT_SPAWN_MPIRUN, DT_SPAWN_RANK("collectives"));
 *     cr_assert_eq(p.exit_code, 0, "%s", p.output);
 *     dt_spawn_free(&p); */
#ifndef DT_TESTS_LAUNCH_SPAWN_H
#define DT_TESTS_LAUNCH_SPAWN_H

#include "base/status.h" // DT_PRINTF
#include <stddef.h>      // size_t
#include <sys/types.h>   // pid_t

#define DT_SPAWN_MPIRUN DT_SOURCE_DIR "/launch/mpirun.sh"
#define DT_SPAWN_DTRAIN DT_BINARY_DIR "/dtrain"
#define DT_SPAWN_RANK(name) DT_BINARY_DIR "/tests/rank_" name /* of tests/rank/<name>.c */

enum { DT_SPAWN_TIMED_OUT = -1, DT_SPAWN_NOT_STARTED = -2 };

/* Limits are given for an idle machine. On a busy one everything takes longer, and no test may fail for that: what
 * hangs is killed after so many times the limit. */
enum { DT_SPAWN_BUSY = 10 };

typedef struct dt_spawn {
    int exit_code;  /* of the command; 128 + signal if one ended it; DT_SPAWN_TIMED_OUT; DT_SPAWN_NOT_STARTED */
    char *output;   /* stdout and stderr as they came, NUL-terminated; never NULL */
    double seconds; /* from the start to the end */

    pid_t pid; /* of the command, which leads a process group of its own */
    int pipe;
    size_t bytes, capacity;
    double start, deadline;
} dt_spawn;

/** Starts the command line `fmt` (printf style): one command for /bin/sh, with NAME=value in front and redirections
 *  behind as wanted. It reads nothing from stdin, gets SIGTERM if the test dies, and is killed with its process group
 *  DT_SPAWN_BUSY x `timeout_s` seconds after this call. End with dt_spawn_finish. */
dt_spawn dt_spawn_start(double timeout_s, const char *fmt, ...) DT_PRINTF(2, 3);
/** Waits until the output contains `text`: 1, or 0 if the command ended or its time ran out before. */
int dt_spawn_await(dt_spawn *p, const char *text);
/** Collects output for this long (0: what is there), or until the command ends or its time runs out. */
void dt_spawn_await_seconds(dt_spawn *p, double seconds);
/** The command has this long (x DT_SPAWN_BUSY) from now on, instead of the limit given at the start. */
void dt_spawn_set_timeout(dt_spawn *p, double timeout_s);
/** Sends a signal to the command itself (mpirun, not its ranks). */
void dt_spawn_signal(const dt_spawn *p, int signal);
/** Waits for the end: exit_code, output and seconds are then complete. */
void dt_spawn_finish(dt_spawn *p);
/** start and finish in one. */
dt_spawn dt_spawn_run(double timeout_s, const char *fmt, ...) DT_PRINTF(2, 3);
void dt_spawn_free(dt_spawn *p);
/** Waits until a process is gone with all its threads, or is a zombie of whom nothing is left: 1; 0 if it stays. */
int dt_spawn_await_gone(pid_t pid);

#endif
