/* Subcommands: one file each, one line in commands.def. */
#ifndef DT_CLI_CLI_H
#define DT_CLI_CLI_H

#include "base/status.h"    // dt_status
#include "config/config.h"  // Dtrain__Config
#include "data/row.h"       // dt_row
#include "data/tokenizer.h" // dt_ids
#include <stdbool.h>
#include <stddef.h> // size_t
#include <stdint.h> // int64_t
#include <stdio.h>  // FILE

/** One option of a command line. */
typedef struct dt_option {
    const char *name;  /* "--max-tokens" */
    const char *value; /* what it takes, for help: "N"; NULL: a flag */
    const char *help;
} dt_option;

struct dt_args;
typedef struct dt_command {
    const char *name;
    const char *arguments; /* "CONFIG", "PATH", "CONFIG-DIR OUT": the positional ones, one or two; all are required */
    const char *summary;   /* one line */
    const char *text;      /* paragraphs under the usage line of `dtrain NAME --help` */
    const char *examples;  /* command lines, one a line */
    const dt_option *options; /* ends with a NULL name; every command with a CONFIG takes --set besides */
    /** Runs on every rank. */
    dt_status (*run)(const struct dt_args *args);
} dt_command;

/** Every command, as commands.def lists them; ends with NULL. The first is what `dtrain CONFIG` runs. */
extern const dt_command *const dt_commands[];

enum { DT_MAX_SETS = 256, DT_MAX_OPTIONS = 32 };

/** A command line, taken apart. */
typedef struct dt_args {
    const dt_command *command;
    const char *positional; /* CONFIG or PATH */
    const char *second;     /* where the command takes two */
    const char *set[DT_MAX_SETS];
    int sets;
    const char *value[DT_MAX_OPTIONS]; /* of command->options[i]; "" for a flag that is there; NULL: not given */
} dt_args;

/** Takes argv apart. DT_ERR_CONFIG with the nearest name for what is not known. *out->command NULL: help or version was
 * asked for and printed (on rank 0). Local. */
dt_status dt_args_parse(int argc, char **argv, dt_args *out) DT_WARN_UNUSED;
/** The value of an option ("" for a flag); NULL where it was not given. */
const char *dt_args_get(const dt_args *args, const char *name);
/** The value of an option as a whole number >= least, or as a number in a range; `otherwise` where it was not given.
 *  DT_ERR_CONFIG names option, value and what was expected. */
typedef struct dt_range {
    double lo, hi; /* hi: INFINITY where there is no end */
    bool lo_open;  /* lo itself is excluded */
} dt_range;
dt_status dt_args_count(const dt_args *args, const char *name, int64_t least, int64_t otherwise,
                        int64_t *out) DT_WARN_UNUSED;
dt_status dt_args_real(const dt_args *args, const char *name, dt_range range, double otherwise,
                       double *out) DT_WARN_UNUSED;
/** Loads and checks the configuration of a command on every rank; agreed. ranks 0: as many as the configuration's own
 *  layout needs at least, for commands that compute nothing. Collective over the world. */
dt_status dt_args_config(const dt_args *args, int ranks, bool need_train, Dtrain__Config **out) DT_WARN_UNUSED;

/** Prints what dtrain is and its commands / what one command does. */
void dt_help_print(void);
void dt_help_print_command(const dt_command *command);

/** Appends the ids of a text as a data set would frame it: BOS in front as data.add_bos says, and (with_eos) EOS behind
 *  as data.add_eos says, each by default as the tokenizer does. Local. */
dt_status dt_cli_encode(const Dtrain__Config *config, const dt_tokenizer *tok, const char *text, size_t bytes,
                        bool with_eos, dt_ids *ids) DT_WARN_UNUSED;

/** Prints a row as members of a JSON object: "ids":[...], and "loss":[[from,to],...], the spans of ids that carry loss.
 */
void dt_cli_print_row(FILE *out, dt_row row);

#endif
