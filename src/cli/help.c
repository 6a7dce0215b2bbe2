/* What dtrain says of itself. */
#include "cli/cli.h"
#include <stdio.h>
#include <string.h>

static void print_option(const char *name, const char *value, const char *help)
{
    char left[64];
    snprintf(left, sizeof left, "%s%s%s", name, value != NULL ? " " : "", value != NULL ? value : "");
    printf("  %-18s  %s\n", left, help);
}

void dt_help_print_command(const dt_command *c)
{
    bool config = strcmp(c->arguments, "CONFIG") == 0;
    printf("usage: dtrain %s%s%s%s [options]\n\n%s\n\noptions:\n", c == dt_commands[0] ? "" : c->name,
           c == dt_commands[0] ? "" : " ", c->arguments, config ? " [--set path=value]..." : "", c->text);
    for (const dt_option *o = c->options; o->name != NULL; o++) print_option(o->name, o->value, o->help);
    if (config) print_option("--set", "PATH=VALUE", "change one field of CONFIG; may be given many times");
    print_option("--help", NULL, "print this");
    printf("\nexamples:\n");
    for (const char *line = c->examples; *line != '\0';) {
        int length = (int)strcspn(line, "\n");
        printf("  %.*s\n", length, line);
        line += length + (line[length] == '\n');
    }
}

void dt_help_print(void)
{
    printf("dtrain %s trains a small delta on a large frozen transformer, over as many ranks as MPI starts.\n\n"
           "The backbone is sharded over parallel.tensor ranks and replicated over the others; only the delta's "
           "gradients\n"
           "cross the data-parallel network, and only the delta is saved.\n\n",
           DT_VERSION);
    printf("usage:\n");
    for (const dt_command *const *c = dt_commands; *c != NULL; c++)
        printf("  dtrain %-8s %-14s  %s\n", c == dt_commands ? "" : (*c)->name, (*c)->arguments, (*c)->summary);
    printf("  dtrain COMMAND --help            what a command does, its options, examples\n"
           "  dtrain --version\n\n"
           "CONFIG is a dtrain.Config message as text (.pbtxt) or binary (.pb); docs/config.md lists its fields:\n\n"
           "  run { dir: \"runs/first\" seed: 1 }\n"
           "  backbone { path: \"models/llama\" }               # a folder as Hugging Face lays it out\n"
           "  delta { lora { rank: 8 alpha: 16 } }\n"
           "  data { train { jsonl: \"train.jsonl\" } eval { jsonl: \"test.jsonl\" } seq_len: 1024 }\n"
           "  parallel { tensor: 2 }                           # data = ranks / tensor\n"
           "  train { steps: 300 global_batch: 16 eval_every: 100 }\n"
           "  optim { adamw { lr: 1e-3 } }\n\n"
           "examples:\n"
           "  dtrain plan config.pbtxt --ranks 64            what each rank will hold, compute and send\n"
           "  mpirun -np 64 dtrain config.pbtxt              train; the same command again resumes\n"
           "  mpirun -np 64 dtrain config.pbtxt --set optim.adamw.lr=1e-4 --set delta[0].lora.rank=4\n"
           "  mpirun -np 64 dtrain eval config.pbtxt         held-out loss with the newest checkpoint\n"
           "  mpirun -np 2 dtrain generate config.pbtxt --prompt 'Once upon a time'\n\n"
           "environment:\n"
           "  OMP_NUM_THREADS    threads a rank computes with (default: the node's cores over its ranks)\n"
           "  DTRAIN_TIMEOUT     seconds that ranks may wait for each other before the job ends (default: 600)\n"
           "  NO_COLOR           no colours, on terminals either\n\n"
           "Exit status: 0, or 2 for a mistake in the command line or the configuration, or 1 for other failures.\n");
}
