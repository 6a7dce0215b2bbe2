/* dtrain generate: goes on from a prompt. */
#include "train/generate.h"
#include "base/log.h"
#include "cli/cli.h"
#include "comm/comm.h"
#include "data/text.h" // dt_utf8_next
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Prints text as its tokens come. What a token adds may depend on those in front of it (a space, the rest of a
 * character), so the tokens from `from` on are decoded each time, and what is new against those up to `shown` is
 * printed once it ends in a whole character. */
typedef struct stream {
    const dt_tokenizer *tok;
    const int32_t *ids;
    int64_t from, shown;
} stream;

static bool ends_in_replacement(const char *text)
{
    size_t n = strlen(text);
    return n >= 3 && memcmp(text + n - 3, "\xEF\xBF\xBD", 3) == 0;
}

/* Where `now` departs from `before`, at the start of a character. */
static const char *departure(const char *before, const char *now)
{
    const char *same = now;
    for (const char *c = now; *c != '\0' && *c == *before; c++, before++)
        if ((c[1] & 0xC0) != 0x80) same = c + 1;
    return same;
}

/* Shows ids[0 .. n); last: nothing more comes. */
static dt_status show(stream *s, int64_t n, bool last)
{
    char *before = NULL, *now = NULL;
    dt_status st = dt_tokenizer_decode(s->tok, s->ids + s->from, s->shown - s->from, 1, &before);
    if (st == DT_OK) st = dt_tokenizer_decode(s->tok, s->ids + s->from, n - s->from, 1, &now);
    if (st == DT_OK && (last || !ends_in_replacement(now))) {
        const char *news = departure(before, now);
        fputs(news, stdout);
        fflush(stdout);
        if (*news != '\0') {
            s->from = s->shown;
            s->shown = n;
        }
    }
    free(before);
    free(now);
    return st;
}

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Generates up to `most` tokens behind ids[n]; ids has room for them. Rank 0 prints. */
static dt_status go_on(const dt_job *job, dt_generator *gen, int32_t *ids, int64_t n, int64_t most,
                       const dt_choice *choice)
{
    stream out = {job->tokenizer, ids, 0, n};
    const float *logits = NULL;
    const int32_t eos = dt_tokenizer_eos(job->tokenizer);
    int64_t count = n, fed = 0;
    bool ended = false;
    double start = now_seconds();
    while (!ended && count < n + most) {
        dt_status st = dt_generator_feed(gen, ids + fed, count - fed, &logits);
        if (st != DT_OK) dt_world_abort(st); /* the other tensor ranks may sit in a collective */
        fed = count;
        DT_TRY(dt_choose_token(logits, job->backbone->info.vocab, choice, count, &ids[count]));
        ended = ids[count] == eos;
        if (ended) break;
        count++;
        if (dt_world_rank() == 0) DT_TRY(show(&out, count, false));
    }
    if (dt_world_rank() == 0) {
        DT_TRY(show(&out, count, true));
        putchar('\n');
        fflush(stdout); /* before what the log says on stderr */
    }
    double seconds = now_seconds() - start;
    dt_log(DT_LOG_INFO, "%lld tokens behind a prompt of %lld in %.2f s, %.1f a second; ended by %s",
           (long long)(count - n), (long long)n, seconds, (double)(count - n) / seconds,
           ended                                        ? "the end-of-text token"
           : count == job->backbone->info.max_positions ? "the backbone's positions"
                                                        : "--max-tokens");
    return DT_OK;
}

/* The prompt's ids with room for what follows; *most is cut to the backbone's positions. */
static dt_status read_prompt(const dt_job *job, const char *prompt, int64_t *most, dt_ids *ids)
{
    const int64_t positions = job->backbone->info.max_positions;
    dt_status st = dt_cli_encode(job->config, job->tokenizer, prompt, strlen(prompt), false, ids);
    if (st != DT_OK) return dt_fail_in(st, "--prompt");
    if (ids->n == 0)
        return dt_fail(DT_ERR_CONFIG, "--prompt: has no tokens, and the tokenizer puts none in front; expected text");
    if (ids->n >= positions)
        return dt_fail(DT_ERR_CONFIG, "--prompt: %lld tokens leave nothing of the backbone's %lld positions",
                       (long long)ids->n, (long long)positions);
    if (*most > positions - ids->n) *most = positions - ids->n;
    return dt_grow(&ids->id, &ids->cap, ids->n + *most, sizeof *ids->id);
}

static dt_status generate(dt_job *job, const char *delta, const char *prompt, int64_t most, const dt_choice *choice)
{
    dt_ckpt *ck = NULL;
    dt_generator *gen = NULL;
    dt_ids ids = {0};
    dt_status st;
    DT_GOTO(dt_world_agree(read_prompt(job, prompt, &most, &ids)), done);
    DT_GOTO(dt_job_find_delta(job, delta, &ck), done);
    DT_GOTO(dt_world_agree(dt_generator_create(job, ck, ids.n, ids.n + most, &gen)), done);
    st = dt_world_agree(go_on(job, gen, ids.id, ids.n, most, choice));
done:
    dt_generator_destroy(gen);
    dt_ckpt_close(ck);
    dt_ids_free(&ids);
    return st;
}

static dt_status read_options(const dt_args *args, const char **prompt, int64_t *most, dt_choice *choice)
{
    int64_t seed = 0;
    *prompt = dt_args_get(args, "--prompt");
    if (*prompt == NULL) return dt_fail(DT_ERR_CONFIG, "dtrain generate: expected --prompt TEXT");
    DT_TRY(dt_args_count(args, "--max-tokens", 1, 128, most));
    DT_TRY(dt_args_real(args, "--temperature", (dt_range){0, INFINITY, false}, 0, &choice->temperature));
    DT_TRY(dt_args_real(args, "--top-p", (dt_range){0, 1, true}, 1, &choice->top_p));
    DT_TRY(dt_args_count(args, "--seed", 0, 0, &seed));
    choice->seed = (uint64_t)seed;
    for (const char *const *o = (const char *const[]){"--top-p", "--seed", NULL}; *o != NULL; o++)
        if (choice->temperature == 0 && dt_args_get(args, *o) != NULL)
            return dt_fail(DT_ERR_CONFIG, "%s: nothing is drawn at temperature 0; expected --temperature X with X > 0",
                           *o);
    return DT_OK;
}

static dt_status run(const dt_args *args)
{
    Dtrain__Config *config = NULL;
    dt_job job = {0};
    const char *prompt = NULL;
    dt_choice choice;
    int64_t most = 0;
    dt_status st;
    DT_TRY(read_options(args, &prompt, &most, &choice));
    DT_TRY(dt_args_config(args, dt_world_size(), false, &config));
    DT_GOTO(dt_job_open(config, DT_JOB_TOKENIZER, &job), done);
    st = generate(&job, dt_args_get(args, "--delta"), prompt, most, &choice);
done:
    dt_job_close(&job);
    dt_config_free(config);
    return st;
}

const dt_command dt_command_generate = {
    .name = "generate",
    .arguments = "CONFIG",
    .summary = "go on from a prompt",
    .text =
        "Prints what follows the prompt, token by token, until the end-of-text token, --max-tokens or the\n"
        "backbone's last position. With deltas in CONFIG: as trained, from --delta or the newest checkpoint of\n"
        "run.dir; what checkpoint.best kept is --delta RUN/ckpt/best. Tensor-parallel ranks work on it together.\n"
        "At temperature 0, the default, each token is the likeliest; otherwise tokens are drawn, the same ones for\n"
        "the same --seed on any number of ranks.",
    .examples =
        "dtrain generate config.pbtxt --prompt 'Once upon a time'\n"
        "mpirun -np 4 dtrain generate config.pbtxt --delta runs/first --prompt 'The end' --temperature 0.8 --top-p "
        "0.9\n",
    .options =
        (const dt_option[]){{"--prompt", "TEXT", "what to go on from; --prompt=TEXT where it begins with --"},
                            {"--delta", "CKPT", "a checkpoint folder, or a run folder (its newest)"},
                            {"--max-tokens", "N", "most tokens to generate (default: 128)"},
                            {"--temperature", "X", "divides the logits before drawing (default: 0, the likeliest)"},
                            {"--top-p", "P", "draw among the likeliest tokens of this total probability (default: 1)"},
                            {"--seed", "S", "of the draws (default: 0)"},
                            {0}},
    .run = run,
};
