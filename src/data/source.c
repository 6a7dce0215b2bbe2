/* Rows of a source: their key, the cache, and how they are made. */
#define _GNU_SOURCE // realpath
#include "data/source.h"
#include "base/log.h"    // dt_log
#include "base/memory.h" // dt_region

#include <dirent.h>   // readdir
#include <errno.h>    // errno
#include <limits.h>   // PATH_MAX
#include <stdlib.h>   // free, realpath
#include <string.h>   // strerror, strrchr
#include <sys/stat.h> // stat
#include <time.h>     // time
#include <unistd.h>   // unlink

/* ---- the key: all that decides what the rows are ---- */

/* A file is known by where it lies, its size and when it was changed: reading it to hash it would take as long as what
 * the cache saves. */
static dt_status add_file(const char *path, dt_region *region, dt_text *key)
{
    struct stat info;
    if (stat(path, &info) < 0) return dt_fail(DT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    char *whole = realpath(path, NULL);
    const char *line = dt_region_printf(region, "file %s %lld %lld.%09ld\n", whole ? whole : path,
                                        (long long)info.st_size, (long long)info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
    free(whole);
    return line ? dt_text_append(key, line, strlen(line)) : dt_fail(DT_ERR_MEMORY, "%s: no memory for its name", path);
}

static dt_status add_options(const dt_source *source, const dt_source_options *o, dt_region *region, dt_text *key)
{
    const dt_encoder *e = &o->encoder;
    const char *line = source->jsonl ? dt_region_printf(region, "jsonl bos %d eos %d loss %d skip %d\n", e->add_bos,
                                                        e->add_eos, e->loss_on_prompt != 0, o->skip_bad_rows != 0)
                                     : dt_region_printf(region, "ids %d eos %d most %d\n", source->type,
                                                        source->split_at_eos != 0, o->seq_len);
    const char *most = dt_region_printf(region, "dtrain %s tokenizer %s rows %lld\n", DT_VERSION,
                                        dt_tokenizer_digest(e->tok).hex, (long long)source->max_rows);
    if (!line || !most) return dt_fail(DT_ERR_MEMORY, "no memory for a key");
    DT_TRY(dt_text_append(key, line, strlen(line)));
    DT_TRY(dt_text_append(key, most, strlen(most)));
    return source->jsonl ? dt_chat_describe(e->chat, key) : DT_OK;
}

static dt_status make_key(const dt_source *source, const dt_source_options *o, const dt_shards *shards, dt_digest *out)
{
    dt_region region = {0};
    dt_text key = {0};
    dt_status st;
    DT_GOTO(add_options(source, o, &region, &key), done);
    if (source->jsonl) DT_GOTO(add_file(source->jsonl, &region, &key), done);
    for (int64_t i = 0; i < shards->n; i++) DT_GOTO(add_file(shards->shard[i].path, &region, &key), done);
    *out = dt_digest_bytes(key.data, (size_t)key.n);
done:
    dt_text_free(&key);
    dt_region_free(&region);
    return st;
}

/* ---- making ---- */

static dt_status write_line(const dt_source_options *o, const dt_jsonl *in, size_t bytes, dt_ids *ids,
                            dt_rows_writer *out)
{
    dt_jsonl_row row;
    DT_TRY(dt_jsonl_row_read(in, bytes, &row));
    dt_status st = dt_encoder_run(&o->encoder, &row, ids);
    dt_json_free(&row.document);
    return st == DT_OK ? dt_rows_writer_append(out, (const uint32_t *)ids->id, ids->n) : st;
}

static dt_status write_lines(const dt_source *source, const dt_source_options *o, dt_rows_writer *out)
{
    dt_jsonl in = {0};
    dt_ids ids = {0};
    dt_status st;
    size_t bytes;
    DT_GOTO(dt_jsonl_open(source->jsonl, &in), done);
    while (!source->max_rows || out->n < source->max_rows) {
        DT_GOTO(dt_jsonl_next(&in, &bytes), done);
        if (!bytes) break;
        st = write_line(o, &in, bytes, &ids, out);
        if (st == DT_ERR_DATA && o->skip_bad_rows) out->skipped++;
        else if (st != DT_OK) goto done;
    }
    st = DT_OK;
    if (out->n == 0 && out->skipped == 0) st = dt_fail(DT_ERR_DATA, "%s: no rows", source->jsonl);
    else if (out->n == 0)
        st = dt_fail(DT_ERR_DATA, "%s: no row that can be used: all %lld are bad", source->jsonl,
                     (long long)out->skipped);
done:
    dt_jsonl_close(&in);
    dt_ids_free(&ids);
    return st;
}

static dt_status write_shards(const dt_source *source, const dt_source_options *o, const dt_shards *shards,
                              dt_rows_writer *out)
{
    const dt_tokenizer *tok = o->encoder.tok;
    dt_shards_options scan = {.vocab = dt_tokenizer_size(tok),
                              .eos = source->split_at_eos ? dt_tokenizer_eos(tok) : -1,
                              .most = o->seq_len,
                              .max_rows = source->max_rows};
    if (source->split_at_eos && scan.eos < 0)
        return dt_fail(DT_ERR_CONFIG, "split_at_eos: the tokenizer has no EOS token");
    DT_TRY(dt_shards_scan(shards, &scan, out));
    return out->n ? DT_OK : dt_fail(DT_ERR_DATA, "%s: no rows", source->tokens);
}

/* Makes the rows; `path` NULL: in memory. */
static dt_status build(const dt_source *source, const dt_source_options *o, const char *path, const dt_digest *key,
                       dt_source_rows *out)
{
    dt_rows_writer w = {0};
    dt_digest now;
    dt_status st;
    DT_GOTO(dt_rows_writer_open(path, o->pulse, &w), done);
    DT_GOTO(source->jsonl ? write_lines(source, o, &w) : write_shards(source, o, &out->shards, &w), done);
    if (path) {
        DT_GOTO(make_key(source, o, &out->shards, &now), done);
        if (strcmp(now.hex, key->hex) != 0) {
            st = dt_fail(DT_ERR_DATA, "%s: was changed while it was read",
                         source->jsonl ? source->jsonl : source->tokens);
            goto done;
        }
    }
    st = dt_rows_writer_finish(&w, key, &out->rows);
done:
    dt_rows_writer_close(&w);
    return st;
}

/* ---- the cache ---- */

/* What a job that was killed left half-written: nobody has written to it for a day. */
static void remove_leftovers(const char *folder)
{
    DIR *list = opendir(folder);
    if (!list) return;
    for (const struct dirent *entry; (entry = readdir(list));) {
        struct stat info;
        const char *end = strrchr(entry->d_name, '.');
        if (!end || strcmp(end, ".tmp") != 0 || !strstr(entry->d_name, ".rows.")) continue;
        if (fstatat(dirfd(list), entry->d_name, &info, 0) == 0 && info.st_mtim.tv_sec < time(NULL) - 24 * 3600)
            unlinkat(dirfd(list), entry->d_name, 0);
    }
    closedir(list);
}

/* <folder>/<name of the source>-<key>.rows */
static const char *name_file(const dt_source *source, const char *folder, const dt_digest *key, dt_region *region)
{
    char name[64];
    const char *path = source->jsonl ? source->jsonl : source->tokens, *slash = strrchr(path, '/');
    snprintf(name, sizeof name, "%s", slash ? slash + 1 : path);
    for (char *c = name; *c; c++)
        if (strchr("*?[]\\{}", *c)) *c = '_';
    return dt_region_printf(region, "%s/%s-%s.rows", folder, name, key->hex);
}

static dt_status open_cached(const dt_source *source, const dt_source_options *o, const dt_digest *key,
                             dt_source_rows *out)
{
    dt_region region = {0};
    int usable;
    dt_status st;
    const char *path = name_file(source, o->cache, key, &region);
    if (!path) return dt_fail(DT_ERR_MEMORY, "%s: no memory for a name in it", o->cache);
    DT_GOTO(dt_dir_make(o->cache), done);
    DT_GOTO(dt_rows_open(path, key, o->verify, o->pulse, &out->rows, &usable), done);
    if (usable) goto done;
    remove_leftovers(o->cache);
    DT_GOTO(build(source, o, path, key, out), done);
    dt_log(DT_LOG_INFO, "%s: %lld rows, kept in %s", source->jsonl ? source->jsonl : source->tokens,
           (long long)out->rows.n, path);
done:
    dt_region_free(&region);
    return st;
}

dt_status dt_source_open(const dt_source *source, const dt_source_options *options, dt_source_rows *out)
{
    dt_digest key = {{0}};
    dt_status st;
    *out = (dt_source_rows){0};
    if (source->max_rows < 0)
        return dt_fail(DT_ERR_CONFIG, "data.examples: %lld is not >= 0", (long long)source->max_rows);
    if (source->tokens) DT_GOTO(dt_shards_open(source->tokens, source->type, &out->shards), done);
    if (options->cache) {
        DT_GOTO(make_key(source, options, &out->shards, &key), done);
        st = open_cached(source, options, &key, out);
    } else {
        st = build(source, options, NULL, &key, out);
    }
done:
    if (st != DT_OK) dt_source_rows_close(out);
    return st;
}

void dt_source_rows_close(dt_source_rows *rows)
{
    dt_rows_close(&rows->rows);
    dt_shards_close(&rows->shards);
}

dt_row dt_source_row(const dt_source_rows *rows, int64_t i)
{
    const dt_rows_entry *e = &rows->rows.entry[i];
    const dt_shards *shards = &rows->shards;
    if (!shards->shard) return (dt_row){.ids = rows->rows.word + e->at, .type = DT_IDS_MARKED, .n = e->n};
    const char *ids = shards->shard[e->file].ids;
    size_t width = shards->type == DT_IDS_U16 ? sizeof(uint16_t) : sizeof(uint32_t);
    return (dt_row){.ids = ids + (size_t)e->at * width, .type = shards->type, .n = e->n};
}
