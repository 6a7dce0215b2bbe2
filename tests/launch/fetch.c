/* Weights that one rank reads for all: the same bits as each rank's own reading, the same training, and errors that the
 * reader finds reach everybody. */
#include "base/file.h"
#include "launch/run.h"
#include "model/safetensors.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h> // symlink

TestSuite(fetch, .init = run_set_up, .fini = run_tear_down);

#define GOLDEN DT_SOURCE_DIR "/tests/golden/families"
#define OK(call) cr_assert_eq((call), DT_OK, "%s", dt_error_text())

static void compare(const char *path, int ranks, int tensor, int piece, const char *who)
{
    dt_spawn p = dt_spawn_run(60, "%s -np %d %s %s %d %d %s", DT_SPAWN_MPIRUN, ranks, DT_SPAWN_RANK("fetch"), path,
                              tensor, piece, who);
    const char *said = strstr(p.output, " values, 0 differ");
    cr_expect(p.exit_code == 0 && said, "%s, %d ranks, tensor %d, pieces of %d, %s: exit code %d:\n%s", path, ranks,
              tensor, piece, who, p.exit_code, p.output);
    if (said) cr_expect_gt(atoll(strstr(p.output, " weights, ") + 10), 5000, "%s", p.output);
    dt_spawn_free(&p);
}

/* Columns, rows, the vocabulary; more ranks than kv heads (2); parts of a fused tensor, which GPT-2 keeps transposed.
 * Pieces of 52 bytes cut rows anywhere. */
Test(fetch, every_slice_is_the_one_that_a_rank_reads_itself)
{
    static const char *const type[] = {"mistral", "qwen2", "qwen3", "gpt2"};
    for (int i = 0; i < 4; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", GOLDEN, type[i]);
        compare(path, 1, 1, 1 << 20, "job");
        compare(path, 4, 4, 52, "node");
        compare(path, 4, 2, 1000, "job");
    }
}

/* qwen2's or another's tensors as bf16 or fp16 in two shards and their index, in an order that is not the names'.
 * `leave_out`: one that is not written; `narrow`: one that lacks its last column. */
static const char *write_shards(const char *name, const char *of, dt_st_type type, const char *leave_out,
                                const char *narrow)
{
    static char index[64 << 10];
    char path[512];
    dt_st *st = NULL;
    OK(dt_dir_make(run_path("%s", name)));
    snprintf(path, sizeof path, "%s/%s/config.json", GOLDEN, of);
    cr_assert_eq(symlink(path, run_path("%s/config.json", name)), 0);
    cr_assert_eq(symlink(GOLDEN "/tokenizer.json", run_path("%s/tokenizer.json", name)), 0);
    snprintf(path, sizeof path, "%s/%s", GOLDEN, of);
    OK(dt_st_open(path, &st));
    dt_st_entry shard[2][128];
    int64_t n[2] = {0, 0};
    int used = snprintf(index, sizeof index, "{\"weight_map\": {");
    for (int64_t i = dt_st_count(st) - 1; i >= 0; i--) {
        const dt_st_tensor *t = dt_st_at(st, i);
        const int64_t count = (int64_t)t->bytes / 4, of_shard = i % 3 == 0;
        uint16_t *data = malloc((size_t)count * 2 + 2);
        for (int64_t k = 0; k < count; k++) memcpy(&data[k], t->data + 4 * k + 2, 2); /* bits: a number in both types */
        if (leave_out && strcmp(t->name, leave_out) == 0) {
            free(data);
            continue;
        }
        dt_st_entry *e = &shard[of_shard][n[of_shard]++];
        *e = (dt_st_entry){.name = t->name, .type = type, .ndim = t->ndim, .data = data};
        memcpy(e->dim, t->dim, sizeof e->dim);
        if (narrow && strcmp(t->name, narrow) == 0) e->dim[t->ndim - 1]--;
        used += snprintf(index + used, sizeof index - (size_t)used, "%s\"%s\": \"part%d.safetensors\"",
                         n[0] + n[1] > 1 ? ", " : "", t->name, (int)of_shard);
    }
    snprintf(index + used, sizeof index - (size_t)used, "}}");
    for (int s = 0; s < 2; s++) {
        OK(dt_st_write(run_path("%s/part%d.safetensors", name, s), shard[s], n[s], NULL, 0));
        for (int64_t i = 0; i < n[s]; i++) free((void *)(uintptr_t)shard[s][i].data);
    }
    char file[128];
    snprintf(file, sizeof file, "%s/model.safetensors.index.json", name);
    run_write(file, index);
    dt_st_close(st);
    return run_path("%s", name);
}

Test(fetch, other_types_in_several_files)
{
    compare(write_shards("bf16", "gpt2", DT_ST_BF16, NULL, NULL), 4, 4, 30, "job");
    compare(write_shards("f16", "qwen2", DT_ST_F16, NULL, NULL), 4, 4, 30, "node");
    compare(run_path("f16"), 3, 1, 4096, "node");
}

/* The others wait for a piece that cannot come. */
Test(fetch, a_file_that_ends_under_the_reader_is_an_error_of_all)
{
    const char *path = write_shards("cut", "qwen2", DT_ST_BF16, NULL, NULL);
    dt_spawn p = dt_spawn_run(60, "%s -np 4 %s %s 2 1000 node %s", DT_SPAWN_MPIRUN, DT_SPAWN_RANK("fetch"), path,
                              run_path("cut/part1.safetensors"));
    cr_expect_eq(p.exit_code, 1, "exit code %d:\n%s", p.exit_code, p.output);
    cr_expect(strstr(p.output, "cut/part1.safetensors: ends at byte "), "%s", p.output);
    dt_spawn_free(&p);
}

/* ---- jobs ---- */

static void config(const char *backbone, const char *method)
{
    char text[2048];
    snprintf(
        text, sizeof text,
        "run { dir: \"%s\" seed: 7 }\nbackbone { path: \"%s\" }\n"
        "data { train { jsonl: \"%s\" } eval { jsonl: \"%s\" } seq_len: 30 }\n"
        "delta { name: \"d\" %s }\ntrain { steps: 4 global_batch: 8 eval_every: 2 } optim { adamw { lr: 2e-3 } }\n",
        run_path("run"), backbone, run_path("rows.jsonl"), run_path("rows.jsonl"), method);
    run_write("config.pbtxt", text);
}

/* A checkpoint of the repository with the tokenizer that all of them share. */
static const char *golden(const char *of)
{
    static const char *const file[] = {"config.json", "model.safetensors"};
    OK(dt_dir_make(run_path("golden")));
    for (int i = 0; i < 2; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s/%s", GOLDEN, of, file[i]);
        cr_assert_eq(symlink(path, run_path("golden/%s", file[i])), 0);
    }
    cr_assert_eq(symlink(GOLDEN "/tokenizer.json", run_path("golden/tokenizer.json")), 0);
    return run_path("golden");
}

static void check_training(const char *backbone, const char *method)
{
    static const char *const mode[] = {"EACH", "NODE", "JOB"};
    config(backbone, method);
    for (int i = 0; i < 3; i++) {
        char sets[64];
        snprintf(sets, sizeof sets, "parallel.tensor=2 backbone.read=%s", mode[i]);
        run_train(mode[i], "-np 4", sets);
        if (i == 0) continue;
        run_compare("EACH", mode[i], "0", "0");
        run_same_files("EACH", mode[i], 4, 2);
    }
    /* The fingerprint is the same too: any of them goes on with what another left. */
    run_train("EACH", "-np 4", "parallel.tensor=4 backbone.read=JOB train.steps=5");
    cr_expect_eq(run_count("EACH", "\"event\":\"resume\",\"from_step\":4"), 1);
}

Test(fetch, lora_trains_the_same)
{
    check_training(golden("gpt2"), "lora { rank: 4 alpha: 8 }");
}

/* Selection reads the weights before training does. */
Test(fetch, fish_trains_the_same)
{
    check_training(golden("qwen2"), "fish { keep: 0.1 samples: 16 }");
}

/* What is trained in place is read into the parameters. */
Test(fetch, full_trains_the_same)
{
    check_training(golden("qwen3"), "full {}");
}

Test(fetch, random_weights_are_read_by_nobody)
{
    run_config("delta { name: \"d\" lora { rank: 4 alpha: 8 } } train { steps: 2 global_batch: 8 }");
    run_train("each", "-np 2", "");
    run_train("job", "-np 2", "backbone.read=JOB");
    run_compare("each", "job", "0", "0");
}

/* What only the reader can see ends the job with its message. */
Test(fetch, errors_of_the_reader_are_everybodys)
{
    const char *missing = write_shards("missing", "qwen2", DT_ST_BF16, "model.layers.1.mlp.up_proj.weight", NULL);
    config(missing, "lora {}");
    run_fails("-np 4", "parallel.tensor=2 backbone.read=NODE", 1, "no tensor model.layers.1.mlp.up_proj.weight");
    const char *narrow = write_shards("narrow", "qwen2", DT_ST_BF16, NULL, "model.layers.2.mlp.down_proj.weight");
    config(narrow, "lora {}");
    run_fails("-np 4", "parallel.tensor=2 backbone.read=JOB", 1,
              "model.layers.2.mlp.down_proj.weight is [16,23], expected [16,24]");
    const char *integers = write_shards("integers", "qwen2", DT_ST_I16, NULL, NULL);
    config(integers, "lora {}");
    run_fails("-np 4", "parallel.tensor=2 backbone.read=JOB", 1, "type I16 is no floating-point type");
}
