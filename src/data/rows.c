/* Flat files of rows: header, marked ids, table. */
#include "data/rows.h"
#include "base/log.h"    // dt_log
#include "base/memory.h" // dt_alloc, dt_grow

#include <fcntl.h>  // open
#include <stdlib.h> // free
#include <string.h> // memcpy, memcmp
#include <unistd.h> // close

/* Checksums are chains over blocks of this size: what is written as a stream is checked in the same steps. */
enum { BLOCK = 1 << 18 };

typedef struct header {
    char magic[8];
    uint32_t version, order; /* order: what a machine of the other byte order reads as something else */
    char key[sizeof(dt_digest)];
    int64_t words, rows, skipped;
    uint64_t content;  /* hash of all the rows' ids, marks and lengths */
    uint64_t checksum; /* of words and table */
    uint64_t self;     /* of the header in front of it */
} header;
static const char MAGIC[8] = "dtrows";
enum { VERSION = 1, ORDER = 0x01020304 };

static uint64_t hash_header(const header *h)
{
    return dt_hash_bytes(h, offsetof(header, self), 0);
}

/* The table begins at a multiple of 8 bytes. */
static int64_t even(int64_t words)
{
    return words + (words & 1);
}

static dt_status beat(const dt_pulse *pulse)
{
    return pulse->fn ? pulse->fn(pulse->ctx) : DT_OK;
}

/* Goes on from *hash. */
static dt_status hash_blocks(const void *data, int64_t bytes, const dt_pulse *pulse, uint64_t *hash)
{
    const char *at = data;
    for (const int64_t step = BLOCK * (int64_t)sizeof(uint32_t); bytes > 0; at += step, bytes -= step) {
        *hash = dt_hash_bytes(at, (size_t)(bytes < step ? bytes : step), *hash);
        DT_TRY(beat(pulse));
    }
    return DT_OK;
}

/* ---- reading ---- */

static int64_t file_bytes(int64_t words, int64_t rows)
{
    return (int64_t)sizeof(header) + even(words) * (int64_t)sizeof(uint32_t) + rows * (int64_t)sizeof(dt_rows_entry);
}

/* What is wrong with the file; NULL if nothing is. */
static const char *find_damage(const dt_map *map, const dt_digest *key)
{
    const header *h = (const header *)map->data;
    const int64_t bytes = (int64_t)map->bytes;
    if (map->bytes < sizeof *h) return "it is too short";
    if (memcmp(h->magic, MAGIC, sizeof MAGIC) != 0 || h->version != VERSION || h->order != ORDER)
        return "it is no file of rows of this version";
    if (h->self != hash_header(h)) return "its header is damaged";
    if (memcmp(h->key, key->hex, sizeof h->key) != 0) return "it was made of something else";
    if (h->words < 0 || h->rows < 0 || h->words > bytes || h->rows > bytes || bytes != file_bytes(h->words, h->rows))
        return "its length is wrong";
    return NULL;
}

static dt_status verify_checksum(const dt_map *map, const dt_pulse *pulse, const char **damage)
{
    const header *h = (const header *)map->data;
    const uint32_t *word = (const uint32_t *)(h + 1);
    uint64_t hash = 0;
    DT_TRY(hash_blocks(word, even(h->words) * (int64_t)sizeof *word, pulse, &hash));
    DT_TRY(hash_blocks(word + even(h->words), h->rows * (int64_t)sizeof(dt_rows_entry), pulse, &hash));
    if (hash != h->checksum) *damage = "its checksum is wrong";
    return DT_OK;
}

static void take_map(dt_map map, dt_rows *out)
{
    const header *h = (const header *)map.data;
    const uint32_t *word = (const uint32_t *)(h + 1);
    *out = (dt_rows){.map = map,
                     .word = word,
                     .entry = (const dt_rows_entry *)(word + even(h->words)),
                     .n = h->rows,
                     .skipped = h->skipped,
                     .content = h->content};
}

dt_status dt_rows_open(const char *path, const dt_digest *key, int verify, dt_pulse pulse, dt_rows *out, int *usable)
{
    dt_map map;
    *usable = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return DT_OK;
    dt_status st = dt_map_view(fd, path, &map);
    close(fd);
    DT_TRY(st);
    const char *damage = find_damage(&map, key);
    if (!damage && verify) st = verify_checksum(&map, &pulse, &damage);
    if (damage) dt_log(DT_LOG_WARN, "%s: not used: %s", path, damage);
    if (damage || st != DT_OK) {
        dt_map_close(&map);
        return st;
    }
    take_map(map, out);
    *usable = 1;
    return DT_OK;
}

void dt_rows_close(dt_rows *rows)
{
    dt_map_close(&rows->map);
    *rows = (dt_rows){0};
}

/* ---- writing ---- */

dt_status dt_rows_writer_open(const char *path, dt_pulse pulse, dt_rows_writer *out)
{
    const header none = {0};
    *out = (dt_rows_writer){.pulse = pulse};
    DT_TRY(dt_alloc(BLOCK, sizeof *out->block, &out->block));
    DT_TRY(dt_draft_open(path, &out->draft));
    return dt_draft_write(&out->draft, &none, sizeof none);
}

static dt_status write_block(dt_rows_writer *w)
{
    size_t bytes = (size_t)w->used * sizeof *w->block;
    w->checksum = w->used ? dt_hash_bytes(w->block, bytes, w->checksum) : w->checksum;
    w->words += w->used;
    w->used = 0;
    DT_TRY(dt_draft_write(&w->draft, w->block, bytes));
    return beat(&w->pulse);
}

dt_status dt_rows_writer_point(dt_rows_writer *w, dt_rows_entry entry)
{
    DT_TRY(dt_grow(&w->entry, &w->cap, w->n + 1, sizeof *w->entry));
    w->entry[w->n++] = entry;
    return DT_OK;
}

dt_status dt_rows_writer_append(dt_rows_writer *w, const uint32_t *ids, int64_t n)
{
    if (n > INT32_MAX) return dt_fail(DT_ERR_DATA, "a row of %lld tokens is longer than 2^31", (long long)n);
    DT_TRY(dt_rows_writer_point(w, (dt_rows_entry){.at = w->words + w->used, .n = (int32_t)n}));
    while (n > 0) {
        int64_t part = n < BLOCK - w->used ? n : BLOCK - w->used;
        memcpy(w->block + w->used, ids, (size_t)part * sizeof *ids);
        w->used += part;
        ids += part;
        n -= part;
        if (w->used == BLOCK) DT_TRY(write_block(w));
    }
    return DT_OK;
}

dt_status dt_rows_writer_finish(dt_rows_writer *w, const dt_digest *key, dt_rows *out)
{
    const int64_t words = w->words + w->used, table = w->n * (int64_t)sizeof *w->entry;
    dt_map map;
    if (words & 1) w->block[w->used++] = 0; // a block is never full here
    DT_TRY(write_block(w));
    DT_TRY(dt_draft_write(&w->draft, w->entry, (size_t)table));
    header h;
    memset(&h, 0, sizeof h); // what lies between its members too
    h.version = VERSION;
    h.order = ORDER;
    h.words = words;
    h.rows = w->n;
    h.skipped = w->skipped;
    memcpy(h.magic, MAGIC, sizeof MAGIC);
    memcpy(h.key, key->hex, sizeof h.key);
    h.checksum = w->checksum;
    DT_TRY(hash_blocks(w->entry, table, &w->pulse, &h.checksum));
    h.content = dt_hash_bytes(&w->outside, sizeof w->outside, h.checksum);
    h.self = hash_header(&h);
    DT_TRY(dt_draft_rewrite(&w->draft, 0, &h, sizeof h));
    DT_TRY(dt_map_view(w->draft.fd, w->draft.temporary, &map));
    dt_status st = dt_draft_commit(&w->draft);
    if (st == DT_OK) take_map(map, out);
    else dt_map_close(&map);
    return st;
}

void dt_rows_writer_close(dt_rows_writer *w)
{
    dt_draft_close(&w->draft);
    free(w->block);
    free(w->entry);
    *w = (dt_rows_writer){0};
}
