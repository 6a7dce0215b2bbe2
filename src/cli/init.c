/* dtrain init: a backbone with random weights. */
#include "base/file.h"
#include "cli/cli.h"
#include "comm/comm.h"
#include "model/model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What stands beside the weights in a folder of Hugging Face; config.json is the one that must be there. */
static const char *const beside[] = {"config.json",
                                     "generation_config.json",
                                     "tokenizer.json",
                                     "tokenizer_config.json",
                                     "special_tokens_map.json",
                                     "added_tokens.json",
                                     "tokenizer.model",
                                     "spiece.model",
                                     "vocab.json",
                                     "vocab.txt",
                                     "merges.txt",
                                     NULL};

static dt_status copy_files(const char *from, const char *to)
{
    for (const char *const *name = beside; *name != NULL; name++) {
        char source[4096], target[4096], *data = NULL;
        size_t bytes = 0;
        snprintf(source, sizeof source, "%s/%s", from, *name);
        snprintf(target, sizeof target, "%s/%s", to, *name);
        if (!dt_path_exists(source)) continue;
        DT_TRY(dt_file_read(source, &data, &bytes));
        dt_status st = dt_file_write_atomic(target, data, bytes);
        free(data);
        DT_TRY(st);
    }
    return DT_OK;
}

static dt_status read_type(const dt_args *args, dt_st_type *type)
{
    const char *text = dt_args_get(args, "--type");
    *type = text != NULL && strcmp(text, "BF16") == 0 ? DT_ST_BF16 : DT_ST_F32;
    if (text == NULL || strcmp(text, dt_st_type_name(*type)) == 0) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "--type: %s is not F32 or BF16", text);
}

static dt_status init(const dt_args *args)
{
    int64_t seed = 0, shard = 0;
    dt_st_type type;
    dt_backbone *bb = NULL;
    char config[4096];
    DT_TRY(read_type(args, &type));
    DT_TRY(dt_args_count(args, "--seed", 0, 0, &seed));
    DT_TRY(dt_args_count(args, "--shard-mb", 1, 4096, &shard));
    snprintf(config, sizeof config, "%s/config.json", args->second);
    if (dt_path_exists(config))
        return dt_fail(DT_ERR_CONFIG, "%s: is there already; expected a folder without a backbone", config);
    DT_TRY(dt_backbone_open(args->positional, true, (uint64_t)seed, false, &bb));
    dt_status st = dt_dir_make(args->second);
    if (st == DT_OK) st = dt_weights_write_random(bb, type, shard * 1000000, args->second);
    if (st == DT_OK) st = copy_files(args->positional, args->second);
    if (st == DT_OK)
        printf("%s: %s with random weights, seed %lld, %s\n", args->second, bb->type, (long long)seed,
               dt_st_type_name(type));
    dt_backbone_close(bb);
    return st;
}

static dt_status run(const dt_args *args)
{
    return dt_world_agree(dt_world_rank() == 0 ? init(args) : DT_OK);
}

const dt_command dt_command_init = {
    .name = "init",
    .arguments = "CONFIG-DIR OUT",
    .summary = "a backbone with random weights",
    .text = "Writes a folder as Hugging Face lays it out: random weights of the model that CONFIG-DIR/config.json\n"
            "describes, as its family starts from, and copies of config.json and of the tokenizer's files. The same\n"
            "seed gives the same bytes; F32 ones are what backbone.random_init computes with under that run.seed.",
    .examples = "dtrain init models/llama runs/llama-random\n"
                "dtrain init models/llama runs/llama-random --seed 7 --type BF16 --shard-mb 2000",
    .options = (const dt_option[]){{"--seed", "N", "of the random numbers (default: 0)"},
                                   {"--type", "T", "F32 (default) or BF16"},
                                   {"--shard-mb", "N", "largest file, in 10^6 bytes (default: 4096)"},
                                   {0}},
    .run = run,
};
