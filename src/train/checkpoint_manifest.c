/* The manifest of a checkpoint: everything that resuming needs beside the tensors, and a digest of every file. Its last
 * line is a digest of the text above it, so that an edited or torn manifest is noticed too. */
#include "base/file.h" // dt_file_write_atomic, dt_path_exists
#include "base/hash.h" // dt_digest_bytes
#include "base/json.h" // dt_json
#include "train/checkpoint_layout.h"

#include <errno.h>  // errno
#include <stdio.h>  // snprintf
#include <stdlib.h> // strtoull, free
#include <string.h> // strlen, memcmp

enum { FORMAT = 1 };

/* The method's record is the last member before the digest, embedded as it is: its numbers return digit for digit. A
 * line break inside a JSON string is escaped, so these marks cannot occur in a string. */
static const char method_mark[] = ",\n\t\"method\":\t", digest_mark[] = ",\n\t\"digest\":\t\"", end_mark[] = "\"\n}\n";

/* 64-bit values are written as text: a JSON number holds 53 bits. */
static int add_u64(cJSON *object, const char *key, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return cJSON_AddStringToObject(object, key, text) != NULL;
}

/* Digit for digit, infinities too, which JSON's numbers do not have. */
static int add_f64(cJSON *object, const char *key, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.17g", value);
    return cJSON_AddStringToObject(object, key, text) != NULL;
}

static int add_best(cJSON *root, const dt_best *best)
{
    cJSON *object = cJSON_AddObjectToObject(root, "evaluations");
    return cJSON_AddNumberToObject(object, "last_step", (double)best->evaluated) &&
           cJSON_AddNumberToObject(object, "best_step", (double)best->step) &&
           add_f64(object, "best_loss", best->loss) && add_f64(object, "reference_loss", best->reference) &&
           cJSON_AddNumberToObject(object, "without_improvement", (double)best->waited);
}

/* All but the method's record and the digest, as text to be freed with cJSON_free(); NULL if memory is exhausted. */
static char *print_fields(const dt_ckpt_meta *meta, const char (*digests)[33])
{
    cJSON *root = cJSON_CreateObject();
    int ok = cJSON_AddNumberToObject(root, "format", FORMAT) &&
             cJSON_AddNumberToObject(root, "step", (double)meta->step) &&
             cJSON_AddNumberToObject(root, "sequences", (double)meta->sequences) && add_u64(root, "seed", meta->seed) &&
             cJSON_AddNumberToObject(root, "data_ranks", meta->data_ranks) &&
             cJSON_AddNumberToObject(root, "tensor_ranks", meta->tensor_ranks) &&
             add_u64(root, "data_fingerprint", meta->data_fingerprint) &&
             cJSON_AddStringToObject(root, "backbone_fingerprint", meta->backbone_fingerprint) &&
             add_best(root, &meta->best) && cJSON_AddStringToObject(root, "config", meta->config_text);
    if (meta->choices != NULL && meta->choices[0] != '\0')
        ok = ok && cJSON_AddStringToObject(root, "choices", meta->choices) != NULL;
    cJSON *files = cJSON_AddObjectToObject(root, "files");
    for (int part = 0; part < DT_CKPT_PARTS; part++)
        for (int r = 0; r < meta->tensor_ranks && ok; r++)
            ok = cJSON_AddStringToObject(files, dt_ckpt_file_name(part, r, meta->tensor_ranks).text,
                                         digests[part * meta->tensor_ranks + r]) != NULL;
    char *text = ok ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    return text;
}

/* Is the methods' record the JSON object that it has to be? */
static dt_status check_method(const char *text, const char *path, dt_status kind)
{
    dt_json record = {0};
    DT_TRY(dt_json_parse(text, strlen(text), path, kind, &record));
    const int is_object = cJSON_IsObject(record.node);
    dt_json_free(&record);
    return is_object ? DT_OK : dt_fail(kind, "%s: the methods' record is no JSON object: %s", path, text);
}

dt_status dt_ckpt_manifest_write(const char *folder, const dt_ckpt_meta *meta, const char (*digests)[33])
{
    dt_region region = {0};
    dt_status st;
    DT_TRY(check_method(meta->method_json, folder, DT_ERR_INTERNAL));
    char *fields = print_fields(meta, digests);
    const char *path = dt_region_printf(&region, "%s/%s", folder, DT_CKPT_MANIFEST);
    const int open = fields ? (int)strlen(fields) - 2 : 0; // without its closing "\n}"
    const char *body =
        fields ? dt_region_printf(&region, "%.*s%s%s", open, fields, method_mark, meta->method_json) : NULL;
    const char *text = body ? dt_region_printf(&region, "%s%s%s%s", body, digest_mark,
                                               dt_digest_bytes(body, strlen(body)).hex, end_mark)
                            : NULL;
    if (!path || !text) st = dt_fail(DT_ERR_MEMORY, "%s: no memory for its manifest", folder);
    else st = dt_file_write_atomic(path, text, strlen(text));
    cJSON_free(fields);
    dt_region_free(&region);
    return st;
}

static dt_status read_u64(const dt_json *at, const char *key, uint64_t *out)
{
    const char *text;
    char *end;
    DT_TRY(dt_json_string(at, key, &text));
    errno = 0;
    *out = strtoull(text, &end, 10);
    if (errno || *end || text[0] < '0' || text[0] > '9')
        return dt_json_fail(at, key, "\"%s\" is no 64-bit number", text);
    return DT_OK;
}

static dt_status read_f64(const dt_json *at, const char *key, double *out)
{
    const char *text;
    char *end;
    DT_TRY(dt_json_string(at, key, &text));
    *out = strtod(text, &end);
    return end != text && !*end ? DT_OK : dt_json_fail(at, key, "\"%s\" is no number", text);
}

/* Manifests of versions that kept no such record have none. */
static dt_status read_best(const dt_json *at, dt_best *best)
{
    dt_json object;
    *best = dt_best_none();
    if (!cJSON_HasObjectItem(at->node, "evaluations")) return DT_OK;
    DT_TRY(dt_json_object(at, "evaluations", &object));
    DT_TRY(dt_json_i64(&object, "last_step", &best->evaluated));
    DT_TRY(dt_json_i64(&object, "best_step", &best->step));
    DT_TRY(read_f64(&object, "best_loss", &best->loss));
    DT_TRY(read_f64(&object, "reference_loss", &best->reference));
    return dt_json_i64(&object, "without_improvement", &best->waited);
}

static dt_status read_count(const dt_json *at, const char *key, int64_t *out)
{
    DT_TRY(dt_json_i64(at, key, out));
    return *out >= 0 ? DT_OK : dt_json_fail(at, key, "%lld is not >= 0", (long long)*out);
}

static dt_status read_ranks(const dt_json *at, const char *key, int *out)
{
    int64_t value;
    DT_TRY(dt_json_i64(at, key, &value));
    if (value < 1 || value > 99999) return dt_json_fail(at, key, "%lld is no number of ranks", (long long)value);
    *out = (int)value;
    return DT_OK;
}

/* The list of files must be exactly the one that this number of ranks writes, and stands in the same order. */
static dt_status read_digests(const dt_json *at, dt_region *region, int tensor_ranks, const char (**digests)[33])
{
    dt_json files;
    DT_TRY(dt_json_object(at, "files", &files));
    const int64_t n = (int64_t)DT_CKPT_PARTS * tensor_ranks;
    int64_t listed = 0; // cJSON counts into an int
    for (const cJSON *item = files.node->child; item; item = item->next) listed++;
    if (listed != n)
        return dt_json_fail(&files, NULL, "%lld are listed, expected %lld", (long long)listed, (long long)n);
    char(*digest)[33] = dt_region_alloc(region, (size_t)n * sizeof *digest);
    if (!digest) return dt_fail(DT_ERR_MEMORY, "%s: no memory for its digests", at->file);
    const cJSON *item = files.node->child;
    for (int64_t i = 0; i < n; i++, item = item->next) {
        dt_ckpt_name name = dt_ckpt_file_name(i / tensor_ranks, (int)(i % tensor_ranks), tensor_ranks);
        if (strcmp(item->string, name.text) != 0) return dt_json_fail(&files, name.text, "is missing");
        if (!cJSON_IsString(item) || strlen(item->valuestring) != 32)
            return dt_json_fail(&files, name.text, "is no digest");
        memcpy(digest[i], item->valuestring, sizeof *digest);
    }
    *digests = digest;
    return DT_OK;
}

/* What the device had chosen, where it had. */
static dt_status read_choices(const dt_json *at, dt_region *region, const char **choices)
{
    *choices = "";
    if (!cJSON_HasObjectItem(at->node, "choices")) return DT_OK;
    DT_TRY(dt_json_string(at, "choices", choices));
    *choices = dt_region_strdup(region, *choices);
    return *choices ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: no memory for its contents", at->file);
}

static dt_status read_fields(const dt_json *at, dt_region *region, dt_ckpt_meta *meta)
{
    DT_TRY(read_count(at, "step", &meta->step));
    DT_TRY(read_count(at, "sequences", &meta->sequences));
    DT_TRY(read_u64(at, "seed", &meta->seed));
    DT_TRY(read_ranks(at, "data_ranks", &meta->data_ranks));
    DT_TRY(read_ranks(at, "tensor_ranks", &meta->tensor_ranks));
    DT_TRY(read_u64(at, "data_fingerprint", &meta->data_fingerprint));
    DT_TRY(read_best(at, &meta->best));
    DT_TRY(read_choices(at, region, &meta->choices));
    DT_TRY(dt_json_string(at, "backbone_fingerprint", &meta->backbone_fingerprint));
    DT_TRY(dt_json_string(at, "config", &meta->config_text));
    meta->backbone_fingerprint = dt_region_strdup(region, meta->backbone_fingerprint); // out of the tree
    meta->config_text = dt_region_strdup(region, meta->config_text);
    if (!meta->backbone_fingerprint || !meta->config_text)
        return dt_fail(DT_ERR_MEMORY, "%s: no memory for its contents", at->file);
    return DT_OK;
}

/* Checks the closing line and cuts `text` into the part that it vouches for. */
static dt_status check_own_digest(const char *path, char *text, size_t bytes)
{
    const size_t mark = sizeof digest_mark - 1, end = sizeof end_mark - 1, tail = mark + 32 + end;
    char *line = text + bytes - tail;
    if (bytes < tail || memcmp(line, digest_mark, mark) != 0 || memcmp(line + mark + 32, end_mark, end) != 0 ||
        memcmp(line + mark, dt_digest_bytes(text, bytes - tail).hex, 32) != 0)
        return dt_fail(DT_ERR_STATE, "%s: was changed after it was written", path);
    *line = '\0';
    return DT_OK;
}

dt_status dt_ckpt_manifest_read(const char *folder, dt_region *region, dt_ckpt_meta *meta, const char (**digests)[33])
{
    const char *path = dt_region_printf(region, "%s/%s", folder, DT_CKPT_MANIFEST);
    char *text, *method;
    size_t bytes;
    int64_t format;
    dt_status st;
    dt_json root = {0};
    if (!path) return dt_fail(DT_ERR_MEMORY, "%s: no memory for a name", folder);
    if (!dt_path_exists(path)) return dt_fail(DT_ERR_STATE, "%s: is missing: no complete checkpoint", path);
    DT_TRY(dt_file_read(path, &text, &bytes));
    DT_GOTO(dt_json_parse(text, bytes, path, DT_ERR_STATE, &root), done);
    DT_GOTO(dt_json_i64(&root, "format", &format), done);
    if (format != FORMAT) {
        st = dt_json_fail(&root, "format", "is %lld, this version reads %d", (long long)format, FORMAT);
        goto done;
    }
    DT_GOTO(check_own_digest(path, text, bytes), done);
    DT_GOTO(read_fields(&root, region, meta), done);
    DT_GOTO(read_digests(&root, region, meta->tensor_ranks, digests), done);
    method = strstr(text, method_mark);
    if (!method) {
        st = dt_json_fail(&root, "method", "is missing");
        goto done;
    }
    method += sizeof method_mark - 1; // up to the digest, or to what else a forged manifest has there
    DT_GOTO(check_method(method, path, DT_ERR_STATE), done);
    meta->method_json = dt_region_strdup(region, method);
    if (!meta->method_json) st = dt_fail(DT_ERR_MEMORY, "%s: no memory for its contents", path);
done:
    dt_json_free(&root);
    free(text);
    return st;
}
