/* fork, exec, read, wait: the process behind a launch test. */
#define _GNU_SOURCE // pipe2
#include "launch/spawn.h"
#include <errno.h>     // errno
#include <fcntl.h>     // open, fcntl
#include <math.h>      // ceil
#include <poll.h>      // poll
#include <signal.h>    // kill
#include <stdarg.h>    // va_list
#include <stdio.h>     // vsnprintf
#include <stdlib.h>    // realloc
#include <string.h>    // strstr
#include <sys/prctl.h> // prctl
#include <sys/wait.h>  // waitpid
#include <time.h>      // clock_gettime
#include <unistd.h>    // fork, exec, read

#define PAUSE 50 /* milliseconds in which output is waited for */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void append(dt_spawn *p, const char *data, size_t bytes)
{
    if (p->bytes + bytes + 1 > p->capacity) {
        p->capacity = 2 * (p->bytes + bytes + 1);
        p->output = realloc(p->output, p->capacity);
        if (!p->output) abort();
    }
    memcpy(p->output + p->bytes, data, bytes);
    p->bytes += bytes;
    p->output[p->bytes] = 0;
}

static void run_child(pid_t parent, int out, const char *command)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(127); /* the test died before the line above */
    int in = open("/dev/null", O_RDONLY);
    dup2(in, 0);
    dup2(out, 1);
    dup2(out, 2);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
}

static dt_spawn start(double timeout_s, const char *fmt, va_list args)
{
    dt_spawn p = {.exit_code = DT_SPAWN_NOT_STARTED, .pid = -1, .pipe = -1, .start = now()};
    p.deadline = p.start + DT_SPAWN_BUSY * timeout_s;
    append(&p, "", 0);
    /* `exec env` makes the command the process that we started, so that signals reach it and not a shell. */
    char command[8192] = "exec env ";
    size_t head = strlen(command);
    int length = vsnprintf(command + head, sizeof command - head, fmt, args);
    int fds[2];
    if (length < 0 || (size_t)length >= sizeof command - head || pipe2(fds, O_CLOEXEC) != 0) return p;
    pid_t parent = getpid();
    p.pid = fork();
    if (p.pid == 0) run_child(parent, fds[1], command);
    close(fds[1]);
    p.pipe = fds[0];
    if (p.pid < 0) return p;
    setpgid(p.pid, p.pid); /* here too: whichever of the two comes first */
    fcntl(p.pipe, F_SETFL, O_NONBLOCK);
    return p;
}

dt_spawn dt_spawn_start(double timeout_s, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    dt_spawn p = start(timeout_s, fmt, args);
    va_end(args);
    return p;
}

static void drain(dt_spawn *p)
{
    char block[4096];
    ssize_t n;
    while ((n = read(p->pipe, block, sizeof block)) > 0) append(p, block, (size_t)n);
}

/* Waits for output or the end for at most so long; 1 while the command runs. */
static int step(dt_spawn *p, int milliseconds)
{
    struct pollfd ready = {.fd = p->pipe, .events = POLLIN};
    poll(&ready, 1, milliseconds);
    /* At the end of file poll returns at once, a little before the process can be waited for. */
    if (ready.revents == POLLHUP) usleep(1000);
    int status = 0;
    pid_t ended = waitpid(p->pid, &status, WNOHANG);
    drain(p);
    if (ended != p->pid) return 1;
    p->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    p->seconds = now() - p->start;
    p->pid = -1;
    return 0;
}

/* SIGTERM first: mpirun ends its ranks, which live in process groups of their own. */
static void kill_group(dt_spawn *p)
{
    pid_t group = p->pid;
    kill(-group, SIGTERM);
    double patience = now() + DT_SPAWN_BUSY * 5;
    while (step(p, PAUSE) && now() < patience) continue;
    kill(-group, SIGKILL);
    while (p->pid > 0 && step(p, PAUSE)) continue;
    p->exit_code = DT_SPAWN_TIMED_OUT;
}

int dt_spawn_await(dt_spawn *p, const char *text)
{
    while (!strstr(p->output, text)) {
        if (p->pid < 0 || !step(p, PAUSE)) return strstr(p->output, text) != NULL;
        if (now() > p->deadline) return 0;
    }
    return 1;
}

void dt_spawn_await_seconds(dt_spawn *p, double seconds)
{
    double until = now() + seconds;
    do {
        double left = until - now();
        if (p->pid < 0 || !step(p, left < 1e-3 * PAUSE ? (int)ceil(1e3 * fmax(left, 0)) : PAUSE)) return;
        if (now() > p->deadline) kill_group(p);
    } while (now() < until);
}

void dt_spawn_set_timeout(dt_spawn *p, double timeout_s)
{
    p->deadline = now() + DT_SPAWN_BUSY * timeout_s;
}

void dt_spawn_signal(const dt_spawn *p, int signal)
{
    if (p->pid > 0) kill(p->pid, signal);
}

void dt_spawn_finish(dt_spawn *p)
{
    while (p->pid > 0 && step(p, PAUSE))
        if (now() > p->deadline) kill_group(p);
    if (p->pipe >= 0) close(p->pipe);
    p->pipe = -1;
}

dt_spawn dt_spawn_run(double timeout_s, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    dt_spawn p = start(timeout_s, fmt, args);
    va_end(args);
    dt_spawn_finish(&p);
    return p;
}

void dt_spawn_free(dt_spawn *p)
{
    if (p->pid > 0) {
        p->deadline = 0;
        dt_spawn_finish(p);
    }
    free(p->output);
    *p = (dt_spawn){.pid = -1, .pipe = -1};
}

/* The leader of a process may end before its other threads: then it is a zombie that still has threads. */
static int is_gone(pid_t pid)
{
    char path[64], line[1024] = "", state = 'Z';
    long threads = 1;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file) return 1;
    if (!fgets(line, sizeof line, file)) line[0] = 0; /* it went between the two calls */
    fclose(file);
    const char *name_end = strrchr(line, ')');
    if (name_end)
        sscanf(name_end + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld", &state,
               &threads);
    return state == 'X' || (state == 'Z' && threads <= 1);
}

int dt_spawn_await_gone(pid_t pid)
{
    double patience = now() + DT_SPAWN_BUSY * 10;
    while (!is_gone(pid)) {
        if (now() > patience) return 0;
        usleep(10000);
    }
    return 1;
}
