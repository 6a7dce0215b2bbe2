/* Every form of data is the same on every layout, from a cache or not, and a resumed run goes on where it was. */
#include "base/file.h"
#include "launch/run.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

TestSuite(train_data, .init = run_set_up, .fini = run_tear_down);

/* Three sources in one run: conversations, rows, ids. */
static void set_up_mixture(void)
{
    char rows[4096], config[4096];
    uint16_t ids[600];
    int at = 0;
    for (int i = 0; i < 24; i++)
        at += snprintf(rows + at, sizeof rows - (size_t)at,
                       "{\"messages\": [{\"role\": \"user\", \"content\": \"house %d\"}, {\"role\": \"assistant\", "
                       "\"content\": \"two dogs and %d\"}]}\n",
                       i, i * i);
    run_write("chat.jsonl", rows);
    for (int i = 0; i < 600; i++) ids[i] = (uint16_t)(i * i % 97 + 300);
    cr_assert_eq(dt_file_write_atomic(run_path("ids.bin"), ids, sizeof ids), DT_OK, "%s", dt_error_text());
    snprintf(
        config, sizeof config,
        "run { dir: '%s' seed: 7 } backbone { path: '%s' random_init: true } "
        "data { train { jsonl: '%s' } train { jsonl: '%s' weight: 2 } train { tokens: '%s' weight: 0.5 } seq_len: 30 "
        "chat { template { bos: false special: '<|eot_id|>' user { end: '<|eot_id|>' } "
        "assistant { prefix: ' the ' end: '<|eot_id|>' } } } } "
        "delta { name: 'd' lora { rank: 4 alpha: 8 dropout: 0.1 } target: 're:.*_proj' } "
        "train { steps: 12 global_batch: 8 micro_batch: 2 } optim { sgd { lr: 5e-2 } clip_norm: 1 } "
        "checkpoint { every: 2 }",
        run_path("run"), run_path("kv4"), run_path("rows.jsonl"), run_path("chat.jsonl"), run_path("ids.bin"));
    run_write("config.pbtxt", config);
}

#define CACHE "data.cache="

Test(train_data, a_mixture_is_the_same_on_every_layout)
{
    set_up_mixture();
    run_train("one", "-np 1", "");
    run_train("both", "-np 4", "parallel.tensor=2");
    run_compare("one", "both", "1e-5", "1e-5");
    run_train("tensor", "-np 4", "parallel.tensor=4 parallel.sequence=true");
    run_compare("one", "tensor", "1e-5", "1e-5");
    run_train("shares", "-np 1", "data.train[1].weight=1");
    cr_expect_neq(run_metric("one", 12, "loss"), run_metric("shares", 12, "loss"));
}

static int count_files(const char *folder)
{
    int n = 0;
    DIR *list = opendir(folder);
    for (const struct dirent *entry; list != NULL && (entry = readdir(list)) != NULL;) n += entry->d_name[0] != '.';
    if (list != NULL) closedir(list);
    return n;
}

/* Ranks that find no cache, ranks that find one, and none at all: the same bits. Two jobs share one cache. */
Test(train_data, a_cache_changes_nothing)
{
    char sets[512];
    set_up_mixture();
    snprintf(sets, sizeof sets, CACHE "%s", run_path("cache"));
    run_train("without", "-np 3", "train.global_batch=6");
    char three[640];
    snprintf(three, sizeof three, "%s train.global_batch=6", sets);
    dt_spawn first = run_start("made", "-np 3", three), second = run_start("raced", "-np 3", three);
    dt_spawn_finish(&first);
    dt_spawn_finish(&second);
    cr_expect(first.exit_code == 0 && second.exit_code == 0, "%s\n%s", first.output, second.output);
    dt_spawn_free(&first);
    dt_spawn_free(&second);
    cr_expect_eq(count_files(run_path("cache")), 3);
    run_train("found", "-np 3", three);
    const char *const others[] = {"made", "raced", "found"};
    for (int i = 0; i < 3; i++) {
        run_compare("without", others[i], "0", "0");
        run_same_files("without", others[i], 12, 1);
    }
    cr_expect_eq(count_files(run_path("cache")), 3);
}

/* What is resumed on another layout, and with a cache, goes on with the rows that come next. */
Test(train_data, a_mixture_is_resumed_where_it_was)
{
    char sets[512];
    set_up_mixture();
    run_train("whole", "-np 2", "");
    run_train("parts", "-np 2", "train.steps=6");
    snprintf(sets, sizeof sets, CACHE "%s", run_path("cache"));
    run_train("parts", "-np 2", sets);
    run_compare("whole", "parts", "0", "0");
    snprintf(sets, sizeof sets, "train.steps=14 data.train[1].weight=3 run.dir=%s", run_path("parts"));
    run_fails("-np 2", sets, 1, "was trained on other data or data options");
}

Test(train_data, a_conversation_that_is_malformed_ends_the_job_with_its_place)
{
    char sets[512];
    set_up_mixture();
    run_write("bad.jsonl", "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}\n"
                           "{\"messages\": [{\"role\": \"bot\", \"content\": \"a\"}]}\n");
    snprintf(sets, sizeof sets, "data.train[1].jsonl=%s", run_path("bad.jsonl"));
    run_fails("-np 4", sets, 1, "bad.jsonl:2: messages[0].role: \"bot\", expected system, user, assistant or tool");
    snprintf(sets, sizeof sets, "data.train[1].jsonl=%s " CACHE "%s", run_path("bad.jsonl"), run_path("cache"));
    run_fails("-np 4", sets, 1, "bad.jsonl:2: messages[0].role: \"bot\", expected system, user, assistant or tool");
    run_fails(
        "-np 2", "data.chat.format=CHATML", 2,
        "data.chat: the tokenizer has no special token \"<|im_start|>\", \"<|im_end|>\", which the template CHATML "
        "is made of");
}
