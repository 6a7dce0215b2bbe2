/* The last programs' begins and ends on the device's own clock. */
#include <cublasLt.h> // C++ headers, which must not come first out of ours
#include <cuda_runtime.h>
extern "C" {
#include "base/log.h"    // dt_log
#include "base/memory.h" // dt_alloc
#include "device/timeline.h"
}
#include <stdlib.h>
#include <string.h>

enum { PROGRAMS = 4096 }; /* that are remembered */

struct dt_cuda_timeline {
    cudaEvent_t begin[PROGRAMS], end[PROGRAMS];
    int64_t count; /* so far; the last PROGRAMS of them are there */
};

static bool is_wanted(void)
{
    const char *asked = getenv("DTRAIN_GPU_TIMELINE");
    return asked != NULL && strcmp(asked, "1") == 0;
}

static dt_status mark(dt_cuda *cuda, cudaEvent_t *event)
{
    if (*event == NULL) DT_TRY(dt_cuda_check(cudaEventCreate(event), "cudaEventCreate"));
    return dt_cuda_check(cudaEventRecord(*event, cuda->stream), "cudaEventRecord");
}

dt_status dt_cuda_timeline_begin(dt_cuda *cuda)
{
    if (!is_wanted()) return DT_OK;
    if (cuda->timeline == NULL) DT_TRY(dt_alloc(1, sizeof *cuda->timeline, &cuda->timeline));
    return mark(cuda, &cuda->timeline->begin[cuda->timeline->count % PROGRAMS]);
}

dt_status dt_cuda_timeline_end(dt_cuda *cuda)
{
    if (cuda->timeline == NULL) return DT_OK;
    return mark(cuda, &cuda->timeline->end[cuda->timeline->count++ % PROGRAMS]);
}

static double ms_between(cudaEvent_t a, cudaEvent_t b)
{
    float ms = 0;
    return cudaEventElapsedTime(&ms, a, b) == cudaSuccess ? (double)ms : 0;
}

static void tell(const dt_cuda_timeline *t)
{
    const int64_t first = t->count > PROGRAMS ? t->count - PROGRAMS : 0;
    double busy = 0, longest = 0;
    for (int64_t i = first; i < t->count; i++) {
        busy += ms_between(t->begin[i % PROGRAMS], t->end[i % PROGRAMS]);
        const double gap = i > first ? ms_between(t->end[(i - 1) % PROGRAMS], t->begin[i % PROGRAMS]) : 0;
        longest = gap > longest ? gap : longest;
    }
    const double all = ms_between(t->begin[first % PROGRAMS], t->end[(t->count - 1) % PROGRAMS]);
    dt_log(DT_LOG_INFO, "GPU timeline: %lld programs in %.3f s, busy %.2f%%, longest gap between two %.0f us",
           (long long)(t->count - first), all / 1e3, all > 0 ? 100 * busy / all : 0.0, longest * 1e3);
}

void dt_cuda_timeline_close(dt_cuda *cuda)
{
    dt_cuda_timeline *t = cuda->timeline;
    if (t == NULL) return;
    if (t->count > 0 && cudaStreamSynchronize(cuda->stream) == cudaSuccess) tell(t);
    for (int i = 0; i < PROGRAMS; i++) {
        if (t->begin[i] != NULL) cudaEventDestroy(t->begin[i]);
        if (t->end[i] != NULL) cudaEventDestroy(t->end[i]);
    }
    free(t);
    cuda->timeline = NULL;
}
