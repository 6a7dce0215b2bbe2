/* Typed getters over cJSON trees. */
#include "base/json.h"
#include "base/file.h"   // dt_file_read
#include "base/memory.h" // dt_alloc

#include <math.h>   // floor
#include <stdarg.h> // va_list
#include <stdio.h>  // snprintf
#include <stdlib.h> // free
#include <string.h> // memcpy

/* cJSON's parser has read past the end of text that is not NUL-terminated: `text` here always is, at [bytes]. */
static dt_status parse(const char *text, size_t bytes, const char *file, dt_status kind, dt_json *out)
{
    const char *end = text;
    cJSON *root = cJSON_ParseWithLengthOpts(text, bytes + 1, &end, 0);
    int closed = root != NULL;
    while (root && end < text + bytes && strchr(" \t\r\n", *end) && *end) end++;
    if (!root || end < text + bytes) {
        int line = 1;
        for (const char *c = text; c < end && c < text + bytes; c++) line += *c == '\n';
        cJSON_Delete(root);
        return dt_fail(kind, "%s:%d: %s", file, line, closed ? "more text after the JSON value" : "not valid JSON");
    }
    *out = (dt_json){.node = root, .file = file, .kind = kind};
    return DT_OK;
}

dt_status dt_json_parse_file(const char *file, dt_status kind, dt_json *out)
{
    char *text;
    size_t bytes;
    DT_TRY(dt_file_read(file, &text, &bytes));
    dt_status st = parse(text, bytes, file, kind, out);
    free(text);
    return st;
}

dt_status dt_json_parse(const char *text, size_t bytes, const char *file, dt_status kind, dt_json *out)
{
    char *copy;
    DT_TRY(dt_alloc(bytes + 1, 1, &copy));
    memcpy(copy, text, bytes);
    dt_status st = parse(copy, bytes, file, kind, out);
    free(copy);
    return st;
}

void dt_json_free(dt_json *document)
{
    cJSON_Delete(document->node);
    document->node = NULL;
}

static cJSON *get(const dt_json *at, const char *key)
{
    cJSON *item = cJSON_GetObjectItemCaseSensitive(at->node, key);
    return cJSON_IsNull(item) ? NULL : item;
}

int dt_json_has(const dt_json *at, const char *key)
{
    return get(at, key) != NULL;
}

dt_status dt_json_fail(const dt_json *at, const char *key, const char *fmt, ...)
{
    char text[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    int inside = key && at->path[0], somewhere = key || at->path[0];
    return dt_fail(at->kind, "%s: %s%s%s%s%s", at->file, at->path, inside ? "." : "", key ? key : "",
                   somewhere ? ": " : "", text);
}

static const char *type_of(const cJSON *item)
{
    if (cJSON_IsString(item)) return "a string";
    if (cJSON_IsNumber(item)) return "a number";
    if (cJSON_IsBool(item)) return "a boolean";
    if (cJSON_IsArray(item)) return "an array";
    return cJSON_IsObject(item) ? "an object" : "null";
}

typedef cJSON_bool is_type(const cJSON *item);

/* The item of `key` if it has the type. */
static dt_status take(const dt_json *at, const char *key, is_type *is, const char *expected, cJSON **item)
{
    *item = get(at, key);
    if (!*item) return dt_json_fail(at, key, "is missing, expected %s", expected);
    if (!is(*item)) return dt_json_fail(at, key, "is %s, expected %s", type_of(*item), expected);
    return DT_OK;
}

dt_status dt_json_i64(const dt_json *at, const char *key, int64_t *out)
{
    cJSON *item;
    DT_TRY(take(at, key, cJSON_IsNumber, "an integer", &item));
    double value = item->valuedouble;
    if (!(value >= -0x1p53 && value <= 0x1p53) || floor(value) != value)
        return dt_json_fail(at, key, "is %.17g, expected an integer", value);
    *out = (int64_t)value;
    return DT_OK;
}

dt_status dt_json_f64(const dt_json *at, const char *key, double *out)
{
    cJSON *item;
    DT_TRY(take(at, key, cJSON_IsNumber, "a number", &item));
    if (!isfinite(item->valuedouble)) return dt_json_fail(at, key, "is out of a double's range");
    *out = item->valuedouble;
    return DT_OK;
}

dt_status dt_json_bool(const dt_json *at, const char *key, int *out)
{
    cJSON *item;
    DT_TRY(take(at, key, cJSON_IsBool, "a boolean", &item));
    *out = cJSON_IsTrue(item) != 0;
    return DT_OK;
}

dt_status dt_json_string(const dt_json *at, const char *key, const char **out)
{
    cJSON *item;
    DT_TRY(take(at, key, cJSON_IsString, "a string", &item));
    *out = item->valuestring;
    return DT_OK;
}

dt_status dt_json_object(const dt_json *at, const char *key, dt_json *out)
{
    cJSON *item;
    DT_TRY(take(at, key, cJSON_IsObject, "an object", &item));
    *out = dt_json_child(at, item, 0);
    return DT_OK;
}

dt_status dt_json_array(const dt_json *at, const char *key, dt_json *out)
{
    cJSON *item;
    DT_TRY(take(at, key, cJSON_IsArray, "an array", &item));
    *out = dt_json_child(at, item, 0);
    return DT_OK;
}

dt_status dt_json_i64_or(const dt_json *at, const char *key, int64_t otherwise, int64_t *out)
{
    if (dt_json_has(at, key)) return dt_json_i64(at, key, out);
    *out = otherwise;
    return DT_OK;
}

dt_status dt_json_f64_or(const dt_json *at, const char *key, double otherwise, double *out)
{
    if (dt_json_has(at, key)) return dt_json_f64(at, key, out);
    *out = otherwise;
    return DT_OK;
}

dt_status dt_json_bool_or(const dt_json *at, const char *key, int otherwise, int *out)
{
    if (dt_json_has(at, key)) return dt_json_bool(at, key, out);
    *out = otherwise;
    return DT_OK;
}

dt_status dt_json_string_or(const dt_json *at, const char *key, const char *otherwise, const char **out)
{
    if (dt_json_has(at, key)) return dt_json_string(at, key, out);
    *out = otherwise;
    return DT_OK;
}

dt_json dt_json_child(const dt_json *at, cJSON *child, int64_t index)
{
    dt_json view = {.node = child, .file = at->file, .kind = at->kind};
    size_t used = strlen(at->path), room = sizeof view.path - used;
    memcpy(view.path, at->path, used);
    if (child->string) snprintf(view.path + used, room, "%s%s", used ? "." : "", child->string);
    else snprintf(view.path + used, room, "[%lld]", (long long)index);
    return view;
}
