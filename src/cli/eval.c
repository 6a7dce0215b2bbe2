/* dtrain eval: held-out loss. */
#include "cli/cli.h"
#include "comm/comm.h"
#include "train/job.h"
#include "train/sets.h" // dt_source_name
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One line a row: its number, its ids, which of them carry loss, and the negative log-likelihood of each of these. */
static dt_status write_per_token(const char *path, const dt_dataset *set, const float *nll, const int64_t *offset)
{
    FILE *f = fopen(path, "w");
    if (f == NULL) return dt_fail(DT_ERR_IO, "%s: %s", path, strerror(errno));
    for (int64_t r = 0; r < dt_dataset_rows(set); r++) {
        fprintf(f, "{\"row\":%lld,", (long long)r);
        dt_cli_print_row(f, dt_dataset_row(set, r));
        fprintf(f, ",\"nll\":[");
        for (int64_t i = offset[r]; i < offset[r + 1]; i++)
            fprintf(f, "%s%.9g", i != offset[r] ? "," : "", (double)nll[i]);
        fprintf(f, "]}\n");
    }
    bool bad = ferror(f) != 0;
    if (fclose(f) != 0 || bad) return dt_fail(DT_ERR_IO, "%s: %s", path, strerror(errno));
    return DT_OK;
}

/* Where each row's values start: a row has one for each id that is a target. */
static dt_status row_offsets(const dt_dataset *set, int64_t **out)
{
    int64_t rows = dt_dataset_rows(set), *offset = NULL;
    DT_TRY(dt_alloc((size_t)rows + 1, sizeof *offset, &offset));
    for (int64_t r = 0; r < rows; r++) offset[r + 1] = offset[r] + dt_row_targets(dt_dataset_row(set, r));
    *out = offset;
    return DT_OK;
}

static dt_status evaluate(dt_job *job, const dt_ckpt *ck, const char *per_token, double *loss, int64_t *tokens)
{
    dt_evaluator *e = NULL;
    int64_t *offset = NULL;
    float *nll = NULL;
    dt_status st = dt_evaluator_create(job, job->config->train->micro_batch, &e);
    if (st == DT_OK) st = dt_evaluator_load(e, ck);
    if (st == DT_OK && per_token != NULL) st = row_offsets(job->eval, &offset);
    if (st == DT_OK && per_token != NULL)
        st = dt_alloc((size_t)offset[dt_dataset_rows(job->eval)] + 1, sizeof *nll, &nll);
    DT_GOTO(dt_world_agree(st), done);
    st = dt_evaluator_run(e, loss, tokens, nll, offset);
    if (st != DT_OK) dt_world_abort(st); /* the others may sit in a collective */
    if (per_token != NULL && dt_world_rank() == 0) st = write_per_token(per_token, job->eval, nll, offset);
    st = dt_world_agree(st);
done:
    free(nll);
    free(offset);
    dt_evaluator_destroy(e);
    return st;
}

static dt_status run(const dt_args *args)
{
    Dtrain__Config *config = NULL;
    dt_job job = {0};
    dt_ckpt *ck = NULL;
    double loss = 0;
    int64_t tokens = 0;
    dt_status st;
    DT_TRY(dt_args_config(args, dt_world_size(), false, &config));
    if (config->data->eval == NULL)
        DT_GOTO(dt_world_agree(dt_fail(DT_ERR_CONFIG, "data.eval: missing; expected data { eval { jsonl: \"...\" } }")),
                done);
    DT_GOTO(dt_job_open(config, DT_JOB_TOKENIZER | DT_JOB_EVAL_DATA, &job), done);
    DT_GOTO(dt_job_find_delta(&job, dt_args_get(args, "--delta"), &ck), done);
    DT_GOTO(evaluate(&job, ck, dt_args_get(args, "--per-token"), &loss, &tokens), done);
    if (dt_world_rank() == 0 && dt_args_get(args, "--json") != NULL)
        printf("{\"eval_loss\":%.9g,\"eval_tokens\":%lld}\n", loss, (long long)tokens);
    else if (dt_world_rank() == 0)
        printf("loss %.6f nats a token over %lld tokens of %s\n", loss, (long long)tokens,
               dt_source_name(config->data->eval));
done:
    dt_ckpt_close(ck);
    dt_job_close(&job);
    dt_config_free(config);
    return st;
}

const dt_command dt_command_eval = {
    .name = "eval",
    .arguments = "CONFIG",
    .summary = "held-out loss of the backbone with a trained delta",
    .text = "Mean negative log-likelihood over the target tokens of data.eval. With deltas in CONFIG: as trained,\n"
            "from --delta or the newest checkpoint of run.dir. Without: of the backbone alone. What checkpoint.best\n"
            "kept is --delta RUN/ckpt/best.",
    .examples = "mpirun -np 4 dtrain eval config.pbtxt\n"
                "dtrain eval config.pbtxt --delta runs/first/ckpt/step-000100 --json\n"
                "dtrain eval config.pbtxt --delta runs/first/ckpt/best\n"
                "dtrain eval backbone.pbtxt --per-token nll.jsonl",
    .options = (const dt_option[]){{"--delta", "CKPT", "a checkpoint folder, or a run folder (its newest)"},
                                   {"--json", NULL, "end with one JSON object: eval_loss, eval_tokens"},
                                   {"--per-token", "FILE", "write every token's negative log-likelihood, a row a line"},
                                   {0}},
    .run = run,
};
