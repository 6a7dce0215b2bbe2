/* Linear head with cross-entropy on the CPU: logits of a block of tokens for a chunk of the vocabulary at a time, in
 * cache. Tokens that carry no loss (a prompt's, padding) are left out first. Each row and each slice of dW is summed by
 * one thread, in the vocabulary's or the tokens' order. */
#include "op/cpu.h"
#include "op/xent.h"
#include <omp.h>
#include <string.h>

enum { ROWS = DT_XENT_ROWS, SLICE = 32 /* rows of W whose gradient is one piece of work */ };

typedef struct head {
    int64_t tokens, count;   /* all, and those that carry loss */
    int64_t width;           /* C */
    int64_t entries, offset; /* of the vocabulary: here, and where they start */
    int64_t chunk;
    const int32_t *row; /* the tokens that carry loss */
    const real *h, *w;  /* h of those tokens */
    int threads;
} head;

/* Takes the next piece of a call's workspace. */
static void *take(char **workspace, size_t bytes)
{
    void *piece = *workspace;
    *workspace += (bytes + 63) / 64 * 64;
    return piece;
}

static bool is_zero(const dt_tensor *t, int64_t i)
{
    return t->data == NULL || ((const real *)t->data)[i] == 0;
}

/* The head of a call; rows that have no target, or (in the gradient) nothing to pass on, are left out. */
static head read_head(const dt_call *call, bool gradient, char **workspace)
{
    head a = {.tokens = call->in[0].dim[0],
              .width = call->in[0].dim[1],
              .entries = call->in[1].dim[0],
              .offset = call->in[1].off[0],
              .chunk = dt_xent_chunk(call->in[0].dim[1]),
              .h = DT_IN(call, 0),
              .w = DT_IN(call, 1),
              .threads = dt_cpu_threads(call, call->in[0].dim[0], call->in[1].dim[0])};
    int32_t *row = take(workspace, (size_t)a.tokens * sizeof *row);
    for (int64_t n = 0; n < a.tokens; n++) {
        if (DT_IN_I32(call, 2)[n] < 0) continue;
        if (gradient && is_zero(&call->in[4], n) && is_zero(&call->in[5], n)) continue;
        row[a.count++] = (int32_t)n;
    }
    a.row = row;
    real *packed = take(workspace, (size_t)(a.tokens * a.width) * sizeof(real));
    if (a.count == a.tokens) return a;
#pragma omp parallel for schedule(static) num_threads(a.threads)
    for (int64_t i = 0; i < a.count; i++)
        memcpy(packed + i * a.width, a.h + row[i] * a.width, (size_t)a.width * sizeof(real));
    a.h = packed;
    return a;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* logits[rows, n] of the tokens from `at` on for the entries from `v` on. */
static void logits_of(const head *a, int64_t at, int64_t rows, int64_t v, int64_t n, real *logits)
{
    DT_CPU_KERNEL(gemm)
    (false, true, rows, n, a->width, 1, a->h + at * a->width, a->width, a->w + v * a->width, a->width, 0, logits,
     a->chunk, 1);
}

/* Logits x[n] become weights e^(x - maximum), taken into a row's running maximum and sum. Returns what earlier weights
 * are to be multiplied with. */
DT_VECTOR static real weigh_row(real *x, int64_t n, real *max, double *sum)
{
    real old = *max, m = old, total = 0;
#pragma omp simd reduction(max : m)
    for (int64_t j = 0; j < n; j++) m = x[j] > m ? x[j] : m;
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < n; j++) {
        x[j] = dt_exp_weight(x[j] - m);
        total += x[j];
    }
    *sum = *sum * exp((double)old - (double)m) + (double)total;
    *max = m;
    return dt_exp_weight(old - m);
}

DT_VECTOR static void scale_row(real *x, int64_t n, real factor)
{
    for (int64_t j = 0; j < n; j++) x[j] *= factor;
}

/* Rows of the tokens that carry loss to their places, 0 elsewhere. */
static void unpack(const head *a, const real *packed, real *rows)
{
    memset(rows, 0, (size_t)(a->tokens * a->width) * sizeof(real));
#pragma omp parallel for schedule(static) num_threads(a->threads)
    for (int64_t i = 0; i < a->count; i++)
        memcpy(rows + a->row[i] * a->width, packed + i * a->width, (size_t)a->width * sizeof(real));
}

dt_status DT_CPU_KERNEL(xent)(const dt_call *call)
{
    char *workspace = call->workspace;
    const head a = read_head(call, false, &workspace);
    const int32_t *targets = DT_IN_I32(call, 2);
    real *lse = DT_OUT(call, 0), *target = DT_OUT(call, 1), *expected = DT_OUT(call, 2), *own = DT_OUT(call, 3);
    real *max = take(&workspace, (size_t)a.tokens * sizeof *max);
    double *sum = take(&workspace, (size_t)a.tokens * sizeof *sum);
    real *mine = expected;
    if (expected != NULL && a.count < a.tokens) mine = take(&workspace, (size_t)(a.tokens * a.width) * sizeof *mine);
    real *scratch = (real *)(void *)workspace;
    for (int k = 0; k < 4; k++)
        if (k != 2 && call->out[k].data != NULL) memset(call->out[k].data, 0, (size_t)a.tokens * sizeof(real));
    for (int64_t i = 0; i < a.count; i++) {
        max[i] = (real)-1e30;
        sum[i] = 0;
    }
#pragma omp parallel num_threads(a.threads)
    for (int64_t v = 0; v < a.entries; v += a.chunk) {
        real *logits = scratch + omp_get_thread_num() * ROWS * a.chunk;
        int64_t n = smaller(a.chunk, a.entries - v);
        /* A static schedule gives a block of tokens to the same thread in every chunk: none waits for another. */
#pragma omp for schedule(static) nowait
        for (int64_t at = 0; at < a.count; at += ROWS) {
            int64_t rows = smaller(ROWS, a.count - at);
            logits_of(&a, at, rows, v, n, logits);
            for (int64_t i = 0; i < rows; i++) {
                int64_t wanted = targets[a.row[at + i]] - a.offset - v;
                if (target != NULL && wanted >= 0 && wanted < n) target[a.row[at + i]] = logits[i * a.chunk + wanted];
                real correction = weigh_row(logits + i * a.chunk, n, &max[at + i], &sum[at + i]);
                if (mine != NULL && v > 0 && correction != 1) scale_row(mine + (at + i) * a.width, a.width, correction);
            }
            if (mine != NULL) DT_CPU_KERNEL(gemm)
            (false, false, rows, a.width, n, 1, logits, a.chunk, a.w + v * a.width, a.width, v > 0, mine + at * a.width,
             a.width, 1);
        }
    }
    for (int64_t i = 0; i < a.count; i++) {
        real total = (real)((double)max[i] + log(sum[i]));
        if (lse != NULL) lse[a.row[i]] = total;
        if (own != NULL) own[a.row[i]] = total;
        if (mine != NULL) scale_row(mine + i * a.width, a.width, (real)(1 / sum[i]));
    }
    if (mine != expected) unpack(&a, mine, expected);
    return DT_OK;
}

/* One row: a expected + b w (w NULL: nothing). dh may be expected. */
DT_VECTOR static void dh_row(real *dh, const real *expected, const real *w, int64_t n, real a, real b)
{
    for (int64_t j = 0; j < n; j++) dh[j] = a * expected[j] + (w != NULL ? b * w[j] : 0);
}

dt_status DT_CPU_KERNEL(xent_dh)(const dt_call *call)
{
    const dt_tensor *w = &call->in[2];
    const int32_t *targets = DT_IN_I32(call, 3);
    const real *own = DT_IN(call, 1), *lse = DT_IN(call, 4), *dlse = DT_IN(call, 5), *dtarget = DT_IN(call, 6);
    int64_t tokens = call->in[0].dim[0], width = call->in[0].dim[1];
#pragma omp parallel for schedule(static) num_threads(dt_cpu_threads(call, tokens, width))
    for (int64_t n = 0; n < tokens; n++) {
        real *dh = DT_OUT(call, 0) + n * width;
        int64_t wanted = targets[n] - w->off[0];
        bool here = dtarget != NULL && targets[n] >= 0 && wanted >= 0 && wanted < w->dim[0];
        real weight = dlse != NULL && targets[n] >= 0 ? dlse[n] * dt_exp(own[n] - lse[n]) : 0;
        dh_row(dh, DT_IN(call, 0) + n * width, here ? DT_IN(call, 2) + wanted * width : NULL, width, weight,
               here ? dtarget[n] : 0);
    }
    return DT_OK;
}

/* Logits x[n] become derivatives dlse * softmax. */
DT_VECTOR static void softmax_row(real *x, int64_t n, real lse, real dlse)
{
    for (int64_t j = 0; j < n; j++) x[j] = dlse * dt_exp_weight(x[j] - lse);
}

/* Derivatives of the logits of `rows` tokens from `at` on and the n entries from `v` on. */
static void derivatives(const dt_call *call, const head *a, int64_t at, int64_t rows, int64_t v, int64_t n,
                        real *logits)
{
    const real *lse = DT_IN(call, 3), *dlse = DT_IN(call, 4), *dtarget = DT_IN(call, 5);
    logits_of(a, at, rows, v, n, logits);
    for (int64_t i = 0; i < rows; i++) {
        int64_t row = a->row[at + i], wanted = DT_IN_I32(call, 2)[row] - a->offset - v;
        softmax_row(logits + i * a->chunk, n, lse[row], dlse != NULL ? dlse[row] : 0);
        if (dtarget != NULL && wanted >= 0 && wanted < n) logits[i * a->chunk + wanted] += dtarget[row];
    }
}

dt_status DT_CPU_KERNEL(xent_grad)(const dt_call *call)
{
    char *workspace = call->workspace;
    const head a = read_head(call, true, &workspace);
    real *dh = DT_OUT(call, 0), *dw = DT_OUT(call, 1);
    real *packed = take(&workspace, (size_t)(a.tokens * a.width) * sizeof *packed);
    real *scratch = (real *)(void *)workspace, *mine = a.count == a.tokens ? dh : packed;
#pragma omp parallel num_threads(a.threads)
    for (int64_t v = 0; v < a.entries; v += a.chunk) {
        int64_t n = smaller(a.chunk, a.entries - v);
#pragma omp for schedule(static) nowait
        for (int64_t at = 0; at < a.count; at += ROWS) {
            int64_t rows = smaller(ROWS, a.count - at), first = dw != NULL ? at : omp_get_thread_num() * ROWS;
            real *logits = scratch + first * a.chunk;
            derivatives(call, &a, at, rows, v, n, logits);
            if (dh != NULL) DT_CPU_KERNEL(gemm)
            (false, false, rows, a.width, n, 1, logits, a.chunk, a.w + v * a.width, a.width, v > 0, mine + at * a.width,
             a.width, 1);
        }
        if (dw == NULL) continue;
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t at = 0; at < n; at += SLICE) DT_CPU_KERNEL(gemm)
        (true, false, smaller(SLICE, n - at), a.width, a.count, 1, scratch + at, a.chunk, a.h, a.width, 0,
         dw + (v + at) * a.width, a.width, 1);
    }
    if (dh != NULL && mine != dh) unpack(&a, packed, dh);
    return DT_OK;
}
