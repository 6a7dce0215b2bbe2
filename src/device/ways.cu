/* Kernels that can do a call in several ways: what was chosen, by size. */
#include <cublasLt.h> // C++ headers, which must not come first out of ours
#include <cuda_runtime.h>
extern "C" {
#include "base/log.h"    // dt_log
#include "base/memory.h" // dt_grow
#include "device/ways.h"
}
#include <float.h>
#include <stdlib.h>
#include <string.h>

struct choice {
    dt_cuda_way_key of;
    int way; // -1: none yet
    int ways;
    const struct dt_call *call; // NULL: not noted
    dt_status (*run)(const struct dt_call *call, int way);
};

struct dt_cuda_ways {
    choice *list;
    int64_t n, room;
};

enum { ROUNDS = 3 };

static choice *find(const dt_cuda *cuda, const dt_cuda_way_key *key)
{
    for (int64_t i = 0; cuda->ways != NULL && i < cuda->ways->n; i++)
        if (memcmp(&cuda->ways->list[i].of, key, sizeof *key) == 0) return &cuda->ways->list[i];
    return NULL;
}

static dt_status add(dt_cuda *cuda, const dt_cuda_way_key *key, choice **out)
{
    *out = find(cuda, key);
    if (*out != NULL) return DT_OK;
    if (cuda->ways == NULL) DT_TRY(dt_alloc(1, sizeof *cuda->ways, &cuda->ways));
    dt_cuda_ways *w = cuda->ways;
    DT_TRY(dt_grow(&w->list, &w->room, w->n + 1, sizeof *w->list));
    *out = &w->list[w->n++];
    **out = choice{*key, -1, 0, NULL, NULL};
    return DT_OK;
}

int dt_cuda_way_of(const dt_cuda *cuda, const dt_cuda_way_key *key, int usual)
{
    const choice *c = find(cuda, key);
    return c != NULL && c->way >= 0 ? c->way : usual;
}

dt_status dt_cuda_way_note(dt_cuda *cuda, const dt_cuda_way_key *key, const struct dt_call *call, int ways,
                           dt_status (*run)(const struct dt_call *call, int way))
{
    choice *c = NULL;
    DT_TRY(add(cuda, key, &c));
    c->call = call, c->run = run, c->ways = ways;
    return DT_OK;
}

/* The shortest time of each way counts; the first round warms up. Equal ones: the first. */
static dt_status measure(dt_cuda *cuda, choice *c, cudaEvent_t begin, cudaEvent_t end)
{
    float shortest = FLT_MAX;
    for (int way = 0; way < c->ways; way++) {
        for (int round = 0; round <= ROUNDS; round++) {
            float ms = 0;
            DT_TRY(dt_cuda_check(cudaEventRecord(begin, cuda->stream), "cudaEventRecord"));
            DT_TRY(c->run(c->call, way));
            DT_TRY(dt_cuda_check(cudaEventRecord(end, cuda->stream), "cudaEventRecord"));
            DT_TRY(dt_cuda_check(cudaEventSynchronize(end), "a kernel"));
            DT_TRY(dt_cuda_check(cudaEventElapsedTime(&ms, begin, end), "cudaEventElapsedTime"));
            if (round == 0 || ms >= shortest) continue;
            shortest = ms;
            c->way = way;
        }
    }
    dt_log(DT_LOG_DEBUG, "size %lld, %lld, %lld, %lld: way %d of %d, %.3f ms", (long long)c->of.size[0],
           (long long)c->of.size[1], (long long)c->of.size[2], (long long)c->of.size[3], c->way + 1, c->ways,
           (double)shortest);
    return DT_OK;
}

static dt_status measure_all(dt_cuda *cuda, cudaEvent_t begin, cudaEvent_t end, bool *any)
{
    dt_cuda_ways *w = cuda->ways;
    for (int64_t i = 0; i < w->n; i++) {
        if (w->list[i].call == NULL || w->list[i].way >= 0) continue;
        DT_TRY(measure(cuda, &w->list[i], begin, end));
        *any = true;
    }
    return DT_OK;
}

dt_status dt_cuda_ways_choose(dt_cuda *cuda, bool *any)
{
    cudaEvent_t begin = NULL, end = NULL;
    *any = false;
    if (cuda->ways == NULL) return DT_OK;
    dt_status st = dt_cuda_check(cudaEventCreate(&begin), "cudaEventCreate");
    if (st == DT_OK) st = dt_cuda_check(cudaEventCreate(&end), "cudaEventCreate");
    if (st == DT_OK) st = measure_all(cuda, begin, end, any);
    if (begin != NULL) cudaEventDestroy(begin);
    if (end != NULL) cudaEventDestroy(end);
    for (int64_t i = 0; i < cuda->ways->n; i++) cuda->ways->list[i].call = NULL;
    return st;
}

static int by_size(const void *a, const void *b)
{
    const choice *x = (const choice *)a, *y = (const choice *)b;
    for (int i = 0; i < 4; i++)
        if (x->of.size[i] != y->of.size[i]) return x->of.size[i] < y->of.size[i] ? -1 : 1;
    return 0;
}

void dt_cuda_ways_print(const dt_cuda *cuda, FILE *to)
{
    if (cuda->ways == NULL) return;
    qsort(cuda->ways->list, (size_t)cuda->ways->n, sizeof(choice), by_size); // no two are equal: one order
    for (int64_t i = 0; i < cuda->ways->n; i++) {
        const choice *c = &cuda->ways->list[i];
        if (c->way < 0) continue;
        fprintf(to, "way %lld %lld %lld %lld %d\n", (long long)c->of.size[0], (long long)c->of.size[1],
                (long long)c->of.size[2], (long long)c->of.size[3], c->way);
    }
}

dt_status dt_cuda_ways_adopt(dt_cuda *cuda, const char *text)
{
    long long size[4];
    int way, used;
    while (sscanf(text, "way %lld %lld %lld %lld %d%n", &size[0], &size[1], &size[2], &size[3], &way, &used) == 5 &&
           text[used] == '\n' && way >= 0) {
        const dt_cuda_way_key key = {{size[0], size[1], size[2], size[3]}};
        choice *c = NULL;
        DT_TRY(add(cuda, &key, &c));
        c->way = way;
        text += used + 1;
    }
    return DT_OK;
}

void dt_cuda_ways_free(dt_cuda *cuda)
{
    if (cuda->ways != NULL) free(cuda->ways->list);
    free(cuda->ways);
    cuda->ways = NULL;
}
