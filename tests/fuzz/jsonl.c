/* A file of JSONL rows: after a bad row the next one is read. */
#include "data/jsonl.h"
#include "driver/fuzz.h"
#include <stdio.h>  // snprintf
#include <string.h> // strlen

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[4200];
    dt_jsonl in;
    dt_jsonl_row row;
    size_t bytes = 0;
    fuzz_put("rows.jsonl", data, size);
    snprintf(path, sizeof path, "%s/rows.jsonl", fuzz_folder());
    if (!fuzz_took(dt_jsonl_open(path, &in))) return 0;
    while (fuzz_took(dt_jsonl_next(&in, &bytes)) && bytes > 0) {
        if (!fuzz_took(dt_jsonl_row_read(&in, bytes, &row))) continue;
        FUZZ_CHECK(!row.prompt == !row.completion && (!row.text || !row.prompt));
        if (row.text) FUZZ_CHECK(strlen(row.text) < bytes);
        if (row.prompt) FUZZ_CHECK(strlen(row.prompt) + strlen(row.completion) < bytes);
        dt_json_free(&row.document);
    }
    dt_jsonl_close(&in);
    return 0;
}
