/* The order in which rows are drawn: shares of several sources, whole passes through each, nothing but numbers decides.
 */
#include "data/order.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert_eq((call), DT_OK, "%s", dt_error_text())
enum { MOST = 4096 };

static dt_order make(const int64_t *rows, const double *weight, int n, int shuffle, uint64_t seed)
{
    dt_order order;
    OK(dt_order_make(rows, weight, n, shuffle, seed, &order));
    cr_assert_leq(order.total, MOST);
    return order;
}

static int source_of(const dt_order *order, int64_t row)
{
    int s = 0;
    cr_assert(row >= 0 && row < order->total);
    while (row >= order->source[s].first + order->source[s].rows) s++;
    return s;
}

Test(order, every_stretch_has_the_shares_of_the_weights)
{
    const int64_t rows[] = {1000, 300, 700};
    const double weight[] = {1, 5, 2.5};
    int64_t row[MOST];
    dt_order order = make(rows, weight, 3, 1, 5);
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        int64_t drawn[3] = {0};
        OK(dt_order_epoch(&order, DT_RNG_SHUFFLE, epoch, row));
        for (int64_t i = 0; i < order.total; i++) {
            drawn[source_of(&order, row[i])]++;
            for (int s = 0; s < 3; s++)
                cr_assert_lt(llabs(drawn[s] - (int64_t)((double)(i + 1) * weight[s] / 8.5)), 3, "draw %lld",
                             (long long)i);
        }
    }
    dt_order_free(&order);
}

/* Over epochs, each source's draws are its passes one behind the other: every row once in each. */
Test(order, each_source_is_gone_through_whole_before_it_begins_anew)
{
    const int64_t rows[] = {7, 200};
    const double weight[] = {3, 1};
    int64_t row[MOST], drawn[2] = {0};
    int seen[207] = {0};
    dt_order order = make(rows, weight, 2, 1, 9);
    for (int64_t epoch = 0; epoch < 20; epoch++) {
        OK(dt_order_epoch(&order, DT_RNG_SHUFFLE, epoch, row));
        for (int64_t i = 0; i < order.total; i++) {
            int s = source_of(&order, row[i]);
            int64_t pass = drawn[s]++ / rows[s];
            cr_assert_eq(seen[row[i]]++, pass, "row %lld in pass %lld", (long long)row[i], (long long)pass);
        }
    }
    cr_assert(drawn[0] > 3 * 7 && drawn[1] > 3 * 200);
    dt_order_free(&order);
}

Test(order, an_epoch_depends_on_seed_and_number_alone)
{
    const int64_t rows[] = {50, 80};
    const double weight[] = {1, 1}, other[] = {1, 1.5}, twice[] = {2, 2};
    int64_t first[MOST], again[MOST];
    dt_order order = make(rows, weight, 2, 1, 5), fresh = make(rows, twice, 2, 1, 5),
             seed = make(rows, weight, 2, 1, 6), weights = make(rows, other, 2, 1, 5);
    const size_t bytes = (size_t)order.total * sizeof *first;
    OK(dt_order_epoch(&order, DT_RNG_SHUFFLE, 3, first));
    OK(dt_order_epoch(&order, DT_RNG_SHUFFLE, 0, again));
    cr_expect_neq(memcmp(first, again, bytes), 0);
    OK(dt_order_epoch(&fresh, DT_RNG_SHUFFLE, 3, again));
    cr_expect_eq(memcmp(first, again, bytes), 0, "weights count as shares, epochs in any order");
    OK(dt_order_epoch(&order, DT_RNG_SELECT, 3, again));
    cr_expect_neq(memcmp(first, again, bytes), 0);
    OK(dt_order_epoch(&seed, DT_RNG_SHUFFLE, 3, again));
    cr_expect_neq(memcmp(first, again, bytes), 0);
    OK(dt_order_epoch(&weights, DT_RNG_SHUFFLE, 3, again));
    cr_expect_neq(memcmp(first, again, bytes), 0);
    dt_order_free(&order);
    dt_order_free(&fresh);
    dt_order_free(&seed);
    dt_order_free(&weights);
}

/* The keys that tests/parity/rows.py and every run so far have sorted by. */
Test(order, one_source_stands_in_the_order_of_its_keys)
{
    const int64_t rows[] = {100};
    const double weight[] = {0.3};
    int64_t row[MOST];
    dt_order order = make(rows, weight, 1, 1, 42);
    OK(dt_order_epoch(&order, DT_RNG_SHUFFLE, 2, row));
    uint64_t before = 0;
    for (int i = 0; i < 100; i++) {
        uint32_t word[4];
        dt_rng_words(42, DT_RNG_SHUFFLE, 2, (uint64_t)row[i], word);
        uint64_t key = (uint64_t)word[0] << 32 | word[1];
        cr_assert_geq(key, before);
        before = key;
    }
    dt_order_free(&order);
}

Test(order, without_shuffling_rows_stand_as_in_their_files)
{
    const int64_t rows[] = {4, 2};
    const double weight[] = {1, 1};
    const int64_t expected[] = {0, 4, 1, 5, 2, 4};
    int64_t row[MOST];
    dt_order order = make(rows, weight, 2, 0, 42);
    OK(dt_order_epoch(&order, DT_RNG_SHUFFLE, 0, row));
    for (int i = 0; i < 6; i++) cr_expect_eq(row[i], expected[i], "draw %d: row %lld", i, (long long)row[i]);
    dt_order_free(&order);
}

Test(order, a_weight_that_draws_nothing_is_refused)
{
    const int64_t rows[] = {50, 50};
    const double weight[] = {1, 1e-5};
    dt_order order;
    cr_expect_eq(dt_order_make(rows, weight, 2, 1, 5, &order), DT_ERR_CONFIG);
    cr_expect_str_eq(dt_error_text(), "data.train[1].weight: 1e-05 of 1.00001: not one of the 100 rows of an epoch");
}
