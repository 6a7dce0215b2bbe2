/* The global top-k: what it chooses is what a sort would, however the scores are cut into runs and replicas. */
#include "base/rng.h"
#include "delta/topk.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 3000 };

static dt_comm comm;
static float score[N];

static void begin(void)
{
    const dt_mesh alone = {0, 1, {1, 1, 1}, {0, 0, 0}};
    cr_assert_eq(dt_comm_create_host(&alone, &comm), DT_OK);
}

static void end(void)
{
    dt_comm_destroy(&comm);
}

typedef struct scored {
    float score;
    int64_t key;
} scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return (x->key > y->key) - (x->key < y->key);
}

/* The first k of a sort by falling score, then rising key: as flags by key. */
static bool *sorted_choice(int64_t k)
{
    scored *all = calloc(N, sizeof *all);
    bool *chosen = calloc(N, sizeof *chosen);
    for (int i = 0; i < N; i++) all[i] = (scored){score[i], i};
    qsort(all, N, sizeof *all, by_score);
    for (int64_t i = 0; i < k; i++) chosen[all[i].key] = true;
    free(all);
    return chosen;
}

static dt_topk_cut find(const dt_topk_run *run, int n, int64_t k)
{
    dt_topk_cut cut;
    cr_assert_eq(dt_topk_find(run, n, k, &comm, DT_AXES_TENSOR, &cut), DT_OK, "%s", dt_error_text());
    return cut;
}

/* Every run, counted or a replica, chooses of its own what the sort chooses. */
static void check_choice(const dt_topk_run *run, int n, int64_t k)
{
    bool *expected = sorted_choice(k);
    dt_topk_cut cut = find(run, n, k);
    int64_t chosen = 0;
    for (int r = 0; r < n; r++) {
        for (int64_t i = 0; i < run[r].count; i++) {
            bool is = dt_topk_chosen(&run[r], i, cut);
            cr_assert_eq(is, expected[dt_topk_key(&run[r], i)], "k = %lld: element %lld", (long long)k,
                         (long long)dt_topk_key(&run[r], i));
            chosen += is && run[r].counts;
        }
    }
    cr_assert_eq(chosen, k);
    free(expected);
}

static void check_all_k(const dt_topk_run *run, int n)
{
    const int64_t k[] = {1, 2, 77, 1000, N / 2, N - 1, N};
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) check_choice(run, n, k[i]);
}

static void fill(int kind)
{
    for (int i = 0; i < N; i++) {
        float z = dt_rng_normal(3, DT_RNG_INIT, (uint64_t)kind, (uint64_t)i);
        if (kind == 0) score[i] = z * z;
        if (kind == 1) score[i] = (float)(i * 7919 % 5);            /* many ties */
        if (kind == 2) score[i] = i % 10 == 3 ? z * z * 1e-30f : 0; /* most are zero, the others tiny */
        if (kind == 3) score[i] = 2.5f;                             /* one tie */
        if (kind == 4) score[i] = ldexpf(fabsf(z), i % 200 - 100);  /* every size, denormals too */
        if (kind == 5) score[i] = i % 2 ? 0.0f : -0.0f;             /* zeros are equal */
    }
}

Test(delta_topk, chooses_what_a_sort_does, .init = begin, .fini = end)
{
    for (int kind = 0; kind < 6; kind++) {
        fill(kind);
        check_all_k(&(dt_topk_run){.score = score, .count = N, .counts = true}, 1);
    }
}

/* Keys above 2^32, far apart: all their digits count. */
Test(delta_topk, large_keys_are_told_apart, .init = begin, .fini = end)
{
    dt_topk_run run[3];
    fill(3);
    const int64_t key0[] = {(int64_t)5 << 40, (int64_t)3 << 33, (int64_t)5 << 40 | (int64_t)1 << 20};
    for (int r = 0; r < 3; r++) run[r] = (dt_topk_run){.score = score, .count = 1000, .key0 = key0[r], .counts = true};
    dt_topk_cut cut = find(run, 3, 1700);
    int64_t chosen[3] = {0};
    for (int r = 0; r < 3; r++)
        for (int64_t i = 0; i < 1000; i++) chosen[r] += dt_topk_chosen(&run[r], i, cut);
    cr_assert_eq(chosen[1], 1000);
    cr_assert_eq(chosen[0], 700);
    cr_assert_eq(chosen[2], 0);
    cr_assert_eq(cut.key, key0[0] + 700);
}

/* Two weights of 40 x 50 and 1000 values, as the ranks of a mesh hold them: rows, columns, or copies. */
static int cut_into_runs(dt_topk_run *run, float *slices, int rows, int cols, int copies)
{
    int n = 0;
    const int64_t height = 40 / rows, width = 50 / cols;
    for (int copy = 0; copy < copies; copy++) {
        for (int r = 0; r < rows; r++) {
            for (int c = 0; c < cols; c++) {
                for (int64_t i = 0; i < height; i++)
                    memcpy(slices + i * width, score + (r * height + i) * 50 + c * width,
                           (size_t)width * sizeof *score);
                run[n++] = (dt_topk_run){slices, height * width, r * height * 50 + c * width, width, 50, copy == 0};
                slices += height * width;
            }
        }
    }
    for (int copy = 0; copy < copies; copy++)
        run[n++] = (dt_topk_run){score + 2000, 1000, 2000, 0, 0, copy == copies - 1};
    return n;
}

Test(delta_topk, the_cut_does_not_depend_on_the_layout, .init = begin, .fini = end)
{
    const int layout[][3] = {{1, 1, 1}, {4, 1, 1}, {1, 5, 1}, {2, 2, 1}, {1, 1, 3}, {4, 1, 2}, {2, 5, 4}};
    float *slices = calloc(4 * 2000, sizeof *slices);
    for (int kind = 0; kind < 6; kind++) {
        fill(kind);
        for (size_t l = 0; l < sizeof layout / sizeof *layout; l++) {
            dt_topk_run run[64], whole = {.score = score, .count = N, .counts = true};
            int n = cut_into_runs(run, slices, layout[l][0], layout[l][1], layout[l][2]);
            check_all_k(run, n);
            dt_topk_cut a = find(run, n, 500), b = find(&whole, 1, 500);
            cr_assert(a.score == b.score && a.key == b.key);
        }
    }
    free(slices);
}

Test(delta_topk, scores_that_are_no_information_are_refused, .init = begin, .fini = end)
{
    const float bad[] = {NAN, INFINITY, -1.0f};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        dt_topk_cut cut;
        fill(0);
        score[1234] = bad[i];
        dt_topk_run run = {.score = score, .count = N, .counts = true};
        cr_assert_eq(dt_topk_find(&run, 1, 10, &comm, DT_AXES_TENSOR, &cut), DT_ERR_DATA);
        cr_assert_str_eq(dt_error_text(), "1 scores of the selection are not finite");
    }
}
