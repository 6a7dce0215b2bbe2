/* Data sets: rows of several sources, laid out as sequences. */
#include "data/data.h"
#include "base/hash.h"   // dt_hash_bytes
#include "base/memory.h" // dt_alloc, dt_grow
#include "data/pack.h"   // dt_pack

#include <stdlib.h> // free
#include <string.h> // memset

struct dt_dataset {
    dt_data_options options;
    dt_source_rows *source; /* [n_sources] */
    int n_sources;
    int64_t rows_cut;
    dt_order order; /* knows where the rows of each source lie among all */
    dt_pack pack;
    int32_t *starts; /* of the layout asked for last */
    int64_t starts_cap;
};

/* ---- opening ---- */

static int32_t row_length(const void *set, int64_t i)
{
    return dt_dataset_row(set, i).n;
}

static dt_status open_sources(dt_dataset *set, const dt_source *source, int n, const dt_tokenizer *tok)
{
    static const dt_chat no_chat;
    const dt_data_options *o = &set->options;
    const dt_source_options options = {.encoder = {.tok = tok,
                                                   .chat = o->chat ? o->chat : &no_chat,
                                                   .add_bos = o->add_bos,
                                                   .add_eos = o->add_eos,
                                                   .loss_on_prompt = o->loss_on_prompt},
                                       .seq_len = o->seq_len,
                                       .skip_bad_rows = o->skip_bad_rows,
                                       .cache = o->cache,
                                       .verify = !o->trust_cache,
                                       .pulse = o->pulse};
    if (o->seq_len < 2) return dt_fail(DT_ERR_CONFIG, "data.seq_len: %d is not >= 2", o->seq_len);
    DT_TRY(dt_alloc((size_t)n, sizeof *set->source, &set->source));
    for (; set->n_sources < n; set->n_sources++)
        DT_TRY(dt_source_open(&source[set->n_sources], &options, &set->source[set->n_sources]));
    return DT_OK;
}

static dt_status make_order(dt_dataset *set, const dt_source *source)
{
    const size_t n = (size_t)set->n_sources;
    int64_t *rows = NULL;
    double *weight = NULL;
    dt_status st;
    DT_GOTO(dt_alloc(n, sizeof *rows, &rows), done);
    DT_GOTO(dt_alloc(n, sizeof *weight, &weight), done);
    for (size_t s = 0; s < n; s++) {
        rows[s] = set->source[s].rows.n;
        weight[s] = source[s].weight > 0 ? source[s].weight : 1;
    }
    st = dt_order_make(rows, weight, set->n_sources, set->options.shuffle, set->options.seed, &set->order);
done:
    free(rows);
    free(weight);
    return st;
}

static void count_cut(dt_dataset *set)
{
    for (int s = 0; s < set->n_sources; s++) {
        const dt_rows *rows = &set->source[s].rows;
        for (int64_t i = 0; i < rows->n; i++) set->rows_cut += rows->entry[i].n > set->options.seq_len;
    }
}

dt_status dt_dataset_open(const dt_source *source, int n, const dt_tokenizer *tok, const dt_data_options *options,
                          dt_dataset **out)
{
    dt_dataset *set;
    dt_status st;
    DT_TRY(dt_alloc(1, sizeof *set, &set));
    set->options = *options;
    DT_GOTO(open_sources(set, source, n, tok), done);
    DT_GOTO(make_order(set, source), done);
    count_cut(set);
    set->pack = (dt_pack){.order = &set->order,
                          .seq_len = options->seq_len,
                          .packing = options->packing,
                          .length = row_length,
                          .set = set};
    const dt_pack_epoch *epoch;
    int64_t within;
    DT_GOTO(dt_pack_find(&set->pack, 0, &epoch, &within), done); // dt_dataset_sequences cannot fail
    *out = set;
    set = NULL;
done:
    dt_dataset_destroy(set);
    return st;
}

void dt_dataset_destroy(dt_dataset *set)
{
    if (!set) return;
    dt_pack_free(&set->pack);
    dt_order_free(&set->order);
    for (int s = 0; s < set->n_sources; s++) dt_source_rows_close(&set->source[s]);
    free(set->source);
    free(set->starts);
    free(set);
}

/* ---- rows ---- */

int64_t dt_dataset_rows(const dt_dataset *set)
{
    return set->order.total;
}

int64_t dt_dataset_rows_cut(const dt_dataset *set)
{
    return set->rows_cut;
}

int64_t dt_dataset_rows_skipped(const dt_dataset *set)
{
    int64_t skipped = 0;
    for (int s = 0; s < set->n_sources; s++) skipped += set->source[s].rows.skipped;
    return skipped;
}

dt_row dt_dataset_row(const dt_dataset *set, int64_t i)
{
    int s = 0;
    while (i >= set->order.source[s].first + set->order.source[s].rows) s++;
    dt_row row = dt_source_row(&set->source[s], i - set->order.source[s].first);
    if (row.n > set->options.seq_len) row.n = set->options.seq_len;
    return row;
}

dt_status dt_dataset_draw(dt_dataset *set, dt_rng_purpose purpose, int64_t *row)
{
    return dt_order_epoch(&set->order, purpose, 0, row);
}

uint64_t dt_dataset_fingerprint(const dt_dataset *set)
{
    const dt_data_options *o = &set->options;
    uint64_t shape[] = {(uint64_t)o->seq_len, o->packing != 0, o->shuffle != 0, o->seed, (uint64_t)set->n_sources};
    uint64_t hash = dt_hash_bytes(shape, sizeof shape, 0);
    for (int s = 0; s < set->n_sources; s++) {
        uint64_t of_source[] = {set->source[s].rows.content, (uint64_t)set->order.source[s].share};
        hash = dt_hash_bytes(of_source, sizeof of_source, hash);
    }
    return hash;
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
        for (int32_t i = 0, at = starts[k]; i < row.n; i++, at++) {
            tokens[at] = dt_row_id(row, i);
            pos[at] = i;
            if (dt_row_is_target(row, i)) targets[at - 1] = tokens[at];
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
    for (int k = 0; k < n; k++) *count += dt_row_targets(dt_dataset_row(set, rows[k]));
    return DT_OK;
}
