/* The command line: which subcommand, its options and their values. */
#include "base/file.h" // dt_path_exists
#include "cli/cli.h"
#include "comm/comm.h" // dt_world_rank
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DT_COMMAND(name) extern const dt_command dt_command_##name;
#include "cli/commands.def"
#undef DT_COMMAND
const dt_command *const dt_commands[] = {
#define DT_COMMAND(name) &dt_command_##name,
#include "cli/commands.def"
#undef DT_COMMAND
    NULL};

static const dt_command *find_command(const char *name)
{
    for (const dt_command *const *c = dt_commands; *c != NULL; c++)
        if (strcmp((*c)->name, name) == 0) return *c;
    return NULL;
}

static bool takes_sets(const dt_command *c)
{
    return strcmp(c->arguments, "CONFIG") == 0;
}

static dt_status unknown_option(const dt_command *c, const char *word, size_t length)
{
    char name[64];
    const char *names[DT_MAX_OPTIONS + 2] = {"--help"};
    int n = 1;
    if (takes_sets(c)) names[n++] = "--set";
    for (const dt_option *o = c->options; o->name != NULL; o++) names[n++] = o->name;
    snprintf(name, sizeof name, "%.*s", (int)length, word);
    const char *near = dt_nearest_name(name, names, n);
    return dt_fail(DT_ERR_CONFIG, "%s: dtrain %s has no such option%s%s; dtrain %s --help lists them", name, c->name,
                   near != NULL ? "; nearest: " : "", near != NULL ? near : "", c->name);
}

/* A first word that is neither a command nor a file: which command was meant? */
static dt_status unknown_command(const char *word)
{
    const char *names[32];
    int n = 0;
    for (; dt_commands[n] != NULL; n++) names[n] = dt_commands[n]->name;
    const char *near = dt_nearest_name(word, names, n);
    return dt_fail(DT_ERR_CONFIG, "%s: no command and no file of that name%s%s; dtrain --help lists the commands", word,
                   near != NULL ? "; nearest command: " : "", near != NULL ? near : "");
}

/* The value of the option in word[0]: behind its "=", else the next word. *used: words taken. */
static dt_status take_value(char **word, size_t length, int left, const char *expected, const char **value, int *used)
{
    bool joined = word[0][length] == '=';
    *value = joined ? word[0] + length + 1 : left > 1 ? word[1] : NULL;
    *used = joined ? 1 : 2;
    if (*value == NULL || (!joined && strncmp(*value, "--", 2) == 0))
        return dt_fail(DT_ERR_CONFIG, "%s: expected %s behind it", word[0], expected);
    return DT_OK;
}

/* One word of the command line, with the value behind it. */
static dt_status take_word(dt_args *a, int left, char **word, int *used)
{
    const dt_command *c = a->command;
    size_t length = strcspn(word[0], "=");
    *used = 1;
    if (word[0][0] != '-' || word[0][1] == '\0') {
        const char **place = a->positional != NULL && strchr(c->arguments, ' ') != NULL ? &a->second : &a->positional;
        if (*place != NULL)
            return dt_fail(DT_ERR_CONFIG, "%s: dtrain %s takes one %s, and has %s", word[0], c->name, c->arguments,
                           *place);
        *place = word[0];
        return DT_OK;
    }
    if (takes_sets(c) && length == 5 && strncmp(word[0], "--set", length) == 0) {
        if (a->sets == DT_MAX_SETS) return dt_fail(DT_ERR_CONFIG, "--set: more than %d", DT_MAX_SETS);
        return take_value(word, length, left, "path=value", &a->set[a->sets++], used);
    }
    for (int i = 0; c->options[i].name != NULL; i++) {
        const dt_option *o = &c->options[i];
        if (strlen(o->name) != length || strncmp(o->name, word[0], length) != 0) continue;
        if (o->value != NULL) return take_value(word, length, left, o->value, &a->value[i], used);
        if (word[0][length] == '=') return dt_fail(DT_ERR_CONFIG, "%s: %s takes no value", word[0], o->name);
        a->value[i] = "";
        return DT_OK;
    }
    return unknown_option(c, word[0], length);
}

/* Prints what was asked for instead of a run: help, the version, or (no words at all) help. */
static bool spoke(int argc, char **argv, const dt_command *command)
{
    bool help = argc < 2, version = argc == 2 && strcmp(argv[1], "--version") == 0;
    for (int i = 1; i < argc; i++) help |= strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
    if (!help && !version) return false;
    if (dt_world_rank() != 0) return true;
    if (version) printf("dtrain %s\n", DT_VERSION);
    else if (command != NULL) dt_help_print_command(command);
    else dt_help_print();
    return true;
}

dt_status dt_args_parse(int argc, char **argv, dt_args *out)
{
    const dt_command *named = argc > 1 ? find_command(argv[1]) : NULL;
    dt_args a = {.command = named != NULL ? named : dt_commands[0]};
    *out = (dt_args){.command = NULL};
    if (spoke(argc, argv, named))
        return argc < 2 ? dt_fail(DT_ERR_CONFIG, "expected a configuration or a command") : DT_OK;
    if (named == NULL && argv[1][0] != '-' && strpbrk(argv[1], "./") == NULL && !dt_path_exists(argv[1]))
        return unknown_command(argv[1]);
    for (int at = named != NULL ? 2 : 1, used; at < argc; at += used)
        DT_TRY(take_word(&a, argc - at, argv + at, &used));
    if (a.positional == NULL || (a.second == NULL && strchr(a.command->arguments, ' ') != NULL))
        return dt_fail(DT_ERR_CONFIG, "dtrain %s: expected %s; dtrain %s --help tells more", a.command->name,
                       a.command->arguments, a.command->name);
    *out = a;
    return DT_OK;
}

const char *dt_args_get(const dt_args *args, const char *name)
{
    for (int i = 0; args->command->options[i].name != NULL; i++)
        if (strcmp(args->command->options[i].name, name) == 0) return args->value[i];
    return NULL;
}

dt_status dt_args_count(const dt_args *args, const char *name, int64_t least, int64_t otherwise, int64_t *out)
{
    const char *text = dt_args_get(args, name);
    char *end = NULL;
    *out = otherwise;
    if (text == NULL) return DT_OK;
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || *out < least)
        return dt_fail(DT_ERR_CONFIG, "%s: %s is not a whole number >= %lld", name, text, (long long)least);
    return DT_OK;
}

dt_status dt_args_real(const dt_args *args, const char *name, dt_range range, double otherwise, double *out)
{
    const char *text = dt_args_get(args, name);
    char *end = NULL;
    *out = otherwise;
    if (text == NULL) return DT_OK;
    *out = strtod(text, &end);
    bool inside = isfinite(*out) && *out <= range.hi && (range.lo_open ? *out > range.lo : *out >= range.lo);
    if (end != text && *end == '\0' && inside) return DT_OK;
    if (isinf(range.hi))
        return dt_fail(DT_ERR_CONFIG, "%s: %s is not a number %s %g", name, text, range.lo_open ? ">" : ">=", range.lo);
    return dt_fail(DT_ERR_CONFIG, "%s: %s is not a number in %c%g..%g]", name, text, range.lo_open ? '(' : '[',
                   range.lo, range.hi);
}

dt_status dt_args_config(const dt_args *args, int ranks, bool need_train, Dtrain__Config **out)
{
    Dtrain__Config *config = NULL;
    dt_status st = dt_config_load(args->positional, args->set, args->sets, &config);
    if (st == DT_OK) st = dt_config_check(config, ranks != 0 ? ranks : config->parallel->tensor, need_train);
    st = dt_world_agree(st);
    if (st == DT_OK) *out = config;
    else dt_config_free(config);
    return st;
}
