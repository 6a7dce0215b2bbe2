/* The token that follows: the likeliest, or one drawn from the likely ones. */
#include "base/memory.h" // dt_alloc
#include "base/rng.h"    // dt_rng_words
#include "train/generate.h"
#include <math.h>
#include <stdlib.h>

typedef struct weighted {
    double weight; /* probability times a constant */
    int32_t token;
} weighted;

static int by_weight(const void *a, const void *b)
{
    const weighted *x = a, *y = b;
    if (x->weight != y->weight) return x->weight < y->weight ? 1 : -1;
    return (x->token > y->token) - (x->token < y->token);
}

/* Uniform in [0, 1) with 53 bits. */
static double draw(uint64_t seed, int64_t position)
{
    uint32_t w[4];
    dt_rng_words(seed, DT_RNG_SAMPLE, 0, (uint64_t)position, w);
    return (double)(((uint64_t)w[0] << 21) ^ (w[1] >> 11)) * 0x1p-53;
}

/* Draws in proportion to the weights of the likeliest tokens that have share top_p of their sum. */
static int32_t draw_token(weighted *list, int64_t n, double sum, double top_p, double u)
{
    if (top_p < 1) {
        double kept = 0;
        int64_t k = 0;
        qsort(list, (size_t)n, sizeof *list, by_weight);
        while (k < n && kept < top_p * sum) kept += list[k++].weight;
        n = k;
        sum = kept;
    }
    double left = u * sum;
    int64_t i = 0;
    /* Rounding may leave a little at the end: the last token that has a weight takes it. */
    for (int64_t k = 0; k < n; k++) {
        if (list[k].weight == 0) continue;
        i = k;
        left -= list[k].weight;
        if (left < 0) break;
    }
    return list[i].token;
}

dt_status dt_choose_token(const float *logits, int64_t vocab, const dt_choice *choice, int64_t position, int32_t *token)
{
    int64_t best = -1;
    for (int64_t i = 0; i < vocab; i++)
        if (!isnan(logits[i]) && (best < 0 || logits[i] > logits[best])) best = i;
    if (best < 0 || isinf(logits[best]))
        return dt_fail(DT_ERR_MODEL, "position %lld: the logits are not finite", (long long)position);
    *token = (int32_t)best;
    if (choice->temperature == 0) return DT_OK;

    weighted *list = NULL;
    double sum = 0;
    DT_TRY(dt_alloc((size_t)vocab, sizeof *list, &list));
    for (int64_t i = 0; i < vocab; i++) {
        double x = ((double)logits[i] - (double)logits[best]) / choice->temperature;
        list[i] = (weighted){isnan(x) ? 0 : exp(x), (int32_t)i};
        sum += list[i].weight;
    }
    *token = draw_token(list, vocab, sum, choice->top_p, draw(choice->seed, position));
    free(list);
    return DT_OK;
}
