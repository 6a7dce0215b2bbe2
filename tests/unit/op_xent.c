/* The linear head with cross-entropy, and the small ops around a loss, against plain sums in double. */
#include "kernel.h"
#include "op/xent.h"

enum { N = 150, V = 2100, C = 7 }; /* three blocks of tokens, three chunks of the vocabulary */
static double h[N * C], w[V * C], lse[N], target[N], dlse[N], dtarget[N], dh[N * C], dw[V * C];
static double expected[N * C];
static int32_t targets[N];

/* Every `keep`-th token carries loss (0: none does). */
static void set_up(int keep)
{
    fill(h, N * C, 1);
    fill(w, V * C, 2);
    fill(dlse, N, 3);
    fill(dtarget, N, 4);
    for (int64_t n = 0; n < N; n++) {
        bool counts = keep != 0 && n % keep == 0;
        targets[n] = counts ? (int32_t)((n * 733 + 5) % V) : -1;
        if (!counts) dlse[n] = dtarget[n] = 0;
    }
}

/* lse, target, expected, dh and dw by the definition. */
static void reference(void)
{
    static double p[V];
    memset(lse, 0, sizeof lse);
    memset(target, 0, sizeof target);
    memset(expected, 0, sizeof expected);
    memset(dh, 0, sizeof dh);
    memset(dw, 0, sizeof dw);
    for (int64_t n = 0; n < N; n++) {
        if (targets[n] < 0) continue;
        double sum = 0;
        for (int64_t v = 0; v < V; v++) {
            p[v] = 0;
            for (int64_t c = 0; c < C; c++) p[v] += h[n * C + c] * w[v * C + c];
            sum += exp(p[v]);
        }
        target[n] = p[targets[n]];
        lse[n] = log(sum);
        for (int64_t v = 0; v < V; v++) {
            double d = dlse[n] * exp(p[v]) / sum + (v == targets[n] ? dtarget[n] : 0);
            for (int64_t c = 0; c < C; c++) {
                expected[n * C + c] += exp(p[v]) / sum * w[v * C + c];
                dh[n * C + c] += d * w[v * C + c];
                dw[v * C + c] += d * h[n * C + c];
            }
        }
    }
}

static kernel_test forward(void)
{
    return (kernel_test){KERNEL(xent), .nin = 3, .in = {MATRIX(N, C, h), MATRIX(V, C, w), integers(N, targets)},
                         .nout = 4, .out = {VECTOR(N, lse), VECTOR(N, target), MATRIX(N, C, expected), VECTOR(N, lse)}};
}

static kernel_test backward(void)
{
    return (kernel_test){KERNEL(xent_grad), .nin = 6,
                         .in = {MATRIX(N, C, h), MATRIX(V, C, w), integers(N, targets), VECTOR(N, lse), VECTOR(N, dlse),
                                VECTOR(N, dtarget)},
                         .nout = 2, .out = {MATRIX(N, C, dh), MATRIX(V, C, dw)}};
}

/* dh from what the forward pass kept. */
static kernel_test backward_frozen(void)
{
    return (kernel_test){KERNEL(xent_dh), .nin = 7,
                         .in = {MATRIX(N, C, expected), VECTOR(N, lse), MATRIX(V, C, w), integers(N, targets),
                                VECTOR(N, lse), VECTOR(N, dlse), VECTOR(N, dtarget)},
                         .nout = 1, .out = {MATRIX(N, C, dh)}};
}

Test(xent, kernel_is_log_sum_exp_and_target_where_there_is_one)
{
    static const int keeps[] = {1, 2, 40, 0};
    for (int i = 0; i < 4; i++) {
        set_up(keeps[i]);
        reference();
        kernel_test t = forward();
        check_kernel(&t);
        t.out[2] = t.out[3] = ABSENT;
        check_kernel(&t);
        for (int leave = 0; leave < 4; leave++) {
            t = forward();
            t.out[leave] = ABSENT;
            check_kernel(&t);
        }
    }
}

Test(xent, large_logits_neither_overflow_nor_vanish)
{
    set_up(1);
    for (int64_t i = 0; i < N * C; i++) h[i] = 0;
    for (int64_t v = 0; v < V; v++) w[v * C] = (double)(v % 3) - 1;
    for (int64_t n = 0; n < N; n++) { /* logits -+1000 n: the largest third of the vocabulary takes all */
        h[n * C] = 1000 * (double)(n + 1);
        lse[n] = h[n * C] + log(V / 3);
        target[n] = h[n * C] * w[targets[n] * C];
    }
    kernel_test t = forward();
    t.out[2] = ABSENT;
    check_kernel(&t);
}

Test(xent, expected_rows_are_rescaled_as_larger_logits_come)
{
    set_up(2);
    for (int64_t n = 0; n < N; n++) h[n * C] = n % 3 == 0 ? 8 : -8; /* rising or falling along the vocabulary */
    for (int64_t v = 0; v < V; v++) w[v * C] = (double)v * 0x1p-9;
    reference();
    kernel_test t = forward();
    t.tolerance = 1e-5;
    check_kernel(&t);
}

Test(xent, gradient_of_a_frozen_head_comes_from_the_expected_rows)
{
    static const int keeps[] = {1, 2, 40, 0};
    for (int i = 0; i < 4; i++) {
        set_up(keeps[i]);
        reference();
        kernel_test t = backward_frozen();
        check_kernel(&t);
    }
    for (int absent = 5; absent < 7; absent++) {
        set_up(2);
        memset(absent == 5 ? dlse : dtarget, 0, sizeof dlse);
        reference();
        kernel_test t = backward_frozen();
        t.in[absent] = ABSENT;
        check_kernel(&t);
    }
}

Test(xent, gradient_kernel_gives_each_operand_its_own)
{
    static const int keeps[] = {1, 2, 40, 0};
    for (int i = 0; i < 4; i++) {
        set_up(keeps[i]);
        reference();
        kernel_test t = backward();
        check_kernel(&t);
        for (int leave = 0; leave < 2; leave++) {
            t = backward();
            t.out[leave] = ABSENT;
            check_kernel(&t);
        }
    }
}

Test(xent, an_absent_derivative_is_zero)
{
    for (int absent = 4; absent < 6; absent++) {
        set_up(2);
        memset(absent == 4 ? dlse : dtarget, 0, sizeof dlse);
        reference();
        kernel_test t = backward();
        t.in[absent] = ABSENT;
        check_kernel(&t);
    }
}

Test(xent, tokens_without_a_derivative_are_left_out)
{
    set_up(1);
    for (int64_t n = 0; n < N; n += 3) dlse[n] = dtarget[n] = 0;
    reference();
    for (int64_t n = 0; n < N; n += 3) lse[n] = NAN; /* not even looked at */
    kernel_test t = backward();
    check_kernel(&t);
}

/* sum(dlse * lse + dtarget * target) through the float64 kernel. */
static double loss(int64_t tokens, int64_t entries)
{
    kernel_test t = forward();
    t.in[0].dim[0] = t.in[2].dim[0] = t.out[0].dim[0] = t.out[1].dim[0] = tokens;
    t.in[1].dim[0] = entries;
    t.out[2] = t.out[3] = ABSENT;
    dt_call call;
    double sum = 0;
    run_kernel(&t, true, 1, &call);
    for (int64_t n = 0; n < tokens; n++) {
        lse[n] = ((double *)call.out[0].data)[n];
        sum += dlse[n] * lse[n] + dtarget[n] * ((double *)call.out[1].data)[n];
    }
    free_call(&call);
    return sum;
}

Test(xent, gradient_matches_finite_differences)
{
    enum { TOKENS = 67, ENTRIES = 13 };
    const double step = 1e-5;
    set_up(1);
    for (int64_t n = 0; n < TOKENS; n++) targets[n] = n % 5 == 4 ? -1 : (int32_t)(n % ENTRIES);
    loss(TOKENS, ENTRIES);
    kernel_test t = backward();
    for (int i = 0; i < 6; i++)
        if (i != 1) t.in[i].dim[0] = TOKENS;
    t.in[1].dim[0] = t.out[1].dim[0] = ENTRIES;
    t.out[0].dim[0] = TOKENS;
    dt_call call;
    run_kernel(&t, true, 1, &call);
    for (int i = 0; i < 2; i++) {
        double error = 0, norm = 0;
        for (int64_t j = 0; j < operand_count(&t.out[i]); j++) {
            double *x = i == 0 ? &h[j] : &w[j], at = *x;
            *x = at + step;
            double above = loss(TOKENS, ENTRIES);
            *x = at - step;
            double slope = (above - loss(TOKENS, ENTRIES)) / (2 * step);
            *x = at;
            error += pow(((double *)call.out[i].data)[j] - slope, 2);
            norm += slope * slope;
        }
        cr_assert(sqrt(error) <= 1e-6 * sqrt(norm), "operand %d: off by %g of %g", i, sqrt(error), sqrt(norm));
    }
    free_call(&call);
}

Test(xent, slices_of_the_vocabulary_put_together_are_the_whole)
{
    static const int64_t cut[] = {0, 900, 900 + 1024, V};
    static double max[N], sum[N], targets_sum[N], dh_sum[N * C], frozen_sum[N * C], mine_expected[N * C], own[N];
    set_up(2);
    reference();
    for (int64_t n = 0; n < N; n++) {
        max[n] = -INFINITY;
        sum[n] = targets_sum[n] = 0;
    }
    memset(dh_sum, 0, sizeof dh_sum);
    memset(frozen_sum, 0, sizeof frozen_sum);
    for (int r = 0; r < 3; r++) {
        operand mine = MATRIX(cut[r + 1] - cut[r], C, w + cut[r] * C), my_dw = mine;
        mine.off[0] = my_dw.off[0] = cut[r];
        mine.full[0] = my_dw.full[0] = V;
        my_dw.real = dw + cut[r] * C;
        dt_call call;
        kernel_test t = forward();
        t.in[1] = mine;
        run_kernel(&t, true, 2, &call);
        for (int64_t n = 0; n < N; n++) {
            double l = ((double *)call.out[0].data)[n], m = fmax(max[n], l);
            sum[n] = sum[n] * exp(max[n] - m) + exp(l - m);
            max[n] = m;
            targets_sum[n] += ((double *)call.out[1].data)[n];
        }
        memcpy(mine_expected, call.out[2].data, sizeof mine_expected);
        memcpy(own, call.out[3].data, sizeof own);
        free_call(&call);
        t = backward_frozen();
        t.in[0] = MATRIX(N, C, mine_expected);
        t.in[1] = VECTOR(N, own);
        t.in[2] = mine;
        run_kernel(&t, true, 2, &call);
        for (int64_t i = 0; i < N * C; i++) frozen_sum[i] += ((double *)call.out[0].data)[i];
        free_call(&call);
        t = backward();
        t.in[1] = mine;
        t.out[0] = ABSENT;
        t.out[1] = my_dw;
        check_kernel(&t);
        t.out[0] = MATRIX(N, C, dh);
        run_kernel(&t, true, 2, &call);
        for (int64_t i = 0; i < N * C; i++) dh_sum[i] += ((double *)call.out[0].data)[i];
        free_call(&call);
    }
    for (int64_t n = 0; n < N; n++) {
        if (targets[n] >= 0) cr_assert_float_eq(max[n] + log(sum[n]), lse[n], 1e-12);
        cr_assert_float_eq(targets_sum[n], target[n], 1e-12);
    }
    for (int64_t i = 0; i < N * C; i++) {
        cr_assert_float_eq(dh_sum[i], dh[i], 1e-12);
        cr_assert_float_eq(frozen_sum[i], dh[i], 1e-12);
    }
}

/* ---- around the loss ---- */

Test(loss, nll_and_its_gradient_are_zero_without_a_target)
{
    double want[N], want_dlse[N], want_dtarget[N];
    set_up(3);
    fill(lse, N, 5);
    fill(target, N, 6);
    fill(dlse, N, 7);
    for (int64_t n = 0; n < N; n++) {
        want[n] = targets[n] >= 0 ? lse[n] - target[n] : 0;
        want_dlse[n] = targets[n] >= 0 ? dlse[n] : 0;
        want_dtarget[n] = -want_dlse[n];
    }
    check_kernel(&(kernel_test){KERNEL(nll), .nin = 3, .in = {VECTOR(N, lse), VECTOR(N, target), integers(N, targets)},
                                .nout = 1, .out = {VECTOR(N, want)}});
    kernel_test t = {KERNEL(nll_grad), .nin = 2, .in = {VECTOR(N, dlse), integers(N, targets)}, .nout = 2,
                     .out = {VECTOR(N, want_dlse), VECTOR(N, want_dtarget)}};
    check_kernel(&t);
    t.out[0] = ABSENT;
    check_kernel(&t);
}

Test(loss, a_sum_of_many_terms_is_exact_to_the_last_digits)
{
    enum { MANY = 100003 };
    static double x[MANY];
    long double total = 0;
    fill(x, MANY, 8);
    for (int i = 0; i < MANY; i += 2) x[i] = x[i] * 1e4; /* cancels */
    for (int i = 0; i < MANY; i++) total += (long double)x[i];
    double want[1] = {(double)total};
    check_kernel(&(kernel_test){KERNEL(sum), .nin = 1, .in = {VECTOR(MANY, x)}, .nout = 1, .out = {VECTOR(1, want)},
                                .tolerance = 2e-7});
}

Test(loss, one_number_is_broadcast)
{
    double s[1] = {0.375}, want[12];
    for (int i = 0; i < 12; i++) want[i] = 0.375;
    check_kernel(&(kernel_test){KERNEL(broadcast), .nin = 2, .in = {VECTOR(1, s), MATRIX(3, 4, want)}, .nout = 1,
                                .out = {MATRIX(3, 4, want)}});
}

/* ---- sample ---- */

enum { DRAWS = 20000, LABELS = 6 };
static double logits[DRAWS * LABELS];
static int32_t key[DRAWS], asked[DRAWS], label[DRAWS];
static const double odds[LABELS] = {1, 0.25, 4, 2, 0, 0.75};

static void set_up_draws(void)
{
    for (int n = 0; n < DRAWS; n++) {
        key[n] = n * 3 - 7;
        asked[n] = 0;
        for (int v = 0; v < LABELS; v++) logits[n * LABELS + v] = odds[v] > 0 ? (double)(float)log(odds[v]) : -1e30;
    }
}

static void draw(uint64_t seed, bool f64)
{
    dt_sample_attr attr = {seed};
    const kernel_test t = {
        KERNEL(sample), ATTR_OF(attr),
        .nin = 3,       .in = {MATRIX(DRAWS, LABELS, logits), integers(DRAWS, asked), integers(DRAWS, key)},
        .nout = 1,      .out = {integers(DRAWS, label)}};
    dt_call call;
    run_kernel(&t, f64, 2, &call);
    memcpy(label, call.out[0].data, sizeof label);
    free_call(&call);
}

Test(sample, labels_come_as_often_as_the_softmax_says)
{
    int count[LABELS] = {0};
    double chi = 0;
    set_up_draws();
    draw(11, false);
    for (int n = 0; n < DRAWS; n++) count[label[n]]++;
    cr_assert_eq(count[4], 0, "a label of probability 0 was drawn");
    for (int v = 0; v < LABELS; v++) {
        double mean = DRAWS * odds[v] / 8;
        if (mean > 0) chi += (count[v] - mean) * (count[v] - mean) / mean;
    }
    cr_assert_lt(chi, 18.5, "chi-square %g", chi); /* 4 degrees of freedom: p = 0.001 */
}

Test(sample, a_label_depends_on_seed_and_key_and_not_on_where_it_is_drawn)
{
    static int32_t first[DRAWS];
    int differ = 0;
    set_up_draws();
    draw(11, false);
    memcpy(first, label, sizeof first);
    draw(11, true);
    cr_assert_arr_eq(first, label, sizeof label);
    for (int n = 0; n < DRAWS; n++) key[n] = (DRAWS - 1 - n) * 3 - 7;
    for (int n = 0; n < DRAWS; n += 5) asked[n] = -1;
    draw(11, false);
    for (int n = 0; n < DRAWS; n++) cr_assert_eq(label[n], n % 5 == 0 ? -1 : first[DRAWS - 1 - n]);
    set_up_draws();
    draw(12, false);
    for (int n = 0; n < DRAWS; n++) differ += label[n] != first[n];
    cr_assert_gt(differ, DRAWS / 2, "%d labels of %d differ under another seed", differ, DRAWS);
}
