/* The watchdog: no MPI call can be given a time limit, so a thread watches how long the present one takes. */
#include "comm/tables.h" // dt_watchdog_start, dt_world_end

#include "base/log.h"  // dt_log
#include <math.h>      // isfinite
#include <pthread.h>   // pthread_create
#include <signal.h>    // pthread_sigmask
#include <stdatomic.h> // atomic_int
#include <stdlib.h>    // getenv, strtod
#include <string.h>    // strerror
#include <time.h>      // clock_gettime

static const double default_limit = 600; // seconds

/* begin and end are called around every collective: they only leave notes, which the thread looks at now and then. */
static atomic_int depth;
static _Atomic double since; // 0: nothing is watched
static _Atomic(const char *) subject;

static struct {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    sigset_t before; /* the signals that the caller had blocked */
    double limit;
    int running, stop;
} dog = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void dt_watchdog_begin(const char *what)
{
    if (atomic_fetch_add(&depth, 1) > 0) return;
    subject = what;
    since = now();
}

void dt_watchdog_end(void)
{
    if (atomic_fetch_sub(&depth, 1) == 1) since = 0;
}

static void *watch(void *unused)
{
    pthread_mutex_lock(&dog.mutex);
    while (!dog.stop) {
        double pause = dog.limit < 4 ? dog.limit / 4 : 1, start = since;
        if (start > 0 && now() - start > dog.limit) {
            dt_log(DT_LOG_ERROR, "%s: not done after %g s (DTRAIN_TIMEOUT): a rank is stuck or gone; ending the job",
                   subject, dog.limit);
            dt_world_end(dt_status_exit_code(DT_ERR_COMM));
        }
        double until = now() + pause;
        struct timespec t = {.tv_sec = (time_t)until, .tv_nsec = (long)((until - (double)(time_t)until) * 1e9)};
        pthread_cond_timedwait(&dog.wake, &dog.mutex, &t);
    }
    pthread_mutex_unlock(&dog.mutex);
    return NULL;
}

static dt_status read_limit(double *out)
{
    *out = default_limit;
    const char *text = getenv("DTRAIN_TIMEOUT");
    if (!text || !*text) return DT_OK;
    char *end;
    double limit = strtod(text, &end);
    if (*end || !(limit > 0) || !isfinite(limit))
        return dt_fail(DT_ERR_CONFIG, "DTRAIN_TIMEOUT: '%s' is not a number of seconds > 0", text);
    *out = limit;
    return DT_OK;
}

/* From here on signals interrupt the watchdog's thread, not the calling one nor any that it starts. Those compute, and
 * oneDNN's generated products (its issue 4845; mended behind 3.11.1) let the stack pointer lead into the heap, where a
 * handler's frame then overwrites what it finds. What a fault raises stays with who made it. */
static void leave_signals(sigset_t *before)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigset_t others;
    sigfillset(&others);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&others, faults[i]);
    pthread_sigmask(SIG_BLOCK, &others, before);
}

dt_status dt_watchdog_start(void)
{
    DT_TRY(read_limit(&dog.limit));
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&dog.wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    dog.stop = 0;
    int error = pthread_create(&dog.thread, NULL, watch, NULL);
    if (error) return dt_fail(DT_ERR_INTERNAL, "cannot start the watchdog's thread: %s", strerror(error));
    leave_signals(&dog.before);
    dog.running = 1;
    return DT_OK;
}

void dt_watchdog_stop(void)
{
    if (!dog.running) return;
    pthread_mutex_lock(&dog.mutex);
    dog.stop = 1;
    pthread_cond_signal(&dog.wake);
    pthread_mutex_unlock(&dog.mutex);
    pthread_join(dog.thread, NULL);
    pthread_cond_destroy(&dog.wake);
    pthread_sigmask(SIG_SETMASK, &dog.before, NULL);
    dog.running = 0;
}
