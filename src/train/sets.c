/* Opening the data sets of a configuration. */
#include "train/sets.h"
#include "base/log.h"    // dt_log
#include "base/memory.h" // dt_alloc
#include "comm/comm.h"   // dt_world_agree

#include <stdlib.h> // free
#include <time.h>   // time

static dt_source source_of(const Dtrain__Source *config)
{
    return (dt_source){.jsonl = config->jsonl,
                       .tokens = config->tokens,
                       .type = config->dtype == DTRAIN__TOKEN_TYPE__UINT32 ? DT_IDS_U32 : DT_IDS_U16,
                       .split_at_eos = config->split_at_eos,
                       .max_rows = config->examples,
                       .weight = config->weight};
}

static dt_data_options options_of(const Dtrain__Config *config)
{
    const Dtrain__Data *d = config->data;
    return (dt_data_options){.seq_len = d->seq_len,
                             .packing = d->packing,
                             .add_bos = d->has_add_bos ? d->add_bos : -1,
                             .add_eos = d->has_add_eos ? d->add_eos : -1,
                             .loss_on_prompt = d->loss_on == DTRAIN__LOSS_ON__BOTH,
                             .skip_bad_rows = d->on_bad_row == DTRAIN__ON_BAD_ROW__SKIP,
                             .seed = (uint64_t)config->run->seed,
                             .cache = d->cache && *d->cache ? d->cache : NULL};
}

dt_status dt_set_open(const Dtrain__Config *config, const dt_tokenizer *tok, Dtrain__Source *const *source, size_t n,
                      int shuffle, int trust_cache, dt_pulse pulse, dt_dataset **out)
{
    dt_data_options options = options_of(config);
    dt_source *list;
    dt_chat chat;
    options.shuffle = shuffle;
    options.trust_cache = trust_cache;
    options.pulse = pulse;
    options.chat = &chat;
    DT_TRY(dt_chat_open(config->data->chat, tok, &chat));
    DT_TRY(dt_alloc(n, sizeof *list, &list));
    for (size_t i = 0; i < n; i++) list[i] = source_of(source[i]);
    dt_status st = dt_dataset_open(list, (int)n, tok, &options, out);
    free(list);
    DT_TRY(st);
    int64_t cut = dt_dataset_rows_cut(*out), skipped = dt_dataset_rows_skipped(*out);
    if (cut != 0 || skipped != 0)
        dt_log(DT_LOG_INFO, "%s%s: %lld of %lld rows cut to seq_len %d, %lld skipped", dt_source_name(source[0]),
               n > 1 ? " and others" : "", (long long)cut, (long long)dt_dataset_rows(*out), options.seq_len,
               (long long)skipped);
    return DT_OK;
}

/* ---- ranks ---- */

/* Tokenising may take longer than the watchdog waits: who works tells so once a second, who waits listens. */
static dt_status tell_busy(int32_t busy, int32_t *anybody)
{
    *anybody = busy;
    return dt_world_all_reduce(anybody, 1, DT_COMM_I32, DT_COMM_MAX);
}

static dt_status beat(void *last)
{
    int32_t anybody;
    time_t now = time(NULL);
    if (now == *(time_t *)last) return DT_OK;
    *(time_t *)last = now;
    return tell_busy(1, &anybody);
}

static dt_status wait_for_others(void)
{
    int32_t anybody = 1;
    while (anybody) DT_TRY(tell_busy(0, &anybody));
    return DT_OK;
}

dt_status dt_sets_open(const Dtrain__Config *config, const dt_tokenizer *tok, int want_train, int want_eval,
                       dt_dataset **train, dt_dataset **eval)
{
    const Dtrain__Data *d = config->data;
    const int cached = d->cache && *d->cache, turns = cached ? 3 : 1;
    const int own = !cached || dt_world_rank() == 0 ? 0 : dt_world_node_rank() == 0 ? 1 : 2;
    time_t last = time(NULL);
    const dt_pulse pulse = {beat, &last};
    for (int turn = 0; turn < turns; turn++) {
        dt_status st = DT_OK;
        if (turn == own && want_train && d->n_train > 0)
            st = dt_set_open(config, tok, d->train, d->n_train, 1, own == 2, pulse, train);
        if (turn == own && want_eval && d->eval && st == DT_OK)
            st = dt_set_open(config, tok, &config->data->eval, 1, 0, own == 2, pulse, eval);
        DT_TRY(wait_for_others());
        DT_TRY(dt_world_agree(st));
    }
    return DT_OK;
}
