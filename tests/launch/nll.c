/* dtrain eval against per-token references. */
#include "launch/nll.h"
#include "base/file.h"
#include "base/json.h"
#include "launch/spawn.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOLERANCE 1e-4

/* The texts as rows, and a configuration that evaluates the bare backbone on them. */
static void write_inputs(const char *folder, const char *backbone, const dt_json *golden)
{
    char path[4096];
    int longest = 0;
    snprintf(path, sizeof path, "%s/texts.jsonl", folder);
    FILE *rows = fopen(path, "w");
    cr_assert(rows);
    cJSON *item;
    cJSON_ArrayForEach(item, golden->node)
    {
        int count = cJSON_GetArraySize(cJSON_GetObjectItem(item, "ids"));
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "text", cJSON_GetObjectItem(item, "text")->valuestring);
        char *line = cJSON_PrintUnformatted(row);
        fprintf(rows, "%s\n", line);
        cJSON_free(line);
        cJSON_Delete(row);
        longest = count > longest ? count : longest;
    }
    fclose(rows);
    snprintf(path, sizeof path, "%s/config.pbtxt", folder);
    FILE *config = fopen(path, "w");
    cr_assert(config);
    fprintf(config, "backbone { path: \"%s\" }\n", backbone);
    fprintf(config, "data { eval { jsonl: \"%s/texts.jsonl\" } seq_len: %d }\n", folder, longest);
    fclose(config);
}

/* Asserts that two arrays of numbers are as long as each other and apart by `tolerance` at most. */
static void check_numbers(const cJSON *got, const cJSON *expected, double tolerance, const char *what, int text)
{
    cr_assert_eq(cJSON_GetArraySize(got), cJSON_GetArraySize(expected), "text %d: %d %s, not %d", text,
                 cJSON_GetArraySize(got), what, cJSON_GetArraySize(expected));
    const cJSON *a = got->child, *b = expected->child;
    for (int i = 0; a != NULL; i++, a = a->next, b = b->next)
        cr_assert(fabs(a->valuedouble - b->valuedouble) <= tolerance, "text %d, %s %d: %.9g, not %.9g", text, what, i,
                  a->valuedouble, b->valuedouble);
}

static void check_per_token(const char *path, const dt_json *golden)
{
    char *text = NULL;
    size_t bytes = 0;
    int n = 0;
    cr_assert_eq(dt_file_read(path, &text, &bytes), DT_OK, "%s", dt_error_text());
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, n++) {
        const cJSON *expected = cJSON_GetArrayItem(golden->node, n);
        cJSON *row = cJSON_ParseWithLength(line, (size_t)(end - line));
        cr_assert(row && expected, "line %d of %s", n + 1, path);
        check_numbers(cJSON_GetObjectItem(row, "ids"), cJSON_GetObjectItem(expected, "ids"), 0, "ids", n);
        check_numbers(cJSON_GetObjectItem(row, "nll"), cJSON_GetObjectItem(expected, "nll"), TOLERANCE, "nll", n);
        cJSON_Delete(row);
    }
    cr_assert_eq(n, cJSON_GetArraySize(golden->node), "%d rows", n);
    free(text);
}

/* The mean over all tokens, as the last line of the output tells it. */
static double check_summary(const char *output, const dt_json *golden)
{
    const char *last = strstr(output, "{\"eval_loss\":");
    cr_assert(last, "no JSON in:\n%s", output);
    cJSON *summary = cJSON_Parse(last), *text;
    double sum = 0;
    int tokens = 0;
    cJSON_ArrayForEach(text, golden->node)
    {
        const cJSON *nll;
        cJSON_ArrayForEach(nll, cJSON_GetObjectItem(text, "nll"))
        {
            sum += nll->valuedouble;
            tokens++;
        }
    }
    cr_assert_eq((int)cJSON_GetObjectItem(summary, "eval_tokens")->valuedouble, tokens, "%s", last);
    cr_assert(fabs(cJSON_GetObjectItem(summary, "eval_loss")->valuedouble - sum / tokens) <= TOLERANCE, "%s", last);
    cJSON_Delete(summary);
    return sum / tokens;
}

double nll_check(const char *folder, const char *backbone, const char *golden_path, int ranks, const char *options)
{
    char per_token[4096];
    dt_json golden;
    cr_assert_eq(dt_json_parse_file(golden_path, DT_ERR_DATA, &golden), DT_OK, "%s", dt_error_text());
    write_inputs(folder, backbone, &golden);
    snprintf(per_token, sizeof per_token, "%s/per-token.jsonl", folder);
    dt_spawn p = dt_spawn_run(120, "%s -np %d %s eval %s/config.pbtxt %s --json --per-token %s", DT_SPAWN_MPIRUN, ranks,
                              DT_SPAWN_DTRAIN, folder, options, per_token);
    cr_assert_eq(p.exit_code, 0, "exit code %d:\n%s", p.exit_code, p.output);
    double mean = check_summary(p.output, &golden);
    check_per_token(per_token, &golden);
    dt_spawn_free(&p);
    dt_json_free(&golden);
    return mean;
}
