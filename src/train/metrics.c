/* metrics.jsonl and the progress line. */
#include "train/metrics.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/units.h" // dt_words_bytes
#include "comm/comm.h"
#include <errno.h>
#include <math.h> // isfinite
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h> // isatty

struct dt_metrics {
    FILE *file;
    bool live; /* a terminal: one line, rewritten */
    bool line_open;
    int64_t steps, log_every, seen;
    double mean_seconds; /* smoothed, for the time that is left */
};

/* The lines of a file up to step `last`, without those that a later, interrupted part of the run wrote. */
static dt_status keep_until(const char *path, int64_t last)
{
    char *text = NULL;
    size_t bytes = 0, kept = 0;
    if (!dt_path_exists(path)) return DT_OK;
    DT_TRY(dt_file_read(path, &text, &bytes));
    for (char *line = text; *line != '\0';) {
        char *end = strchr(line, '\n');
        if (end == NULL) break; /* torn: the writer died in it */
        dt_json doc;
        int64_t step = 0;
        if (dt_json_parse(line, (size_t)(end - line), path, DT_ERR_STATE, &doc) != DT_OK) break;
        dt_status st = dt_json_i64_or(&doc, "step", 0, &step);
        dt_json_free(&doc);
        if (st != DT_OK) break;
        size_t length = (size_t)(end - line) + 1;
        if (step <= last) {
            memmove(text + kept, line, length);
            kept += length;
        }
        line = end + 1;
    }
    dt_error_clear();
    dt_status st = dt_file_write_atomic(path, text, kept);
    free(text);
    return st;
}

dt_status dt_metrics_open(const Dtrain__Config *config, int64_t from_step, dt_metrics **out)
{
    dt_metrics *m = NULL;
    char path[4096];
    DT_TRY(dt_alloc(1, sizeof *m, &m));
    *out = m;
    if (dt_world_rank() != 0) return DT_OK;
    m->steps = config->train->steps;
    m->log_every = config->train->log_every;
    m->live = isatty(STDERR_FILENO);
    snprintf(path, sizeof path, "%s/metrics.jsonl", config->run->dir);
    if (from_step >= 0) DT_TRY(keep_until(path, from_step));
    m->file = fopen(path, from_step >= 0 ? "a" : "w");
    if (m->file == NULL) return dt_fail(DT_ERR_IO, "%s: %s", path, strerror(errno));
    if (from_step >= 0) fprintf(m->file, "{\"event\":\"resume\",\"from_step\":%lld}\n", (long long)from_step);
    if (fflush(m->file) != 0) return dt_fail(DT_ERR_IO, "%s: %s", path, strerror(errno));
    return DT_OK;
}

void dt_metrics_close(dt_metrics *m)
{
    if (m == NULL) return;
    if (m->line_open) fputc('\n', stderr);
    if (m->file != NULL) fclose(m->file);
    free(m);
}

/* Most memory that the process ever held. */
static int64_t peak_bytes(void)
{
    char line[256];
    long long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "VmHWM: %lld", &kib) == 1) break;
    if (f != NULL) fclose(f);
    return (int64_t)kib * 1024;
}

static void put_time(char text[32], double seconds)
{
    long s = (long)(seconds + 0.5);
    if (s >= 3600) snprintf(text, 32, "%ldh%02ldm", s / 3600, s / 60 % 60);
    else snprintf(text, 32, "%ldm%02lds", s / 60, s % 60);
}

static void progress(dt_metrics *m, const dt_step_metrics *s)
{
    char eta[32];
    m->seen++;
    m->mean_seconds = m->seen == 1 ? s->seconds : 0.9 * m->mean_seconds + 0.1 * s->seconds;
    bool due = s->step % m->log_every == 0 || m->seen == 1 || s->step == m->steps;
    if (!m->live && !due) return;
    put_time(eta, m->mean_seconds * (double)(m->steps - s->step));
    fprintf(stderr, "%sstep %lld/%lld  loss %.4f  lr %.2e  grad %.3f  %.0f tok/s  wire delta %s tensor %s  ETA %s%s",
            m->live ? "\r\033[K" : "", (long long)s->step, (long long)m->steps, s->loss, s->lr, s->grad_norm,
            (double)s->tokens / s->seconds, dt_words_bytes((double)s->delta_comm_bytes).text,
            dt_words_bytes((double)s->tp_comm_bytes).text, eta, m->live ? "" : "\n");
    m->line_open = m->live;
    fflush(stderr);
}

/* A number as JSON has it, which knows no infinities and no NaN. */
typedef struct number {
    char text[32];
} number;
static number json_number(double x)
{
    number n = {"null"};
    if (isfinite(x)) snprintf(n.text, sizeof n.text, "%.9g", x);
    return n;
}

dt_status dt_metrics_step(dt_metrics *m, const dt_step_metrics *s)
{
    if (m->file == NULL) return DT_OK;
    fprintf(m->file,
            "{\"step\":%lld,\"loss\":%s,\"lr\":%.9g,\"grad_norm\":%s,\"tokens\":%lld,\"loss_tokens\":%lld,"
            "\"seconds\":%.9g,\"tokens_per_s\":%.9g,\"delta_comm_bytes\":%lld,\"tp_comm_bytes\":%lld,\"peak_bytes\":%"
            "lld}\n",
            (long long)s->step, json_number(s->loss).text, s->lr, json_number(s->grad_norm).text, (long long)s->tokens,
            (long long)s->loss_tokens, s->seconds, (double)s->tokens / s->seconds, (long long)s->delta_comm_bytes,
            (long long)s->tp_comm_bytes, (long long)peak_bytes());
    if (fflush(m->file) != 0) return dt_fail(DT_ERR_IO, "metrics.jsonl: %s", strerror(errno));
    progress(m, s);
    return DT_OK;
}

dt_status dt_metrics_eval(dt_metrics *m, int64_t step, double loss, int64_t tokens)
{
    if (m->file == NULL) return DT_OK;
    fprintf(m->file, "{\"step\":%lld,\"eval_loss\":%s,\"eval_tokens\":%lld}\n", (long long)step, json_number(loss).text,
            (long long)tokens);
    if (fflush(m->file) != 0) return dt_fail(DT_ERR_IO, "metrics.jsonl: %s", strerror(errno));
    dt_metrics_note(m, "eval at step %lld: loss %.4f over %lld tokens", (long long)step, loss, (long long)tokens);
    return DT_OK;
}

dt_status dt_metrics_early_stop(dt_metrics *m, int64_t step, int64_t best_step, double best_loss)
{
    if (m->file == NULL) return DT_OK;
    fprintf(m->file, "{\"event\":\"early_stop\",\"step\":%lld,\"best_step\":%lld,\"best_loss\":%s}\n", (long long)step,
            (long long)best_step, json_number(best_loss).text);
    return fflush(m->file) == 0 ? DT_OK : dt_fail(DT_ERR_IO, "metrics.jsonl: %s", strerror(errno));
}

void dt_metrics_note(dt_metrics *m, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    if (m->file == NULL) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (m->line_open) fputc('\n', stderr);
    m->line_open = false;
    fprintf(stderr, "%s\n", text);
}
