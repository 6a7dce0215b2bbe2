/* The commands as a user meets them: what they print, what they refuse, and with which exit code. The backbone is the
 * example's, with random weights; where a figure of a trained one is known, stories260k's. */
#include "base/file.h"
#include "base/json.h"
#include "launch/spawn.h"
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORIES DT_SOURCE_DIR "/../shared/data/stories260k"
#define EXAMPLE DT_SOURCE_DIR "/examples/stories"

static char folder[64], config[96];

static void write_file(const char *path, const char *text)
{
    cr_assert_eq(dt_file_write_atomic(path, text, strlen(text)), DT_OK, "%s", dt_error_text());
}

static void set_up(void)
{
    char text[1024];
    snprintf(folder, sizeof folder, "/tmp/dtrain-cli-XXXXXX");
    cr_assert(mkdtemp(folder));
    snprintf(config, sizeof config, "%s/config.pbtxt", folder);
    snprintf(text, sizeof text,
             "run { dir: \"%s/run\" seed: 3 }\n"
             "backbone { path: \"" EXAMPLE "/backbone\" random_init: true }\n"
             "data {\n"
             "  train { jsonl: \"" EXAMPLE "/train.jsonl\" examples: 16 }\n"
             "  eval { jsonl: \"" EXAMPLE "/eval.jsonl\" examples: 4 }\n"
             "  seq_len: 128\n"
             "}\n"
             "train { steps: 2 global_batch: 8 }\n",
             folder);
    write_file(config, text);
}

static void tear_down(void)
{
    cr_expect_eq(dt_dir_remove(folder), DT_OK);
}

TestSuite(cli, .init = set_up, .fini = tear_down);

/* Runs dtrain with a command line (printf style) and asserts its exit code. What it printed is freed by the caller. */
static char *run_on(int ranks, int exit_code, const char *fmt, va_list ap)
{
    char line[2048];
    vsnprintf(line, sizeof line, fmt, ap);
    dt_spawn p = ranks > 1 ? dt_spawn_run(120, "%s -np %d %s %s", DT_SPAWN_MPIRUN, ranks, DT_SPAWN_DTRAIN, line)
                           : dt_spawn_run(120, "%s %s", DT_SPAWN_DTRAIN, line);
    cr_assert_eq(p.exit_code, exit_code, "dtrain %s: exit code %d, not %d:\n%s", line, p.exit_code, exit_code,
                 p.output);
    return p.output;
}

static char *run(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *output = run_on(1, 0, fmt, ap);
    va_end(ap);
    return output;
}

static char *run_ranks(int ranks, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *output = run_on(ranks, 0, fmt, ap);
    va_end(ap);
    return output;
}

static char *run_refused(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *output = run_on(1, 2, fmt, ap);
    va_end(ap);
    return output;
}

/* dtrain refuses the command line: exit code 2, and `expected` is the one line that it says. */
static void refuse(const char *expected, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    char *output = run_on(1, 2, fmt, ap);
    va_end(ap);
    snprintf(text, sizeof text, "dtrain: %s\n", expected);
    cr_expect_str_eq(output, text);
    free(output);
}

static void expect_in(char *output, const char *expected)
{
    cr_expect(strstr(output, expected), "no '%s' in:\n%s", expected, output);
    free(output);
}

/* The last line as JSON. */
static dt_json last_object(const char *output)
{
    dt_json o;
    size_t end = strlen(output);
    while (end > 0 && output[end - 1] == '\n') end--;
    size_t start = end;
    while (start > 0 && output[start - 1] != '\n') start--;
    cr_assert_eq(dt_json_parse(output + start, end - start, "output", DT_ERR_DATA, &o), DT_OK, "%s in:\n%s",
                 dt_error_text(), output);
    return o;
}

static double number(const dt_json *at, const char *key)
{
    double x = 0;
    cr_assert_eq(dt_json_f64(at, key, &x), DT_OK, "%s", dt_error_text());
    return x;
}

/* ---- help and mistakes ---- */

Test(cli, without_words_help_and_exit_code_2)
{
    char *output = run_refused("");
    cr_expect(strstr(output, "usage:\n  dtrain          CONFIG"), "%s", output);
    expect_in(output, "dtrain: expected a configuration or a command\n");
}

Test(cli, help_is_printed_once_by_all_ranks)
{
    char *one = run("eval --help"), *four = run_ranks(4, "eval --help");
    cr_expect_str_eq(one, four);
    cr_expect_eq(strncmp(one, "usage: dtrain eval CONFIG [--set path=value]... [options]\n", 58), 0, "%s", one);
    free(one);
    free(four);
    expect_in(run("--version"), "dtrain 0.");
}

Test(cli, mistakes_are_one_line_and_exit_code_2)
{
    refuse("evl: no command and no file of that name; nearest command: eval; dtrain --help lists the commands",
           "evl %s", config);
    refuse("--jsn: dtrain eval has no such option; nearest: --json; dtrain eval --help lists them", "eval %s --jsn",
           config);
    refuse("--set parallel.tensr=2: parallel: Parallel has no field \"tensr\"; did you mean \"tensor\"?",
           "eval %s --set parallel.tensr=2", config);
    refuse("dtrain generate: expected --prompt TEXT", "generate %s", config);
    refuse("--max-tokens: no is not a whole number >= 1", "generate %s --prompt x --max-tokens no", config);
    refuse("--top-p: nothing is drawn at temperature 0; expected --temperature X with X > 0",
           "generate %s --prompt x --top-p 0.5", config);
    refuse("--ranks: 0 is not a whole number >= 1", "plan %s --ranks 0", config);
}

Test(cli, a_file_that_is_not_there_is_named)
{
    dt_spawn p = dt_spawn_run(60, "%s %s/none.pbtxt", DT_SPAWN_DTRAIN, folder);
    cr_expect_eq(p.exit_code, 2, "exit code %d", p.exit_code);
    cr_expect(strstr(p.output, "none.pbtxt: cannot open: No such file or directory"), "%s", p.output);
    dt_spawn_free(&p);
    p = dt_spawn_run(60, "%s -np 3 %s plan %s/confg.pbtxt", DT_SPAWN_MPIRUN, DT_SPAWN_DTRAIN, folder);
    cr_expect_eq(p.exit_code, 2, "exit code %d", p.exit_code);
    cr_expect(strstr(p.output, "; nearest: ") && strstr(p.output, "/config.pbtxt\n"), "%s", p.output);
    dt_spawn_free(&p);
}

Test(cli, output_that_cannot_be_written_is_an_error)
{
    dt_spawn p = dt_spawn_run(60, "%s config %s > /dev/full", DT_SPAWN_DTRAIN, config);
    cr_expect_eq(p.exit_code, 1);
    cr_expect(strstr(p.output, "standard output: No space left on device"), "%s", p.output);
    dt_spawn_free(&p);
}

/* ---- config ---- */

Test(cli, a_resolved_configuration_is_one_itself)
{
    char *first = run("config %s --set delta[0].lora.rank=4", config), path[96];
    cr_expect(strstr(first, "\n  lora {\n    rank: 4\n    alpha: 16\n"), "%s", first);
    cr_expect(strstr(first, "\n  name: \"lora\"\n"), "%s", first);
    cr_expect(strstr(first, "\n  adamw {\n    lr: 0.001\n"), "%s", first);
    snprintf(path, sizeof path, "%s/resolved", folder);
    write_file(path, first);
    char *again = run("config %s", path);
    cr_expect_str_eq(again, first);
    free(again);
    free(run("config %s --binary > %s/resolved.pb", path, folder));
    again = run("config %s/resolved.pb", folder);
    cr_expect_str_eq(again, first);
    free(again);
    free(first);
}

/* ---- tokenize ---- */

Test(cli, lines_of_text_become_lines_of_ids)
{
    char path[96];
    snprintf(path, sizeof path, "%s/text", folder);
    write_file(path, "A\n\nAB");
    char *plain = run("tokenize %s --file %s --set data.add_bos=false", config, path);
    int a = atoi(plain);
    char expected[128];
    snprintf(expected, sizeof expected, "%d\n\n%d %d\n", a, a, a + 1); /* letters stand in a row in the vocabulary */
    cr_expect_str_eq(plain, expected);
    free(plain);
    snprintf(expected, sizeof expected, "0 %d 0\n0 0\n0 %d %d 0\n", a, a, a + 1);
    char *framed = run("tokenize %s --file %s --set data.add_eos=true", config, path);
    cr_expect_str_eq(framed, expected);
    free(framed);
    write_file(path, "fine\nnot \xff\n");
    dt_spawn p = dt_spawn_run(60, "%s tokenize %s --file %s", DT_SPAWN_DTRAIN, config, path);
    cr_expect_eq(p.exit_code, 1);
    cr_expect(strstr(p.output, "/text:2: invalid UTF-8 at byte 4\n"), "%s", p.output);
    dt_spawn_free(&p);
}

Test(cli, rows_are_shown_with_their_ids_and_loss)
{
    char path[96], expected[256];
    snprintf(path, sizeof path, "%s/letter", folder);
    write_file(path, "A");
    char *letter = run("tokenize %s --file %s --set data.add_bos=false", config, path);
    int a = atoi(letter), b = a + 1;
    free(letter);
    snprintf(path, sizeof path, "%s/rows", folder);
    write_file(path,
               "{\"text\": \"AB\"}\n{\"prompt\": \"AA\", \"completion\": \"B\"}\n"
               "{\"messages\": [{\"role\": \"assistant\", \"content\": \"AB\"}, {\"role\": \"user\", \"content\": "
               "\"A\"}, {\"role\": \"assistant\", \"content\": \"B\"}]}\n");
    snprintf(expected, sizeof expected,
             "{\"ids\":[0,%d,%d,0],\"loss\":[[1,4]]}\n{\"ids\":[0,%d,%d,%d,0],\"loss\":[[3,5]]}\n"
             "{\"ids\":[0,%d,%d,%d,%d,0],\"loss\":[[1,3],[4,6]]}\n",
             a, b, a, a, b, a, b, a, b);
    char *rows = run("tokenize %s --rows %s --set data.add_eos=true --set 'data.chat.template={user {} assistant {}}'",
                     config, path);
    cr_expect_str_eq(rows, expected, "%s", rows);
    free(rows);
}

Test(cli, ids_are_those_of_the_sentencepiece_tokenizer)
{
    if (!dt_path_exists(STORIES)) cr_skip_test("no " STORIES);
    char path[96];
    snprintf(path, sizeof path, "%s/text", folder);
    write_file(path, "Once upon a time\n");
    char *ids = run("tokenize %s --set backbone.path=" STORIES " --file %s", config, path);
    cr_expect_str_eq(ids, "1 403 407 261 378\n");
    free(ids);
}

/* ---- plan ---- */

/* What rank 0 sends in a step, as planned and as measured. */
static void check_plan(int ranks, const char *options)
{
    dt_json plan, groups, step;
    char *output = run("plan %s --ranks %d %s --json", config, ranks, options), path[128], *metrics = NULL;
    size_t bytes;
    plan = last_object(output);
    cr_assert_eq(dt_json_array(&plan, "groups", &groups), DT_OK);
    dt_json rank0 = dt_json_child(&groups, groups.node->child, 0);
    free(run_ranks(ranks, "%s --fresh %s", config, options));
    snprintf(path, sizeof path, "%s/run/metrics.jsonl", folder);
    cr_assert_eq(dt_file_read(path, &metrics, &bytes), DT_OK, "%s", dt_error_text());
    const char *line = strstr(metrics, "\"step\":1,\"loss\"");
    cr_assert(line);
    cr_assert_eq(dt_json_parse(line - 1, strcspn(line - 1, "\n"), "metrics", DT_ERR_DATA, &step), DT_OK);
    cr_expect_eq(number(&rank0, "delta_comm_bytes"), number(&step, "delta_comm_bytes"), "%d ranks, %s: %g, not %g",
                 ranks, options, number(&rank0, "delta_comm_bytes"), number(&step, "delta_comm_bytes"));
    cr_expect_eq(number(&rank0, "tp_comm_bytes"), number(&step, "tp_comm_bytes"), "%d ranks, %s: %g, not %g", ranks,
                 options, number(&rank0, "tp_comm_bytes"), number(&step, "tp_comm_bytes"));
    cr_expect(number(&step, "delta_comm_bytes") > 0 || ranks == 1);
    dt_json_free(&step);
    dt_json_free(&plan);
    free(metrics);
    free(output);
}

Test(cli, plan_says_what_lora_sends)
{
    check_plan(4, "--set delta[0].lora.rank=4 --set parallel.tensor=2");
    check_plan(4, "--set delta[0].lora.rank=4 --set parallel.tensor=2 --set parallel.sequence=true "
                  "--set train.recompute=true");
}

Test(cli, plan_says_what_full_fine_tuning_sends)
{
    check_plan(4, "--set delta[0].full={} --set parallel.tensor=2");
}

Test(cli, plan_says_what_fish_sends)
{
    check_plan(3, "--set 'delta[0]={ fish { keep: 0.031 samples: 4 } }' --set train.global_batch=9");
}

Test(cli, plan_folds_ranks_that_are_alike)
{
    char *output = run("plan %s --ranks 1024 --set parallel.tensor=8 --set delta[0].lora.rank=4 "
                       "--set train.global_batch=128",
                       config);
    cr_expect(strstr(output, "1024 ranks: data 128 x tensor 8, "), "%s", output);
    cr_expect(strstr(output, "group 1: ranks 0-7\n"), "%s", output);
    expect_in(output, "group 2: ranks 8-1023\n"); /* the first data rank saves */
}

Test(cli, plan_checks_what_a_run_checks)
{
    refuse("parallel.tensor: 2 does not divide the number of ranks, 3",
           "plan %s --ranks 3 --set parallel.tensor=2 --set delta[0].full={}", config);
    refuse("train.global_batch: 8 is not a multiple of train.micro_batch x data ranks = 1 x 3",
           "plan %s --ranks 3 --set delta[0].full={}", config);
    refuse("parallel.tensor: 16 does not divide the backbone's attention heads, 8",
           "plan %s --ranks 16 --set parallel.tensor=16 --set delta[0].full={}", config);
}

static int count_in(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what)) n++;
    return n;
}

/* Its sites with their names and roles; its nodes, as many as the plan says; the collectives of this layout. */
Test(cli, plan_prints_the_graph_of_a_rank)
{
    const char *options = "--ranks 4 --set delta[0].lora.rank=4 --set parallel.tensor=2";
    char *output = run("plan %s %s --json", config, options);
    dt_json plan = last_object(output);
    char *graph = run("plan %s %s --graph 3", config, options);
    cr_expect(strstr(graph, "\nsite model.layers.0.self_attn.q_proj block.0.attn.q y=%"), "%s", graph);
    cr_expect(strstr(graph, "\nparam lora.model.layers.0.self_attn.q_proj.lora_B.weight:acc["), "%s", graph);
    cr_expect_eq(count_in(graph, " @block.0.attn.q\n"), 1, "%s", graph);
    cr_expect_eq(count_in(graph, ") @block.0.ffn.down\n"), 1, "%s", graph);
    cr_expect_eq(count_in(graph, " = "),
                 number(&plan, "backward_nodes") + number(&plan, "forward_nodes") + number(&plan, "once_nodes"));
    cr_expect_eq(count_in(graph, " = all_reduce(flat:grad)\n"), 1, "%s", graph);
    const char *micro = strstr(graph, "\nmicro:\n"), *epilogue = strstr(graph, "\nepilogue:\n");
    cr_assert(micro && epilogue);
    cr_expect_lt(micro, epilogue);
    cr_expect_eq(count_in(micro, " <-") - count_in(epilogue, " <-"), number(&plan, "backward_nodes"));
    cr_expect(strstr(micro, " t:sum = matmul("), "%s", graph);
    char *whole = run("plan %s --ranks 1 --set delta[0].lora.rank=4 --graph=0", config);
    cr_expect_eq(count_in(whole, "all_reduce"), 0, "%s", whole);
    refuse("--graph: there is no rank 4 of 4", "plan %s %s --graph 4", config, options);
    free(whole);
    free(graph);
    dt_json_free(&plan);
    free(output);
}

Test(cli, plan_says_who_reads_the_weights)
{
    const char *options = "--ranks 2 --set delta[0].lora.rank=4";
    char *output = run("plan %s %s", config, options);
    expect_in(output, "weights: drawn, not read\n");
    output = run("plan %s %s --set backbone.random_init=false", config, options);
    expect_in(output, "weights: every rank reads its slices of the files\n");
    output = run("plan %s %s --set backbone.random_init=false --set backbone.read=NODE", config, options);
    expect_in(output, "weights: one rank of each node reads the files once and hands out the slices\n");
}

/* ---- init ---- */

/* Held-out loss of a backbone. */
static double loss_of(const char *sets)
{
    char *output = run("eval %s --json --set run.seed=3 %s", config, sets);
    dt_json o = last_object(output);
    double loss = number(&o, "eval_loss");
    dt_json_free(&o);
    free(output);
    return loss;
}

static double loss_of_folder(const char *name)
{
    char sets[256];
    snprintf(sets, sizeof sets, "--set backbone.random_init=false --set backbone.path=%s/%s", folder, name);
    return loss_of(sets);
}

static void expect_same_file(const char *a, const char *b, bool same)
{
    char path[2][128], *data[2];
    size_t bytes[2];
    snprintf(path[0], sizeof path[0], "%s/%s", folder, a);
    snprintf(path[1], sizeof path[1], "%s/%s", folder, b);
    for (int i = 0; i < 2; i++) cr_assert_eq(dt_file_read(path[i], &data[i], &bytes[i]), DT_OK, "%s", dt_error_text());
    cr_expect_eq(bytes[0] == bytes[1] && memcmp(data[0], data[1], bytes[0]) == 0, same, "%s and %s", a, b);
    free(data[0]);
    free(data[1]);
}

Test(cli, init_writes_the_weights_that_random_init_computes_with)
{
    free(run("init " EXAMPLE "/backbone %s/a --seed 3", folder));
    free(run("init " EXAMPLE "/backbone %s/b --seed 3", folder));
    free(run("init " EXAMPLE "/backbone %s/other --seed 4", folder));
    free(run("init " EXAMPLE "/backbone %s/shards --seed 3 --shard-mb 1", folder));
    free(run("init " EXAMPLE "/backbone %s/bf16 --seed 3 --type BF16", folder));
    expect_same_file("a/model.safetensors", "b/model.safetensors", true);
    expect_same_file("a/model.safetensors", "other/model.safetensors", false);
    expect_same_file("a/tokenizer.json", "shards/tokenizer.json", true);
    double loss = loss_of("");
    cr_expect_eq(loss_of_folder("a"), loss);
    cr_expect_eq(loss_of_folder("shards"), loss);
    cr_expect_neq(loss_of_folder("other"), loss);
    cr_expect_neq(loss_of_folder("bf16"), loss);
    cr_expect_float_eq(loss_of_folder("bf16"), loss, 1e-3);
    expect_in(run("inspect %s/bf16", folder), "BF16");
    char path[128];
    snprintf(path, sizeof path, "%s/shards/model.safetensors.index.json", folder);
    cr_expect(dt_path_exists(path));
    snprintf(path, sizeof path, "%s/shards/model-00002-of-00004.safetensors", folder);
    cr_expect(dt_path_exists(path));
}

Test(cli, init_refuses_to_write_over_a_backbone)
{
    char expected[192];
    free(run("init " EXAMPLE "/backbone %s/a", folder));
    snprintf(expected, sizeof expected, "%s/a/config.json: is there already; expected a folder without a backbone",
             folder);
    refuse(expected, "init " EXAMPLE "/backbone %s/a", folder);
    refuse("--type: F16 is not F32 or BF16", "init " EXAMPLE "/backbone %s/b --type F16", folder);
}

/* ---- inspect, eval, generate ---- */

Test(cli, inspect_shows_what_was_trained_where)
{
    const char *deltas =
        "--set 'delta[0]={ name: \"a\" lora { rank: 4 } target: \"q_proj\" exclude: \"re:.*layers.3.*\" }' "
        "--set 'delta[1]={ name: \"b\" fish { keep: 0.01 samples: 4 } target: \"up_proj\" }'";
    free(run("%s %s", config, deltas));
    char *output = run("inspect %s/run", folder);
    cr_expect(strstr(output, "/run/ckpt/step-000002: trained beside " EXAMPLE "/backbone\n"), "%s", output);
    cr_expect(strstr(output, "│  ├─ {0-2} x3 "), "%s", output); /* layer 3 has no LoRA */
    cr_expect(strstr(output, "│  └─ 3\n"), "%s", output);
    cr_expect(strstr(output, "lora_A.weight              [4, 128] "), "%s", output);
    cr_expect(strstr(output, "  a (lora)\n"), "%s", output);
    cr_expect(strstr(output, "  b (fish) "), "%s", output);
    cr_expect_null(strstr(output, "\033"), "no colours in a file");
    /* LoRA: 3 layers of 4 x 128 + 128 x 4; FISH: 1% of 4 layers of 352 x 128. */
    expect_in(output, "\n4,874 trainable values, ");
    output = run("inspect %s/run/ckpt/step-000002/delta-00000-of-00001.safetensors", folder);
    cr_expect(strstr(output, "lora_A.weight"), "%s", output);
    expect_in(output, " tensors, ");
}

Test(cli, inspect_folds_the_layers_of_a_backbone)
{
    char *output = run("inspect " EXAMPLE "/backbone");
    cr_expect(strstr(output, "backbone: llama, 4 layers, width 128, 8 heads (4 of keys and values) of 16"), "%s",
              output);
    cr_expect(strstr(output, "├─ layers.{0-3} x4 "), "%s", output);
    cr_expect(strstr(output, "│  │  ├─ k_proj.weight                 [64, 128] "), "%s", output);
    expect_in(output, "\n38 tensors, 869,504 values");
}

Test(cli, inspect_names_what_it_can_show)
{
    char expected[256];
    snprintf(
        expected, sizeof expected,
        "%s: nothing to inspect; expected a backbone's folder (with config.json), a run or checkpoint folder, or a "
        ".safetensors file",
        folder);
    refuse(expected, "inspect %s", folder);
}

Test(cli, eval_ends_with_an_object)
{
    char *output = run("eval %s --json", config);
    dt_json o = last_object(output);
    cr_expect_gt(number(&o, "eval_tokens"), 0);
    cr_expect_float_eq(number(&o, "eval_loss"), 6.93, 0.3, "random weights know nothing: ln 1024");
    dt_json_free(&o);
    free(output);
    refuse("--delta: the configuration names no delta to load it into", "eval %s --delta x --set data.seq_len=512",
           config);
}

Test(cli, eval_needs_rows)
{
    char path[96], text[256];
    snprintf(path, sizeof path, "%s/bare.pbtxt", folder);
    snprintf(text, sizeof text, "backbone { path: \"" EXAMPLE "/backbone\" random_init: true }\n");
    write_file(path, text);
    refuse("data.eval: missing; expected data { eval { jsonl: \"...\" } }", "eval %s", path);
}

Test(cli, generate_needs_room_behind_the_prompt)
{
    char text[2048] = "";
    for (int i = 0; i < 600; i++) strcat(text, "x ");
    expect_in(run_refused("generate %s --prompt '%s'", config, text),
              " tokens leave nothing of the backbone's 512 positions\n");
    refuse("--prompt: has no tokens, and the tokenizer puts none in front; expected text",
           "generate %s --prompt= --set data.add_bos=false", config);
}

Test(cli, generated_bytes_are_whole_characters)
{
    /* Random weights draw bytes at random: most of them begin or end a character in the wrong place. */
    char *text = run("generate %s --prompt x --max-tokens 60 --temperature 3 2>%s/log", config, folder);
    const unsigned char *c = (const unsigned char *)text;
    for (int more = 0; *c != 0; c++) {
        if (more > 0) cr_assert_eq(*c & 0xC0, 0x80, "a character is cut in '%s'", text);
        else cr_assert_neq(*c & 0xC0, 0x80, "a character begins in its middle in '%s'", text);
        more = more > 0 ? more - 1 : *c >= 0xF0 ? 3 : *c >= 0xE0 ? 2 : *c >= 0xC0 ? 1 : 0;
    }
    cr_expect_eq(c[-1], '\n');
    free(text);
}

Test(cli, generation_ends_where_training_taught_it_to)
{
    char rows[96];
    snprintf(rows, sizeof rows, "%s/rows.jsonl", folder);
    write_file(rows, "{\"prompt\": \"2+2\", \"completion\": \"=4\"}\n");
    free(run("%s --set delta[0].full={} --set data.train.jsonl=%s --set data.train.examples=0 "
             "--set data.eval.jsonl=%s --set data.seq_len=8 --set train.steps=40 --set train.global_batch=1",
             config, rows, rows));
    char *text = run("generate %s --set delta[0].full={} --prompt 2+2 2>&1", config);
    cr_expect(strstr(text, "=4\n"), "%s", text);
    expect_in(text, "dtrain: 2 tokens behind a prompt of 4 in ");
    text = run("generate %s --set delta[0].full={} --delta %s/run/ckpt/step-000040 --prompt 2+2 2>&1", config, folder);
    expect_in(text, "; ended by the end-of-text token\n");
}
