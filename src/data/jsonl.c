/* JSONL files. */
#include "data/jsonl.h"
#include "data/chat.h" // dt_chat_role_find
#include "data/text.h" // dt_utf8_valid, dt_text_has_nul

#include <errno.h>  // errno
#include <stdlib.h> // free
#include <string.h> // strerror, strspn

static const char EXPECTED[] = "expected {\"text\"}, {\"prompt\", \"completion\"} or {\"messages\"}";

dt_status dt_jsonl_open(const char *path, dt_jsonl *out)
{
    *out = (dt_jsonl){.path = path, .file = fopen(path, "re")};
    return out->file ? DT_OK : dt_fail(DT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
}

void dt_jsonl_close(dt_jsonl *in)
{
    if (in->file) fclose(in->file);
    free(in->line);
    *in = (dt_jsonl){0};
}

dt_status dt_jsonl_next(dt_jsonl *in, size_t *bytes)
{
    for (;;) {
        errno = 0;
        ssize_t n = getline(&in->line, &in->cap, in->file);
        if (n < 0) {
            *bytes = 0;
            if (feof(in->file)) return DT_OK;
            return dt_fail(errno == ENOMEM ? DT_ERR_MEMORY : DT_ERR_IO, "%s: cannot read: %s", in->path,
                           strerror(errno));
        }
        in->number++;
        *bytes = (size_t)n;
        if (strspn(in->line, " \t\r\n") < *bytes) return DT_OK;
    }
}

/* Parses the line: cJSON wants it NUL-terminated, which getline leaves it. */
static dt_status parse(const dt_jsonl *in, size_t bytes, const char *where, cJSON **out)
{
    const char *line = in->line, *end = line;
    size_t valid = dt_utf8_valid(line, bytes);
    if (valid < bytes) return dt_fail(DT_ERR_DATA, "%s: invalid UTF-8 at byte %zu", where, valid + 1);
    if (dt_text_has_nul(line, bytes)) return dt_fail(DT_ERR_DATA, "%s: a NUL character in the line", where);
    cJSON *row = cJSON_ParseWithLengthOpts(line, bytes + 1, &end, 0);
    if (!row) return dt_fail(DT_ERR_DATA, "%s: not valid JSON at byte %td", where, end - line + 1);
    end += strspn(end, " \t\r\n");
    if (*end) {
        cJSON_Delete(row);
        return dt_fail(DT_ERR_DATA, "%s: more text behind the JSON value, at byte %td", where, end - line + 1);
    }
    *out = row;
    return DT_OK;
}

/* Names the keys of a row of unknown shape. */
static dt_status fail_shape(const dt_json *row)
{
    char keys[256] = "";
    const cJSON *item;
    cJSON_ArrayForEach(item, row->node)
    {
        size_t used = strlen(keys);
        snprintf(keys + used, sizeof keys - used, "%s\"%s\"", used ? ", " : "", item->string);
    }
    return dt_json_fail(row, NULL, "a row of {%s}, %s", keys, EXPECTED);
}

/* {role, content}. What else a message has is let be, unless it says that there is more to it than its content. */
static dt_status check_message(const dt_json *at)
{
    const char *role, *content;
    int roles = 0, contents = 0;
    const cJSON *item;
    if (!cJSON_IsObject(at->node)) return dt_json_fail(at, NULL, "not an object {\"role\", \"content\"}");
    cJSON_ArrayForEach(item, at->node)
    {
        int is_call = strcmp(item->string, "tool_calls") == 0 || strcmp(item->string, "function_call") == 0;
        if (is_call && (cJSON_IsObject(item) || cJSON_GetArraySize(item) > 0))
            return dt_json_fail(at, item->string, "is not understood: only content is");
        roles += strcmp(item->string, "role") == 0;
        contents += strcmp(item->string, "content") == 0;
    }
    if (roles > 1 || contents > 1) return dt_json_fail(at, roles > 1 ? "role" : "content", "stands there twice");
    DT_TRY(dt_json_string(at, "role", &role));
    if (dt_chat_role_find(role) == DT_CHAT_ROLES)
        return dt_json_fail(at, "role", "\"%s\", expected system, user, assistant or tool", role);
    return dt_json_string(at, "content", &content);
}

static dt_status read_messages(const dt_json *row, const cJSON **out)
{
    dt_json list;
    int64_t index = 0;
    cJSON *item;
    DT_TRY(dt_json_array(row, "messages", &list));
    cJSON_ArrayForEach(item, list.node)
    {
        dt_json at = dt_json_child(&list, item, index++);
        DT_TRY(check_message(&at));
    }
    if (index == 0) return dt_json_fail(row, "messages", "is empty");
    *out = list.node;
    return DT_OK;
}

static dt_status read_fields(const dt_json *row, dt_jsonl_row *out)
{
    static const char *const KEYS[] = {"text", "prompt", "completion", "messages"};
    enum { TEXT = 1, PROMPT = 2, COMPLETION = 4, MESSAGES = 8 };
    int given = 0;
    const cJSON *item;
    if (!cJSON_IsObject(row->node)) return dt_json_fail(row, NULL, "not an object, %s", EXPECTED);
    cJSON_ArrayForEach(item, row->node)
    {
        for (int k = 0; k < 4; k++) {
            if (strcmp(item->string, KEYS[k]) != 0) continue;
            if (given & (1 << k)) return dt_json_fail(row, KEYS[k], "stands there twice");
            given |= 1 << k;
        }
    }
    if (given == TEXT) return dt_json_string(row, "text", &out->text);
    if (given == MESSAGES) return read_messages(row, &out->messages);
    if (given == 0 || (given & (TEXT | MESSAGES))) return fail_shape(row);
    DT_TRY(dt_json_string(row, "prompt", &out->prompt));
    return dt_json_string(row, "completion", &out->completion);
}

dt_status dt_jsonl_row_read(const dt_jsonl *in, size_t bytes, dt_jsonl_row *out)
{
    *out = (dt_jsonl_row){0};
    snprintf(out->where, sizeof out->where, "%s:%lld", in->path, (long long)in->number);
    out->document = (dt_json){.file = out->where, .kind = DT_ERR_DATA};
    DT_TRY(parse(in, bytes, out->where, &out->document.node));
    dt_status st = read_fields(&out->document, out);
    if (st != DT_OK) dt_json_free(&out->document);
    return st;
}
