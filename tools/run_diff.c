/* run_diff A B METRICS CHECKPOINT: how far two run folders are apart. METRICS and CHECKPOINT are the tolerances for
 * what the steps told and for what the newest checkpoints hold (0: bit-equal; "-": not compared).
 *
 *     loss, grad_norm:  max over steps |a - b| / |a|; every step is told exactly once in each run
 *     delta, optimizer: |a - b| / |a| (Euclidean norms over all values) and the largest |a - b|; sparse tensors have
 *                       equal indices
 *
 * CHECKPOINT "masks": prints only "n of m": so many of the m entries in the sparse deltas of A are not in those of B.
 *
 * One line of figures on stdout. Exit code 0: within; 1: not; 2: cannot be compared. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "train/checkpoint.h"
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- metrics.jsonl ---- */

typedef struct steps {
    double *loss, *grad_norm; /* [n] of step i + 1 */
    int64_t n, capacity;
} steps;

static void steps_free(steps *s)
{
    free(s->loss);
    free(s->grad_norm);
}

/* One line; those of evaluations and events tell no step. */
static dt_status take_line(const dt_json *line, steps *s)
{
    int64_t step = 0, capacity = s->capacity;
    if (!dt_json_has(line, "loss")) return DT_OK;
    DT_TRY(dt_json_i64(line, "step", &step));
    if (step != s->n + 1) return dt_json_fail(line, "step", "%lld comes after %lld", (long long)step, (long long)s->n);
    DT_TRY(dt_grow(&s->loss, &capacity, step, sizeof *s->loss));
    DT_TRY(dt_grow(&s->grad_norm, &s->capacity, step, sizeof *s->grad_norm));
    DT_TRY(dt_json_f64(line, "loss", &s->loss[s->n]));
    return dt_json_f64(line, "grad_norm", &s->grad_norm[s->n++]);
}

static dt_status read_steps(const char *run, steps *out)
{
    char path[4096], *text = NULL;
    size_t bytes = 0;
    dt_status st = DT_OK;
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    DT_TRY(dt_file_read(path, &text, &bytes));
    for (char *line = text, *end; st == DT_OK && (end = strchr(line, '\n')) != NULL; line = end + 1) {
        dt_json doc;
        st = dt_json_parse(line, (size_t)(end - line), path, DT_ERR_DATA, &doc);
        if (st != DT_OK) break;
        st = take_line(&doc, out);
        dt_json_free(&doc);
    }
    free(text);
    return st;
}

static double relative(const double *a, const double *b, int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = a[i] == b[i] ? 0 : fabs(a[i] - b[i]) / fabs(a[i]);
        if (!(d <= worst)) worst = d; /* a NaN too */
    }
    return worst;
}

static dt_status compare_metrics(const char *const run[2], double tolerance, bool *within)
{
    steps s[2] = {{0}, {0}};
    dt_status st = read_steps(run[0], &s[0]);
    if (st == DT_OK) st = read_steps(run[1], &s[1]);
    if (st == DT_OK && (s[0].n != s[1].n || s[0].n == 0))
        st = dt_fail(DT_ERR_DATA, "%s tells %lld steps, %s tells %lld", run[0], (long long)s[0].n, run[1],
                     (long long)s[1].n);
    if (st == DT_OK) {
        double loss = relative(s[0].loss, s[1].loss, s[0].n), norm = relative(s[0].grad_norm, s[1].grad_norm, s[0].n);
        printf("loss %.1e grad_norm %.1e over %lld steps", loss, norm, (long long)s[0].n);
        *within = *within && loss <= tolerance && norm <= tolerance;
    }
    steps_free(&s[0]);
    steps_free(&s[1]);
    return st;
}

/* ---- checkpoints ---- */

/* A whole tensor, whatever layout wrote it. */
typedef struct tensor {
    float *value;
    int64_t *index; /* NULL: dense */
    int64_t count;
} tensor;

static void tensor_free(tensor *t)
{
    free(t->value);
    free(t->index);
}

static dt_status read_tensor(const dt_ckpt *ck, dt_ckpt_part part, int64_t i, const char **name, tensor *out)
{
    dt_ckpt_tensor t;
    DT_TRY(dt_ckpt_describe(ck, part, i, &t));
    *name = t.name;
    if (t.count >= 0) return dt_ckpt_read_sparse(ck, part, t.name, &out->index, &out->value, &out->count);
    t.split = -1;
    out->count = 1;
    for (int d = 0; d < t.ndim; d++) out->count *= t.dim[d];
    DT_TRY(dt_alloc((size_t)out->count + 1, sizeof *out->value, &out->value));
    t.data = out->value;
    return dt_ckpt_read(ck, part, &t);
}

/* How far the tensors of a part are apart. */
typedef struct distance {
    double difference, norm; /* squared */
    double largest;
    bool bits_differ;
} distance;

static dt_status add_tensors(const char *name, const tensor *a, const tensor *b, distance *sum)
{
    if (a->count != b->count || (a->index == NULL) != (b->index == NULL))
        return dt_fail(DT_ERR_DATA, "%s: %lld values and %lld", name, (long long)a->count, (long long)b->count);
    if (a->index != NULL && memcmp(a->index, b->index, (size_t)a->count * sizeof *a->index) != 0)
        return dt_fail(DT_ERR_DATA, "%s: other indices", name);
    sum->bits_differ |= memcmp(a->value, b->value, (size_t)a->count * sizeof *a->value) != 0;
    for (int64_t i = 0; i < a->count; i++) {
        double x = (double)a->value[i], d = fabs(x - (double)b->value[i]);
        sum->norm += x * x;
        sum->difference += d * d;
        if (!(d <= sum->largest)) sum->largest = d; /* a NaN too */
    }
    return DT_OK;
}

static double relative_of(const distance *d)
{
    return d->difference == 0 ? 0 : sqrt(d->difference / d->norm);
}

static bool is_within(const distance *d, double tolerance)
{
    if (tolerance == 0) return !d->bits_differ;
    return relative_of(d) <= tolerance && d->largest <= tolerance;
}

static dt_status compare_part(dt_ckpt *const ck[2], dt_ckpt_part part, distance *out)
{
    int64_t n = dt_ckpt_count(ck[0], part);
    dt_status st = DT_OK;
    if (n != dt_ckpt_count(ck[1], part)) return dt_fail(DT_ERR_DATA, "the checkpoints have other numbers of tensors");
    for (int64_t i = 0; i < n && st == DT_OK; i++) {
        tensor t[2] = {{0}, {0}};
        const char *name[2] = {NULL, NULL};
        st = read_tensor(ck[0], part, i, &name[0], &t[0]);
        if (st == DT_OK) st = read_tensor(ck[1], part, i, &name[1], &t[1]);
        if (st == DT_OK && strcmp(name[0], name[1]) != 0)
            st = dt_fail(DT_ERR_DATA, "tensor %s is not tensor %s", name[0], name[1]);
        if (st == DT_OK) st = add_tensors(name[0], &t[0], &t[1], out);
        tensor_free(&t[0]);
        tensor_free(&t[1]);
    }
    return st;
}

static dt_status compare_checkpoints(const char *const run[2], double tolerance, bool *within)
{
    dt_ckpt *ck[2] = {NULL, NULL};
    distance delta = {0}, optimizer = {0};
    dt_status st = dt_ckpt_open(run[0], &ck[0]);
    if (st == DT_OK) st = dt_ckpt_open(run[1], &ck[1]);
    if (st == DT_OK) {
        int64_t a = dt_ckpt_get_meta(ck[0])->step, b = dt_ckpt_get_meta(ck[1])->step;
        if (a != b)
            st = dt_fail(DT_ERR_DATA, "the newest checkpoints are of steps %lld and %lld", (long long)a, (long long)b);
    }
    if (st == DT_OK) st = compare_part(ck, DT_CKPT_DELTA, &delta);
    if (st == DT_OK) st = compare_part(ck, DT_CKPT_OPTIMIZER, &optimizer);
    if (st == DT_OK) {
        printf("delta %.1e (largest %.1e) optimizer %.1e (largest %.1e)", relative_of(&delta), delta.largest,
               relative_of(&optimizer), optimizer.largest);
        *within = *within && is_within(&delta, tolerance) && is_within(&optimizer, tolerance);
    }
    dt_ckpt_close(ck[0]);
    dt_ckpt_close(ck[1]);
    return st;
}

/* ---- masks ---- */

static bool has_tensor(const dt_ckpt *ck, const char *name)
{
    dt_ckpt_tensor t;
    for (int64_t i = 0; i < dt_ckpt_count(ck, DT_CKPT_DELTA); i++)
        if (dt_ckpt_describe(ck, DT_CKPT_DELTA, i, &t) == DT_OK && strcmp(t.name, name) == 0) return true;
    return false;
}

/* Entries of a tensor of `a` that `b` does not have; all of them where b chose none there. */
static dt_status count_mask(const dt_ckpt *a, const dt_ckpt *b, int64_t i, int64_t *differ, int64_t *total)
{
    const char *name = NULL;
    tensor x = {0}, y = {0};
    DT_TRY(read_tensor(a, DT_CKPT_DELTA, i, &name, &x));
    dt_status st = DT_OK;
    if (x.index != NULL && has_tensor(b, name))
        st = dt_ckpt_read_sparse(b, DT_CKPT_DELTA, name, &y.index, &y.value, &y.count);
    for (int64_t at = 0, of_y = 0; st == DT_OK && x.index != NULL && at < x.count; at++) {
        while (of_y < y.count && y.index[of_y] < x.index[at]) of_y++; /* both ascend */
        *differ += of_y == y.count || y.index[of_y] != x.index[at];
        (*total)++;
    }
    tensor_free(&x);
    tensor_free(&y);
    return st;
}

static dt_status count_masks(const char *const run[2])
{
    dt_ckpt *ck[2] = {NULL, NULL};
    int64_t differ = 0, total = 0;
    dt_status st = dt_ckpt_open(run[0], &ck[0]);
    if (st == DT_OK) st = dt_ckpt_open(run[1], &ck[1]);
    for (int64_t i = 0; st == DT_OK && i < dt_ckpt_count(ck[0], DT_CKPT_DELTA); i++)
        st = count_mask(ck[0], ck[1], i, &differ, &total);
    if (st == DT_OK && total == 0) st = dt_fail(DT_ERR_DATA, "%s has no sparse tensors", run[0]);
    if (st == DT_OK) printf("%lld of %lld\n", (long long)differ, (long long)total);
    dt_ckpt_close(ck[0]);
    dt_ckpt_close(ck[1]);
    return st;
}

static dt_status compare(const char *const run[2], const char *metrics, const char *checkpoint, bool *within)
{
    const bool both = strcmp(metrics, "-") != 0 && strcmp(checkpoint, "-") != 0;
    dt_status st = DT_OK;
    if (strcmp(metrics, "-") != 0) st = compare_metrics(run, atof(metrics), within);
    if (both) printf("; ");
    if (st == DT_OK && strcmp(checkpoint, "-") != 0) st = compare_checkpoints(run, atof(checkpoint), within);
    printf("\n");
    return st;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: run_diff A B METRICS CHECKPOINT (tolerances; -: not compared); run_diff A B - masks\n");
        return 2;
    }
    const char *const run[2] = {argv[1], argv[2]};
    bool within = true;
    dt_status st = strcmp(argv[4], "masks") == 0 ? count_masks(run) : compare(run, argv[3], argv[4], &within);
    if (st != DT_OK) {
        fprintf(stderr, "run_diff: %s\n", dt_error_text());
        return 2;
    }
    return within ? 0 : 1;
}
