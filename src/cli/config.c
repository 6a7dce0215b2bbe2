/* dtrain config: everything that a configuration comes to. */
#include "cli/cli.h"
#include "comm/comm.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What was given and what is default, both written out. */
static dt_status print(const Dtrain__Config *config, bool binary)
{
    Dtrain__Config *full = NULL;
    unsigned char *data = NULL;
    char *text = NULL;
    size_t bytes = 0;
    DT_TRY(dt_config_print(&config->base, 1, &text));
    dt_status st = binary ? dt_config_parse("the configuration", text, strlen(text), NULL, 0, &full) : DT_OK;
    if (st == DT_OK && binary) st = dt_config_pack(&full->base, &data, &bytes);
    if (st == DT_OK && binary) fwrite(data, 1, bytes, stdout);
    else if (st == DT_OK) fputs(text, stdout);
    dt_config_free(full);
    free(data);
    free(text);
    return st;
}

static dt_status run(const dt_args *args)
{
    Dtrain__Config *config = NULL;
    DT_TRY(dt_args_config(args, 0, false, &config));
    dt_status st = dt_world_rank() == 0 ? print(config, dt_args_get(args, "--binary") != NULL) : DT_OK;
    dt_config_free(config);
    return dt_world_agree(st);
}

const dt_command dt_command_config = {
    .name = "config",
    .arguments = "CONFIG",
    .summary = "print the configuration with every default filled in",
    .text = "Prints the full, resolved configuration: the file, --set, and the default of everything that neither\n"
            "gives. The output is a configuration itself.",
    .examples = "dtrain config config.pbtxt --set optim.sgd.lr=0.1\n"
                "dtrain config config.pbtxt --binary > config.pb",
    .options = (const dt_option[]){{"--binary", NULL, "as a binary message (.pb)"}, {0}},
    .run = run,
};
