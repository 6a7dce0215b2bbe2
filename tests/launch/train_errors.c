/* What is wrong with a job ends it on every rank, with one message that names the thing, and never leaves it hanging.
 */
#include "base/file.h"
#include "launch/run.h"
#include "model/safetensors.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

TestSuite(train_errors, .init = run_set_up, .fini = run_tear_down);

#define LORA "delta { name: \"d\" lora { rank: 4 alpha: 8 } target: \"re:.*_proj\" } "
#define TRAIN "train { steps: 3 global_batch: 4 } "
#define CONFIG 2 /* exit code of errors in the configuration */
#define OTHER 1

/* A word for --set whose value is a path of the folder. */
static const char *with_path(const char *field, const char *name)
{
    static char word[4][600];
    static int next;
    next = (next + 1) % 4;
    snprintf(word[next], sizeof word[next], "%s=%s", field, run_path("%s", name));
    return word[next];
}

Test(train_errors, ranks_and_layout)
{
    run_config(LORA TRAIN);
    run_fails("-np 4", "parallel.tensor=3", CONFIG, "parallel.tensor: 3 does not divide the number of ranks, 4");
    run_fails("-np 3", "parallel.tensor=3", CONFIG,
              "parallel.tensor: 3 does not divide the backbone's attention heads, 8");
    run_fails("-np 4", "train.global_batch=6", CONFIG,
              "train.global_batch: 6 is not a multiple of train.micro_batch x data ranks = 1 x 4");
    run_fails("-np 2", "data.seq_len=100", CONFIG, "data.seq_len: 100 is more than the backbone's 64 positions");
}

Test(train_errors, fields)
{
    run_config(LORA TRAIN);
    run_fails("-np 2", "delta[0].lora.rank=0", CONFIG, "delta[0].lora.rank: 0 ");
    run_fails("-np 2", "delta[0].lora.rnak=4", CONFIG, "rank");
    run_fails("-np 2", "optim.schedule.warmup_steps=4", CONFIG,
              "optim.schedule.warmup_steps: 4 is longer than the run: train.steps is 3");
    run_fails("-np 2", "device=CUDA", OTHER, "device: CUDA: ");
}

Test(train_errors, targets)
{
    run_config(LORA TRAIN);
    run_fails("-np 2", "delta[0].target=q_porj", CONFIG, "target \"q_porj\" selects no site; nearest: q_proj");
    run_fails("-np 2", "delta[0].target=input_layernorm", CONFIG, "which is no linear layer");
    run_fails("-np 2", "delta[0].target=re:(", CONFIG, "missing closing parenthesis");
}

Test(train_errors, rows)
{
    run_config(LORA TRAIN);
    run_fails("-np 2", with_path("data.train.jsonl", "none.jsonl"), OTHER, "none.jsonl: cannot open: No such file");
    run_write("bad.jsonl", "{\"text\": \"good\"}\n{\"text\": 3}\n");
    run_fails("-np 4", with_path("data.train.jsonl", "bad.jsonl"), OTHER, "bad.jsonl:2: text: ");
    run_write("broken.jsonl", "{\"text\": \"good\"}\n\n{\"text\": \"no end}\n");
    run_fails("-np 4", with_path("data.train.jsonl", "broken.jsonl"), OTHER, "broken.jsonl:3: not valid JSON");
    run_write("empty.jsonl", "");
    run_fails("-np 2", with_path("data.train.jsonl", "empty.jsonl"), OTHER, "empty.jsonl");
}

/* kv4 with a weight file that holds one tensor. */
static void write_weights(const char *name, int64_t rows, int64_t columns)
{
    float *zeros = calloc((size_t)(rows * columns), sizeof *zeros);
    const dt_st_entry entry = {.name = name, .type = DT_ST_F32, .ndim = 2, .dim = {rows, columns}, .data = zeros};
    cr_assert_eq(dt_st_write(run_path("kv4/model.safetensors"), &entry, 1, NULL, 0), DT_OK);
    free(zeros);
}

Test(train_errors, backbone)
{
    run_config(LORA TRAIN);
    run_fails("-np 2", with_path("backbone.path", "none"), OTHER, "none is no folder");
    run_fails("-np 2", "backbone.random_init=false", OTHER, "kv4");
    write_weights("model.embed_tokens.weight", 904, 40);
    run_fails("-np 2", "backbone.random_init=false parallel.tensor=2", OTHER,
              "no tensor model.layers.0.input_layernorm.weight (expected, of shape [40])");
    write_weights("model.embed_tokens.weight", 904, 39);
    run_fails("-np 2", "backbone.random_init=false parallel.tensor=2", OTHER,
              "model.embed_tokens.weight is [904,39], expected [904,40]");
    run_write("kv4/config.json", "{\"model_type\": \"lama\"}");
    run_fails("-np 2", "", OTHER, "model_type: lama is not known; known: ");
}

Test(train_errors, run_folder_of_another_job)
{
    run_config(LORA TRAIN);
    dt_spawn job = run_start_endless("run", "-np 2", "");
    cr_assert(run_await_step(&job, "run", 1), "%s", job.output);
    run_fails("-np 2", "", OTHER, "another job is using this run folder");
    run_kill(&job, 2, 0); /* it was not disturbed: there are two ranks to kill */
}

Test(train_errors, run_folder_that_cannot_be_made)
{
    run_config(LORA TRAIN);
    dt_spawn p = run_start("rows.jsonl/run", "-np 2", "");
    dt_spawn_finish(&p);
    cr_expect_eq(p.exit_code, OTHER, "exit code %d", p.exit_code);
    cr_expect(strstr(p.output, "rows.jsonl"), "%s", p.output);
    dt_spawn_free(&p);
}

Test(train_errors, checkpoint_that_cannot_be_written)
{
    run_config(LORA TRAIN "checkpoint { every: 1 } ");
    cr_assert_eq(dt_dir_make(run_path("run")), DT_OK);
    cr_assert_eq(symlink(run_path("rows.jsonl/none"), run_path("run/ckpt")), 0);
    run_fails("-np 4", "parallel.tensor=2", OTHER, "run/ckpt");
}

Test(train_errors, resume_of_something_else)
{
    run_config(LORA TRAIN);
    run_train("run", "-np 2", "");
    run_fails("-np 2", "run.seed=8 backbone.random_init=true", OTHER, "; --fresh starts over");
    run_fails("-np 2", "data.seq_len=31", OTHER, "was trained on other data or data options; --fresh starts over");
    run_fails("-np 2", with_path("backbone.path", "kv2"), OTHER, "run/ckpt/step-000003");
    run_fails("-np 2", "train.global_batch=8", OTHER, "do not fit train.global_batch 8");
    run_fails("-np 2", "delta[0].lora.rank=8", OTHER, "run/ckpt/step-000003");
    run_fails("-np 2", "delta[0].name=e", OTHER, "run/ckpt/step-000003");
    run_fails("-np 2", "optim.sgd.momentum=0.9", OTHER, "run/ckpt/step-000003");
}

Test(train_errors, damaged_checkpoint)
{
    run_config(LORA TRAIN);
    run_train("run", "-np 2", "parallel.tensor=2");
    const char *name = run_path("run/ckpt/step-000003/delta-00001-of-00002.safetensors");
    FILE *f = fopen(name, "r+");
    cr_assert(f);
    fseek(f, -1, SEEK_END);
    int last = fgetc(f);
    fseek(f, -1, SEEK_END);
    fputc(last ^ 1, f);
    fclose(f);
    run_fails("-np 2", "parallel.tensor=2", OTHER, "delta-00001-of-00002.safetensors");
}

Test(train_errors, gradients_that_are_not_finite)
{
    run_config(LORA "train { steps: 100 global_batch: 4 } optim { sgd { lr: 1e30 } clip_norm: 0 } ");
    run_fails("-np 4", "parallel.tensor=2", OTHER, "steps in a row had no finite gradient");
    cr_expect_eq(run_count("run", "\"loss\":null"), 20, "not JSON");
}
