/* The command line: which subcommand, its options, help. */
#include "cli/cli.h"
#include "comm/comm.h" // dt_world_rank
#include <stdio.h>
#include <string.h>

#define DT_COMMAND(name) extern const dt_command dt_command_##name;
#include "cli/commands.def"
#undef DT_COMMAND
static const dt_command *const commands[] = {
#define DT_COMMAND(name) &dt_command_##name,
#include "cli/commands.def"
#undef DT_COMMAND
};
#define COMMANDS ((int)(sizeof commands / sizeof *commands))

static void print_usage(const dt_command *c)
{
    bool config = strcmp(c->arguments, "CONFIG") == 0;
    printf("usage: dtrain %s%s%s%s%s\n\n%s\n", c == commands[0] ? "" : c->name, c == commands[0] ? "" : " ",
           c->arguments, config ? " [--set path=value]..." : "", c->options[0].name != NULL ? " [options]" : "",
           c->text);
    if (config)
        printf("\n  --set path=value      override a field: --set optim.adamw.lr=1e-3 --set delta[0].lora.rank=4\n");
    for (const dt_option *o = c->options; o->name != NULL; o++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s", o->name, o->value != NULL ? " " : "", o->value != NULL ? o->value : "");
        printf("  %-21s %s\n", left, o->help);
    }
}

static void print_help(void)
{
    printf("dtrain trains a small delta on a large frozen transformer, over as many ranks as MPI starts:\n\n"
           "    mpirun -np 64 dtrain config.pbtxt\n\n"
           "The backbone is sharded over parallel.tensor ranks and replicated over the others; only the delta's "
           "gradients\n"
           "cross the data-parallel network, and only the delta is checkpointed.\n\ncommands:\n");
    for (int i = 0; i < COMMANDS; i++)
        printf("  dtrain %-9s %-7s %s\n", i == 0 ? "" : commands[i]->name, commands[i]->arguments,
               commands[i]->summary);
    printf("\n`dtrain COMMAND --help` tells more; docs/config.md lists every field of a configuration.\n");
}

const char *dt_args_get(const dt_args *args, const char *name)
{
    for (int i = 0; args->command->options[i].name != NULL; i++)
        if (strcmp(args->command->options[i].name, name) == 0) return args->value[i];
    return NULL;
}

static dt_status unknown_option(const dt_command *c, const char *word)
{
    const char *names[34] = {"--set", "--help"};
    int n = 2;
    for (const dt_option *o = c->options; o->name != NULL; o++) names[n++] = o->name;
    const char *near = dt_nearest_name(word, names, n);
    return dt_fail(DT_ERR_CONFIG, "%s: no such option of dtrain %s%s%s; dtrain %s --help lists them", word, c->name,
                   near != NULL ? "; nearest: " : "", near != NULL ? near : "", c->name);
}

/* One word of the command line; *used: how many were taken. */
static dt_status take_word(dt_args *a, int left, char **word, int *used)
{
    const dt_command *c = a->command;
    const char *value = strchr(word[0], '=');
    size_t length = value != NULL ? (size_t)(value - word[0]) : strlen(word[0]);
    *used = 1;
    if (word[0][0] != '-' || word[0][1] == '\0') {
        if (a->positional != NULL)
            return dt_fail(DT_ERR_CONFIG, "%s: one %s is expected, not two", word[0], c->arguments);
        a->positional = word[0];
        return DT_OK;
    }
    if (strncmp(word[0], "--set", length) == 0 && length == 5 && strcmp(c->arguments, "CONFIG") == 0) {
        const char *set = value != NULL ? value + 1 : left > 1 ? word[1] : NULL;
        *used = value != NULL ? 1 : 2;
        if (set == NULL) return dt_fail(DT_ERR_CONFIG, "--set: expected path=value behind it");
        if (a->sets == DT_MAX_SETS) return dt_fail(DT_ERR_CONFIG, "--set: more than %d", DT_MAX_SETS);
        a->set[a->sets++] = set;
        return DT_OK;
    }
    for (int i = 0; c->options[i].name != NULL; i++) {
        if (strlen(c->options[i].name) != length || strncmp(c->options[i].name, word[0], length) != 0) continue;
        if (c->options[i].value == NULL) {
            if (value != NULL) return dt_fail(DT_ERR_CONFIG, "%s takes no value", c->options[i].name);
            a->value[i] = "";
            return DT_OK;
        }
        a->value[i] = value != NULL ? value + 1 : left > 1 ? word[1] : NULL;
        *used = value != NULL ? 1 : 2;
        if (a->value[i] == NULL)
            return dt_fail(DT_ERR_CONFIG, "%s: expected %s behind it", c->options[i].name, c->options[i].value);
        return DT_OK;
    }
    return unknown_option(c, word[0]);
}

dt_status dt_args_parse(int argc, char **argv, dt_args *out)
{
    dt_args a = {.command = commands[0]};
    int at = 1;
    bool speak = dt_world_rank() == 0, help = argc < 2;
    for (int i = 1; i < COMMANDS && argc > 1; i++)
        if (strcmp(argv[1], commands[i]->name) == 0) a.command = commands[i], at = 2;
    for (int i = 1; i < argc; i++) help |= strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
    bool version = argc == 2 && strcmp(argv[1], "--version") == 0;
    if (help || version) {
        if (speak && version) printf("dtrain %s\n", DT_VERSION);
        else if (speak && at == 1) print_help(), printf("\n"), print_usage(a.command);
        else if (speak) print_usage(a.command);
        *out = (dt_args){.command = NULL};
        return argc < 2 ? dt_fail(DT_ERR_CONFIG, "expected a configuration or a command") : DT_OK;
    }
    for (int used; at < argc; at += used) DT_TRY(take_word(&a, argc - at, argv + at, &used));
    if (a.positional == NULL)
        return dt_fail(DT_ERR_CONFIG, "dtrain %s: expected %s; dtrain %s --help tells more", a.command->name,
                       a.command->arguments, a.command->name);
    *out = a;
    return DT_OK;
}

dt_status dt_args_config(const dt_args *args, int ranks, bool need_train, Dtrain__Config **out)
{
    Dtrain__Config *config = NULL;
    dt_status st = dt_config_load(args->positional, args->set, args->sets, &config);
    if (st == DT_OK) st = dt_config_check(config, ranks, need_train);
    st = dt_world_agree(st);
    if (st == DT_OK) *out = config;
    else if (config != NULL) dt_config_free(config);
    return st;
}
