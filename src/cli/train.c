/* dtrain CONFIG: training. */
#include "train/train.h"
#include "cli/cli.h"
#include "comm/comm.h"

static dt_status run(const dt_args *args)
{
    Dtrain__Config *config = NULL;
    DT_TRY(dt_args_config(args, dt_world_size(), true, &config));
    dt_status st = dt_train(config, dt_args_get(args, "--fresh") != NULL);
    dt_config_free(config);
    return st;
}

const dt_command dt_command_train = {
    .name = "train",
    .arguments = "CONFIG",
    .summary = "train the deltas of a configuration; goes on where the run folder's checkpoint ends",
    .text = "Trains. CONFIG is text (.pbtxt) or binary (.pb). Writes into run.dir: metrics.jsonl (one object a step), "
            "ckpt/\n"
            "(the deltas), config.pbtxt (everything resolved). SIGTERM or SIGUSR1: finish the step, save, exit 0.",
    .options = (const dt_option[]){{"--fresh", NULL, "start over, forgetting the run folder's checkpoints"}, {0}},
    .run = run,
};
