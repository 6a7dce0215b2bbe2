/* Tokenizers on many lines: ids and decodings equal those that tests/golden/tokenizer_models_goldens.py wrote to the
 * folder DT_TOKENIZER_LINES (too many to keep in the repository; skipped where it is not set). */
#include "unit/tokenizer_check.h"

static void differs(const char *name, int64_t line, const char *what, const char *text)
{
    fprintf(stderr, "%s:%lld: %s of \"%s\"\n", name, (long long)line, what, text);
}

/* row: [text, ids, decoding]. Is anything different? */
static int check_row(const dt_tokenizer *tok, const char *name, int64_t line, const cJSON *row)
{
    const char *text = row->child->valuestring;
    const cJSON *expected = row->child->next;
    dt_ids ids = {0};
    char *decoded;
    OK(dt_tokenizer_encode(tok, text, strlen(text), &ids));
    OK(dt_tokenizer_decode(tok, ids.id, ids.n, 0, &decoded));
    int64_t same = 0;
    for (const cJSON *id = expected->child; id && same < ids.n && ids.id[same] == id->valueint; id = id->next) same++;
    int bad = same != ids.n || same != cJSON_GetArraySize(expected);
    if (bad) differs(name, line, "ids", text);
    if (!bad && strcmp(decoded, expected->next->valuestring)) {
        differs(name, line, "decoding", text);
        bad = 1;
    }
    free(decoded);
    dt_ids_free(&ids);
    return bad;
}

static void check_lines(const char *name)
{
    const char *lines = getenv("DT_TOKENIZER_LINES");
    if (!lines) cr_skip_test("skipped: DT_TOKENIZER_LINES is not set");
    char path[512], *line = NULL;
    size_t room = 0;
    int64_t n = 0, bad = 0;
    dt_tokenizer *tok;
    snprintf(path, sizeof path, "%s/%s", lines, name);
    OK(dt_tokenizer_load(path, &tok));
    snprintf(path, sizeof path, "%s/%s.jsonl", lines, name);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    for (ssize_t bytes; (bytes = getline(&line, &room, file)) > 0;) {
        dt_json row;
        OK(dt_json_parse(line, (size_t)bytes, path, DT_ERR_DATA, &row));
        bad += check_row(tok, name, ++n, row.node);
        dt_json_free(&row);
    }
    fclose(file);
    free(line);
    dt_tokenizer_destroy(tok);
    fprintf(stderr, "%s: %lld lines, %lld differ\n", name, (long long)n, (long long)bad);
    cr_assert(n >= 10000 && bad == 0);
}

Test(tokenizer_lines, gpt2)
{
    check_lines("gpt2");
}

Test(tokenizer_lines, t5_small)
{
    check_lines("t5-small");
}

Test(tokenizer_lines, bert_uncased)
{
    check_lines("bert-uncased");
}

Test(tokenizer_lines, stories260k)
{
    check_lines("stories260k");
}
