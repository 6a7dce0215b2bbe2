/* The order in which rows are drawn. */
#include "data/order.h"
#include "base/memory.h" // dt_alloc

#include <math.h>   // llround
#include <stdlib.h> // qsort, free

static const double ONE = 4294967296.0; // a share of all

/* The source whose turn it is: the one that is owed most (smooth weighted round robin). Whole numbers, so that every
 * machine makes the same choice. */
static dt_order_source *take_turn(dt_order *order)
{
    dt_order_source *best = order->source;
    int64_t all = 0;
    for (int s = 0; s < order->n; s++) {
        dt_order_source *source = &order->source[s];
        source->credit += source->share;
        all += source->share;
        if (source->credit > best->credit) best = source;
    }
    best->credit -= all;
    return best;
}

static void start_turns(dt_order *order)
{
    for (int s = 0; s < order->n; s++) order->source[s].credit = 0;
}

dt_status dt_order_make(const int64_t *rows, const double *weight, int n, int shuffle, uint64_t seed, dt_order *out)
{
    dt_order order = {.seed = seed, .shuffle = shuffle, .n = n};
    double sum = 0;
    DT_TRY(dt_alloc((size_t)n, sizeof *order.source, &order.source));
    for (int i = 0; i < n; i++) sum += weight[i];
    for (int i = 0; i < n; i++) {
        order.source[i] =
            (dt_order_source){.rows = rows[i], .first = order.total, .share = llround(weight[i] / sum * ONE)};
        order.total += rows[i];
    }
    for (int64_t i = 0; n > 1 && i < order.total; i++) take_turn(&order)->draws++;
    if (n == 1) order.source[0].draws = order.total;
    int s = 0;
    while (s < n && order.source[s].draws > 0) s++;
    if (s < n) {
        const long long total = order.total;
        dt_order_free(&order);
        return dt_fail(DT_ERR_CONFIG, "data.train[%d].weight: %g of %g: not one of the %lld rows of an epoch", s,
                       weight[s], sum, total);
    }
    *out = order;
    return DT_OK;
}

void dt_order_free(dt_order *order)
{
    free(order->source);
    *order = (dt_order){0};
}

typedef struct sort_key {
    uint64_t random;
    int64_t row;
} sort_key;

static int by_random_then_row(const void *a, const void *b)
{
    const sort_key *x = a, *y = b;
    if (x->random != y->random) return x->random < y->random ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* The rows of one pass through a source. */
static void order_pass(const dt_order *order, dt_rng_purpose purpose, int s, int64_t pass, sort_key *key)
{
    const dt_order_source *source = &order->source[s];
    for (int64_t i = 0; i < source->rows; i++) {
        uint32_t word[4] = {0};
        if (order->shuffle) dt_rng_words(order->seed, purpose, (uint64_t)s << 48 | (uint64_t)pass, (uint64_t)i, word);
        key[i] = (sort_key){(uint64_t)word[0] << 32 | word[1], source->first + i};
    }
    if (order->shuffle) qsort(key, (size_t)source->rows, sizeof *key, by_random_then_row);
}

/* The draws of one source in an epoch: those that follow all of the epochs in front of it. */
static void order_source(const dt_order *order, dt_rng_purpose purpose, int s, int64_t epoch, sort_key *key,
                         int64_t *drawn)
{
    const dt_order_source *source = &order->source[s];
    int64_t from = epoch * source->draws, pass = -1;
    for (int64_t i = 0; i < source->draws; i++) {
        if ((from + i) / source->rows != pass) {
            pass = (from + i) / source->rows;
            order_pass(order, purpose, s, pass, key);
        }
        drawn[i] = key[(from + i) % source->rows].row;
    }
}

dt_status dt_order_epoch(dt_order *order, dt_rng_purpose purpose, int64_t epoch, int64_t *row)
{
    int64_t most = 0, at = 0;
    sort_key *key = NULL;
    int64_t *drawn = NULL, **next = NULL; // drawn: source by source; next: of each, what its next turn draws
    dt_status st;
    for (int s = 0; s < order->n; s++)
        if (order->source[s].rows > most) most = order->source[s].rows;
    DT_GOTO(dt_alloc((size_t)most, sizeof *key, &key), done);
    if (order->n == 1) {
        order_source(order, purpose, 0, epoch, key, row);
        goto done;
    }
    DT_GOTO(dt_alloc((size_t)order->total, sizeof *drawn, &drawn), done);
    DT_GOTO(dt_alloc((size_t)order->n, sizeof *next, &next), done);
    for (int s = 0; s < order->n; at += order->source[s++].draws) {
        next[s] = drawn + at;
        order_source(order, purpose, s, epoch, key, next[s]);
    }
    start_turns(order);
    for (int64_t i = 0; i < order->total; i++) row[i] = *next[take_turn(order) - order->source]++;
done:
    free(key);
    free(drawn);
    free(next);
    return st;
}
