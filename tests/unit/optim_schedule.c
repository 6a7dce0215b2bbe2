/* The learning rate over a run, at its ends and in between. */
#include "optim/optim.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static Dtrain__Config *config;

static void schedule(const char *text)
{
    char full[256];
    dt_config_free(config);
    snprintf(full, sizeof full, "optim { schedule { %s } }", text);
    cr_assert_eq(dt_config_parse("test", full, strlen(full), NULL, 0, &config), DT_OK, "%s", dt_error_text());
}

static void check(int64_t steps, int64_t step, double expected)
{
    double is = dt_schedule(config->optim, steps, step);
    cr_assert(fabs(is - expected) < 1e-12, "step %lld of %lld: %g, not %g", (long long)step, (long long)steps, is,
              expected);
}

static void end(void)
{
    dt_config_free(config);
}

Test(optim_schedule, constant_stays_at_the_peak, .fini = end)
{
    schedule("");
    for (int64_t step = 1; step <= 10; step++) check(10, step, 1);
}

Test(optim_schedule, warm_up_rises_to_the_peak_and_decay_falls_to_its_end, .fini = end)
{
    for (int kind = 0; kind < 3; kind++) {
        const char *name[] = {"CONSTANT", "LINEAR", "COSINE"};
        char text[128];
        snprintf(text, sizeof text, "kind: %s warmup_steps: 20 min_ratio: 0.1", name[kind]);
        schedule(text);
        check(100, 1, 1.0 / 20);
        check(100, 10, 0.5);
        check(100, 20, 1);
        check(100, 100, kind == 0 ? 1 : 0.1);
        check(100, 60, kind == 0 ? 1 : 0.55); /* half way */
        for (int64_t step = 21; step < 100 && kind != 0; step++)
            cr_assert_lt(dt_schedule(config->optim, 100, step + 1), dt_schedule(config->optim, 100, step));
    }
    check(100, 40, 0.1 + 0.9 * 0.5 * (1 + sqrt(0.5))); /* a quarter: cos(pi / 4) */
}

Test(optim_schedule, a_run_may_be_all_warm_up_or_have_none, .fini = end)
{
    schedule("kind: LINEAR warmup_steps: 8");
    check(8, 4, 0.5);
    check(8, 8, 1);
    schedule("kind: LINEAR");
    check(10, 1, 0.9);
    check(10, 10, 0);
    check(1, 1, 0);
    schedule("kind: COSINE min_ratio: 1");
    for (int64_t step = 1; step <= 5; step++) check(5, step, 1);
}

Test(optim_schedule, a_run_that_goes_on_stays_at_the_end, .fini = end)
{
    schedule("kind: LINEAR min_ratio: 0.25");
    check(10, 11, 0.25);
    check(10, 1000, 0.25);
}
