/* dtrain CONFIG: training. */
#include "train/train.h"
#include "cli/cli.h"
#include "comm/comm.h"

static dt_status run(const dt_args *args)
{
    Dtrain__Config *config = NULL;
    DT_TRY(dt_args_config(args, dt_world_size(), true, &config));
    const dt_train_options options = {.fresh = dt_args_get(args, "--fresh") != NULL,
                                      .profile = dt_args_get(args, "--profile") != NULL};
    dt_status st = dt_train(config, &options);
    dt_config_free(config);
    return st;
}

const dt_command dt_command_train = {
    .name = "train",
    .arguments = "CONFIG",
    .summary = "train the deltas of a configuration; goes on where the run folder's checkpoint ends",
    .text = "Trains. Writes into run.dir: metrics.jsonl (one object a step), config.pbtxt (everything resolved)\n"
            "and ckpt/ (the deltas). The same command again goes on where the newest checkpoint ends, on any\n"
            "number of ranks. SIGTERM to the ranks, or SIGUSR1 to mpirun: finish the step, save, exit 0.",
    .examples = "mpirun -np 64 dtrain config.pbtxt\n"
                "mpirun -np 4 dtrain config.pbtxt --set parallel.tensor=2 --set optim.adamw.lr=1e-4\n"
                "dtrain config.pbtxt --fresh --set train.steps=20",
    .options = (const dt_option[]){{"--fresh", NULL, "start over, forgetting the run folder's checkpoints"},
                                   {"--profile", NULL, "end with a table of where the time went, op by op"},
                                   {0}},
    .run = run,
};
