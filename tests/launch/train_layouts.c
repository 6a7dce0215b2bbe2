/* Training is the same on every layout of the ranks: losses, gradient norms, what the checkpoints hold; and the same
 * bits when repeated on one layout. */
#include "launch/run.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

TestSuite(train_layouts, .init = run_set_up, .fini = run_tear_down);

#define ADAMW "optim { adamw { lr: 2e-3 } schedule { kind: COSINE warmup_steps: 3 } clip_norm: 1 }"
#define SGD "optim { sgd { lr: 1e-2 } clip_norm: 0 }"
#define LION                                                                                                           \
    "optim { lion { lr: 3e-4 weight_decay: 0.1 } clip_norm: 1 group { match: \"re:.*lora_B.weight\" lr_scale: 2 } }"
#define TRAIN "train { steps: 12 global_batch: 8 micro_batch: 2 } "
#define LORA "delta { name: \"d\" lora { rank: 4 alpha: 8 } target: \"re:.*_proj\" } "
#define FISH "delta { name: \"d\" fish { keep: 0.1 samples: 16 } } "
#define FULL "delta { name: \"d\" full {} } "
/* Several on one site: two masks that overlap, LoRA beside them. */
#define STACKED                                                                                                        \
    "delta { name: \"a\" fish { keep: 0.1 samples: 16 } target: \"re:.*_proj\" } "                                     \
    "delta { name: \"b\" fish { keep: 0.1 samples: 8 } target: \"q_proj\" target: \"re:.*norm\" } "                    \
    "delta { name: \"c\" lora { rank: 4 alpha: 8 } target: \"q_proj\" target: \"v_proj\" } "
#define TOLERANCE "1e-5"
#define SAME_MASK "inf"

#define SEQUENCE " parallel.sequence=true"

/* One rank against data 2 x tensor 2 and tensor 4 with sequence parallelism: what the steps told, and the values that
 * SGD trained. AdamW and Lion divide by a gradient's own size: a value whose gradient is rounding alone may go either
 * way. */
static void check_layouts(const char *config)
{
    const char *values = strstr(config, "sgd") == NULL ? SAME_MASK : TOLERANCE;
    run_config(config);
    run_train("one", "-np 1", "");
    run_train("both", "-np 4", "parallel.tensor=2");
    run_compare("one", "both", TOLERANCE, values);
    run_train("tensor", "-np 4", "parallel.tensor=4" SEQUENCE);
    run_compare("one", "tensor", TOLERANCE, values);
    cr_expect_lt(run_metric("one", 12, "loss"), run_metric("one", 1, "loss") - 0.01, "nothing was learnt");
}

Test(train_layouts, lora_with_adamw)
{
    check_layouts(LORA TRAIN ADAMW);
}

Test(train_layouts, lora_with_sgd)
{
    check_layouts(LORA TRAIN "optim { sgd { lr: 0.05 } clip_norm: 0 }");
}

Test(train_layouts, lora_with_lion)
{
    check_layouts(LORA TRAIN LION);
}

Test(train_layouts, fish_with_lion)
{
    check_layouts(FISH TRAIN LION);
}

Test(train_layouts, lora_with_dropout)
{
    check_layouts("delta { name: \"d\" lora { rank: 4 alpha: 8 dropout: 0.3 } target: \"re:.*_proj\" } " TRAIN ADAMW);
}

/* run_diff holds the selected indices against each other too. */
Test(train_layouts, fish_with_adamw)
{
    check_layouts(FISH TRAIN ADAMW);
}

Test(train_layouts, fish_with_sgd)
{
    check_layouts(FISH TRAIN SGD);
}

Test(train_layouts, full_with_adamw)
{
    check_layouts(FULL TRAIN ADAMW);
}

Test(train_layouts, full_with_sgd)
{
    check_layouts(FULL TRAIN SGD);
}

Test(train_layouts, stacked_deltas)
{
    check_layouts(STACKED TRAIN "optim { sgd { lr: 1e-2 momentum: 0.9 weight_decay: 0.1 } clip_norm: 0.5 "
                                "group { match: \"re:c[.].*\" lr_scale: 3 weight_decay: 0 } }");
}

/* A group of kv heads, or of their replicas, spans several tensor ranks. */
static void check_more_ranks_than_kv_heads(const char *config, const char *backbone)
{
    char sets[512];
    run_config(config);
    snprintf(sets, sizeof sets, "backbone.path=%s", run_path("%s", backbone));
    run_train("one", "-np 1", sets);
    snprintf(sets, sizeof sets, "backbone.path=%s parallel.tensor=8" SEQUENCE, run_path("%s", backbone));
    run_train("tensor", "-np 8", sets);
    run_compare("one", "tensor", TOLERANCE, TOLERANCE);
}

/* Two at every linear: their A are merged, those of o and down split over the tensor ranks along what they read. */
Test(train_layouts, two_loras)
{
    check_layouts(LORA "delta { name: \"e\" lora { rank: 3 alpha: 6 } target: \"re:.*_proj\" } " TRAIN
                       "optim { sgd { lr: 0.05 } clip_norm: 0 }");
}

Test(train_layouts, lora_with_more_ranks_than_kv_heads)
{
    check_more_ranks_than_kv_heads(LORA TRAIN SGD, "kv4");
}

Test(train_layouts, fish_with_more_ranks_than_kv_heads)
{
    check_more_ranks_than_kv_heads(FISH TRAIN SGD, "kv2");
}

Test(train_layouts, full_with_more_ranks_than_kv_heads)
{
    check_more_ranks_than_kv_heads(FULL TRAIN SGD, "kv2");
}

Test(train_layouts, sixty_four_ranks)
{
    run_config(LORA "train { steps: 4 global_batch: 16 } " SGD);
    run_train("one", "-np 1", "");
    run_train("many", "-np 64", "parallel.tensor=4" SEQUENCE);
    run_compare("one", "many", TOLERANCE, TOLERANCE);
}

Test(train_layouts, trained_weights)
{
    const char *const methods[] = {LORA, FISH, FULL};
    for (int m = 0; m < 3; m++) {
        char config[1024];
        snprintf(config, sizeof config, "%s train { steps: 12 global_batch: 8 } " ADAMW, methods[m]);
        run_config_stories(config);
        char one[16], both[16];
        snprintf(one, sizeof one, "one%d", m);
        snprintf(both, sizeof both, "both%d", m);
        run_train(one, "-np 1", "");
        run_train(both, "-np 4", "parallel.tensor=2" SEQUENCE);
        run_compare(one, both, TOLERANCE, SAME_MASK);
    }
}

/* ---- repeated on one layout ---- */

static void check_repeated(const char *config)
{
    run_config(config);
    run_train("first", "-np 4", "parallel.tensor=2" SEQUENCE);
    run_train("again", "-np 4", "parallel.tensor=2" SEQUENCE);
    run_compare("first", "again", "0", "0");
    run_same_files("first", "again", 12, 2);
}

Test(train_layouts, lora_repeats_bit_by_bit)
{
    check_repeated(LORA TRAIN ADAMW);
}

Test(train_layouts, fish_repeats_bit_by_bit)
{
    check_repeated(FISH TRAIN ADAMW);
}

Test(train_layouts, full_repeats_bit_by_bit)
{
    check_repeated(FULL TRAIN SGD);
}
