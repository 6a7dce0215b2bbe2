/* A file of JSONL rows: after a bad row the next one is read. */
#include "data/jsonl.h"
#include "data/chat.h"
#include "driver/fuzz.h"
#include <stdio.h>  // snprintf
#include <string.h> // strlen

/* Of all that would be encoded. */
static size_t text_bytes(const dt_jsonl_row *row)
{
    size_t bytes = 0;
    const cJSON *item;
    if (row->text) return strlen(row->text);
    if (row->prompt) return strlen(row->prompt) + strlen(row->completion);
    FUZZ_CHECK(cJSON_GetArraySize(row->messages) > 0);
    cJSON_ArrayForEach(item, row->messages)
    {
        dt_chat_message message = dt_chat_message_at(item);
        FUZZ_CHECK(message.role >= 0 && message.role < DT_CHAT_ROLES);
        bytes += strlen(message.content);
    }
    return bytes;
}

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
        FUZZ_CHECK(!row.text + !row.prompt + !row.messages == 2 && !row.prompt == !row.completion);
        FUZZ_CHECK(text_bytes(&row) < bytes);
        dt_json_free(&row.document);
    }
    dt_jsonl_close(&in);
    return 0;
}
