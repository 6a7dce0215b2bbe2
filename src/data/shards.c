/* Files of token ids. */
#include "data/shards.h"
#include "base/memory.h" // dt_grow

#include <glob.h>   // glob
#include <stdlib.h> // free
#include <string.h> // strdup, memcpy

/* Headers of llm.c: the second is that of its files for Llama 3. */
static const struct {
    int32_t magic, version;
    dt_id_type type;
} HEADERS[] = {{20240520, 1, DT_IDS_U16}, {20240801, 7, DT_IDS_U32}};
enum { HEADER_BYTES = 256 * 4, BLOCK = 1 << 20 };

static size_t width(dt_id_type type)
{
    return type == DT_IDS_U16 ? 2 : 4;
}

static const char *type_name(dt_id_type type)
{
    return type == DT_IDS_U16 ? "UINT16" : "UINT32";
}

/* Bytes in front of the ids. */
static dt_status read_header(const dt_shard *shard, dt_id_type type, size_t *bytes)
{
    int32_t head[3];
    *bytes = 0;
    if (shard->map.bytes < HEADER_BYTES) return DT_OK;
    memcpy(head, shard->map.data, sizeof head);
    for (size_t i = 0; i < sizeof HEADERS / sizeof *HEADERS; i++) {
        if (head[0] != HEADERS[i].magic) continue;
        if (head[1] != HEADERS[i].version)
            return dt_fail(DT_ERR_DATA, "%s: a header of llm.c with version %d, expected %d", shard->path, head[1],
                           HEADERS[i].version);
        if (HEADERS[i].type != type)
            return dt_fail(DT_ERR_DATA, "%s: its header says %s, but dtype is %s", shard->path,
                           type_name(HEADERS[i].type), type_name(type));
        if (head[2] < 0 || HEADER_BYTES + (size_t)head[2] * width(type) != shard->map.bytes)
            return dt_fail(DT_ERR_DATA, "%s: its header says %d ids, which are not what %zu bytes hold", shard->path,
                           head[2], shard->map.bytes);
        *bytes = HEADER_BYTES;
    }
    return DT_OK;
}

static dt_status open_shard(const char *path, dt_id_type type, dt_shard *out)
{
    size_t header = 0;
    out->path = strdup(path);
    if (!out->path) return dt_fail(DT_ERR_MEMORY, "%s: no memory for its name", path);
    DT_TRY(dt_map_open(path, &out->map));
    if (out->map.bytes % width(type))
        return dt_fail(DT_ERR_DATA, "%s: %zu bytes are no whole number of ids of %zu bytes", path, out->map.bytes,
                       width(type));
    DT_TRY(read_header(out, type, &header));
    out->ids = out->map.data + header;
    out->n = (int64_t)((out->map.bytes - header) / width(type));
    return DT_OK;
}

dt_status dt_shards_open(const char *pattern, dt_id_type type, dt_shards *out)
{
    glob_t found;
    dt_status st = DT_OK;
    *out = (dt_shards){.type = type};
    int failed = glob(pattern, GLOB_NOCHECK, NULL, &found); // a pattern without a file stays: opening it says so
    if (failed) return dt_fail(failed == GLOB_NOSPACE ? DT_ERR_MEMORY : DT_ERR_IO, "%s: cannot be searched", pattern);
    for (size_t i = 0; i < found.gl_pathc && st == DT_OK; i++) {
        st = dt_grow(&out->shard, &out->cap, out->n + 1, sizeof *out->shard);
        if (st == DT_OK) st = open_shard(found.gl_pathv[i], type, &out->shard[out->n++]);
    }
    globfree(&found);
    if (st != DT_OK) dt_shards_close(out);
    return st;
}

void dt_shards_close(dt_shards *shards)
{
    for (int64_t i = 0; i < shards->n; i++) {
        dt_map_close(&shards->shard[i].map);
        free(shards->shard[i].path);
    }
    free(shards->shard);
    *shards = (dt_shards){0};
}

static uint32_t id_at(const dt_shards *shards, const dt_shard *shard, int64_t i)
{
    return shards->type == DT_IDS_U16 ? ((const uint16_t *)shard->ids)[i] : ((const uint32_t *)shard->ids)[i];
}

/* Hashes all ids of a file, each of which must be in the vocabulary. */
static dt_status check_ids(const dt_shards *shards, const dt_shard *shard, int32_t vocab, dt_rows_writer *out)
{
    const size_t bytes = width(shards->type);
    for (int64_t from = 0; from < shard->n; from += BLOCK) {
        int64_t n = shard->n - from < BLOCK ? shard->n - from : BLOCK;
        for (int64_t i = from; i < from + n; i++) {
            uint32_t id = id_at(shards, shard, i);
            if (id < (uint32_t)vocab) continue;
            return dt_fail(DT_ERR_DATA, "%s: byte %lld: id %u, but the tokenizer has ids below %d", shard->path,
                           (long long)((const char *)shard->ids - (const char *)shard->map.data + i * (int64_t)bytes),
                           id, vocab);
        }
        out->outside = dt_hash_bytes((const char *)shard->ids + (size_t)from * bytes, (size_t)n * bytes, out->outside);
        if (out->pulse.fn) DT_TRY(out->pulse.fn(out->pulse.ctx));
    }
    return DT_OK;
}

static dt_status write_rows(const dt_shards *shards, int32_t file, const dt_shards_options *o, dt_rows_writer *out)
{
    const dt_shard *shard = &shards->shard[file];
    for (int64_t from = 0, to; from < shard->n && (!o->max_rows || out->n < o->max_rows); from = to) {
        int64_t most = shard->n - from < o->most ? shard->n : from + o->most;
        to = o->eos < 0 ? most : from;
        while (to < most)
            if (id_at(shards, shard, to++) == (uint32_t)o->eos) break;
        if (to - from < 2) continue;
        DT_TRY(dt_rows_writer_point(out, (dt_rows_entry){.at = from, .n = (int32_t)(to - from), .file = file}));
    }
    return DT_OK;
}

dt_status dt_shards_scan(const dt_shards *shards, const dt_shards_options *options, dt_rows_writer *out)
{
    for (int64_t f = 0; f < shards->n && (!options->max_rows || out->n < options->max_rows); f++) {
        DT_TRY(check_ids(shards, &shards->shard[f], options->vocab, out));
        DT_TRY(write_rows(shards, (int32_t)f, options, out));
    }
    return DT_OK;
}
