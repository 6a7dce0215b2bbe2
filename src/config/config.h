/* Reading a configuration: text (.pbtxt) or binary (.pb) told apart by content, --set overrides, defaults, ranges. */
#ifndef DT_CONFIG_CONFIG_H
#define DT_CONFIG_CONFIG_H

#include "base/status.h"          // dt_status
#include "dtrain.pb-c.h"          // Dtrain__Config
#include <protobuf-c/protobuf-c.h>
#include <stddef.h>               // size_t

/** Reads `path` and applies sets[n_sets] ("path=value", such as "delta[0].lora.rank=4" or "optim.adamw.lr=1e-3"; naming a
 *  member of a oneof selects it; an index equal to the count appends; for a repeated scalar without index: replaces all).
 *  Missing sub-messages are filled in, so that cfg->train, cfg->data, cfg->optim->adamw ... are never NULL (data->train
 *  and data->eval stay NULL where absent). Errors are DT_ERR_CONFIG: "file:line:column: path.of.field: what, expected,
 *  nearest valid name". Free with dt_config_free. Local. */
dt_status dt_config_load(const char *path, const char *const *sets, int n_sets, Dtrain__Config **out) DT_WARN_UNUSED;
/** The same from memory; `name` stands in for the file in messages. */
dt_status dt_config_parse(const char *name, const char *text, size_t bytes, const char *const *sets, int n_sets,
                          Dtrain__Config **out) DT_WARN_UNUSED;
void dt_config_free(Dtrain__Config *config);

/** Checks every field's range and the combinations that need no backbone, for `ranks` ranks: ranks % tensor, global_batch %
 *  (micro_batch * data ranks), warm-up <= steps, names of deltas unique, regular expressions that compile. Fields' ranges
 *  come from the .proto's own comments. `need_train`: the run needs data.train, run.dir and a delta. */
dt_status dt_config_check(const Dtrain__Config *config, int ranks, int need_train) DT_WARN_UNUSED;

/** Any message as text that dt_config_parse reads back to the same message: present fields, and (all) defaults too.
 *  *text is freed with free(). */
dt_status dt_config_print(const ProtobufCMessage *message, int all, char **text) DT_WARN_UNUSED;
/** As binary; freed with free(). */
dt_status dt_config_pack(const ProtobufCMessage *message, unsigned char **data, size_t *bytes) DT_WARN_UNUSED;

/** Nearest of names[n] to `word` by edit distance, or NULL if none is near. */
const char *dt_nearest_name(const char *word, const char *const *names, int n);

/** Does `pattern` select `name`? Exact, a suffix on a "." boundary, or "re:" and a full-match regular expression (PCRE2).
 *  DT_ERR_CONFIG if the expression does not compile. */
dt_status dt_pattern_match(const char *pattern, const char *name, int *matches) DT_WARN_UNUSED;

#endif
