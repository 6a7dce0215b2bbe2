/* The data sets of a configuration. */
#ifndef DT_TRAIN_SETS_H
#define DT_TRAIN_SETS_H

#include "config/config.h" // Dtrain__Config
#include "data/data.h"     // dt_dataset

/** The path or pattern of a source, for messages. */
static inline const char *dt_source_name(const Dtrain__Source *source)
{
    return source->jsonl ? source->jsonl : source->tokens;
}

/** Opens the set of source[n] as config->data says; of the options only trust_cache and pulse are taken from the
 *  arguments. Logs what was cut or left out. Local. */
dt_status dt_set_open(const Dtrain__Config *config, const dt_tokenizer *tok, Dtrain__Source *const *source, size_t n,
                      int shuffle, int trust_cache, dt_pulse pulse, dt_dataset **out) DT_WARN_UNUSED;

/** Opens those of data.train (into *train) and data.eval that are asked for and configured. With a cache the world's
 *  first rank goes first, then the first of each node, then the others: a shared folder is filled once, one on each
 *  node's own disk once a node, and each file's checksum is read once a node. Collective over the world. */
dt_status dt_sets_open(const Dtrain__Config *config, const dt_tokenizer *tok, int want_train, int want_eval,
                       dt_dataset **train, dt_dataset **eval) DT_WARN_UNUSED;

#endif
