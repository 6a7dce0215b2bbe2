/* dtrain tokenize: the ids of lines of text, or of the rows of a data set. */
#include "cli/cli.h"
#include "comm/comm.h"
#include "train/sets.h" // dt_set_open
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static dt_status print_line(const Dtrain__Config *config, const dt_tokenizer *tok, const char *line, size_t bytes,
                            dt_ids *ids)
{
    ids->n = 0;
    DT_TRY(dt_cli_encode(config, tok, line, bytes, true, ids));
    for (int64_t i = 0; i < ids->n; i++) printf("%s%d", i != 0 ? " " : "", ids->id[i]);
    putchar('\n');
    return DT_OK;
}

static dt_status print_lines(const Dtrain__Config *config, const dt_tokenizer *tok, FILE *in, const char *name)
{
    char *line = NULL;
    size_t capacity = 0;
    dt_ids ids = {0};
    dt_status st = DT_OK;
    ssize_t n;
    for (long long number = 1; st == DT_OK && (n = getline(&line, &capacity, in)) >= 0; number++) {
        if (n > 0 && line[n - 1] == '\n') n--;
        st = dt_fail_in(print_line(config, tok, line, (size_t)n, &ids), "%s:%lld", name, number);
    }
    if (st == DT_OK && ferror(in)) st = dt_fail(DT_ERR_IO, "%s: %s", name, strerror(errno));
    free(line);
    dt_ids_free(&ids);
    return st;
}

/* Rows as training sees them: a JSON object each. */
static dt_status print_rows(const Dtrain__Config *config, const dt_tokenizer *tok, const char *path)
{
    Dtrain__Source source = DTRAIN__SOURCE__INIT, *list = &source;
    dt_dataset *set = NULL;
    source.jsonl = (char *)path;
    DT_TRY(dt_set_open(config, tok, &list, 1, 0, 0, (dt_pulse){NULL, NULL}, &set));
    for (int64_t i = 0; i < dt_dataset_rows(set); i++) {
        putchar('{');
        dt_cli_print_row(stdout, dt_dataset_row(set, i));
        puts("}");
    }
    dt_dataset_destroy(set);
    return DT_OK;
}

static dt_status print_text(const Dtrain__Config *config, const dt_tokenizer *tok, const char *path)
{
    FILE *in = path != NULL ? fopen(path, "r") : stdin;
    dt_status st = in == NULL ? dt_fail(DT_ERR_IO, "%s: %s", path, strerror(errno))
                              : print_lines(config, tok, in, path != NULL ? path : "stdin");
    if (in != NULL && in != stdin) fclose(in);
    return st;
}

static dt_status tokenize(const Dtrain__Config *config, const char *rows, const char *text)
{
    dt_tokenizer *tok = NULL;
    DT_TRY(dt_tokenizer_load(config->backbone->path, &tok));
    dt_status st = rows != NULL ? print_rows(config, tok, rows) : print_text(config, tok, text);
    dt_tokenizer_destroy(tok);
    return st;
}

static dt_status run(const dt_args *args)
{
    Dtrain__Config *config = NULL;
    DT_TRY(dt_args_config(args, 0, false, &config));
    dt_status st =
        dt_world_rank() == 0 ? tokenize(config, dt_args_get(args, "--rows"), dt_args_get(args, "--file")) : DT_OK;
    dt_config_free(config);
    return dt_world_agree(st);
}

const dt_command dt_command_tokenize = {
    .name = "tokenize",
    .arguments = "CONFIG",
    .summary = "ids of text: one line of ids per line of text",
    .text = "Reads lines of text and prints, for each, its token ids with spaces between. The tokenizer is that of\n"
            "backbone.path; BOS and EOS are put around a line as around a {\"text\": ...} row, by data.add_bos and\n"
            "data.add_eos. With --rows: the rows of a JSONL file as training would see them, a JSON object each, with\n"
            "their ids and the spans of ids that carry loss; this shows what a chat template makes of messages.",
    .examples = "echo 'Once upon a time' | dtrain tokenize config.pbtxt\n"
                "dtrain tokenize config.pbtxt --file story.txt --set data.add_bos=false\n"
                "dtrain tokenize config.pbtxt --rows chat.jsonl --set data.chat.format=LLAMA3",
    .options = (const dt_option[]){{"--file", "F", "read this file instead of standard input"},
                                   {"--rows", "F", "print the rows of this JSONL file"},
                                   {0}},
    .run = run,
};
