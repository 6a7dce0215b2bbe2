/* Global top-k by counting digits: two passes of 16 bits over the scores find the score at the cut, three over the keys
 * of the scores equal to it find the key. Non-negative floats order as their bits do. */
#include "delta/topk.h"
#include "base/memory.h" // dt_alloc
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DIGIT_BITS 16
#define DIGITS (1 << DIGIT_BITS)
#define KEY_PASSES 3 /* 48 bits of keys */

static uint32_t bits_of(float score)
{
    uint32_t u;
    score = score == 0.0f ? 0.0f : score; /* -0 */
    memcpy(&u, &score, sizeof u);
    return u;
}

/* The digit at which `need` is reached, counting from the high end (scores) or the low end (keys); *need becomes what
 * is still needed inside that digit. */
static int digit_at(const int64_t *count, bool from_high, int64_t *need)
{
    for (int i = 0; i < DIGITS; i++) {
        int d = from_high ? DIGITS - 1 - i : i;
        if (count[d] >= *need) return d;
        *need -= count[d];
    }
    return from_high ? 0 : DIGITS - 1;
}

static dt_status find(const dt_topk_run *run, int n, int64_t k, dt_comm *comm, dt_axes axes, int64_t *count,
                      dt_topk_cut *out)
{
    uint32_t cut = 0;
    for (int pass = 0; pass < 2; pass++) { /* high digit, then low */
        memset(count, 0, DIGITS * sizeof *count);
        for (int r = 0; r < n; r++) {
            for (int64_t i = 0; run[r].counts && i < run[r].count; i++) {
                uint32_t u = bits_of(run[r].score[i]);
                if (pass == 0) count[u >> DIGIT_BITS]++;
                else if (u >> DIGIT_BITS == cut >> DIGIT_BITS) count[u & (DIGITS - 1)]++;
            }
        }
        DT_TRY(comm->ops->all_reduce(comm, axes, count, DIGITS, DT_COMM_I64, DT_COMM_SUM));
        cut |= (uint32_t)digit_at(count, true, &k) << (pass == 0 ? DIGIT_BITS : 0);
    }
    memcpy(&out->score, &cut, sizeof cut);
    int64_t key = 0; /* the key of the last one chosen among the equal */
    for (int pass = KEY_PASSES - 1; pass >= 0; pass--) {
        int shift = pass * DIGIT_BITS;
        memset(count, 0, DIGITS * sizeof *count);
        for (int r = 0; r < n; r++) {
            for (int64_t i = 0; run[r].counts && i < run[r].count; i++) {
                if (bits_of(run[r].score[i]) != cut) continue;
                int64_t at = dt_topk_key(&run[r], i);
                if (at >> (shift + DIGIT_BITS) == key >> (shift + DIGIT_BITS)) count[at >> shift & (DIGITS - 1)]++;
            }
        }
        DT_TRY(comm->ops->all_reduce(comm, axes, count, DIGITS, DT_COMM_I64, DT_COMM_SUM));
        key |= (int64_t)digit_at(count, false, &k) << shift;
    }
    out->key = key + 1;
    return DT_OK;
}

dt_status dt_topk_find(const dt_topk_run *run, int n, int64_t k, dt_comm *comm, dt_axes axes, dt_topk_cut *out)
{
    int64_t *count = NULL, bad = 0;
    for (int r = 0; r < n; r++)
        for (int64_t i = 0; i < run[r].count; i++) bad += !isfinite(run[r].score[i]) || run[r].score[i] < 0.0f;
    DT_TRY(comm->ops->all_reduce(comm, axes, &bad, 1, DT_COMM_I64, DT_COMM_SUM));
    if (bad != 0) return dt_fail(DT_ERR_DATA, "%lld scores of the selection are not finite", (long long)bad);
    DT_TRY(dt_alloc(DIGITS, sizeof *count, &count));
    dt_status st = find(run, n, k, comm, axes, count, out);
    free(count);
    return st;
}
