/* Conversations: the ids and the loss that transformers' apply_chat_template gives, templates of one's own, refusals.
 */
#include "base/file.h"
#include "base/json.h"
#include "config/config.h"
#include "data/data.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN DT_SOURCE_DIR "/tests/golden"
#define OK(call) cr_assert_eq((call), DT_OK, "%s", dt_error_text())

static char jsonl[64];
static dt_tokenizer *tok;
static Dtrain__Config *config;
static dt_chat chat;
static dt_data_options options;

static void set_up(void)
{
    strcpy(jsonl, "/tmp/dtrain-chat-XXXXXX");
    int fd = mkstemp(jsonl);
    cr_assert_geq(fd, 0);
    options = (dt_data_options){.seq_len = 4096, .add_bos = -1, .add_eos = -1, .chat = &chat};
}

static void tear_down(void)
{
    dt_tokenizer_destroy(tok);
    dt_config_free(config);
    remove(jsonl);
}

TestSuite(chat, .init = set_up, .fini = tear_down);

/* The tokenizer of the goldens for `format`, with a template as a configuration says it. */
static dt_status use(const char *format, const char *template)
{
    char path[256], text[2048];
    snprintf(path, sizeof path, GOLDEN "/chat/%s", format);
    snprintf(text, sizeof text, "data { chat { %s } }", template);
    dt_tokenizer_destroy(tok);
    dt_config_free(config);
    tok = NULL;
    config = NULL;
    OK(dt_tokenizer_load(path, &tok));
    OK(dt_config_parse("test", text, strlen(text), NULL, 0, &config));
    return dt_chat_open(config->data->chat, tok, &chat);
}

static dt_status open_rows(const char *rows, dt_dataset **out)
{
    const dt_source source = {.jsonl = jsonl};
    OK(dt_file_write_atomic(jsonl, rows, strlen(rows)));
    return dt_dataset_open(&source, 1, tok, &options, out);
}

/* ---- against transformers ---- */

static void check_golden(const cJSON *golden)
{
    dt_dataset *set;
    const cJSON *ids = cJSON_GetObjectItem(golden, "ids"), *mask = cJSON_GetObjectItem(golden, "mask");
    char *row = cJSON_PrintUnformatted(golden); // its other keys are let be
    OK(open_rows(row, &set));
    dt_row got = dt_dataset_row(set, 0);
    cr_assert_eq(got.n, cJSON_GetArraySize(ids), "%d ids: %s", got.n, row);
    const cJSON *id = ids->child, *one = mask->child;
    for (int32_t i = 0; i < got.n; i++, id = id->next, one = one->next) {
        cr_assert_eq(dt_row_id(got, i), id->valueint, "id %d: %s", i, row);
        cr_assert_eq(dt_row_is_target(got, i), one->valueint, "loss on id %d: %s", i, row);
    }
    free(row);
    dt_dataset_destroy(set);
}

static void check_goldens(const char *folder, const char *format, const char *template)
{
    dt_json goldens;
    const cJSON *item;
    int n = 0;
    OK(dt_json_parse_file(GOLDEN "/chat.json", DT_ERR_DATA, &goldens));
    OK(use(folder, template));
    cJSON_ArrayForEach(item, goldens.node)
    {
        if (strcmp(cJSON_GetObjectItem(item, "format")->valuestring, format) != 0) continue;
        check_golden(item);
        n++;
    }
    cr_assert_eq(n, 40);
    dt_json_free(&goldens);
}

Test(chat, llama3_is_that_of_transformers)
{
    check_goldens("llama3", "LLAMA3", "format: LLAMA3");
}

Test(chat, chatml_is_that_of_transformers)
{
    check_goldens("chatml", "CHATML", "format: CHATML");
}

Test(chat, mistral_is_that_of_transformers)
{
    check_goldens("mistral", "MISTRAL", "format: MISTRAL");
}

Test(chat, a_template_of_the_configuration_can_be_what_is_built_in)
{
    check_goldens("chatml", "CHATML",
                  "template { bos: false special: ['<|im_start|>', '<|im_end|>'] "
                  "system { prefix: '<|im_start|>system\\n' end: '<|im_end|>' suffix: '\\n' } "
                  "user { prefix: '<|im_start|>user\\n' end: '<|im_end|>' suffix: '\\n' } "
                  "tool { prefix: '<|im_start|>tool\\n' end: '<|im_end|>' suffix: '\\n' } "
                  "assistant { prefix: '<|im_start|>assistant\\n' end: '<|im_end|>' suffix: '\\n' } }");
    check_goldens("mistral", "MISTRAL",
                  "template { system_in_user: true special: ['[INST]', '[/INST]', '</s>'] system { suffix: '\\n\\n' } "
                  "user { prefix: '[INST] ' end: '[/INST]' } assistant { prefix: ' ' end: '</s>' trim: true } }");
}

/* ---- templates without special tokens, options ---- */

#define ROW "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"x  y\"}]}"
#define PLAIN "template { bos: false user { prefix: 'Q: ' suffix: '\\n' } assistant { prefix: 'A: ' suffix: '\\n' } }"

/* The text of the ids that carry loss, or of all. */
static void expect_loss(const char *row, int targets_only, const char *expected)
{
    dt_dataset *set;
    dt_ids ids = {0};
    char *text;
    OK(open_rows(row, &set));
    dt_row got = dt_dataset_row(set, 0);
    for (int32_t i = 0; i < got.n; i++)
        if (!targets_only || dt_row_is_target(got, i)) OK(dt_ids_append(&ids, dt_row_id(got, i)));
    OK(dt_tokenizer_decode(tok, ids.id, ids.n, 0, &text));
    cr_expect_str_eq(text, expected, "%s: %s", row, text);
    free(text);
    dt_ids_free(&ids);
    dt_dataset_destroy(set);
}

Test(chat, plain_text_can_be_a_template)
{
    OK(use("llama3", PLAIN));
    expect_loss(ROW, 0, "Q: a\nA: x  y\n");
    expect_loss(ROW, 1, "x  y");
    expect_loss("{\"messages\":[{\"role\":\"assistant\",\"content\":\"is in\"}]}", 1,
                " is in"); // the prefix's space is in a token
}

Test(chat, options_put_loss_bos_and_eos_elsewhere)
{
    OK(use("llama3", "format: LLAMA3"));
    expect_loss(ROW, 1, "x  y<|eot_id|>");
    options.add_eos = 1;
    expect_loss(ROW, 1, "x  y<|eot_id|><|end_of_text|>");
    options.add_eos = -1;
    options.add_bos = 0;
    expect_loss(ROW, 0,
                "<|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\nx  y<|eot_id|>");
    options.add_bos = -1;
    options.loss_on_prompt = 1;
    expect_loss(ROW, 1,
                "<|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\nx  y<|eot_id|>");
}

/* ---- refusals ---- */

static void refuse_template(const char *folder, const char *template, const char *message)
{
    cr_expect_eq(use(folder, template), DT_ERR_CONFIG, "%s", template);
    cr_expect_str_eq(dt_error_text(), message, "%s", dt_error_text());
}

Test(chat, special_tokens_that_the_tokenizer_does_not_have_are_named)
{
    refuse_template(
        "llama3", "format: CHATML",
        "data.chat: the tokenizer has no special token \"<|im_start|>\", \"<|im_end|>\", which the template "
        "CHATML is made of");
    refuse_template("chatml", "template { special: '<|im_end|>' special: 'user' assistant {} }",
                    "data.chat: the tokenizer has no special token \"user\", which the template data.chat.template is "
                    "made of");
    refuse_template("chatml", "template { special: ['1','2','3','4','5','6','7','8','9'] assistant {} }",
                    "data.chat.template.special: 9 tokens, expected at most 8");
}

static void refuse_row(const char *row, dt_status status, const char *message)
{
    dt_dataset *set;
    char rows[512], expected[512];
    snprintf(rows, sizeof rows, "{\"text\":\"a ship\"}\n%s\n", row);
    snprintf(expected, sizeof expected, "%s:2: %s", jsonl, message);
    cr_assert_eq(open_rows(rows, &set), status, "%s: %s", row, dt_error_text());
    cr_expect_str_eq(dt_error_text(), expected, "%s: %s", row, dt_error_text());
}

#define M(role, content) "{\"role\":\"" role "\",\"content\":\"" content "\"}"
#define MESSAGES(list) "{\"messages\":[" list "]}"

static const struct {
    const char *row, *message;
} BAD[] = {
    {"{\"messages\":\"a\"}", "messages: is a string, expected an array"},
    {"{\"messages\":null}", "messages: is missing, expected an array"},
    {MESSAGES(""), "messages: is empty"},
    {"{\"messages\":[],\"text\":\"a\"}", "a row of {\"messages\", \"text\"}, expected {\"text\"}, {\"prompt\", "
                                         "\"completion\"} or {\"messages\"}"},
    {"{\"messages\":[],\"messages\":[]}", "messages: stands there twice"},
    {MESSAGES("1"), "messages[0]: not an object {\"role\", \"content\"}"},
    {MESSAGES("{}"), "messages[0].role: is missing, expected a string"},
    {MESSAGES("{\"role\":3,\"content\":\"\"}"), "messages[0].role: is a number, expected a string"},
    {MESSAGES(M("User", "a")), "messages[0].role: \"User\", expected system, user, assistant or tool"},
    {MESSAGES(M("user", "a") ",{\"role\":\"assistant\"}"), "messages[1].content: is missing, expected a string"},
    {MESSAGES("{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{}]}"),
     "messages[0].tool_calls: is not understood: only content is"},
    {MESSAGES("{\"role\":\"user\",\"role\":\"user\",\"content\":\"a\"}"), "messages[0].role: stands there twice"},
    {MESSAGES(M("user", "a")), "messages: nothing of an assistant's to learn from"},
    {MESSAGES(M("user", "a") "," M("system", "a") "," M("user", "a") "," M("assistant", "a")),
     "messages[1].role: \"system\" must be the first in the chat template MISTRAL"},
    {MESSAGES(M("system", "a") "," M("assistant", "a")),
     "messages[1].role: \"assistant\", expected \"user\" behind \"system\" in the chat template MISTRAL"},
    {MESSAGES(M("system", "a")), "messages: a \"system\" alone"},
    {MESSAGES(M("user", "a") "," M("tool", "a") "," M("assistant", "a")),
     "messages[1].role: the chat template MISTRAL has no \"tool\""},
};

Test(chat, malformed_conversations_are_named_with_file_and_line)
{
    OK(use("mistral", "format: MISTRAL"));
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) refuse_row(BAD[i].row, DT_ERR_DATA, BAD[i].message);
}

Test(chat, messages_need_a_template)
{
    OK(use("llama3", ""));
    refuse_row(ROW, DT_ERR_CONFIG,
               "a row of messages, but no data.chat is given: expected a template such as data { chat { format: CHATML "
               "} }");
}

Test(chat, other_keys_of_a_message_are_let_be)
{
    OK(use("llama3", PLAIN));
    expect_loss("{\"id\":1,\"messages\":[{\"name\":\"n\",\"content\":\"a\",\"role\":\"user\"},"
                "{\"role\":\"assistant\",\"tool_calls\":[],\"content\":\"b\"}]}",
                0, "Q: a\nA: b\n");
}
