/* Checkpoints: any layout reads what any other wrote, and damage of every kind is noticed. */
#include "train/checkpoint.h"
#include "base/file.h"
#include "base/hash.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char run[64];

static void make_folder(void)
{
    strcpy(run, "/tmp/dtrain-ckpt-XXXXXX");
    cr_assert_not_null(mkdtemp(run));
}

static void remove_folder(void)
{
    cr_assert_eq(dt_dir_remove(run), DT_OK);
}

TestSuite(checkpoint, .init = make_folder, .fini = remove_folder);

static const char *in_run(const char *fmt, ...)
{
    static char path[4][256];
    static int next;
    next = (next + 1) % 4;
    int used = snprintf(path[next], sizeof path[next], "%s/", run);
    va_list args;
    va_start(args, fmt);
    vsnprintf(path[next] + used, sizeof path[next] - (size_t)used, fmt, args);
    va_end(args);
    return path[next];
}

#define OK(call) cr_assert_eq((call), DT_OK, "%s", dt_error_text())

/* Refused as a state error whose text holds both. */
#define REFUSED(call, text, also)                                                                                      \
    do {                                                                                                               \
        dt_error_clear();                                                                                              \
        cr_assert_eq((call), DT_ERR_STATE, "not refused (%s, %s): %s", text, also, dt_error_text());                   \
        cr_assert_not_null(strstr(dt_error_text(), text), "not \"%s\" but: %s", text, dt_error_text());                \
        cr_assert_not_null(strstr(dt_error_text(), also), "not \"%s\" but: %s", also, dt_error_text());                \
    } while (0)

/* ---- a checkpoint to test with ---- */

static const char method[] =
    "{\"x\": 0.1000000000000000055511151231257827,\n\t\"n\":\t9007199254740993, \"s\": \"\\u00e9\"}";

static dt_ckpt_meta meta_of(int64_t step, int tensor_ranks)
{
    return (dt_ckpt_meta){.step = step,
                          .sequences = 16 * step,
                          .seed = UINT64_MAX,
                          .data_ranks = 3,
                          .tensor_ranks = tensor_ranks,
                          .data_fingerprint = 0x8000000000000001u,
                          .backbone_fingerprint = "0123abcd",
                          .config_text = "run { dir: \"x\" }\n\t\"digest\": \"y\"",
                          .method_json = method};
}

/* Element `flat` of every dense tensor at a step, and the value that a sparse one has there. */
static float value_of(int64_t step, int64_t flat)
{
    return (float)(step * 1000 + flat);
}

/* Fills the slice of a tensor with value_of. */
static float *fill(const dt_ckpt_tensor *t, int64_t step)
{
    int64_t n = 1, len[DT_TENSOR_DIMS], lo[DT_TENSOR_DIMS] = {0};
    for (int d = 0; d < t->ndim; d++) len[d] = t->dim[d];
    if (t->split >= 0) lo[t->split] = t->off, len[t->split] = t->len;
    for (int d = 0; d < t->ndim; d++) n *= len[d];
    float *data = malloc((size_t)(n + 1) * sizeof *data);
    for (int64_t i = 0; i < n; i++) {
        int64_t rest = i, flat = 0, stride = 1;
        for (int d = t->ndim - 1; d >= 0; d--) {
            flat += (lo[d] + rest % len[d]) * stride;
            rest /= len[d];
            stride *= t->dim[d];
        }
        data[i] = value_of(step, flat);
    }
    data[n] = -1; // one past the end
    return data;
}

static int64_t slice_size(const dt_ckpt_tensor *t)
{
    int64_t n = 1;
    for (int d = 0; d < t->ndim; d++) n *= d == t->split ? t->len : t->dim[d];
    return n;
}

/* Rank r of n holds [off, off + len) of `size`. */
static void share(int64_t size, int r, int n, int64_t *off, int64_t *len)
{
    *off = size * r / n;
    *len = size * (r + 1) / n - *off;
}

enum { TENSORS = 6, SPARSE = 24 };
/* Tensors of rank r of n: split by rows, by columns, in the middle, not at all, a scalar; a sparse one whose indices
 * the ranks hold in turns (3i is rank i mod n's). */
static void tensors_of(int r, int n, int64_t step, dt_ckpt_tensor t[TENSORS])
{
    t[0] = (dt_ckpt_tensor){.name = "rows", .ndim = 2, .dim = {24, 5}, .split = 0};
    t[1] = (dt_ckpt_tensor){.name = "columns", .ndim = 2, .dim = {7, 12}, .split = 1};
    t[2] = (dt_ckpt_tensor){.name = "middle", .ndim = 3, .dim = {3, 12, 4}, .split = 1};
    t[3] = (dt_ckpt_tensor){.name = "whole", .ndim = 2, .dim = {4, 6}, .split = -1};
    t[4] = (dt_ckpt_tensor){.name = "scalar", .ndim = 0, .split = -1};
    t[5] = (dt_ckpt_tensor){.name = "sparse", .ndim = 2, .dim = {12, 12}, .split = -1};
    for (int i = 0; i < 5; i++) {
        if (t[i].split >= 0) share(t[i].dim[t[i].split], r, n, &t[i].off, &t[i].len);
        t[i].data = fill(&t[i], step);
    }
    int64_t *index = malloc(SPARSE * sizeof *index);
    t[5].data = malloc((SPARSE + 1) * sizeof(float));
    for (int i = r; i < SPARSE; i += n) {
        index[t[5].count] = 3 * i;
        t[5].data[t[5].count++] = value_of(step, 3 * i);
    }
    t[5].index = index;
}

static void free_tensors(dt_ckpt_tensor t[TENSORS])
{
    for (int i = 0; i < TENSORS; i++) free(t[i].data);
    free((void *)t[5].index);
}

static dt_status save(int64_t step, int ranks, int keep)
{
    char digest[2 * 8][33];
    for (int part = 0; part < DT_CKPT_PARTS; part++)
        for (int r = 0; r < ranks; r++) {
            dt_ckpt_tensor t[TENSORS];
            tensors_of(r, ranks, step, t);
            // the optimizer's part holds all but the scalar
            dt_status st = dt_ckpt_write(run, step, part, r, ranks, t + part, TENSORS - part, digest[part * ranks + r]);
            free_tensors(t);
            if (st != DT_OK) return st;
        }
    dt_ckpt_meta meta = meta_of(step, ranks);
    return dt_ckpt_commit(run, &meta, (const char(*)[33])digest, keep, false);
}

/* Everything of a checkpoint, read as rank r of n, is what was saved at `step`. */
static void check_read(const dt_ckpt *ck, int r, int n, int64_t step)
{
    for (int part = 0; part < DT_CKPT_PARTS; part++) {
        dt_ckpt_tensor t[TENSORS];
        tensors_of(r, n, step, t);
        for (int i = part; i < TENSORS; i++) {
            const int64_t size = t[i].index ? t[i].count : slice_size(&t[i]);
            float *expected = t[i].data;
            t[i].data = malloc((size_t)(size + 1) * sizeof(float));
            for (int64_t j = 0; j <= size; j++) t[i].data[j] = -7;
            OK(dt_ckpt_read(ck, part, &t[i]));
            cr_assert_arr_eq(t[i].data, expected, (size_t)size * sizeof(float), "%s as rank %d of %d", t[i].name, r, n);
            cr_assert_eq(t[i].data[size], -7, "%s: written past the end", t[i].name);
            free(expected);
        }
        free_tensors(t);
    }
}

/* ---- reading ---- */

Test(checkpoint, any_layout_reads_what_any_other_wrote)
{
    static const int ranks[] = {1, 2, 3, 4};
    for (int w = 0; w < 4; w++) {
        dt_ckpt *ck;
        OK(save(w + 1, ranks[w], 9));
        OK(dt_ckpt_open(in_run("ckpt/step-%06d", w + 1), &ck));
        for (int n = 0; n < 4; n++)
            for (int r = 0; r < ranks[n]; r++) check_read(ck, r, ranks[n], w + 1);
        dt_ckpt_close(ck);
    }
}

Test(checkpoint, a_tensor_may_be_read_along_another_dimension)
{
    dt_ckpt *ck;
    OK(save(1, 2, 1));
    OK(dt_ckpt_open(run, &ck));
    static const char *const name[] = {"rows", "columns", "middle", "whole"};
    for (int i = 0; i < 4; i++)
        for (int split = -1; split < (i == 2 ? 3 : 2); split++)
            for (int r = 0; r < 3; r++) {
                dt_ckpt_tensor all[TENSORS];
                tensors_of(0, 1, 1, all);
                dt_ckpt_tensor t = all[i];
                cr_assert_str_eq(t.name, name[i]);
                t.split = split;
                if (split >= 0) share(t.dim[split], r, 3, &t.off, &t.len);
                float *expected = fill(&t, 1);
                t.data = malloc((size_t)(slice_size(&t) + 1) * sizeof(float));
                OK(dt_ckpt_read(ck, DT_CKPT_DELTA, &t));
                cr_assert_arr_eq(t.data, expected, (size_t)slice_size(&t) * sizeof(float));
                free(t.data);
                free(expected);
                free_tensors(all);
            }
    dt_ckpt_close(ck);
}

Test(checkpoint, replicated_slices_may_overlap)
{
    char digest[8][33];
    dt_ckpt_tensor t = {.name = "kv", .ndim = 2, .dim = {8, 3}, .split = 0, .len = 4};
    for (int r = 0; r < 4; r++) { // two kv heads of four rows on four ranks
        t.off = r / 2 * 4;
        t.data = fill(&t, 1);
        for (int part = 0; part < 2; part++) OK(dt_ckpt_write(run, 1, part, r, 4, &t, 1, digest[part * 4 + r]));
        free(t.data);
    }
    dt_ckpt_meta meta = meta_of(1, 4);
    dt_ckpt *ck;
    OK(dt_ckpt_commit(run, &meta, (const char(*)[33])digest, 1, false));
    OK(dt_ckpt_open(run, &ck));
    t.split = -1;
    float got[24], *expected = fill(&t, 1);
    t.data = got;
    OK(dt_ckpt_read(ck, DT_CKPT_DELTA, &t));
    cr_assert_arr_eq(got, expected, sizeof got);
    free(expected);
    dt_ckpt_close(ck);
}

Test(checkpoint, sparse_values_are_merged_in_the_order_of_their_indices)
{
    for (int ranks = 1; ranks <= 5; ranks++) {
        dt_ckpt *ck;
        int64_t *index, count;
        float *value;
        OK(save(ranks, ranks, 9));
        OK(dt_ckpt_open(run, &ck));
        OK(dt_ckpt_read_sparse(ck, DT_CKPT_OPTIMIZER, "sparse", &index, &value, &count));
        cr_assert_eq(count, SPARSE);
        for (int i = 0; i < SPARSE; i++) cr_assert(index[i] == 3 * i && value[i] == value_of(ranks, 3 * i));
        free(index);
        free(value);
        dt_ckpt_close(ck);
    }
}

/* One sparse tensor in both parts, as two ranks hold it. */
static dt_status save_sparse(const int64_t dim[2], const int64_t *index, int64_t n0, int64_t n1, int64_t dim1_of_rank1)
{
    char digest[4][33];
    for (int r = 0; r < 2; r++) {
        dt_ckpt_tensor t = {.name = "s", .ndim = 2, .dim = {dim[0], r ? dim1_of_rank1 : dim[1]}, .split = -1};
        float data[16];
        t.index = index + r * n0;
        t.count = r ? n1 : n0;
        t.data = data;
        for (int64_t i = 0; i < t.count; i++) data[i] = (float)t.index[i];
        for (int part = 0; part < 2; part++) DT_TRY(dt_ckpt_write(run, 1, part, r, 2, &t, 1, digest[part * 2 + r]));
    }
    dt_ckpt_meta meta = meta_of(1, 2);
    return dt_ckpt_commit(run, &meta, (const char(*)[33])digest, 1, false);
}

Test(checkpoint, indices_past_32_bits_are_kept)
{
    const int64_t dim[2] = {100000, 100000}, index[] = {5, 3000000000, 9999999999, 0, 4999999999};
    int64_t *got, count;
    float *value;
    dt_ckpt *ck;
    OK(save_sparse(dim, index, 3, 2, dim[1]));
    OK(dt_ckpt_open(run, &ck));
    OK(dt_ckpt_read_sparse(ck, DT_CKPT_DELTA, "s", &got, &value, &count));
    const int64_t expected[] = {0, 5, 3000000000, 4999999999, 9999999999};
    cr_assert_eq(count, 5);
    cr_assert_arr_eq(got, expected, sizeof expected);
    for (int i = 0; i < 5; i++) cr_assert_eq(value[i], (float)expected[i]);
    free(got);
    free(value);
    dt_ckpt_close(ck);
}

Test(checkpoint, a_rank_without_sparse_values_is_fine)
{
    const int64_t dim[2] = {4, 4}, index[] = {3, 9};
    int64_t *got, count;
    float *value;
    dt_ckpt *ck;
    OK(save_sparse(dim, index, 2, 0, 4));
    OK(dt_ckpt_open(run, &ck));
    OK(dt_ckpt_read_sparse(ck, DT_CKPT_DELTA, "s", &got, &value, &count));
    cr_assert(count == 2 && got[0] == 3 && got[1] == 9);
    free(got);
    free(value);
    dt_ckpt_close(ck);
}

Test(checkpoint, sparse_indices_that_ascend_nowhere_are_refused)
{
    const int64_t dim[2] = {4, 4};
    int64_t *got, count;
    float *value;
    dt_ckpt *ck;
    cr_assert_eq(save_sparse(dim, (int64_t[]){3, 2}, 2, 0, 4), DT_ERR_INTERNAL);
    cr_assert_eq(save_sparse(dim, (int64_t[]){3, 16}, 2, 0, 4), DT_ERR_INTERNAL);
    cr_assert_eq(save_sparse(dim, (int64_t[]){-1, 2}, 2, 0, 4), DT_ERR_INTERNAL);
    OK(save_sparse(dim, (int64_t[]){3, 5, 5, 7}, 2, 2, 4)); // both ranks hold 5
    OK(dt_ckpt_open(run, &ck));
    REFUSED(dt_ckpt_read_sparse(ck, DT_CKPT_DELTA, "s", &got, &value, &count), "s: index 5 after 5",
            "step-000001/delta");
    dt_ckpt_close(ck);
}

Test(checkpoint, tensors_that_do_not_fit_are_named)
{
    dt_ckpt *ck;
    float data[400];
    int64_t index[2] = {3, 4}, *got, count;
    float *value;
    OK(save(1, 2, 1));
    OK(dt_ckpt_open(run, &ck));
    dt_ckpt_tensor t = {.name = "none", .ndim = 1, .dim = {3}, .split = -1, .data = data};
    REFUSED(dt_ckpt_read(ck, DT_CKPT_DELTA, &t), "none", "step-000001");
    t = (dt_ckpt_tensor){.name = "whole", .ndim = 2, .dim = {4, 7}, .split = -1, .data = data};
    REFUSED(dt_ckpt_read(ck, DT_CKPT_DELTA, &t), "whole", "[4, 6], expected [4, 7]");
    t = (dt_ckpt_tensor){.name = "whole", .ndim = 1, .dim = {24}, .split = -1, .data = data};
    REFUSED(dt_ckpt_read(ck, DT_CKPT_DELTA, &t), "whole", "[4, 6], expected [24]");
    t = (dt_ckpt_tensor){.name = "sparse", .ndim = 2, .dim = {12, 12}, .split = -1, .data = data};
    REFUSED(dt_ckpt_read(ck, DT_CKPT_DELTA, &t), "sparse", "is stored sparse");
    t.index = index, t.count = 2;
    REFUSED(dt_ckpt_read(ck, DT_CKPT_DELTA, &t), "sparse", "no value at index 4");
    REFUSED(dt_ckpt_read_sparse(ck, DT_CKPT_DELTA, "whole", &got, &value, &count), "whole", "is stored dense");
    dt_ckpt_close(ck);
}

Test(checkpoint, its_tensors_are_described)
{
    dt_ckpt *ck;
    OK(save(1, 2, 1));
    OK(dt_ckpt_open(run, &ck));
    static const char *const name[] = {"columns", "middle", "rows", "scalar", "sparse", "whole"};
    static const int split[] = {1, 1, 0, -1, -1, -1};
    cr_assert_eq(dt_ckpt_count(ck, DT_CKPT_DELTA), 6);
    cr_assert_eq(dt_ckpt_count(ck, DT_CKPT_OPTIMIZER), 5);
    for (int i = 0; i < 6; i++) {
        dt_ckpt_tensor t;
        OK(dt_ckpt_describe(ck, DT_CKPT_DELTA, i, &t));
        cr_assert_str_eq(t.name, name[i]);
        cr_assert_eq(t.split, split[i]);
        cr_assert_eq(t.count, i == 4 ? SPARSE : -1);
        cr_assert(!t.data && !t.index && t.off == 0);
        if (i == 1) cr_assert(t.ndim == 3 && t.dim[0] == 3 && t.dim[1] == 12 && t.dim[2] == 4 && t.len == 12);
    }
    dt_ckpt_tensor t;
    cr_assert_eq(dt_ckpt_describe(ck, DT_CKPT_DELTA, 6, &t), DT_ERR_INTERNAL);
    dt_ckpt_close(ck);
}

Test(checkpoint, the_manifest_keeps_every_digit)
{
    dt_ckpt *ck;
    OK(save(7, 2, 1));
    OK(dt_ckpt_open(run, &ck));
    const dt_ckpt_meta *got = dt_ckpt_get_meta(ck), put = meta_of(7, 2);
    cr_assert(got->step == 7 && got->sequences == 112 && got->seed == put.seed && got->data_ranks == 3);
    cr_assert(got->tensor_ranks == 2 && got->data_fingerprint == put.data_fingerprint);
    cr_assert_str_eq(got->backbone_fingerprint, put.backbone_fingerprint);
    cr_assert_str_eq(got->config_text, put.config_text);
    cr_assert_str_eq(got->method_json, put.method_json);
    cr_assert_str_eq(dt_ckpt_path(ck), in_run("ckpt/step-000007"));
    dt_ckpt_close(ck);
}

Test(checkpoint, a_method_record_that_is_no_object_is_refused)
{
    char digest[2][33];
    dt_ckpt_meta meta = meta_of(1, 1);
    for (int part = 0; part < 2; part++) OK(dt_ckpt_write(run, 1, part, 0, 1, NULL, 0, digest[part]));
    meta.method_json = "[1]";
    cr_assert_eq(dt_ckpt_commit(run, &meta, (const char(*)[33])digest, 1, false), DT_ERR_INTERNAL);
    meta.method_json = "{\"a\": ";
    cr_assert_eq(dt_ckpt_commit(run, &meta, (const char(*)[33])digest, 1, false), DT_ERR_INTERNAL);
    int64_t step;
    OK(dt_ckpt_latest(run, &step));
    cr_assert_eq(step, -1);
}

/* ---- the life of checkpoints ---- */

Test(checkpoint, the_same_state_is_saved_in_the_same_bytes)
{
    dt_digest first[3], again[3];
    static const char *const file[] = {"delta-00001-of-00002.safetensors", "optimizer-00000-of-00002.safetensors",
                                       "manifest.json"};
    OK(save(1, 2, 1));
    for (int i = 0; i < 3; i++) OK(dt_digest_file(in_run("ckpt/step-000001/%s", file[i]), &first[i]));
    OK(dt_dir_remove(in_run("ckpt")));
    OK(save(1, 2, 1));
    for (int i = 0; i < 3; i++) OK(dt_digest_file(in_run("ckpt/step-000001/%s", file[i]), &again[i]));
    cr_assert_arr_eq(first, again, sizeof first);
}

Test(checkpoint, the_newest_are_kept)
{
    int64_t step;
    OK(dt_ckpt_latest(run, &step));
    cr_assert_eq(step, -1);
    dt_ckpt *ck;
    OK(dt_dir_make(in_run("ckpt/step-000005.tmp")));
    REFUSED(dt_ckpt_open(run, &ck), "no complete checkpoint", run);
    OK(dt_dir_make(in_run("ckpt/step-000031.tmp")));
    OK(dt_dir_make(in_run("ckpt/step-notes")));
    for (int s = 10; s <= 30; s += 5) OK(save(s, 1, 2));
    OK(dt_ckpt_latest(run, &step));
    cr_assert_eq(step, 30);
    for (int s = 10; s <= 30; s += 5) cr_assert_eq(dt_path_exists(in_run("ckpt/step-%06d", s)), s >= 25);
    cr_assert_not(dt_path_exists(in_run("ckpt/step-000005.tmp")));
    cr_assert_not(dt_path_exists(in_run("ckpt/step-000030.tmp")));
    cr_assert(dt_path_exists(in_run("ckpt/step-000031.tmp")), "it may be in the making");
    cr_assert(dt_path_exists(in_run("ckpt/step-notes")));
    OK(dt_ckpt_clean(run));
    cr_assert_not(dt_path_exists(in_run("ckpt/step-000031.tmp")));
    cr_assert(dt_path_exists(in_run("ckpt/step-000030")));

    OK(save(12, 1, 1)); // an older step, saved later, is not the one that goes
    cr_assert(dt_path_exists(in_run("ckpt/step-000012")) && !dt_path_exists(in_run("ckpt/step-000025")));
}

Test(checkpoint, steps_past_six_digits_sort_by_number)
{
    int64_t step;
    OK(save(999999, 1, 5));
    OK(save(1000000, 1, 5));
    OK(dt_ckpt_latest(run, &step));
    cr_assert_eq(step, 1000000);
}

Test(checkpoint, saving_a_step_again_replaces_it)
{
    dt_ckpt *ck;
    OK(save(4, 3, 2));
    OK(save(4, 2, 2));
    OK(dt_ckpt_open(run, &ck));
    cr_assert_eq(dt_ckpt_get_meta(ck)->tensor_ranks, 2);
    check_read(ck, 0, 1, 4);
    dt_ckpt_close(ck);
    cr_assert_not(dt_path_exists(in_run("ckpt/step-000004/delta-00002-of-00003.safetensors")));
    cr_assert_not(dt_path_exists(in_run("ckpt/step-000004.tmp")));
}

Test(checkpoint, what_an_interrupted_save_left_does_not_get_in)
{
    char digest[33];
    OK(dt_ckpt_write(run, 4, DT_CKPT_DELTA, 2, 3, NULL, 0, digest)); // another layout, then killed
    OK(dt_file_write_atomic(in_run("ckpt/step-000004.tmp/delta-00000-of-00002.safetensors.77-0.tmp"), "x", 1));
    OK(save(4, 2, 2));
    cr_assert_not(dt_path_exists(in_run("ckpt/step-000004/delta-00002-of-00003.safetensors")));
    cr_assert_not(dt_path_exists(in_run("ckpt/step-000004/delta-00000-of-00002.safetensors.77-0.tmp")));
}

Test(checkpoint, a_file_that_rank_0_cannot_see_fails_the_commit)
{
    char digest[4][33] = {"", "", "", ""};
    dt_ckpt_meta meta = meta_of(1, 2);
    for (int part = 0; part < 2; part++) OK(dt_ckpt_write(run, 1, part, 0, 2, NULL, 0, digest[part * 2]));
    cr_assert_eq(dt_ckpt_commit(run, &meta, (const char(*)[33])digest, 1, false), DT_ERR_IO);
    cr_assert_not_null(strstr(dt_error_text(), "delta-00001-of-00002.safetensors"));
    cr_assert_not(dt_path_exists(in_run("ckpt/step-000001")));
}

/* Such a file could be written, but never read. */
Test(checkpoint, two_tensors_of_one_name_are_refused)
{
    char digest[33];
    float data[2] = {0};
    const dt_ckpt_tensor t[2] = {{.name = "a", .ndim = 1, .dim = {2}, .split = -1, .data = data},
                                 {.name = "a", .ndim = 1, .dim = {2}, .split = -1, .data = data}};
    cr_assert_eq(dt_ckpt_write(run, 1, DT_CKPT_DELTA, 0, 1, t, 2, digest), DT_ERR_INTERNAL);
    cr_assert_not_null(strstr(dt_error_text(), "named a"));
}

/* The moments are spread over about three saves, however long one takes on this disk. */
Test(checkpoint, a_kill_at_any_moment_leaves_a_whole_checkpoint)
{
    int64_t from = 0;
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    OK(save(0, 2, 2));
    clock_gettime(CLOCK_MONOTONIC, &end);
    const long save_us = (end.tv_sec - begin.tv_sec) * 1000000 + (end.tv_nsec - begin.tv_nsec) / 1000;
    for (int round = 0; round < 40; round++) {
        pid_t child = fork();
        cr_assert_geq(child, 0);
        if (child == 0) {
            if (dt_ckpt_clean(run) != DT_OK) _exit(1);
            for (int64_t step = from + 1;; step++)
                if (save(step, 2, 2) != DT_OK) _exit(1);
        }
        usleep((useconds_t)(round * 7 % 40 * save_us / 13));
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        cr_assert(WIFSIGNALED(status), "saving failed");
        int64_t step;
        OK(dt_ckpt_latest(run, &step));
        cr_assert_geq(step, from);
        for (int64_t s = 0; s <= step; s++) { // every one that looks complete is, not only the newest
            dt_ckpt *ck;
            if (!dt_path_exists(in_run("ckpt/step-%06d/manifest.json", (int)s))) continue;
            OK(dt_ckpt_open(in_run("ckpt/step-%06d", (int)s), &ck));
            check_read(ck, 0, 1, s);
            dt_ckpt_close(ck);
        }
        from = step;
    }
    cr_assert_gt(from, 0, "no save was ever done");
}

/* ---- damage ---- */

static void put(const char *path, const char *data, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    cr_assert_eq(fwrite(data, 1, bytes, f), bytes);
    fclose(f);
}

Test(checkpoint, a_damaged_file_is_noticed_and_named)
{
    static const char *const file[] = {"delta-00000-of-00002.safetensors", "delta-00001-of-00002.safetensors",
                                       "optimizer-00000-of-00002.safetensors", "optimizer-00001-of-00002.safetensors"};
    dt_ckpt *ck = NULL;
    OK(save(3, 2, 1));
    for (int f = 0; f < 4; f++) {
        char *good, path[256];
        size_t bytes;
        strcpy(path, in_run("ckpt/step-000003/%s", file[f]));
        OK(dt_file_read(path, &good, &bytes));
        for (size_t cut = 0; cut < bytes; cut += 1 + bytes / 9) {
            put(path, good, cut);
            REFUSED(dt_ckpt_open(run, &ck), file[f], "is damaged");
        }
        for (size_t at = 0; at < bytes; at += 1 + bytes / 9) {
            good[at] ^= 1;
            put(path, good, bytes);
            REFUSED(dt_ckpt_open(run, &ck), file[f], "is damaged");
            good[at] ^= 1;
        }
        put(path, good, bytes + 1); // the NUL behind it
        REFUSED(dt_ckpt_open(run, &ck), file[f], "is damaged");
        cr_assert_eq(unlink(path), 0);
        REFUSED(dt_ckpt_open(run, &ck), file[f], "is missing");
        put(path, good, bytes);
        OK(dt_ckpt_open(run, &ck));
        dt_ckpt_close(ck);
        free(good);
    }
}

Test(checkpoint, every_changed_or_missing_byte_of_the_manifest_is_noticed)
{
    dt_ckpt *ck = NULL;
    char *good, path[256];
    size_t bytes;
    OK(save(3, 2, 1));
    strcpy(path, in_run("ckpt/step-000003/manifest.json"));
    OK(dt_file_read(path, &good, &bytes));
    for (size_t at = 0; at < bytes; at++) {
        put(path, good, at);
        REFUSED(dt_ckpt_open(run, &ck), "manifest.json", "");
        for (int bit = 0; bit < 8; bit += 3) {
            good[at] ^= (char)(1 << bit);
            put(path, good, bytes);
            REFUSED(dt_ckpt_open(run, &ck), "manifest.json", "");
            good[at] ^= (char)(1 << bit);
        }
    }
    put(path, good, bytes);
    OK(dt_ckpt_open(run, &ck));
    dt_ckpt_close(ck);
    cr_assert_eq(unlink(path), 0);
    REFUSED(dt_ckpt_open(in_run("ckpt/step-000003"), &ck), "manifest.json", "is missing");
    REFUSED(dt_ckpt_open(run, &ck), "no complete checkpoint", run);
    REFUSED(dt_ckpt_open(in_run("elsewhere"), &ck), "manifest.json", "is missing");
    free(good);
}

/* A manifest with a right digest of its own, but with `from` replaced by `to`. */
static void edit_manifest(const char *good, const char *from, const char *to)
{
    char text[8192];
    const char *at = strstr(good, from), *end = strstr(good, ",\n\t\"digest\"");
    cr_assert(at && end);
    int used = snprintf(text, sizeof text, "%.*s%s%.*s", (int)(at - good), good, to, (int)(end - at - strlen(from)),
                        at + strlen(from));
    snprintf(text + used, sizeof text - (size_t)used, ",\n\t\"digest\":\t\"%s\"\n}\n",
             dt_digest_bytes(text, (size_t)used).hex);
    put(in_run("ckpt/step-000003/manifest.json"), text, strlen(text));
}

Test(checkpoint, a_manifest_that_says_something_else_is_refused)
{
    dt_ckpt *ck = NULL;
    char *good;
    size_t bytes;
    OK(save(3, 2, 1));
    OK(dt_file_read(in_run("ckpt/step-000003/manifest.json"), &good, &bytes));
    edit_manifest(good, "\"sequences\":\t48", "\"sequences\":\t49"); // the edit itself is sound
    OK(dt_ckpt_open(run, &ck));
    cr_assert_eq(dt_ckpt_get_meta(ck)->sequences, 49);
    dt_ckpt_close(ck);
    static const char *const edit[][3] = {
        {"\"format\":\t1", "\"format\":\t2", "format: is 2, this version reads 1"},
        {"\"step\":\t3", "\"steps\":\t3", "step: is missing"},
        {"\"step\":\t3", "\"step\":\t-3", "step: -3 is not >= 0"},
        {"\"sequences\":\t48", "\"sequences\":\t4.5", "sequences: is 4.5"},
        {"\"seed\":\t\"18446744073709551615\"", "\"seed\":\t\"18446744073709551616\"", "seed: "},
        {"\"seed\":\t\"18446744073709551615\"", "\"seed\":\t\"-1\"", "seed: "},
        {"\"tensor_ranks\":\t2", "\"tensor_ranks\":\t0", "tensor_ranks: 0"},
        {"\"tensor_ranks\":\t2", "\"tensor_ranks\":\t3", "files: 4 are listed, expected 6"},
        {"\"tensor_ranks\":\t2", "\"tensor_ranks\":\t1000000", "tensor_ranks: 1000000"},
        {"delta-00001-of", "delta-00003-of", "delta-00001-of-00002.safetensors: is missing"},
        {"\"method\"", "\"methods\"", "method: is missing"},
        {"\"method\":\t", "\"method\":\t{},\n\t\"more\":\t", "more text after the JSON value"},
    };
    for (size_t i = 0; i < sizeof edit / sizeof edit[0]; i++) {
        edit_manifest(good, edit[i][0], edit[i][1]);
        REFUSED(dt_ckpt_open(run, &ck), "manifest.json", edit[i][2]);
    }
    free(good);
}

/* Files whose digests are right, but which do not make up whole tensors. */
static dt_status save_pieces(const dt_ckpt_tensor t[2])
{
    char digest[4][33];
    for (int r = 0; r < 2; r++)
        for (int part = 0; part < 2; part++)
            DT_TRY(dt_ckpt_write(run, 3, part, r, 2, &t[r], t[r].name != NULL, digest[part * 2 + r]));
    dt_ckpt_meta meta = meta_of(3, 2);
    return dt_ckpt_commit(run, &meta, (const char(*)[33])digest, 1, false);
}

Test(checkpoint, pieces_that_do_not_make_a_tensor_are_refused)
{
    dt_ckpt *ck = NULL;
    float data[64] = {0};
    int64_t index[1] = {0};
    const dt_ckpt_tensor base = {.name = "t", .ndim = 2, .dim = {8, 4}, .split = 0, .off = 0, .len = 4, .data = data};
    dt_ckpt_tensor t[2] = {base, base};
    t[1].off = 4;
    OK(save_pieces(t));
    OK(dt_ckpt_open(run, &ck));
    dt_ckpt_close(ck);

    t[1].len = 3;
    OK(save_pieces(t));
    REFUSED(dt_ckpt_open(run, &ck), "t: no file holds what follows 7 of dimension 0", "step-000003");
    t[1].len = 3, t[1].off = 5;
    OK(save_pieces(t));
    REFUSED(dt_ckpt_open(run, &ck), "t: no file holds what follows 4 of dimension 0", "step-000003");
    t[1].len = 4;
    OK(save_pieces(t));
    REFUSED(dt_ckpt_open(run, &ck), "t.offset: puts the piece outside", "delta-00001-of-00002");
    t[1] = base, t[1].off = 4, t[1].dim[1] = 3;
    OK(save_pieces(t));
    REFUSED(dt_ckpt_open(run, &ck), "t: the files of two ranks disagree", "step-000003");
    t[1] = base, t[1].off = 2, t[1].len = 2, t[1].split = 1;
    OK(save_pieces(t));
    REFUSED(dt_ckpt_open(run, &ck), "t: the files of two ranks disagree", "step-000003");
    t[1] = base, t[1].index = index, t[1].count = 1;
    OK(save_pieces(t));
    REFUSED(dt_ckpt_open(run, &ck), "t: the files of two ranks disagree", "step-000003");
    t[1].name = NULL; // rank 1's file does not have it
    OK(save_pieces(t));
    REFUSED(dt_ckpt_open(run, &ck), "t: no file holds what follows 4 of dimension 0", "step-000003");
}

/* A delta file with this description of its tensors, with a right digest. */
static dt_status open_described(const char *description)
{
    dt_ckpt *ck = NULL;
    char digest[2][33];
    float data[6] = {0};
    int32_t index[2] = {0, 5};
    const dt_ckpt_meta meta = meta_of(3, 1);
    const dt_st_entry entry[] = {{.name = "d", .type = DT_ST_F32, .ndim = 2, .dim = {2, 3}, .data = data},
                                 {.name = "h", .type = DT_ST_F16, .ndim = 1, .dim = {2}, .data = data},
                                 {.name = "s:index", .type = DT_ST_I32, .ndim = 1, .dim = {2}, .data = index},
                                 {.name = "s:value", .type = DT_ST_F32, .ndim = 1, .dim = {2}, .data = data},
                                 {.name = "u:index", .type = DT_ST_I32, .ndim = 1, .dim = {1}, .data = index},
                                 {.name = "u:value", .type = DT_ST_F32, .ndim = 1, .dim = {2}, .data = data}};
    const char *const metadata[] = {"tensors", description};
    dt_digest written;
    for (int part = 0; part < 2; part++) OK(dt_ckpt_write(run, 3, part, 0, 1, NULL, 0, digest[part]));
    const char *path = in_run("ckpt/step-000003.tmp/delta-00000-of-00001.safetensors");
    OK(dt_st_write(path, entry, 6, metadata, description != NULL));
    OK(dt_digest_file(path, &written));
    memcpy(digest[0], written.hex, sizeof digest[0]);
    OK(dt_ckpt_commit(run, &meta, (const char(*)[33])digest, 1, false));
    dt_error_clear();
    dt_status st = dt_ckpt_open(run, &ck);
    dt_ckpt_close(ck);
    return st;
}

Test(checkpoint, a_description_that_does_not_fit_its_file_is_refused)
{
    static const char file[] = "delta-00000-of-00001.safetensors";
    OK(open_described("{\"d\":{\"shape\":[2,3]},\"s\":{\"shape\":[6],\"sparse\":true}}"));
    REFUSED(open_described(NULL), file, "does not describe its tensors");
    REFUSED(open_described("{\"d\":"), file, "not valid JSON");
    REFUSED(open_described("{\"d\":{}}"), file, "d.shape: is missing");
    REFUSED(open_described("{\"d\":{\"shape\":[2,-3]}}"), file, "d.shape: is no shape");
    REFUSED(open_described("{\"d\":{\"shape\":[4294967296,4294967296]}}"), file, "d.shape: is no shape");
    REFUSED(open_described("{\"d\":{\"shape\":[1,1,1,1,1,1,1,2,3]}}"), file, "d.shape: is no shape");
    REFUSED(open_described("{\"d\":{\"shape\":[2,4]}}"), file, "d.shape: is not that of the values");
    REFUSED(open_described("{\"d\":{\"shape\":[6]}}"), file, "d: its values are not in the file");
    REFUSED(open_described("{\"h\":{\"shape\":[2]}}"), file, "h: its values are not in the file");
    REFUSED(open_described("{\"e\":{\"shape\":[2]}}"), file, "e: its values are not in the file");
    REFUSED(open_described("{\"d\":{\"shape\":[2,3],\"split\":2}}"), file, "d.split");
    REFUSED(open_described("{\"d\":{\"shape\":[2,3],\"split\":-2}}"), file, "d.split");
    REFUSED(open_described("{\"d\":{\"shape\":[4,3],\"split\":0,\"offset\":-1}}"), file, "d.offset");
    REFUSED(open_described("{\"d\":{\"shape\":[4,3],\"split\":0,\"offset\":3}}"), file, "d.offset");
    REFUSED(open_described("{\"d\":{\"shape\":[1,3],\"split\":0}}"), file, "d.offset");
    REFUSED(open_described("{\"d\":{\"shape\":[2,3],\"sparse\":1}}"), file, "d.sparse: is a number");
    REFUSED(open_described("{\"u\":{\"shape\":[6],\"sparse\":true}}"), file, "u: its indices and values");
    REFUSED(open_described("{\"d\":{\"shape\":[6],\"sparse\":true}}"), file, "d: its indices and values");
    REFUSED(open_described("[{\"shape\":[]}]"), file, "its values are not in the file");
}
