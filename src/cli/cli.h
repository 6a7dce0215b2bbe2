/* Subcommands: one file each, one line in commands.def. */
#ifndef DT_CLI_CLI_H
#define DT_CLI_CLI_H

#include "base/status.h"   // dt_status
#include "config/config.h" // Dtrain__Config
#include <stdbool.h>

/** One option of a command line. */
typedef struct dt_option {
    const char *name;  /* "--max-tokens" */
    const char *value; /* what it takes, for help: "N"; NULL: a flag */
    const char *help;
} dt_option;

struct dt_args;
typedef struct dt_command {
    const char *name;
    const char *arguments;    /* "CONFIG", "PATH": the positional ones, for help; all are required */
    const char *summary;      /* one line */
    const char *text;         /* paragraphs under the usage line of `dtrain NAME --help` */
    const dt_option *options; /* ends with a NULL name; every command with a CONFIG takes --set besides */
    /** Runs on every rank. */
    dt_status (*run)(const struct dt_args *args);
} dt_command;

#define DT_MAX_SETS 256

/** A command line, taken apart. */
typedef struct dt_args {
    const dt_command *command;
    const char *positional; /* CONFIG or PATH */
    const char *set[DT_MAX_SETS];
    int sets;
    const char *value[32]; /* of command->options[i]; "" for a flag that is there; NULL: not given */
} dt_args;

/** The value of an option ("" for a flag); NULL where it was not given. */
const char *dt_args_get(const dt_args *args, const char *name);
/** Takes argv apart. DT_ERR_CONFIG with the nearest name for what is not known. *out->command NULL: help or version was
 * asked for and printed (on rank 0). */
dt_status dt_args_parse(int argc, char **argv, dt_args *out) DT_WARN_UNUSED;
/** Loads and checks the configuration of a command on every rank; agreed. */
dt_status dt_args_config(const dt_args *args, int ranks, bool need_train, Dtrain__Config **out) DT_WARN_UNUSED;

#endif
