/* Every family: what transformers computes in float64, token by token; training that no layout changes; generation with
 * a cache. The checkpoints are tiny, with random weights (tests/golden/families.py). */
#include "base/file.h"
#include "base/json.h"
#include "launch/nll.h"
#include "launch/spawn.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h> // symlink

#define GOLDEN DT_SOURCE_DIR "/tests/golden/families"
#define STEPS 3

static char folder[64], backbone[96], golden[256];

static void link_file(const char *from, const char *name)
{
    char to[160];
    snprintf(to, sizeof to, "%s/%s", backbone, name);
    cr_assert_eq(symlink(from, to), 0, "%s", to);
}

/* <folder>/backbone: the checkpoint of one type, with the tokenizer that all of them share. */
static void open_type(const char *type)
{
    char path[512];
    snprintf(folder, sizeof folder, "/tmp/dtrain-families-XXXXXX");
    cr_assert(mkdtemp(folder));
    snprintf(backbone, sizeof backbone, "%s/backbone", folder);
    snprintf(golden, sizeof golden, "%s/%s/nll.json", GOLDEN, type);
    cr_assert_eq(dt_dir_make(backbone), DT_OK);
    link_file(GOLDEN "/tokenizer.json", "tokenizer.json");
    snprintf(path, sizeof path, "%s/%s/config.json", GOLDEN, type);
    link_file(path, "config.json");
    snprintf(path, sizeof path, "%s/%s/model.safetensors", GOLDEN, type);
    link_file(path, "model.safetensors");
}

static void close_type(void)
{
    cr_expect_eq(dt_dir_remove(folder), DT_OK, "%s", dt_error_text());
}

static void check_tokens(const char *type)
{
    open_type(type);
    nll_check(folder, backbone, golden, 1, "");
    nll_check(folder, backbone, golden, 1, "--set data.packing=false");
    nll_check(folder, backbone, golden, 2, "--set parallel.tensor=2");
    nll_check(folder, backbone, golden, 4, "--set parallel.tensor=4");
    nll_check(folder, backbone, golden, 4, "--set parallel.tensor=2 --set parallel.sequence=true");
    close_type();
}

/* ---- training ---- */

typedef struct run {
    double loss[STEPS], norm[STEPS], eval; /* of each step; after the last one, evaluated on one rank */
} run;

static void write_config(const char *methods)
{
    char path[128];
    snprintf(path, sizeof path, "%s/train.pbtxt", folder);
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fprintf(f, "backbone { path: \"%s\" }\n%s\n", backbone, methods);
    fprintf(f, "data { train { jsonl: \"%s/texts.jsonl\" } eval { jsonl: \"%s/texts.jsonl\" } seq_len: 96 }\n", folder,
            folder);
    fprintf(f, "train { steps: %d global_batch: 2 micro_batch: 1 }\n", STEPS);
    fprintf(f, "optim { adamw { lr: 2e-2 } schedule { kind: CONSTANT } }\n");
    fclose(f);
}

/* Asserts that the command succeeds. What it printed is freed by the caller. */
static char *succeed(const char *command)
{
    dt_spawn p = dt_spawn_run(120, "%s", command);
    cr_assert_eq(p.exit_code, 0, "%s: exit code %d:\n%s", command, p.exit_code, p.output);
    return p.output;
}

static double number_of(const char *json, const char *key)
{
    cJSON *object = cJSON_Parse(json);
    const cJSON *item = cJSON_GetObjectItem(object, key);
    double value = item != NULL ? item->valuedouble : NAN;
    cJSON_Delete(object);
    return value;
}

static void read_metrics(const char *dir, run *out)
{
    char path[160], *text = NULL;
    size_t bytes = 0;
    int n = 0;
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    cr_assert_eq(dt_file_read(path, &text, &bytes), DT_OK, "%s", dt_error_text());
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        double loss = number_of(line, "loss");
        if (isnan(loss)) continue;
        cr_assert_lt(n, STEPS);
        out->loss[n] = loss;
        out->norm[n++] = number_of(line, "grad_norm");
    }
    cr_assert_eq(n, STEPS, "%d steps in %s", n, path);
    free(text);
}

static run train(int ranks, const char *options, int number)
{
    char dir[96], command[1024];
    run out = {{0}, {0}, 0};
    snprintf(dir, sizeof dir, "%s/run-%d-%d", folder, ranks, number);
    snprintf(command, sizeof command, "%s -np %d %s %s/train.pbtxt --set run.dir=%s %s", DT_SPAWN_MPIRUN, ranks,
             DT_SPAWN_DTRAIN, folder, dir, options);
    free(succeed(command));
    read_metrics(dir, &out);
    snprintf(command, sizeof command, "%s eval %s/train.pbtxt --json --set run.dir=%s", DT_SPAWN_DTRAIN, folder, dir);
    char *output = succeed(command), *last = strstr(output, "{\"eval_loss\":");
    cr_assert(last, "no JSON in:\n%s", output);
    out.eval = number_of(last, "eval_loss");
    free(output);
    return out;
}

static void check_close(double got, double expected, const char *what, const char *options)
{
    cr_expect(fabs(got - expected) <= 1e-4 * fabs(expected), "%s with %s: %.9g, not %.9g", what, options, got,
              expected);
}

static void check_same(const run *got, const run *expected, const char *options)
{
    for (int i = 0; i < STEPS; i++) {
        check_close(got->loss[i], expected->loss[i], "loss", options);
        check_close(got->norm[i], expected->norm[i], "gradient norm", options);
    }
    check_close(got->eval, expected->eval, "evaluation", options);
}

/* Trained on ranks of every kind, the same numbers; the checkpoint is read on one rank. */
static void check_training(const char *type, const char *methods)
{
    static const char *const layouts[] = {"--set parallel.tensor=4",
                                          "--set parallel.tensor=4 --set parallel.sequence=true",
                                          "--set parallel.tensor=2 --set parallel.sequence=true"};
    open_type(type);
    double untrained = nll_check(folder, backbone, golden, 1, ""); /* leaves texts.jsonl */
    write_config(methods);
    run alone = train(1, "", 0);
    cr_expect_lt(alone.eval, untrained);
    for (int i = 0; i < 3; i++) {
        run other = train(4, layouts[i], i);
        check_same(&other, &alone, layouts[i]);
    }
    close_type();
}

#define EVERYTHING "delta { full {} }"
#define DELTAS                                                                                                         \
    "delta { name: \"f\" fish { keep: 0.05 samples: 4 } }\n"                                                           \
    "delta { name: \"l\" lora { rank: 2 dropout: 0.1 } target: \"re:.*attn.[qkvo]\" target: \"re:.*ffn.*\" }"

/* ---- generation ---- */

/* A prompt longer than the windows, on one rank and on four. */
static void check_generation(const char *type)
{
    char command[1024];
    open_type(type);
    write_config("");
    for (int ranks = 1; ranks <= 4; ranks += 3) {
        snprintf(command, sizeof command, "%s -np %d %s 40 12 - %s/train.pbtxt parallel.tensor=%d", DT_SPAWN_MPIRUN,
                 ranks, DT_SPAWN_RANK("generate"), folder, ranks);
        char *output = succeed(command);
        cr_expect(strstr(output, "12 tokens agree"), "%s:\n%s", command, output);
        free(output);
    }
    close_type();
}

#define FAMILY(type)                                                                                                   \
    Test(families, type##_computes_what_transformers_does)                                                             \
    {                                                                                                                  \
        check_tokens(#type);                                                                                           \
    }                                                                                                                  \
    Test(families, type##_trains_whole_on_every_layout)                                                                \
    {                                                                                                                  \
        check_training(#type, EVERYTHING);                                                                             \
    }                                                                                                                  \
    Test(families, type##_trains_deltas_on_every_layout)                                                               \
    {                                                                                                                  \
        check_training(#type, DELTAS);                                                                                 \
    }                                                                                                                  \
    Test(families, type##_generates_as_it_computes)                                                                    \
    {                                                                                                                  \
        check_generation(#type);                                                                                       \
    }
FAMILY(mistral)
FAMILY(qwen2)
FAMILY(qwen3)
FAMILY(gpt2)
