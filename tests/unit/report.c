/* The plan of a job against the job itself, and against what formulas say. The backbone is the example's: 4 layers of
 * width 128, feed-forward 352, 4 of 8 heads for keys and values, tied embedding of 1024. */
#include "train/report.h"
#include "train/trainer.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define EXAMPLE DT_SOURCE_DIR "/examples/stories"
enum { BACKBONE = 869504, LAYERS = 4, C = 128, F = 352, KV = 64 };

static Dtrain__Config *config;
static dt_report report;

/* Plans on `ranks` ranks what a delta, further fields of the configuration and a --set (NULL: none) say. */
static void plan_set(int ranks, const char *delta, const char *more, const char *set)
{
    char text[2048];
    snprintf(text, sizeof text,
             "run { dir: \"/nowhere\" seed: 1 } backbone { path: \"" EXAMPLE "/backbone\" random_init: true }\n"
             "delta { name: \"d\" %s }\n"
             "data { train { jsonl: \"" EXAMPLE "/train.jsonl\" examples: 4 } seq_len: 64 }\n%s",
             delta, more);
    cr_assert_eq(dt_config_parse("test", text, strlen(text), &set, set != NULL, &config), DT_OK, "%s", dt_error_text());
    cr_assert_eq(dt_report_make(config, ranks, &report), DT_OK, "%s", dt_error_text());
}

static void plan(int ranks, const char *delta, const char *more)
{
    plan_set(ranks, delta, more, NULL);
}

static void forget(void)
{
    dt_report_free(&report);
    dt_config_free(config);
    config = NULL;
}

/* Opens the same job for real, on the one rank that a test is, and compares its memory with the plan's. */
static void check_memory(const char *delta, const char *more)
{
    dt_job job;
    dt_trainer t;
    plan(1, delta, more);
    cr_assert_eq(dt_job_open(config, DT_JOB_TOKENIZER | DT_JOB_TRAIN_DATA, &job), DT_OK, "%s", dt_error_text());
    cr_assert_eq(dt_job_select(&job), DT_OK, "%s", dt_error_text());
    cr_assert_eq(dt_trainer_create(&job, NULL, &t), DT_OK, "%s", dt_error_text());
    const dt_rank_report *r = &report.rank[0];
    const dt_plan *real = dt_exec_plan(t.exec);
    int64_t inputs = 0; /* storage that is not the store's */
    for (dt_val v = 0; v < t.g->values; v++)
        if (t.g->value[v].kind == DT_KIND_INPUT || t.g->value[v].kind == DT_KIND_CONST)
            inputs += dt_value_local_count(t.g, v) * 4;
    if (!report.assumed) { /* what is selected decides which values a fused gradient needs */
        cr_expect_eq(r->arena, real->arena_bytes);
        cr_expect_eq(r->workspace, real->workspace_bytes);
    }
    cr_expect_eq(r->weights + r->params + r->grads + r->moments + r->other - inputs, dt_store_owned_bytes(job.store),
                 "%lld bytes in the store", (long long)dt_store_owned_bytes(job.store));
    cr_expect_eq(r->trainable, t.flat.count);
    cr_expect_eq(report.trainable, t.flat.global_count);
    dt_trainer_destroy(&t);
    dt_job_close(&job);
    forget();
}

Test(report, memory_is_what_a_job_holds)
{
    check_memory("lora { rank: 4 dropout: 0.1 }", "");
    check_memory("full {}", "optim { sgd { momentum: 0.9 } }");
    check_memory("full {} target: \"re:.*norm.*\"", "optim { sgd {} } train { recompute: true }");
    check_memory("fish { keep: 0.01 samples: 2 }", "");
}

Test(report, lora_counts_are_the_formula_s)
{
    plan(4, "lora { rank: 4 } target: \"q_proj\" target: \"down_proj\"", "parallel { tensor: 2 }");
    int64_t q = 4 * (C + C), down = 4 * (F + C);
    cr_expect_eq(report.backbone, BACKBONE);
    cr_expect_eq(report.trainable, LAYERS * (q + down));
    cr_expect_eq(report.delta[0].values, LAYERS * (q + down));
    /* q is split along its outputs: B with it; down along its inputs: A with it. */
    int64_t here = LAYERS * (4 * (C + C / 2) + 4 * (F / 2 + C));
    for (int r = 0; r < 4; r++) {
        cr_expect_eq(report.rank[r].trainable, here);
        cr_expect_eq(report.rank[r].params, 4 * here);
        cr_expect_eq(report.rank[r].grads, 4 * here);
        cr_expect_eq(report.rank[r].moments, 2 * 4 * here, "AdamW keeps two");
        cr_expect_eq(report.rank[r].delta_bytes, 4 * here);
        cr_expect_eq(report.rank[r].saving, r < 2 ? 3 * 4 * here : 0, "data coordinate 0 saves");
    }
    cr_expect_eq(report.micro_batches, 16);
    forget();
}

Test(report, full_fine_tuning_sends_all_that_a_rank_holds)
{
    plan(2, "full {}", "");
    cr_expect_eq(report.rank[0].delta_bytes, 4 * BACKBONE);
    cr_expect_eq(report.rank[0].full_bytes, 4 * BACKBONE);
    cr_expect_eq(report.rank[0].frozen, 0);
    cr_expect_eq(report.delta[0].values, BACKBONE);
    forget();
}

Test(report, fish_trains_the_share_that_is_kept)
{
    plan(2, "fish { keep: 0.0123 samples: 8 local_steps: 4 }", "");
    cr_expect_eq(report.trainable, (int64_t)(0.0123 * BACKBONE));
    cr_expect_eq(report.rank[1].delta_bytes, 4 * report.trainable);
    cr_expect_eq(report.delta_every, 4);
    cr_expect(report.assumed);
    cr_expect_gt(report.rank[0].selection, 4 * BACKBONE, "scores are as large as the weights");
    cr_expect_eq(report.rank[0].frozen, BACKBONE);
    forget();
}

Test(report, one_rank_sends_nothing)
{
    plan(1, "lora {}", "");
    cr_expect_eq(report.rank[0].delta_bytes, 0);
    cr_expect_eq(report.rank[0].tensor_bytes, 0);
    cr_expect_eq(report.rank[0].wires, 0);
    forget();
}

Test(report, tensor_ranks_split_the_work)
{
    plan(1, "lora {}", "train { global_batch: 8 }");
    dt_rank_report one = report.rank[0];
    forget();
    plan(4, "lora {}", "train { global_batch: 8 } parallel { tensor: 4 }");
    const dt_rank_report *r = report.rank;
    cr_expect_float_eq(4 * r->forward / one.forward, 1, 0.05);
    cr_expect_float_eq(4 * r->backward / one.backward, 1, 0.1, "%g", 4 * r->backward / one.backward); /* A is whole */
    cr_expect_float_eq(4.0 * (double)r->weights / (double)one.weights, 1, 0.01);
    int64_t sum = 0;
    for (int64_t i = 0; i < r->wires; i++) sum += r->wire[i].bytes;
    cr_expect_eq(sum, r->tensor_bytes);
    cr_expect_gt(sum, 0);
    forget();
}

Test(report, the_backward_ends_at_the_lowest_trainable_value)
{
    plan(1, "lora {} target: \"q_proj\"", "");
    int64_t all = report.backward;
    double work = report.rank[0].backward;
    forget();
    plan(1, "lora {} target: \"layers.3.self_attn.q_proj\"", "");
    cr_expect_lt(report.backward, all / 3);
    cr_expect_lt(report.rank[0].backward, work / 2);
    forget();
}

Test(report, recomputation_trades_memory_for_work)
{
    plan(1, "lora {}", "");
    dt_rank_report kept = report.rank[0];
    forget();
    plan(1, "lora {}", "train { recompute: true }");
    cr_expect_lt(report.rank[0].arena, kept.arena * 2 / 3);
    cr_expect_gt(report.rank[0].backward, kept.backward * 1.2);
    cr_expect_eq(report.rank[0].forward, kept.forward);
    forget();
}

Test(report, evaluation_is_counted_where_there_is_one)
{
    plan(1, "lora {}", "");
    cr_expect_eq(report.rank[0].evaluation, 0);
    int64_t total = report.rank[0].total;
    forget();
    plan_set(1, "lora {}", "", "data.eval.jsonl=rows.jsonl"); /* which is not read */
    cr_expect_gt(report.rank[0].evaluation, 0);
    cr_expect_eq(report.rank[0].total, total + report.rank[0].evaluation);
    forget();
}
