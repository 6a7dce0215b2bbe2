/* Generation with a key-value cache: the logits of every token against one forward pass over the whole sequence, on
 * every layout, with what each method trained; and the text that comes out, against other layouts. */
#include "base/file.h"
#include "launch/spawn.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORIES DT_SOURCE_DIR "/../shared/data/stories260k"
#define EXAMPLE DT_SOURCE_DIR "/examples/stories"

static char folder[64];

static void set_up(void)
{
    snprintf(folder, sizeof folder, "/tmp/dtrain-generate-XXXXXX");
    cr_assert(mkdtemp(folder));
}

static void tear_down(void)
{
    cr_expect_eq(dt_dir_remove(folder), DT_OK);
}

TestSuite(generate, .init = set_up, .fini = tear_down);

/* Writes <folder>/config.pbtxt: a backbone of random weights, to be trained by `method` for two steps; NULL: as it is.
 */
static void write_config(const char *method)
{
    char path[128];
    snprintf(path, sizeof path, "%s/config.pbtxt", folder);
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fprintf(f, "run { dir: \"%s/run\" seed: 3 }\nbackbone { path: \"" EXAMPLE "/backbone\" random_init: true }\n",
            folder);
    fprintf(f, "data { train { jsonl: \"" EXAMPLE "/train.jsonl\" examples: 8 } seq_len: 256 }\n");
    fprintf(f, "train { steps: 2 global_batch: 2 }\noptim { adamw { lr: 1e-2 } }\n");
    if (method != NULL) fprintf(f, "delta { name: \"d\" %s }\n", method);
    fclose(f);
}

/* Asserts that the command succeeds. What it printed is freed by the caller. */
static char *run(const char *command)
{
    dt_spawn p = dt_spawn_run(120, "%s", command);
    cr_assert_eq(p.exit_code, 0, "%s: exit code %d:\n%s", command, p.exit_code, p.output);
    return p.output;
}

/* rank_generate on so many ranks. */
static void check_logits(int ranks, int tensor, int prompt, int tokens, const char *ckpt)
{
    char command[1024];
    snprintf(command, sizeof command, "%s -np %d %s %d %d %s %s/config.pbtxt parallel.tensor=%d", DT_SPAWN_MPIRUN,
             ranks, DT_SPAWN_RANK("generate"), prompt, tokens, ckpt, folder, tensor);
    char *output = run(command), expected[64];
    snprintf(expected, sizeof expected, "%d tokens agree", tokens);
    cr_expect(strstr(output, expected), "%s:\n%s", command, output);
    free(output);
}

Test(generate, cached_logits_are_those_of_the_whole_sequence)
{
    write_config(NULL);
    check_logits(1, 1, 1, 4, "-"); /* no prefill */
    check_logits(1, 1, 7, 20, "-");
    check_logits(1, 1, 300, 4, "-");  /* the prompt is longer than the prefill graph */
    check_logits(1, 1, 500, 12, "-"); /* up to the last position */
}

Test(generate, tensor_ranks_generate_together)
{
    write_config(NULL);
    check_logits(4, 4, 40, 6, "-");
    check_logits(8, 8, 40, 6, "-"); /* more ranks than kv heads */
    check_logits(4, 2, 40, 6, "-"); /* two data ranks besides */
}

static void check_method(const char *method)
{
    char command[256], ckpt[128];
    write_config(method);
    snprintf(command, sizeof command, "%s %s/config.pbtxt", DT_SPAWN_DTRAIN, folder);
    free(run(command));
    snprintf(ckpt, sizeof ckpt, "%s/run", folder);
    check_logits(1, 1, 20, 5, ckpt);
    check_logits(4, 4, 20, 5, ckpt);
}

Test(generate, with_a_trained_lora)
{
    check_method("lora { rank: 4 dropout: 0.1 } target: \"re:.*_proj\"");
}

Test(generate, with_a_trained_fish)
{
    check_method("fish { keep: 0.05 samples: 4 }");
}

Test(generate, with_everything_trained)
{
    check_method("full {}");
}

/* What `dtrain generate` prints on stdout with these ranks and options. */
static char *text_of(int ranks, const char *options)
{
    char command[1024];
    snprintf(command, sizeof command, "%s -np %d %s generate %s/config.pbtxt --max-tokens 40 %s 2>%s/log",
             DT_SPAWN_MPIRUN, ranks, DT_SPAWN_DTRAIN, folder, options, folder);
    return run(command);
}

static void check_same(const char *a_options, int a_ranks, const char *b_options, int b_ranks, int same)
{
    char *a = text_of(a_ranks, a_options), *b = text_of(b_ranks, b_options);
    cr_expect_eq(strcmp(a, b) == 0, same, "%d ranks, %s:\n%s\n%d ranks, %s:\n%s", a_ranks, a_options, a, b_ranks,
                 b_options, b);
    free(a);
    free(b);
}

Test(generate, text_is_the_same_on_every_layout)
{
    if (!dt_path_exists(STORIES)) cr_skip_test("no " STORIES);
    char path[128];
    snprintf(path, sizeof path, "%s/config.pbtxt", folder);
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fprintf(f, "backbone { path: \"" STORIES "\" }\n");
    fclose(f);
    const char *greedy = "--prompt 'Once upon a time'",
               *drawn = "--prompt 'Once upon a time' --temperature 0.9 --seed 4";
    char tensor[128];
    char *story = text_of(1, greedy);
    cr_expect_eq(strncmp(story, ", there was a little girl named Lily.", 37), 0, "%s", story);
    free(story);
    snprintf(tensor, sizeof tensor, "%s --set parallel.tensor=4", greedy);
    check_same(greedy, 1, tensor, 4, 1);
    snprintf(tensor, sizeof tensor, "%s --set parallel.tensor=2", drawn);
    check_same(drawn, 1, tensor, 4, 1);
    check_same(drawn, 1, "--prompt 'Once upon a time' --temperature 0.9 --seed 5", 1, 0);
    check_same(greedy, 1, "--prompt 'Once upon a time' --temperature 5 --top-p 1e-6", 1,
               1); /* only the likeliest is left */
}
