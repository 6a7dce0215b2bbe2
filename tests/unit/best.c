/* The lowest evaluation loss: what improves, what is kept on the disk, what a manifest remembers. */
#include "train/best.h"
#include "base/file.h"
#include "train/checkpoint.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(call) cr_assert_eq((call), DT_OK, "%s", dt_error_text())

/* Evaluations of steps 0, 10, 20 ...; after[i]: the best step and the patience used up after evaluation i. */
typedef struct after {
    double loss;
    int64_t step, waited;
} after;

static void follow(double min_delta, const after *list, int n)
{
    dt_best best = dt_best_none();
    for (int i = 0; i < n; i++) {
        int64_t before = best.step;
        bool lowest = dt_best_take(&best, 10 * i, list[i].loss, min_delta);
        cr_expect_eq(best.evaluated, 10 * i);
        cr_expect_eq(best.step, list[i].step, "evaluation %d: %lld", i, (long long)best.step);
        cr_expect_eq(best.waited, list[i].waited, "evaluation %d: %lld", i, (long long)best.waited);
        cr_expect_eq(lowest, best.step != before);
        if (lowest) cr_expect_eq(best.loss, list[i].loss);
    }
}

Test(best, the_lowest_loss_counts_and_the_first_of_equal_ones)
{
    follow(0, (const after[]){{1.0, -1, 0}, {3.0, 10, 0}, {2.0, 20, 0}, {2.0, 20, 1}, {2.5, 20, 2}, {1.5, 50, 0}}, 6);
}

/* Small steps down do not save a run from early stopping, but each is the best; together they count in the end. */
Test(best, patience_counts_what_falls_by_less_than_min_delta)
{
    follow(0.5, (const after[]){{9, -1, 0}, {4, 10, 0}, {3.75, 20, 1}, {3.5, 30, 2}, {3.25, 40, 0}, {3.0, 50, 1}}, 6);
}

Test(best, what_is_no_number_is_never_the_best)
{
    follow(0, (const after[]){{NAN, -1, 0}, {NAN, -1, 1}, {INFINITY, -1, 2}, {7, 30, 0}, {NAN, 30, 1}, {6, 50, 0}}, 6);
}

/* ---- on the disk ---- */

static char run[64];

static void make_folder(void)
{
    strcpy(run, "/tmp/dtrain-best-XXXXXX");
    cr_assert_not_null(mkdtemp(run));
}

static void remove_folder(void)
{
    cr_assert_eq(dt_dir_remove(run), DT_OK);
}

TestSuite(best_kept, .init = make_folder, .fini = remove_folder);

static const char *in_run(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/ckpt/%s", run, name);
    return path;
}

static void save(int64_t step, int64_t best_step, bool keep_best)
{
    char digest[DT_CKPT_PARTS][33];
    float one = 1;
    const dt_ckpt_tensor t = {.name = "x", .ndim = 1, .dim = {1}, .split = -1, .data = &one};
    const dt_ckpt_meta meta = {
        .step = step,
        .data_ranks = 1,
        .tensor_ranks = 1,
        .best = {.evaluated = step, .step = best_step, .loss = 0.1, .reference = INFINITY, .waited = 3},
        .backbone_fingerprint = "b",
        .config_text = "c",
        .method_json = "{}"};
    for (dt_ckpt_part part = 0; part < DT_CKPT_PARTS; part++)
        OK(dt_ckpt_write(run, step, part, 0, 1, &t, 1, digest[part]));
    OK(dt_ckpt_commit(run, &meta, (const char(*)[33])digest, 2, keep_best));
}

/* Step of the checkpoint that ckpt/best leads to. */
static int64_t best_on_disk(void)
{
    dt_ckpt *ck = NULL;
    OK(dt_ckpt_open(in_run("best"), &ck));
    int64_t step = dt_ckpt_get_meta(ck)->step;
    dt_ckpt_close(ck);
    return step;
}

Test(best_kept, keep_spares_the_best_and_only_it)
{
    save(10, 10, true);
    save(20, 20, true);
    for (int64_t step = 30; step <= 60; step += 10) save(step, 20, true);
    cr_expect_eq(best_on_disk(), 20);
    cr_expect(dt_ckpt_has(run, 20) && dt_ckpt_has(run, 50) && dt_ckpt_has(run, 60));
    cr_expect(!dt_ckpt_has(run, 10) && !dt_ckpt_has(run, 30) && !dt_ckpt_has(run, 40));
    int64_t latest;
    OK(dt_ckpt_latest(run, &latest));
    cr_expect_eq(latest, 60);
    save(70, 70, true); /* a new best: the old one is like any other */
    cr_expect_eq(best_on_disk(), 70);
    cr_expect(!dt_ckpt_has(run, 20) && dt_ckpt_has(run, 60));
    save(80, 70, true);
    save(90, 70, false); /* no longer asked for */
    cr_expect(!dt_ckpt_has(run, 70));
}

Test(best_kept, before_an_evaluation_there_is_none)
{
    save(10, -1, true);
    cr_expect_not(dt_path_exists(in_run("best")));
    save(20, 20, true);
    cr_expect(dt_path_exists(in_run("best")));
    OK(dt_ckpt_set_best(run, -1));
    cr_expect_not(dt_path_exists(in_run("best")));
    OK(dt_ckpt_set_best(run, -1));
}

/* A process that died between making the new link and giving it its name. */
Test(best_kept, a_link_that_was_left_behind_is_no_obstacle)
{
    save(10, 10, true);
    cr_assert_eq(symlink("step-000010", in_run("best.tmp")), 0);
    save(20, 20, true);
    cr_expect_eq(best_on_disk(), 20);
    cr_expect_not(dt_path_exists(in_run("best.tmp")));
}

Test(best_kept, a_folder_of_that_name_is_an_error)
{
    OK(dt_dir_make(in_run("best")));
    cr_expect_eq(dt_ckpt_set_best(run, 10), DT_ERR_IO);
    cr_expect(strstr(dt_error_text(), "/ckpt/best: cannot be made a link"), "%s", dt_error_text());
}

Test(best_kept, the_manifest_remembers_every_digit)
{
    dt_ckpt *ck = NULL;
    save(10, 7, false);
    OK(dt_ckpt_open(run, &ck));
    const dt_best *got = &dt_ckpt_get_meta(ck)->best;
    cr_expect(got->evaluated == 10 && got->step == 7 && got->waited == 3);
    cr_expect(got->loss == 0.1 && isinf(got->reference));
    dt_ckpt_close(ck);
}
