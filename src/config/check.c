/* Validation of a whole configuration: values that must fit each other, the ranks and the job. */
#include "config/check.h"
#include "config/config.h"
#include "config/message.h"

#include <stdio.h>  // snprintf
#include <string.h> // strcmp, strspn

typedef char field_path[64];

/* Every pattern must compile. `format`: its path, with the index of the list's owner and of the pattern. */
static dt_status check_patterns(char *const *pattern, size_t n, const char *format, size_t owner,
                                const dt_places *places) __attribute__((format(printf, 3, 0)));
static dt_status check_patterns(char *const *pattern, size_t n, const char *format, size_t owner,
                                const dt_places *places)
{
    for (size_t i = 0; i < n; i++) {
        field_path path;
        int matches;
        if (dt_pattern_match(pattern[i], "", &matches) == DT_OK) continue;
        snprintf(path, sizeof path, format, owner, i);
        return dt_fail_field(places, path, "%s", dt_error_text());
    }
    return DT_OK;
}

static dt_status check_name(const Dtrain__Config *config, size_t d, const dt_places *places)
{
    const char *name = config->delta[d]->name;
    field_path path;
    snprintf(path, sizeof path, "delta[%zu].name", d);
    size_t good = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
    if (!*name || name[good]) {
        return dt_fail_field(places, path, "\"%s\" is not a name of letters, digits, _ and -", name);
    }
    for (size_t other = 0; other < d; other++) {
        if (strcmp(config->delta[other]->name, name) != 0) continue;
        return dt_fail_field(places, path, "\"%s\" is the name of delta[%zu] too; names must differ", name, other);
    }
    return DT_OK;
}

static dt_status check_delta(const Dtrain__Config *config, size_t d, const dt_places *places)
{
    const Dtrain__Delta *delta = config->delta[d];
    field_path path;
    snprintf(path, sizeof path, "delta[%zu]", d);
    if (delta->method_case == DTRAIN__DELTA__METHOD__NOT_SET) {
        char methods[512] = "";
        for (unsigned i = 0; i < delta->base.descriptor->n_fields; i++) {
            const dt_field *field = &delta->base.descriptor->fields[i];
            size_t n = strlen(methods);
            if (!(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)) continue;
            snprintf(methods + n, sizeof methods - n, "%s%s", n ? ", " : "", field->name);
        }
        return dt_fail_field(places, path, "no method is given; expected one of %s", methods);
    }
    DT_TRY(check_name(config, d, places));
    DT_TRY(check_patterns(delta->target, delta->n_target, "delta[%zu].target[%zu]", d, places));
    return check_patterns(delta->exclude, delta->n_exclude, "delta[%zu].exclude[%zu]", d, places);
}

static dt_status check_source(const Dtrain__Source *source, const char *path, const dt_places *places)
{
    int rows = source->jsonl && *source->jsonl, tokens = source->tokens && *source->tokens;
    if (rows != tokens) return DT_OK;
    if (rows) return dt_fail_field(places, path, "jsonl and tokens are both given: expected one of them");
    return dt_fail_field(places, path, "no jsonl is given: expected the path of a file of rows (or tokens: of ids)");
}

static dt_status check_data(const Dtrain__Data *data, const dt_places *places)
{
    const Dtrain__Chat *chat = data->chat;
    for (size_t i = 0; i < data->n_train; i++) {
        field_path path;
        snprintf(path, sizeof path, "data.train[%zu]", i);
        DT_TRY(check_source(data->train[i], path, places));
    }
    if (data->eval) DT_TRY(check_source(data->eval, "data.eval", places));
    if (chat->kind_case == DTRAIN__CHAT__KIND_TEMPLATE && !chat->template_->assistant)
        return dt_fail_field(places, "data.chat.template",
                             "no assistant is given: expected what stands around its turns");
    return DT_OK;
}

dt_status dt_check_config(const Dtrain__Config *config, const dt_places *places)
{
    dt_path root = {0};
    DT_TRY(dt_check_values(&config->base, &root, places));
    for (size_t d = 0; d < config->n_delta; d++) DT_TRY(check_delta(config, d, places));
    for (size_t g = 0; g < config->optim->n_group; g++) {
        const Dtrain__Group *group = config->optim->group[g];
        field_path path;
        snprintf(path, sizeof path, "optim.group[%zu]", g);
        if (group->n_match == 0)
            return dt_fail_field(places, path, "no match is given: expected the names of parameters");
        DT_TRY(check_patterns(group->match, group->n_match, "optim.group[%zu].match[%zu]", g, places));
    }
    DT_TRY(check_data(config->data, places));
    long long warmup = config->optim->schedule->warmup_steps, steps = config->train->steps;
    if (warmup > steps) {
        return dt_fail_field(places, "optim.schedule.warmup_steps", "%lld is longer than the run: train.steps is %lld",
                             warmup, steps);
    }
    return DT_OK;
}

/* What decides by the evaluation loss needs evaluations. */
static dt_status check_evaluated(const Dtrain__Config *config, const char *field)
{
    const char *missing = !config->data->eval ? "data.eval is not given" : "train.eval_every is 0";
    if (config->data->eval && config->train->eval_every > 0) return DT_OK;
    return dt_fail_field(NULL, field, "decides by the loss of evaluations during training, but %s", missing);
}

/* What a run that trains needs. */
static dt_status check_training(const Dtrain__Config *config, long long data_ranks)
{
    const Dtrain__Train *train = config->train;
    long long micro = train->micro_batch, global = train->global_batch;
    if (!config->run->dir || !*config->run->dir) {
        return dt_fail_field(NULL, "run.dir", "not given: expected the folder of the run");
    }
    if (config->data->n_train == 0)
        return dt_fail_field(NULL, "data.train", "not given: expected the rows to train on");
    if (config->n_delta == 0) return dt_fail_field(NULL, "delta", "not given: expected at least one");
    if (train->eval_every > 0 && !config->data->eval) {
        return dt_fail_field(NULL, "train.eval_every", "%lld, but data.eval is not given",
                             (long long)train->eval_every);
    }
    if (config->checkpoint->best) DT_TRY(check_evaluated(config, "checkpoint.best"));
    if (train->early_stop->min_delta > 0 && train->early_stop->patience == 0) {
        return dt_fail_field(NULL, "train.early_stop.min_delta", "%g, but patience is 0, which never stops early",
                             train->early_stop->min_delta);
    }
    if (train->early_stop->patience > 0) DT_TRY(check_evaluated(config, "train.early_stop"));
    if (global % (micro * data_ranks) == 0) return DT_OK;
    return dt_fail_field(NULL, "train.global_batch",
                         "%lld is not a multiple of train.micro_batch x data ranks = %lld x %lld", global, micro,
                         data_ranks);
}

dt_status dt_config_check(const Dtrain__Config *config, int ranks, int need_train)
{
    DT_TRY(dt_check_config(config, NULL));
    if (!config->backbone->path || !*config->backbone->path) {
        return dt_fail_field(NULL, "backbone.path", "not given: expected the folder of a Hugging Face checkpoint");
    }
    int tensor = config->parallel->tensor;
    if (ranks < 1 || ranks % tensor != 0) {
        return dt_fail_field(NULL, "parallel.tensor", "%d does not divide the number of ranks, %d", tensor, ranks);
    }
    if (config->data->eval && config->data->eval->weight != 1)
        return dt_fail_field(NULL, "data.eval.weight", "%g, but every row of data.eval is evaluated once",
                             config->data->eval->weight);
    return need_train ? check_training(config, ranks / tensor) : DT_OK;
}
