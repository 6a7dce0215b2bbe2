/* The choice of the next token from logits. */
#include "train/generate.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { VOCAB = 6, DRAWS = 20000 };

static int32_t choose(const float *logits, dt_choice choice, int64_t position)
{
    int32_t token = -1;
    cr_assert_eq(dt_choose_token(logits, VOCAB, &choice, position, &token), DT_OK, "%s", dt_error_text());
    cr_assert(token >= 0 && token < VOCAB);
    return token;
}

/* How often each token is drawn at positions 0 .. DRAWS, as a share. */
static void shares(const float *logits, dt_choice choice, double share[VOCAB])
{
    memset(share, 0, VOCAB * sizeof *share);
    for (int i = 0; i < DRAWS; i++) share[choose(logits, choice, i)] += 1.0 / DRAWS;
}

/* Probabilities 0.1, 0.4, 0, 0.2, 0.2, 0.1 at temperature 1. */
static const float logits[VOCAB] = {-2.3025851f, -0.9162907f, -INFINITY, -1.6094379f, -1.6094379f, -2.3025851f};

Test(sampler, temperature_zero_takes_the_lowest_of_the_likeliest)
{
    const float equal[VOCAB] = {1, 3, NAN, 3, -INFINITY, 2};
    for (int i = 0; i < 10; i++) cr_assert_eq(choose(equal, (dt_choice){0, 1, 0}, i), 1);
}

Test(sampler, tokens_come_as_often_as_their_probability_says)
{
    const double expected[VOCAB] = {0.1, 0.4, 0, 0.2, 0.2, 0.1};
    double share[VOCAB];
    shares(logits, (dt_choice){1, 1, 3}, share);
    /* Four standard deviations of a share are below 0.014. */
    for (int i = 0; i < VOCAB; i++) cr_expect_float_eq(share[i], expected[i], 0.014, "token %d: %g", i, share[i]);
    cr_expect_eq(share[2], 0);
}

Test(sampler, temperature_divides_the_logits)
{
    const double expected[VOCAB] = {0.01, 0.16, 0, 0.04, 0.04, 0.01}; /* squares */
    double share[VOCAB];
    shares(logits, (dt_choice){0.5, 1, 3}, share);
    for (int i = 0; i < VOCAB; i++)
        cr_expect_float_eq(share[i], expected[i] / 0.26, 0.014, "token %d: %g", i, share[i]);
}

Test(sampler, top_p_keeps_the_smallest_set_of_likely_tokens)
{
    double share[VOCAB];
    shares(logits, (dt_choice){1, 0.55, 3}, share); /* 0.4 + 0.2: of the two with 0.2 the lower one */
    cr_expect_float_eq(share[1], 2.0 / 3, 0.014);
    cr_expect_float_eq(share[3], 1.0 / 3, 0.014);
    cr_expect_eq(share[0] + share[2] + share[4] + share[5], 0);
    shares(logits, (dt_choice){1, 0.39, 3}, share);
    cr_expect_float_eq(share[1], 1, 1e-9);
    shares(logits, (dt_choice){1, 0.85, 3}, share); /* 0.4 + 0.2 + 0.2 + 0.1 */
    cr_expect_float_eq(share[0], 1.0 / 9, 0.014);
    cr_expect_eq(share[5], 0);
}

Test(sampler, a_draw_depends_on_seed_and_position_alone)
{
    int differs_by_seed = 0, differs_by_position = 0;
    for (int i = 0; i < 100; i++) {
        int32_t first = choose(logits, (dt_choice){1, 1, 3}, i);
        cr_assert_eq(first, choose(logits, (dt_choice){1, 1, 3}, i));
        differs_by_seed += first != choose(logits, (dt_choice){1, 1, 4}, i);
        differs_by_position += first != choose(logits, (dt_choice){1, 1, 3}, i + 1);
    }
    cr_expect_gt(differs_by_seed, 40);
    cr_expect_gt(differs_by_position, 40);
}

Test(sampler, logits_that_are_no_numbers_are_an_error)
{
    const float none[VOCAB] = {NAN, NAN, NAN, NAN, NAN, NAN};
    const float endless[VOCAB] = {0, INFINITY, 0, 0, 0, 0};
    int32_t token;
    cr_expect_eq(dt_choose_token(none, VOCAB, &(dt_choice){0, 1, 0}, 17, &token), DT_ERR_MODEL);
    cr_expect_str_eq(dt_error_text(), "position 17: the logits are not finite");
    cr_expect_eq(dt_choose_token(endless, VOCAB, &(dt_choice){1, 1, 0}, 0, &token), DT_ERR_MODEL);
}
