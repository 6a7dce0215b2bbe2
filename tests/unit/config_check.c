/* Whole configurations: content that tells text from binary, defaults, ranges at both ends, combinations. */
#include "base/file.h"
#include "config/config.h"
#include "config/doc.h"
#include "config/text.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JOB                                                                                                            \
    "run { dir: 'r' } backbone { path: 'b' } delta { lora {} } data { train { jsonl: 't' } eval { jsonl: 'e' } } "     \
    "optim { schedule {} }"

/* Parses JOB's text (or another) as "c" with one --set, or none where it is NULL. */
static dt_status parse(const char *text, const char *set, Dtrain__Config **out)
{
    *out = NULL;
    return dt_config_parse("c", text, strlen(text), &set, set != NULL, out);
}

static Dtrain__Config *read_config(const char *text, const char *set)
{
    Dtrain__Config *config;
    cr_assert_eq(parse(text, set, &config), DT_OK, "%s: %s", text, dt_error_text());
    return config;
}

static void expect_error(const char *text, const char *set, const char *message)
{
    Dtrain__Config *config;
    cr_expect_eq(parse(text, set, &config), DT_ERR_CONFIG, "was read: %s", text);
    cr_expect_str_eq(dt_error_text(), message, "%s", dt_error_text());
    cr_expect_null(config);
}

/* What dt_config_check says of JOB with one --set. */
static void expect_check(const char *set, int ranks, int need_train, const char *message)
{
    Dtrain__Config *config = read_config(JOB, set);
    dt_status st = dt_config_check(config, ranks, need_train);
    cr_expect_eq(st, message ? DT_ERR_CONFIG : DT_OK, "%s", dt_error_text());
    if (message) cr_expect_str_eq(dt_error_text(), message, "%s", dt_error_text());
    dt_config_free(config);
}

Test(config_check, reads_the_example_of_the_main_job)
{
    Dtrain__Config *c;
    cr_assert_eq(dt_config_load(DT_SOURCE_DIR "/configs/e2e-lora.pbtxt", NULL, 0, &c), DT_OK, "%s", dt_error_text());
    cr_expect_str_eq(c->run->dir, "runs/e2e-lora");
    cr_expect_eq(c->run->seed, 1);
    cr_expect_str_eq(c->backbone->path, "../shared/data/stories260k");
    cr_assert_eq(c->n_delta, 1);
    cr_expect_str_eq(c->delta[0]->name, "e2e");
    cr_assert_eq(c->delta[0]->method_case, DTRAIN__DELTA__METHOD_LORA);
    cr_expect(c->delta[0]->lora->rank == 8 && c->delta[0]->lora->alpha == 16 && !c->delta[0]->lora->rs);
    cr_assert_eq(c->delta[0]->n_target, 1);
    cr_expect_str_eq(c->delta[0]->target[0], "re:.*(q|k|v|o|gate|up|down)_proj");
    cr_expect_str_eq(c->data->train[0]->jsonl, "../shared/data/e2e/train.jsonl");
    cr_expect(c->data->eval->examples == 512 && c->data->train[0]->examples == 0);
    cr_expect(c->data->seq_len == 256 && c->data->packing && !c->data->has_add_bos);
    cr_expect(c->parallel->tensor == 2 && !c->parallel->sequence);
    cr_expect(c->train->steps == 300 && c->train->global_batch == 16 && c->train->micro_batch == 2);
    cr_expect(c->train->eval_every == 100 && c->train->log_every == 10);
    cr_assert_eq(c->optim->kind_case, DTRAIN__OPTIM__KIND_ADAMW);
    cr_expect(c->optim->adamw->lr == 2e-3 && c->optim->adamw->beta2 == 0.999 && c->optim->adamw->weight_decay == 0);
    cr_expect(c->optim->schedule->kind == DTRAIN__SCHEDULE_KIND__COSINE && c->optim->schedule->warmup_steps == 20);
    cr_expect(c->optim->clip_norm == 1 && c->checkpoint->every == 100 && c->checkpoint->keep == 3);
    cr_expect_eq(c->device, DTRAIN__DEVICE__AUTO);
    cr_expect_eq(dt_config_check(c, 16, 1), DT_OK, "%s", dt_error_text());
    dt_config_free(c);
}

Test(config_check, every_example_is_a_job_for_four_ranks)
{
    static const char *const file[] = {"e2e-lora", "e2e-fish", "e2e-full"};
    for (int i = 0; i < 3; i++) {
        char path[512];
        Dtrain__Config *c;
        snprintf(path, sizeof path, "%s/configs/%s.pbtxt", DT_SOURCE_DIR, file[i]);
        cr_assert_eq(dt_config_load(path, NULL, 0, &c), DT_OK, "%s", dt_error_text());
        cr_expect_eq(dt_config_check(c, 4, 1), DT_OK, "%s", dt_error_text());
        dt_config_free(c);
    }
}

Test(config_check, encodes_the_example_as_protoc_does)
{
    if (system("command -v protoc >/dev/null 2>&1") != 0) cr_skip_test("protoc is not here: not compared");
    char command[1024], theirs[4096], *data;
    snprintf(command, sizeof command,
             "cd %s && protoc --encode=dtrain.Config -Isrc/config dtrain.proto <configs/e2e-lora.pbtxt", DT_SOURCE_DIR);
    FILE *pipe = popen(command, "r");
    size_t bytes = fread(theirs, 1, sizeof theirs, pipe), read, packed;
    cr_assert_eq(pclose(pipe), 0);
    dt_places places = {0};
    dt_text text = {.places = &places};
    ProtobufCMessage *message;
    unsigned char *ours;
    cr_assert_eq(dt_file_read(DT_SOURCE_DIR "/configs/e2e-lora.pbtxt", &data, &read), DT_OK);
    cr_assert_eq(dt_message_new(&dtrain__config__descriptor, &message), DT_OK);
    cr_assert_eq(dt_lexer_start(&text.lexer, (dt_place){"e2e", 1, 1}, &text.path, data, read), DT_OK);
    cr_assert_eq(dt_text_read(&text, message), DT_OK);
    cr_assert_eq(dt_config_pack(message, &ours, &packed), DT_OK);
    cr_expect(packed == bytes && memcmp(ours, theirs, bytes) == 0);
    free(ours);
    free(data);
    protobuf_c_message_free_unpacked(message, NULL);
    dt_places_free(&places);
}

Test(config_check, fills_in_messages_the_optimiser_and_names)
{
    Dtrain__Config *c = read_config("delta { fish {} } delta { lora {} name: 'x' }", NULL);
    cr_assert(c->run && c->backbone && c->data && c->parallel && c->train && c->optim && c->checkpoint);
    cr_assert(c->optim->schedule && c->optim->kind_case == DTRAIN__OPTIM__KIND_ADAMW && c->optim->adamw);
    cr_expect(c->optim->adamw->lr == 1e-3 && c->train->steps == 1000 && c->data->seq_len == 1024);
    cr_expect(c->data->train == NULL && c->data->eval == NULL);
    cr_expect_str_eq(c->delta[0]->name, "fish");
    cr_expect_str_eq(c->delta[1]->name, "x");
    dt_config_free(c);
    c = read_config("optim { sgd {} }", NULL);
    cr_expect(c->optim->kind_case == DTRAIN__OPTIM__KIND_SGD && c->optim->sgd->lr == 1e-2);
    dt_config_free(c);
}

Test(config_check, sets_are_applied_in_order_before_the_defaults)
{
    static const char *const sets[] = {"delta[0].lora.rank=4", "delta[1].full={}", "optim.sgd.lr=0.5",
                                       "data.eval.jsonl=e", "delta[0].lora.rank=6"};
    Dtrain__Config *c;
    cr_assert_eq(dt_config_parse("c", "", 0, sets, 5, &c), DT_OK, "%s", dt_error_text());
    cr_expect(c->n_delta == 2 && c->delta[0]->lora->rank == 6 && c->optim->sgd->lr == 0.5);
    cr_expect_str_eq(c->delta[1]->name, "full");
    cr_expect_str_eq(c->data->eval->jsonl, "e");
    dt_config_free(c);
}

Test(config_check, text_and_binary_are_told_apart_by_content)
{
    Dtrain__Config *text = read_config(JOB, "delta[0].target=q_proj"), *binary;
    unsigned char *data, *again;
    size_t n, m;
    cr_assert_eq(dt_config_pack(&text->base, &data, &n), DT_OK);
    cr_assert_eq(dt_config_parse("c", (char *)data, n, NULL, 0, &binary), DT_OK, "%s", dt_error_text());
    cr_assert_eq(dt_config_pack(&binary->base, &again, &m), DT_OK);
    cr_expect(n == m && memcmp(data, again, n) == 0);
    free(data);
    free(again);
    dt_config_free(text);
    dt_config_free(binary);
}

Test(config_check, binary_without_a_control_character_is_still_binary)
{
    static const char data[] = "\n\"\n runs/a-name-of-32-characters-xxx"; // run { dir: ... }
    Dtrain__Config *c = read_config(data, NULL);
    cr_expect_str_eq(c->run->dir, "runs/a-name-of-32-characters-xxx");
    dt_config_free(c);
}

Test(config_check, a_printed_config_reads_back_the_same)
{
    Dtrain__Config *first = read_config(JOB, "optim.group={match: 'a' match: 're:b.*' lr_scale: 0.1}"), *second;
    for (int all = 0; all < 2; all++) {
        char *text, *again;
        cr_assert_eq(dt_config_print(&first->base, all, &text), DT_OK);
        second = read_config(text, NULL);
        cr_assert_eq(dt_config_print(&second->base, all, &again), DT_OK);
        cr_expect_str_eq(text, again);
        free(text);
        free(again);
        dt_config_free(second);
    }
    dt_config_free(first);
}

Test(config_check, what_is_neither_text_nor_binary_is_said_to_be_neither)
{
    static const char data[] = "run { seed: 1 }\n\xc3\xa9 \0 train {}";
    Dtrain__Config *c;
    cr_expect_eq(dt_config_parse("c", data, sizeof data - 1, NULL, 0, &c), DT_ERR_CONFIG);
    cr_expect_str_eq(dt_error_text(), "c:2:3: byte 0x00 makes it no text, and it is no binary dtrain.Config either");
}

Test(config_check, a_binary_is_checked_like_a_text)
{
    static const struct {
        const char *data;
        size_t n;
        const char *message;
    } bad[] = {
        {"\x1a\x04R\x02\x08\x00", 6, "c: delta[0].lora.rank: 0 is not >= 1"},
        {"\x48\x09", 2, "c: device: 9 is no value of Device"},
        {"\x0a\x02\x78\x01", 4, "c: run: Run has no field number 15"},
        {"\x78\x01", 2, "c: Config has no field number 15"},
        {"\x1a\x03\x0a\x01x", 5, "c: delta[0]: no method is given; expected one of lora, fish, full, bitfit"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Dtrain__Config *c;
        cr_expect_eq(dt_config_parse("c", bad[i].data, bad[i].n, NULL, 0, &c), DT_ERR_CONFIG);
        cr_expect_str_eq(dt_error_text(), bad[i].message, "%s", dt_error_text());
    }
}

Test(config_check, survives_a_damaged_binary)
{
    Dtrain__Config *c = read_config(JOB, "delta[0].target=q_proj");
    unsigned char *data;
    size_t n;
    cr_assert_eq(dt_config_pack(&c->base, &data, &n), DT_OK);
    dt_config_free(c);
    for (size_t i = 0; i < n; i++) {
        for (int byte = 0; byte < 256; byte++) {
            unsigned char kept = data[i];
            data[i] = (unsigned char)byte;
            if (dt_config_parse("c", (char *)data, n, NULL, 0, &c) == DT_OK) dt_config_free(c);
            if (dt_config_parse("c", (char *)data, i, NULL, 0, &c) == DT_OK) dt_config_free(c);
            data[i] = kept;
        }
    }
    free(data);
}

Test(config_check, errors_carry_the_place_of_the_value)
{
    expect_error("delta {\n  lora {\n    rank: 0 } }", NULL, "c:3:11: delta[0].lora.rank: 0 is not >= 1");
    expect_error(JOB, "delta[0].lora.rank=0", "--set delta[0].lora.rank=0: delta[0].lora.rank: 0 is not >= 1");
    expect_error(JOB, "delta[0]={lora{dropout:1}}",
                 "--set delta[0]={lora{dropout:1}}: delta[0].lora.dropout: 1 is not in [0..1)");
    expect_error("train { steps: 0 }", "train.log_every=0", "c:1:16: train.steps: 0 is not >= 1");
    expect_error("optim {\n group { match: 'a' } group {} }", NULL,
                 "c:2:23: optim.group[1]: no match is given: expected the names of parameters");
    expect_error("trian {}", NULL, "c:1:1: Config has no field \"trian\"; did you mean \"train\"?");
    expect_error("delta { lora {} fish {} }", NULL,
                 "c:1:17: delta[0].fish: delta[0].lora is given at 1:9; only one of them can be");
}

Test(config_check, a_set_that_replaces_an_error_mends_it)
{
    dt_config_free(read_config("delta { lora { rank: 0 } }", "delta[0].lora.rank=1"));
    dt_config_free(read_config("delta { lora { rank: 0 } }", "delta[0].full={}"));
    dt_config_free(read_config("train { steps: 0 }", "train={}"));
}

/* Every range of the table, through text: its end is taken or refused as the bracket says, and what lies beyond. */
Test(config_check, every_range_holds_at_both_ends)
{
    static const struct {
        const char *message, *before, *after;
    } at[] = {{"Run", "run {", "}"},
              {"Lora", "delta { lora {", "} }"},
              {"Fish", "delta { fish {", "} }"},
              {"Data", "data {", "}"},
              {"Source", "data { eval { jsonl: 'x'", "} }"},
              {"Parallel", "parallel {", "}"},
              {"Train", "train {", "}"},
              {"EarlyStop", "train { early_stop {", "} }"},
              {"AdamW", "optim { adamw {", "} }"},
              {"Sgd", "optim { sgd {", "} }"},
              {"Lion", "optim { lion {", "} }"},
              {"Schedule", "optim { schedule {", "} }"},
              {"Optim", "optim {", "}"},
              {"Group", "optim { group { match: 'x'", "} }"},
              {"Checkpoint", "checkpoint {", "}"}};
    int ranges = 0, tried = 0;
    for (int i = 0; i < dt_config_doc_count; i++) {
        const dt_config_doc *doc = &dt_config_docs[i];
        if (!doc->range) continue;
        ranges++;
        for (size_t k = 0; k < sizeof at / sizeof *at; k++) {
            if (strcmp(at[k].message, doc->message) != 0) continue;
            int whole = strstr(doc->type, "int") != NULL;
            double step = whole ? 1 : 1e-9, value[] = {doc->lo - step, doc->lo,        doc->lo + step, doc->hi - step,
                                                       doc->hi,        doc->hi + step, (double)NAN};
            for (int v = 0; v < (whole ? isfinite(doc->hi) ? 6 : 3 : 7); v++) {
                char text[512];
                Dtrain__Config *c;
                snprintf(text, sizeof text, "%s %s: %.12g %s", at[k].before, doc->field, value[v], at[k].after);
                int inside = isfinite(value[v]) && (doc->lo_open ? value[v] > doc->lo : value[v] >= doc->lo) &&
                             (doc->hi_open ? value[v] < doc->hi : value[v] <= doc->hi);
                dt_status st = parse(text, NULL, &c);
                cr_expect_eq(st, inside ? DT_OK : DT_ERR_CONFIG, "%s: %s", text, dt_error_text());
                dt_config_free(c);
            }
            tried++;
        }
    }
    cr_expect(ranges > 20 && tried == ranges, "a message with ranges is missing from this test: %d of %d", tried,
              ranges);
}

Test(config_check, ranges_are_those_of_the_comments)
{
    const dt_config_doc *keep = dt_config_doc_find("Fish", "keep"), *rank = dt_config_doc_find("Lora", "rank");
    cr_assert(keep && rank && dt_config_doc_find("Lora", NULL));
    cr_expect_null(dt_config_doc_find("Lora", "keep"));
    cr_expect(keep->lo == 0 && keep->lo_open && keep->hi == 1 && !keep->hi_open);
    cr_expect_str_eq(keep->range, "(0..1]");
    cr_expect_str_eq(keep->doc, "Share of the targeted values that is trained.");
    cr_expect(rank->lo == 1 && !rank->lo_open && isinf(rank->hi));
    cr_expect_str_eq(rank->fallback, "8");
    cr_expect_str_eq(dt_config_doc_find("Delta", "fish")->label, "oneof method");
    cr_expect_str_eq(dt_config_doc_find("Fish", "fisher")->type, "LABEL | EXPECTED");
    expect_error("optim { clip_norm: inf }", NULL, "c:1:20: optim.clip_norm: inf is not finite");
    expect_error("optim { clip_norm: nan }", NULL, "c:1:20: optim.clip_norm: nan is not >= 0");
}

Test(config_check, every_field_of_the_schema_is_documented)
{
    for (int i = 0; i < dt_config_doc_count; i++) cr_expect(*dt_config_docs[i].doc, "%s", dt_config_docs[i].message);
    static const ProtobufCMessageDescriptor *const type[] = {&dtrain__config__descriptor, &dtrain__delta__descriptor,
                                                             &dtrain__optim__descriptor};
    for (int t = 0; t < 3; t++) {
        for (unsigned f = 0; f < type[t]->n_fields; f++) {
            cr_expect(dt_config_doc_find(type[t]->short_name, type[t]->fields[f].name), "%s", type[t]->fields[f].name);
        }
    }
}

Test(config_check, combinations_that_no_number_of_ranks_mends)
{
    expect_error("train { steps: 10 } optim { schedule { warmup_steps: 11 } }", NULL,
                 "c:1:54: optim.schedule.warmup_steps: 11 is longer than the run: train.steps is 10");
    dt_config_free(read_config("train { steps: 10 } optim { schedule { warmup_steps: 10 } }", NULL));
    expect_error("delta { lora {} } delta { lora {} }", NULL,
                 "c:1:19: delta[1].name: \"lora\" is the name of delta[0] too; names must differ");
    expect_error("delta { lora {} name: 'a.b' }", NULL,
                 "c:1:23: delta[0].name: \"a.b\" is not a name of letters, digits, _ and -");
    expect_error("delta { lora {} name: '' }", NULL,
                 "c:1:23: delta[0].name: \"\" is not a name of letters, digits, _ and -");
    expect_error("delta { lora {} target: 'q' target: 're:(q' }", NULL,
                 "c:1:37: delta[0].target[1]: re:(q: missing closing parenthesis (at offset 2)");
    expect_error("delta { lora {} exclude: ['re:*'] }", NULL,
                 "c:1:27: delta[0].exclude[0]: re:*: quantifier does not follow a repeatable item (at offset 0)");
    expect_error("optim { group { match: 're:[' } }", NULL,
                 "c:1:24: optim.group[0].match[0]: re:[: missing terminating ] for character class (at offset 1)");
    expect_error("delta { name: 'x' }", NULL,
                 "c:1:1: delta[0]: no method is given; expected one of lora, fish, full, bitfit");
    expect_error("data { train {} }", NULL,
                 "c:1:8: data.train[0]: no jsonl is given: expected the path of a file of rows (or tokens: of ids)");
    expect_error("data { train { jsonl: 'a' } train { jsonl: 'a' tokens: 'b' } }", NULL,
                 "c:1:29: data.train[1]: jsonl and tokens are both given: expected one of them");
    expect_error("data { train { jsonl: 'a' weight: 0 } }", NULL, "c:1:35: data.train[0].weight: 0 is not > 0");
    expect_error("data { chat { template { user {} } } }", NULL,
                 "c:1:15: data.chat.template: no assistant is given: expected what stands around its turns");
    expect_error("data { eval { examples: 3 } }", NULL,
                 "c:1:8: data.eval: no jsonl is given: expected the path of a file of rows (or tokens: of ids)");
}

Test(config_check, combinations_with_the_ranks)
{
    expect_check(NULL, 1, 1, NULL);
    expect_check("parallel.tensor=4", 64, 1, NULL);
    expect_check("parallel.tensor=3", 4, 0, "parallel.tensor: 3 does not divide the number of ranks, 4");
    expect_check("parallel.tensor=8", 4, 0, "parallel.tensor: 8 does not divide the number of ranks, 4");
    expect_check("train={global_batch: 12 micro_batch: 2}", 6, 1, NULL);
    expect_check("train={global_batch: 12 micro_batch: 2}", 4, 1,
                 "train.global_batch: 12 is not a multiple of train.micro_batch x data ranks = 2 x 4");
    expect_check("train={global_batch: 12 micro_batch: 2147483647}", 2, 1,
                 "train.global_batch: 12 is not a multiple of train.micro_batch x data ranks = 2147483647 x 2");
    expect_check("train={global_batch: 12 micro_batch: 2}", 4, 0, NULL);
}

Test(config_check, a_run_that_trains_needs_its_parts)
{
    expect_check("backbone={}", 1, 0, "backbone.path: not given: expected the folder of a Hugging Face checkpoint");
    expect_check("run={}", 1, 1, "run.dir: not given: expected the folder of the run");
    expect_check("run={}", 1, 0, NULL);
    expect_check("data={}", 1, 1, "data.train: not given: expected the rows to train on");
    expect_check("data={}", 1, 0, NULL);
    expect_check("data.eval.weight=2", 1, 0, "data.eval.weight: 2, but every row of data.eval is evaluated once");
    expect_check("delta=[]", 1, 1, "delta: not given: expected at least one");
    expect_check("delta=[]", 1, 0, NULL);
    expect_check("train.eval_every=5", 1, 1, NULL);
    Dtrain__Config *c =
        read_config("run { dir: 'r' } backbone { path: 'b' } delta { lora {} } data { train { jsonl: 't' } }",
                    "train.eval_every=5");
    cr_expect_eq(dt_config_check(c, 1, 1), DT_ERR_CONFIG);
    cr_expect_str_eq(dt_error_text(), "train.eval_every: 5, but data.eval is not given");
    dt_config_free(c);
}

Test(config_check, what_decides_by_evaluations_needs_them)
{
    static const char none[] = " decides by the loss of evaluations during training, but ";
    static const char *const set[] = {"checkpoint.best=true", "train.early_stop={patience: 1}"};
    static const char *const field[] = {"checkpoint.best:", "train.early_stop:"};
    for (int i = 0; i < 2; i++) {
        char message[256];
        snprintf(message, sizeof message, "%s%strain.eval_every is 0", field[i], none);
        expect_check(set[i], 1, 1, message);
        expect_check(set[i], 1, 0, NULL);
        Dtrain__Config *c = read_config(JOB, set[i]);
        c->train->eval_every = 5;
        cr_expect_eq(dt_config_check(c, 1, 1), DT_OK, "%s", dt_error_text());
        dt_config_free(c);
        c = read_config("run { dir: 'r' } backbone { path: 'b' } delta { lora {} } data { train { jsonl: 't' } }",
                        set[i]);
        snprintf(message, sizeof message, "%s%sdata.eval is not given", field[i], none);
        cr_expect_eq(dt_config_check(c, 1, 1), DT_ERR_CONFIG);
        cr_expect_str_eq(dt_error_text(), message);
        dt_config_free(c);
    }
    expect_check("train={eval_every: 2 early_stop { min_delta: 0.5 }}", 1, 1,
                 "train.early_stop.min_delta: 0.5, but patience is 0, which never stops early");
}

Test(config_check, check_sees_a_value_that_was_changed_in_memory)
{
    Dtrain__Config *c = read_config(JOB, NULL);
    c->delta[0]->lora->has_rank = 1;
    c->delta[0]->lora->rank = -2;
    cr_expect_eq(dt_config_check(c, 1, 1), DT_ERR_CONFIG);
    cr_expect_str_eq(dt_error_text(), "delta[0].lora.rank: -2 is not >= 1");
    dt_config_free(c);
}

static void expect_unread(const char *path, const char *message)
{
    Dtrain__Config *c;
    cr_expect_eq(dt_config_load(path, NULL, 0, &c), DT_ERR_CONFIG, "%s", path);
    cr_expect_str_eq(dt_error_text(), message, "%s", dt_error_text());
}

Test(config_check, a_file_that_cannot_be_read_is_a_mistake_of_the_command_line)
{
    expect_unread("/nonexistent/c.pbtxt", "/nonexistent/c.pbtxt: cannot open: No such file or directory");
    expect_unread(DT_SOURCE_DIR "/configs", DT_SOURCE_DIR "/configs: is a folder, not a file");
    expect_unread(DT_SOURCE_DIR "/configs/e2e-lroa.pbtxt", DT_SOURCE_DIR
                  "/configs/e2e-lroa.pbtxt: cannot open: No such file or directory; nearest: " DT_SOURCE_DIR
                  "/configs/e2e-lora.pbtxt");
    cr_assert_eq(chdir(DT_SOURCE_DIR), 0);
    expect_unread("README.pbtxt", "README.pbtxt: cannot open: No such file or directory");
    expect_unread("REDME.md", "REDME.md: cannot open: No such file or directory; nearest: README.md");
}

Test(config_check, the_nearest_name_is_near)
{
    static const char *const names[] = {"rank", "alpha", "dropout", "warmup_steps"};
    cr_expect_str_eq(dt_nearest_name("rnak", names, 4), "rank");
    cr_expect_str_eq(dt_nearest_name("Alpha", names, 4), "alpha");
    cr_expect_str_eq(dt_nearest_name("dropuot", names, 4), "dropout");
    cr_expect_str_eq(dt_nearest_name("warm_up_step", names, 4), "warmup_steps");
    cr_expect_null(dt_nearest_name("momentum", names, 4));
    cr_expect_null(dt_nearest_name("", names, 4));
    cr_expect_null(dt_nearest_name("rank", names, 0));
    char longest[400];
    memset(longest, 'x', sizeof longest);
    longest[399] = '\0';
    cr_expect_null(dt_nearest_name(longest, names, 4));
}

Test(config_check, a_pattern_is_a_name_a_suffix_or_an_expression)
{
    static const struct {
        const char *pattern, *name;
        int matches;
    } c[] = {
        {"model.layers.3.self_attn.q_proj", "model.layers.3.self_attn.q_proj", 1},
        {"q_proj", "model.layers.3.self_attn.q_proj", 1},
        {"self_attn.q_proj", "model.layers.3.self_attn.q_proj", 1},
        {"_proj", "model.layers.3.self_attn.q_proj", 0},
        {"attn.q_proj", "model.layers.3.self_attn.q_proj", 0},
        {"model", "model.layers", 0},
        {"", "model", 0},
        {"a.b.c", "b.c", 0},
        {"re:.*q_proj", "layers.q_proj", 1},
        {"re:q_proj", "layers.q_proj", 0},
        {"re:layers", "layers.q_proj", 0},
        {"re:a|ab", "ab", 1},
        {"re:.*\\.(q|v)_proj", "layers.v_proj", 1},
        {"re:", "", 1},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        int matches = -1;
        cr_assert_eq(dt_pattern_match(c[i].pattern, c[i].name, &matches), DT_OK);
        cr_expect_eq(matches, c[i].matches, "%s on %s", c[i].pattern, c[i].name);
    }
    int matches;
    cr_expect_eq(dt_pattern_match("re:(a+)+$x", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", &matches),
                 DT_OK);
    cr_expect_eq(dt_pattern_match("re:(", "a", &matches), DT_ERR_CONFIG);
}
