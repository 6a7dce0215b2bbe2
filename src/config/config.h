/* Reading a configuration: text (.pbtxt) or binary (.pb) told apart by content, --set overrides, defaults, ranges. */
#ifndef DT_CONFIG_CONFIG_H
#define DT_CONFIG_CONFIG_H

#include "base/status.h" // dt_status
#include "dtrain.pb-c.h" // Dtrain__Config
#include <protobuf-c/protobuf-c.h>
#include <stddef.h> // size_t

/** Reads `path` and applies sets[n_sets] ("path=value", such as "delta[0].lora.rank=4" or "optim.adamw.lr=1e-3"; naming
 *  a member of a oneof selects it; an index equal to the count appends; a repeated field without index: replaces all; a
 *  string needs no quotes; a message is "{...}"). Missing sub-messages are filled in, so that cfg->train, cfg->data,
 *  cfg->optim->adamw ... are never NULL (data->train and data->eval stay NULL where absent), and a delta without a name
 *  gets its method's. Every range and the combinations that do not depend on the ranks are checked here. Errors are
 *  DT_ERR_CONFIG, also where the file cannot be read (then with the nearest name beside it): "file:line:column:
 * path.of.field: what, expected, nearest valid name", with "--set path=value" for the file where the value came from
 * there, and the file alone where it is binary. Free with dt_config_free. Local. */
dt_status dt_config_load(const char *path, const char *const *sets, int n_sets, Dtrain__Config **out) DT_WARN_UNUSED;
/** The same from memory; `name` stands in for the file in messages. */
dt_status dt_config_parse(const char *name, const char *text, size_t bytes, const char *const *sets, int n_sets,
                          Dtrain__Config **out) DT_WARN_UNUSED;
/** NULL is fine. */
void dt_config_free(Dtrain__Config *config);

/** Checks, for `ranks` ranks, all that needs no backbone: the fields' ranges, which are those of the comments in the
 *  .proto; ranks % tensor; warm-up <= steps; deltas that have a method and a name of their own; regular expressions
 * that compile; backbone.path given. `need_train`, for what trains or plans training: also global_batch % (micro_batch
 * * data ranks), and that run.dir, data.train and a delta are given, and data.eval where train.eval_every asks for it.
 * Local. */
dt_status dt_config_check(const Dtrain__Config *config, int ranks, int need_train) DT_WARN_UNUSED;

/** Any message as text that dt_config_parse reads back to the same message: present fields, and (all) defaults too.
 *  *text is freed with free(). */
dt_status dt_config_print(const ProtobufCMessage *message, int all, char **text) DT_WARN_UNUSED;
/** As binary; freed with free(). */
dt_status dt_config_pack(const ProtobufCMessage *message, unsigned char **data, size_t *bytes) DT_WARN_UNUSED;

/** Nearest of names[n] to `word` by edit distance, letters' case aside, or NULL if none is near. */
const char *dt_nearest_name(const char *word, const char *const *names, int n);

/** Does `pattern` select `name`? Exact, a suffix on a "." boundary, or "re:" and a regular expression (PCRE2) that
 *  matches the whole name. DT_ERR_CONFIG if the expression does not compile. */
dt_status dt_pattern_match(const char *pattern, const char *name, int *matches) DT_WARN_UNUSED;

#endif
