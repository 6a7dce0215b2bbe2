/* What the suites of tokenizers share: a folder for each test, goldens, refusals. */
#ifndef DT_TESTS_TOKENIZER_CHECK_H
#define DT_TESTS_TOKENIZER_CHECK_H

#include "base/file.h"
#include "base/json.h"
#include "data/tokenizer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN DT_SOURCE_DIR "/tests/golden"
#define SHARED DT_SOURCE_DIR "/../shared/data"
#define OK(call) cr_assert_eq((call), DT_OK, "%s", dt_error_text())

static char folder[64];

static inline void make_folder(void)
{
    strcpy(folder, "/tmp/dtrain-tokenizer-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
}

static inline void remove_folder(void)
{
    cr_assert_eq(dt_dir_remove(folder), DT_OK);
}

static inline void write_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    OK(dt_file_write_atomic(path, text, strlen(text)));
}

/* A tokenizer whose file lies at `path`, whatever the file's name. */
static inline dt_tokenizer *load_from(const char *path)
{
    char link[128];
    dt_tokenizer *tok;
    snprintf(link, sizeof link, "%s/tokenizer.json", folder);
    unlink(link);
    cr_assert_eq(symlink(path, link), 0);
    OK(dt_tokenizer_load(folder, &tok));
    return tok;
}

static inline dt_json golden_file(const char *path)
{
    dt_json out;
    OK(dt_json_parse_file(path, DT_ERR_DATA, &out));
    return out;
}

static inline void check_decoding(const dt_tokenizer *tok, const dt_ids *ids, int skip, const cJSON *expected,
                                  const char *text)
{
    char *decoded;
    OK(dt_tokenizer_decode(tok, ids->id, ids->n, skip, &decoded));
    cr_assert_str_eq(decoded, cJSON_IsNull(expected) ? text : expected->valuestring, "of \"%s\", skip %d", text, skip);
    free(decoded);
}

/* golden: [ids, decoding, decoding without special tokens]; null: equal to the text. */
static inline void check_case(const dt_tokenizer *tok, const char *name, const char *text, const cJSON *golden)
{
    const cJSON *expected = golden->child;
    dt_ids ids = {0};
    OK(dt_tokenizer_encode(tok, text, strlen(text), &ids));
    cr_assert_eq(ids.n, cJSON_GetArraySize(expected), "%s: %lld ids of \"%s\"", name, (long long)ids.n, text);
    int64_t i = 0;
    for (const cJSON *id = expected->child; id; id = id->next, i++)
        cr_assert_eq(ids.id[i], id->valueint, "%s: id %lld of \"%s\"", name, (long long)i, text);
    check_decoding(tok, &ids, 0, expected->next, text);
    check_decoding(tok, &ids, 1, expected->next->next, text);
    dt_ids_free(&ids);
}

static inline void check_goldens(const dt_tokenizer *tok, const char *name, const cJSON *texts, const cJSON *cases)
{
    const cJSON *text = texts->child, *golden = cases->child;
    int n = 0;
    for (; text && golden; text = text->next, golden = golden->next, n++)
        check_case(tok, name, text->valuestring, golden);
    cr_assert(!text && !golden && n > 20);
}

/* Each of file.shapes whose name begins with `prefix`, on the texts of file[list]: `count` of them. */
static inline void check_shapes(const char *path, const char *list, const char *prefix, int count)
{
    dt_json file = golden_file(path), texts, shapes;
    OK(dt_json_array(&file, list, &texts));
    OK(dt_json_array(&file, "shapes", &shapes));
    int n = 0, index = 0;
    cJSON *item;
    cJSON_ArrayForEach(item, shapes.node)
    {
        dt_json shape = dt_json_child(&shapes, item, index++), spec, cases;
        const char *name;
        dt_tokenizer *tok;
        OK(dt_json_string(&shape, "name", &name));
        if (strncmp(name, prefix, strlen(prefix))) continue;
        OK(dt_json_object(&shape, "tokenizer", &spec));
        OK(dt_json_array(&shape, "cases", &cases));
        char *text = cJSON_PrintUnformatted(spec.node);
        write_file("tokenizer.json", text);
        cJSON_free(text);
        OK(dt_tokenizer_load(folder, &tok));
        check_goldens(tok, name, texts.node, cases.node);
        dt_tokenizer_destroy(tok);
        n++;
    }
    cr_assert_eq(n, count);
    dt_json_free(&file);
}

/* Loading the text fails with "<folder>/<file><message>". */
static inline void check_refused(const char *tokenizer, const char *file, const char *message)
{
    dt_tokenizer *tok;
    char expected[1024];
    snprintf(expected, sizeof expected, "%s/%s%s", folder, file, message);
    write_file("tokenizer.json", tokenizer);
    cr_assert_eq(dt_tokenizer_load(folder, &tok), DT_ERR_DATA, "not refused: %s", tokenizer);
    cr_assert_str_eq(dt_error_text(), expected);
}

#endif
