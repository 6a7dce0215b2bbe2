/* What data ranks send each other: four bytes for each trainable value that the rank holds, once a step whatever the
 * accumulation; nothing where there is one. */
#include "launch/run.h"
#include <criterion/criterion.h>

TestSuite(train_wire, .init = run_set_up, .fini = run_tear_down);

#define STEPS 4
#define TRAIN "train { steps: 4 global_batch: 8 } " /* micro-batches of one sequence */
#define LORA "delta { name: \"d\" lora { rank: 4 alpha: 8 } target: \"re:.*_proj\" } "
#define FISH "delta { name: \"d\" fish { keep: 0.1 samples: 16 } } "

typedef struct layout {
    const char *name, *mpirun, *sets;
    int data, tensor;
} layout;

static const layout layouts[] = {
    {"alone", "-np 1", "", 1, 1},
    {"tensor", "-np 2", "parallel.tensor=2", 1, 2},
    {"data", "-np 4", "", 4, 1},
    {"both", "-np 4", "parallel.tensor=2 parallel.sequence=true", 2, 2},
    {"replicas", "-np 16", "parallel.tensor=8", 2, 8}, /* of kv heads */
};

/* `every`: steps from one exchange to the next. */
static void check_bytes(const layout *l, const char *name, int every)
{
    int64_t values = run_values_of_rank_0(name, STEPS, l->tensor);
    cr_assert_gt(values, 0);
    for (int step = 1; step <= STEPS; step++) {
        double bytes = run_metric(name, step, "delta_comm_bytes");
        double expected = l->data > 1 && step % every == 0 ? 4.0 * (double)values : 0;
        cr_expect_eq(bytes, expected, "%s, step %d: %.0f bytes, not %.0f", name, step, bytes, expected);
    }
}

static void check_layouts(const char *config, int every)
{
    run_config(config);
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        run_train(layouts[i].name, layouts[i].mpirun, layouts[i].sets);
        check_bytes(&layouts[i], layouts[i].name, every);
    }
}

Test(train_wire, lora_sends_its_values)
{
    check_layouts(LORA TRAIN, 1);
}

Test(train_wire, fish_sends_its_k_values)
{
    check_layouts(FISH TRAIN, 1);
}

Test(train_wire, full_sends_every_value)
{
    run_config("delta { name: \"d\" full {} } " TRAIN);
    run_train("data", "-np 2", "");
    check_bytes(&layouts[2], "data", 1);
}

/* Data ranks that train apart exchange differences when they meet. */
Test(train_wire, fish_sends_its_k_values_every_local_steps)
{
    check_layouts("delta { name: \"d\" fish { keep: 0.1 samples: 16 local_steps: 2 } } " TRAIN, 2);
    run_train("two", "-np 2", ""); /* as many data ranks as in "both" */
    run_compare("two", "both", "1e-5", "1e-5");
}

Test(train_wire, local_steps_go_on_where_a_run_was_stopped)
{
    run_config("delta { name: \"d\" fish { keep: 0.1 samples: 16 local_steps: 2 } } " TRAIN
               "optim { sgd { lr: 1e-2 } } checkpoint { every: 2 }");
    run_train("whole", "-np 2", "");
    run_train("parts", "-np 2", "train.steps=2");
    run_train("parts", "-np 2", "");
    run_compare("whole", "parts", "0", "0");
    check_bytes(&layouts[2], "parts", 2);
}
