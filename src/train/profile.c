/* A table of op times, with the machine's own rates as the yardstick. */
#include "train/profile.h"
#include "op/cpu.h" // gemm of the CPU device
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Best of several runs: FLOP/s of a 1536-cube in fp32, and bytes/s of reading one array and writing another. */
static dt_status machine_rates(int threads, double *flops, double *bytes)
{
    const int64_t n = 1536, m = n * n * 3, repeats = 5;
    float *a = NULL;
    *flops = *bytes = 0;
    DT_TRY(dt_alloc((size_t)m * 2, sizeof *a, &a));
    for (int64_t i = 0; i < m; i++) a[i] = (float)(i % 17) * 0.25f - 2.0f;
    float *b = a + n * n, *c = b + n * n, *d = a + m;
    for (int64_t r = 0; r < repeats; r++) {
        double start = now();
        dt_cpu_f32_gemm(false, true, n, n, n, 1.0f, a, n, b, n, 0.0f, c, n, threads);
        double rate = 2.0 * (double)(n * n * n) / (now() - start);
        if (rate > *flops) *flops = rate;
        start = now();
#pragma omp parallel for num_threads(threads)
        for (int64_t i = 0; i < m; i++) d[i] = 0.5f * a[i];
        rate = 2.0 * (double)m * sizeof *a / (now() - start);
        if (rate > *bytes) *bytes = rate;
    }
    free(a);
    return DT_OK;
}

dt_status dt_profile_print(const dt_exec *exec, int threads)
{
    dt_op_time *time = NULL;
    double flops = 0, bytes = 0, total = 0;
    int n = 0;
    DT_TRY(machine_rates(threads, &flops, &bytes));
    DT_TRY(dt_exec_times(exec, &time, &n));
    for (int i = 0; i < n; i++) total += time[i].seconds;
    printf("%d threads: matrix products at %.0f GFLOP/s, memory at %.1f GB/s\n", threads, flops / 1e9, bytes / 1e9);
    printf("%-18s %8s %10s %7s %10s %9s %9s %9s\n", "op", "calls", "ms", "share", "GFLOP/s", "of gemm", "GB/s",
           "of copy");
    for (int i = 0; i < n; i++) {
        const dt_op_time *t = &time[i];
        printf("%-18s %8lld %10.2f %6.1f%% %10.1f %8.0f%% %9.1f %8.0f%%\n", t->op->name, (long long)t->calls,
               1e3 * t->seconds, 100 * t->seconds / total, t->flops / t->seconds / 1e9,
               100 * t->flops / t->seconds / flops, t->bytes / t->seconds / 1e9, 100 * t->bytes / t->seconds / bytes);
    }
    free(time);
    return DT_OK;
}
