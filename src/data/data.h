/* Rows of text -> sequences of token ids. What sequence number s holds is a pure function of (files, options, seed, s),
 * so it is the same on every layout, and resuming needs only the number of sequences consumed. All functions local. */
#ifndef DT_DATA_DATA_H
#define DT_DATA_DATA_H

#include "base/rng.h"       // dt_rng_purpose
#include "base/status.h"    // dt_status
#include "data/row.h"       // dt_row
#include "data/source.h"    // dt_source, dt_chat, dt_pulse
#include "data/tokenizer.h" // dt_tokenizer
#include <stdint.h>         // int32_t, int64_t

typedef struct dt_data_options {
    int32_t seq_len;      /* T: positions in a sequence; a row takes as many as it has ids */
    int packing;          /* several rows to a sequence, or one */
    int shuffle;          /* order of rows by (seed, epoch), or as in the file: one epoch, then it ends */
    int add_bos, add_eos; /* -1: as the tokenizer ({text}) or the template ({messages}); EOS behind a completion */
    int loss_on_prompt;   /* {prompt, completion}, {messages}: loss on everything */
    int skip_bad_rows;    /* count them instead of failing */
    uint64_t seed;
    const dt_chat *chat; /* of {messages}; NULL: none */
    const char *cache;   /* folder of tokenised rows; NULL: in memory */
    int trust_cache;     /* do not read all of a cached file to verify it: somebody did just now */
    dt_pulse pulse;      /* called now and then while rows are made */
} dt_data_options;

typedef struct dt_dataset dt_dataset;

/** Opens source[n], tokenising what no cache has. DT_ERR_DATA: "file:line: what is wrong". A row of fewer than two ids
 * is a bad row; a row longer than seq_len is cut. A BOS, EOS or template that is asked for but does not exist is
 *  DT_ERR_CONFIG. `tok` and `chat` must outlive the set. */
dt_status dt_dataset_open(const dt_source *source, int n, const dt_tokenizer *tok, const dt_data_options *options,
                          dt_dataset **out) DT_WARN_UNUSED;
void dt_dataset_destroy(dt_dataset *set);

int64_t dt_dataset_rows(const dt_dataset *set);
int64_t dt_dataset_rows_cut(const dt_dataset *set);
int64_t dt_dataset_rows_skipped(const dt_dataset *set);
/** Row i in the order of the sources and files; a view that lives as long as the set. */
dt_row dt_dataset_row(const dt_dataset *set, int64_t i);
/** Rows in a random order of their own (not that of training), drawn from the sources by their weights:
 *  row[dt_dataset_rows]. */
dt_status dt_dataset_draw(dt_dataset *set, dt_rng_purpose purpose, int64_t *row) DT_WARN_UNUSED;
/** Digest of the rows' ids and loss, the sources' shares and the options that shape sequences: resuming with other data
 *  is an error. */
uint64_t dt_dataset_fingerprint(const dt_dataset *set);

/** Sequences of one pass over the file in order (for evaluation); with shuffle: of epoch 0. */
int64_t dt_dataset_sequences(const dt_dataset *set);

/** Fills one sequence of T = seq_len positions:
 *    tokens[t]   id at position t (0 where there is none)
 *    pos[t]      position inside its row, from 0: attention of t sees t - pos[t] .. t, so rows cannot see each other.
 *                Padding has pos 0 at every t.
 *    targets[t]  the id that follows, or -1 where there is no loss
 *  `sequence` counts on through the epochs (shuffle), or must be < dt_dataset_sequences. Not thread-safe. */
dt_status dt_dataset_fill(dt_dataset *set, int64_t sequence, int32_t *tokens, int32_t *pos,
                          int32_t *targets) DT_WARN_UNUSED;
/** Target tokens (targets[t] >= 0) in that sequence, without filling it. */
dt_status dt_dataset_targets(dt_dataset *set, int64_t sequence, int64_t *count) DT_WARN_UNUSED;
/** The rows that lie in that sequence: their numbers in *rows, their first positions in *starts; views, valid until the
 *  next call. */
dt_status dt_dataset_layout(dt_dataset *set, int64_t sequence, const int64_t **rows, const int32_t **starts,
                            int *n) DT_WARN_UNUSED;

#endif
