/* rank_signals: products of matrices for three seconds, under as many signals as the kernel will send. They must be the
 * same as without, and the heap must be whole. Prints whether there were many. */
#include "base/memory.h"
#include "comm/comm.h"
#include <oneapi/dnnl/dnnl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h> // setitimer
#include <time.h>

enum { M = 512, N = 64, K = 512 }; /* a shape that has been seen to suffer */

static atomic_int handled;

static void on_signal(int signal)
{
    handled++;
}

static void must(dt_status status)
{
    if (status != DT_OK) dt_world_abort(status);
}

static int multiply(float *c, const float *a, const float *b)
{
    return dnnl_sgemm('N', 'T', M, N, K, 1.0f, a, K, b, K, 0.0f, c, N) != dnnl_success;
}

int main(int argc, char **argv)
{
    float *a = NULL, *b = NULL, *c = NULL, *expected = NULL;
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    const struct itimerval often = {{0, 500}, {0, 500}};
    int wrong = 0;
    must(dt_world_init(&argc, &argv));
    must(dt_alloc((size_t)M * K, sizeof *a, &a));
    must(dt_alloc((size_t)N * K, sizeof *b, &b));
    must(dt_alloc((size_t)M * N, sizeof *c, &c));
    must(dt_alloc((size_t)M * N, sizeof *expected, &expected));
    for (int i = 0; i < M * K; i++) a[i] = (float)(i % 7) - 3;
    for (int i = 0; i < N * K; i++) b[i] = (float)(i % 5) - 2;
    wrong += multiply(expected, a, b);
    sigaction(SIGPROF, &action, NULL);
    setitimer(ITIMER_PROF, &often, NULL);
    for (const time_t until = time(NULL) + 3; time(NULL) < until;)
        wrong += multiply(c, a, b) || memcmp(c, expected, (size_t)M * N * sizeof *c) != 0;
    setitimer(ITIMER_PROF, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    printf("%d products were wrong; %s signals were handled\n", wrong, handled > 100 ? "many" : "too few");
    free(a);
    free(b);
    free(c);
    free(expected);
    dt_world_finalize();
    return wrong != 0 || handled <= 100;
}
