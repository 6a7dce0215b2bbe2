/* Data sets: rows of a JSONL file, tokenised into one flat buffer, laid out as sequences. */
#include "data/data.h"
#include "base/hash.h"   // dt_hash_bytes
#include "base/memory.h" // dt_alloc, dt_grow
#include "data/jsonl.h"  // dt_jsonl
#include "data/pack.h"   // dt_pack

#include <stdlib.h> // free, realloc
#include <string.h> // memset, memcpy

struct dt_dataset {
    dt_data_options options;
    const dt_tokenizer *tok;
    dt_ids ids;         /* all rows' ids, one behind the other */
    int64_t *offset;    /* [n + 1]: row i is ids[offset[i] .. offset[i + 1]) */
    int32_t *loss_from; /* [n] */
    int64_t n, offset_cap, loss_cap;
    int64_t rows_cut, rows_skipped;
    dt_pack pack;
    int32_t *starts; /* of the layout asked for last */
    int64_t starts_cap;
};

/* ---- reading ---- */

static dt_status append_text(dt_dataset *set, const char *text)
{
    return dt_tokenizer_encode(set->tok, text, strlen(text), &set->ids);
}

static dt_status append_token(dt_dataset *set, int32_t id, const char *option, const char *where)
{
    if (id < 0)
        return dt_fail(DT_ERR_CONFIG, "data.%s: the tokenizer has no such token to put there; %s", option, where);
    DT_TRY(dt_grow(&set->ids.id, &set->ids.cap, set->ids.n + 1, sizeof *set->ids.id));
    set->ids.id[set->ids.n++] = id;
    return DT_OK;
}

/* [BOS] text [EOS], or [BOS] prompt completion [EOS], behind the ids that are there. *loss_from: as dt_row's. */
static dt_status append_row(dt_dataset *set, const dt_jsonl_row *row, int64_t *loss_from)
{
    const dt_data_options *o = &set->options;
    int64_t from = set->ids.n;
    int add_bos = o->add_bos < 0 ? dt_tokenizer_adds_bos(set->tok) : o->add_bos;
    int add_eos = o->add_eos < 0 ? !row->text || dt_tokenizer_adds_eos(set->tok) : o->add_eos;
    *loss_from = 0;
    if (add_bos) DT_TRY(append_token(set, dt_tokenizer_bos(set->tok), "add_bos", "set it to false"));
    DT_TRY(append_text(set, row->text ? row->text : row->prompt));
    if (row->completion) {
        if (!o->loss_on_prompt) *loss_from = set->ids.n - from;
        DT_TRY(append_text(set, row->completion));
    }
    if (add_eos) DT_TRY(append_token(set, dt_tokenizer_eos(set->tok), "add_eos", "set it to false"));
    return DT_OK;
}

static dt_status close_row(dt_dataset *set, int64_t loss_from, const char *where)
{
    int64_t from = set->offset[set->n], n = set->ids.n - from;
    if (n < 2)
        return dt_fail(DT_ERR_DATA, "%s: the row has %lld token%s, at least 2 are needed", where, (long long)n,
                       n == 1 ? "" : "s");
    if (n > set->options.seq_len) {
        n = set->options.seq_len;
        set->rows_cut++;
    }
    set->ids.n = from + n;
    DT_TRY(dt_grow(&set->offset, &set->offset_cap, set->n + 2, sizeof *set->offset));
    DT_TRY(dt_grow(&set->loss_from, &set->loss_cap, set->n + 1, sizeof *set->loss_from));
    set->loss_from[set->n++] = (int32_t)(loss_from < n ? loss_from : n);
    set->offset[set->n] = set->ids.n;
    return DT_OK;
}

static dt_status read_row(dt_dataset *set, const dt_jsonl *in, size_t bytes)
{
    dt_jsonl_row row;
    int64_t loss_from;
    DT_TRY(dt_jsonl_row_read(in, bytes, &row));
    dt_status st = append_row(set, &row, &loss_from);
    if (st == DT_OK) st = close_row(set, loss_from, row.where);
    else if (st == DT_ERR_DATA) st = dt_fail_in(st, "%s", row.where);
    if (st != DT_OK) set->ids.n = set->offset[set->n]; // what the bad row left
    dt_json_free(&row.document);
    return st;
}

static dt_status read_rows(dt_dataset *set, dt_jsonl *in)
{
    DT_TRY(dt_grow(&set->offset, &set->offset_cap, 1, sizeof *set->offset));
    while (!set->options.max_rows || set->n < set->options.max_rows) {
        size_t bytes;
        DT_TRY(dt_jsonl_next(in, &bytes));
        if (!bytes) break;
        dt_status st = read_row(set, in, bytes);
        if (st == DT_ERR_DATA && set->options.skip_bad_rows) set->rows_skipped++;
        else if (st != DT_OK) return st;
    }
    if (set->n) return DT_OK;
    if (!set->rows_skipped) return dt_fail(DT_ERR_DATA, "%s: no rows", in->path);
    return dt_fail(DT_ERR_DATA, "%s: no row that can be used: all %lld are bad", in->path,
                   (long long)set->rows_skipped);
}

static dt_status check_options(const dt_data_options *o)
{
    if (o->seq_len < 2) return dt_fail(DT_ERR_CONFIG, "data.seq_len: %d is not >= 2", o->seq_len);
    if (o->max_rows < 0) return dt_fail(DT_ERR_CONFIG, "data.examples: %lld is not >= 0", (long long)o->max_rows);
    return DT_OK;
}

dt_status dt_dataset_open(const char *jsonl, const dt_tokenizer *tok, const dt_data_options *options, dt_dataset **out)
{
    dt_dataset *set;
    dt_jsonl in = {0};
    dt_status st;
    DT_TRY(check_options(options));
    DT_TRY(dt_alloc(1, sizeof *set, &set));
    set->options = *options;
    set->tok = tok;
    DT_GOTO(dt_jsonl_open(jsonl, &in), done);
    DT_GOTO(read_rows(set, &in), done);
    int32_t *shrunk = realloc(set->ids.id, (size_t)set->ids.n * sizeof *set->ids.id);
    if (shrunk) {
        set->ids.id = shrunk;
        set->ids.cap = set->ids.n;
    }
    set->pack = (dt_pack){.options = {options->seq_len, options->packing, options->shuffle, options->seed},
                          .offset = set->offset,
                          .n_rows = set->n};
    const dt_pack_epoch *epoch;
    int64_t within;
    DT_GOTO(dt_pack_find(&set->pack, 0, &epoch, &within), done); // dt_dataset_sequences cannot fail
    *out = set;
    set = NULL;
done:
    dt_jsonl_close(&in);
    dt_dataset_destroy(set);
    return st;
}

void dt_dataset_destroy(dt_dataset *set)
{
    if (!set) return;
    dt_pack_free(&set->pack);
    dt_ids_free(&set->ids);
    free(set->offset);
    free(set->loss_from);
    free(set->starts);
    free(set);
}

/* ---- rows ---- */

int64_t dt_dataset_rows(const dt_dataset *set)
{
    return set->n;
}

int64_t dt_dataset_rows_cut(const dt_dataset *set)
{
    return set->rows_cut;
}

int64_t dt_dataset_rows_skipped(const dt_dataset *set)
{
    return set->rows_skipped;
}

dt_row dt_dataset_row(const dt_dataset *set, int64_t i)
{
    return (dt_row){.ids = set->ids.id + set->offset[i],
                    .n = (int32_t)(set->offset[i + 1] - set->offset[i]),
                    .loss_from = set->loss_from[i]};
}

uint64_t dt_dataset_fingerprint(const dt_dataset *set)
{
    const dt_data_options *o = &set->options;
    uint64_t shape[] = {(uint64_t)o->seq_len, o->packing != 0, o->shuffle != 0, o->seed, (uint64_t)set->n};
    uint64_t hash = dt_hash_bytes(shape, sizeof shape, 0);
    hash = dt_hash_bytes(set->ids.id, (size_t)set->ids.n * sizeof *set->ids.id, hash);
    hash = dt_hash_bytes(set->offset, (size_t)(set->n + 1) * sizeof *set->offset, hash);
    return dt_hash_bytes(set->loss_from, (size_t)set->n * sizeof *set->loss_from, hash);
}

/* ---- sequences ---- */

int64_t dt_dataset_sequences(const dt_dataset *set)
{
    return set->pack.before[1];
}

dt_status dt_dataset_layout(dt_dataset *set, int64_t sequence, const int64_t **rows, const int32_t **starts, int *n)
{
    int64_t most = set->options.shuffle ? INT64_MAX : dt_dataset_sequences(set), within;
    if (sequence < 0 || sequence >= most)
        return dt_fail(DT_ERR_INTERNAL, "sequence %lld is not in [0, %lld)", (long long)sequence, (long long)most);
    const dt_pack_epoch *epoch;
    DT_TRY(dt_pack_find(&set->pack, sequence, &epoch, &within));
    int64_t from = epoch->first[within], count = epoch->first[within + 1] - from;
    DT_TRY(dt_grow(&set->starts, &set->starts_cap, count, sizeof *set->starts));
    int32_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        set->starts[i] = at;
        at += dt_dataset_row(set, epoch->order[from + i]).n;
    }
    *rows = epoch->order + from;
    *starts = set->starts;
    *n = (int)count;
    return DT_OK;
}

dt_status dt_dataset_fill(dt_dataset *set, int64_t sequence, int32_t *tokens, int32_t *pos, int32_t *targets)
{
    const int64_t *rows;
    const int32_t *starts;
    int n;
    DT_TRY(dt_dataset_layout(set, sequence, &rows, &starts, &n));
    size_t length = (size_t)set->options.seq_len;
    memset(tokens, 0, length * sizeof *tokens);
    memset(pos, 0, length * sizeof *pos);
    memset(targets, -1, length * sizeof *targets);
    for (int k = 0; k < n; k++) {
        dt_row row = dt_dataset_row(set, rows[k]);
        memcpy(tokens + starts[k], row.ids, (size_t)row.n * sizeof *tokens);
        for (int32_t i = 0; i < row.n; i++) {
            pos[starts[k] + i] = i;
            if (i + 1 < row.n && i + 1 >= row.loss_from) targets[starts[k] + i] = row.ids[i + 1];
        }
    }
    return DT_OK;
}

dt_status dt_dataset_targets(dt_dataset *set, int64_t sequence, int64_t *count)
{
    const int64_t *rows;
    const int32_t *starts;
    int n;
    DT_TRY(dt_dataset_layout(set, sequence, &rows, &starts, &n));
    *count = 0;
    for (int k = 0; k < n; k++) {
        dt_row row = dt_dataset_row(set, rows[k]);
        *count += row.n - (row.loss_from > 1 ? row.loss_from : 1);
    }
    return DT_OK;
}
