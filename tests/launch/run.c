/* Folder, configuration, start and comparison of training runs. */
#include "launch/run.h"
#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "model/safetensors.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(call) cr_assert_eq((call), DT_OK, "%s", dt_error_text())

static char folder[64];

const char *run_path(const char *fmt, ...)
{
    static char path[8][512];
    static int next;
    next = (next + 1) % 8;
    int used = snprintf(path[next], sizeof path[next], "%s/", folder);
    va_list args;
    va_start(args, fmt);
    vsnprintf(path[next] + used, sizeof path[next] - (size_t)used, fmt, args);
    va_end(args);
    return path[next];
}

void run_write(const char *name, const char *text)
{
    OK(dt_file_write_atomic(run_path("%s", name), text, strlen(text)));
}

/* Widths that no two dimensions share, and gains large enough for every part to matter. */
static void write_backbone(const char *name, int kv_heads)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{\"model_type\": \"llama\", \"hidden_size\": 40, \"intermediate_size\": 48, \"num_hidden_layers\": 2, "
             "\"num_attention_heads\": 8, \"num_key_value_heads\": %d, \"head_dim\": 6, \"vocab_size\": 904, "
             "\"max_position_embeddings\": 64, \"bos_token_id\": 900, \"eos_token_id\": 901, \"initializer_range\": "
             "0.2, \"tie_word_embeddings\": %s}\n",
             kv_heads, kv_heads == 4 ? "true" : "false");
    OK(dt_dir_make(run_path("%s", name)));
    run_write(run_path("%s/config.json", name) + strlen(folder) + 1, text);
    cr_assert_eq(symlink(DT_SOURCE_DIR "/tests/golden/llama3/tokenizer.json", run_path("%s/tokenizer.json", name)), 0);
}

/* Sentences of drawn words, of several lengths; every third row has a prompt. */
static void write_rows(void)
{
    static const char *const words[] = {"the", "cat", "saw", "a", "red", "house", "and", "two", "dogs", "ran"};
    FILE *f = fopen(run_path("rows.jsonl"), "w");
    cr_assert(f);
    for (uint64_t row = 0; row < 96; row++) {
        fputs(row % 3 == 0 ? "{\"prompt\": \"what now?\", \"completion\": \"" : "{\"text\": \"", f);
        uint32_t w[4];
        for (uint64_t i = 0; i < 3 + row % 11; i++) {
            dt_rng_words(1, DT_RNG_SAMPLE, row, i, w);
            fprintf(f, "%s%s", i > 0 ? " " : "", words[w[0] % (sizeof words / sizeof *words)]);
        }
        fputs("\"}\n", f);
    }
    fclose(f);
}

void run_set_up(void)
{
    snprintf(folder, sizeof folder, "/tmp/dtrain-train-XXXXXX");
    cr_assert(mkdtemp(folder));
    write_backbone("kv4", 4);
    write_backbone("kv2", 2);
    write_rows();
}

void run_tear_down(void)
{
    cr_expect_eq(dt_dir_remove(folder), DT_OK, "%s", dt_error_text());
}

/* seq_len 30: sequence parallelism has to pad it. */
void run_config(const char *text)
{
    char all[4096];
    snprintf(all, sizeof all,
             "run { dir: \"%s\" seed: 7 }\nbackbone { path: \"%s\" random_init: true }\n"
             "data { train { jsonl: \"%s\" } seq_len: 30 }\n%s\n",
             run_path("run"), run_path("kv4"), run_path("rows.jsonl"), text);
    run_write("config.pbtxt", all);
}

void run_config_stories(const char *text)
{
    char all[4096];
    if (!dt_path_exists(RUN_STORIES) || !dt_path_exists(RUN_E2E)) cr_skip_test("skipped: no " RUN_STORIES);
    snprintf(all, sizeof all,
             "run { dir: \"%s\" seed: 7 }\nbackbone { path: \"" RUN_STORIES "\" }\n"
             "data { train { jsonl: \"" RUN_E2E "\" } seq_len: 128 }\n%s\n",
             run_path("run"), text);
    run_write("config.pbtxt", all);
}

/* ---- jobs ---- */

static const char *program = DT_SPAWN_DTRAIN;

void run_program(const char *path)
{
    program = path;
}

dt_spawn run_start(const char *name, const char *mpirun, const char *sets)
{
    char options[4096] = "", words[2048];
    snprintf(words, sizeof words, "%s", sets);
    char *rest = NULL;
    for (char *word = strtok_r(words, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        size_t used = strlen(options);
        snprintf(options + used, sizeof options - used, " --set '%s'", word);
    }
    return dt_spawn_start(180, "OMP_NUM_THREADS=1 %s %s %s %s --set run.dir=%s%s", DT_SPAWN_MPIRUN, mpirun, program,
                          run_path("config.pbtxt"), run_path("%s", name), options);
}

dt_spawn run_start_endless(const char *name, const char *mpirun, const char *sets)
{
    char all[2048];
    snprintf(all, sizeof all, "%s train.steps=100000000", sets);
    return run_start(name, mpirun, all);
}

void run_train(const char *name, const char *mpirun, const char *sets)
{
    dt_spawn p = run_start(name, mpirun, sets);
    dt_spawn_finish(&p);
    cr_assert_eq(p.exit_code, 0, "%s: %s %s: exit code %d:\n%s", name, mpirun, sets, p.exit_code, p.output);
    dt_spawn_free(&p);
}

/* Lines that dtrain prints as an error: those in front of which no information is. */
static int count_text(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what)) n++;
    return n;
}

void run_fails(const char *mpirun, const char *sets, int exit_code, const char *expected)
{
    dt_spawn p = run_start("run", mpirun, sets);
    dt_spawn_finish(&p);
    cr_expect_eq(p.exit_code, exit_code, "%s: exit code %d, not %d:\n%s", sets, p.exit_code, exit_code, p.output);
    cr_expect_eq(count_text(p.output, expected), 1, "%s: not one '%s' in:\n%s", sets, expected, p.output);
    dt_spawn_free(&p);
}

void run_compare(const char *a, const char *b, const char *metrics, const char *checkpoint)
{
    dt_spawn p =
        dt_spawn_run(60, "%s %s %s %s %s", RUN_DIFF, run_path("%s", a), run_path("%s", b), metrics, checkpoint);
    cr_expect_eq(p.exit_code, 0, "%s and %s: %s", a, b, p.output);
    dt_spawn_free(&p);
}

void run_same_files(const char *a, const char *b, int step, int tensor_ranks)
{
    for (int rank = 0; rank < tensor_ranks; rank++)
        for (int part = 0; part < 2; part++) {
            char name[128];
            snprintf(name, sizeof name, "ckpt/step-%06d/%s-%05d-of-%05d.safetensors", step,
                     part == 0 ? "delta" : "optimizer", rank, tensor_ranks);
            dt_spawn p = dt_spawn_run(60, "cmp %s/%s %s/%s", run_path("%s", a), name, run_path("%s", b), name);
            cr_expect_eq(p.exit_code, 0, "%s", p.output);
            dt_spawn_free(&p);
        }
}

/* ---- what runs left behind ---- */

double run_metric(const char *name, int step, const char *key)
{
    char *text = NULL;
    size_t bytes = 0;
    double value = 0;
    bool found = false;
    OK(dt_file_read(run_path("%s/metrics.jsonl", name), &text, &bytes));
    for (char *line = text, *end; !found && (end = strchr(line, '\n')) != NULL; line = end + 1) {
        cJSON *doc = cJSON_ParseWithLength(line, (size_t)(end - line));
        const cJSON *number = cJSON_GetObjectItem(doc, key), *of = cJSON_GetObjectItem(doc, "step");
        found = number != NULL && of != NULL && of->valuedouble == step;
        if (found) value = number->valuedouble;
        cJSON_Delete(doc);
    }
    cr_assert(found, "%s: no %s of step %d in:\n%s", name, key, step, text);
    free(text);
    return value;
}

int run_count(const char *name, const char *what)
{
    char *text = NULL;
    size_t bytes = 0;
    if (!dt_path_exists(run_path("%s/metrics.jsonl", name))) return 0;
    OK(dt_file_read(run_path("%s/metrics.jsonl", name), &text, &bytes));
    int n = count_text(text, what);
    free(text);
    return n;
}

int64_t run_values_of_rank_0(const char *name, int step, int tensor_ranks)
{
    dt_st *file = NULL;
    int64_t values = 0;
    OK(dt_st_open(run_path("%s/ckpt/step-%06d/delta-00000-of-%05d.safetensors", name, step, tensor_ranks), &file));
    for (int64_t i = 0; i < dt_st_count(file); i++) {
        const dt_st_tensor *t = dt_st_at(file, i); /* indices are integers */
        if (t->type == DT_ST_F32) values += (int64_t)t->bytes / 4;
    }
    dt_st_close(file);
    return values;
}

int run_await(dt_spawn *job, const char *name, const char *text, int times)
{
    while (run_count(name, text) < times) {
        if (job->pid < 0) return 0;
        dt_spawn_await_seconds(job, 0.01);
    }
    return 1;
}

int run_await_step(dt_spawn *job, const char *name, int step)
{
    char line[32];
    snprintf(line, sizeof line, "{\"step\":%d,\"loss\"", step);
    return run_await(job, name, line, 1);
}

/* Name and parent of a process; 0 if it is gone. */
static int read_process(const char *pid, char name[32], int *parent)
{
    char path[64], line[512] = "";
    snprintf(path, sizeof path, "/proc/%.16s/stat", pid);
    FILE *f = fopen(path, "r");
    if (f == NULL) return 0;
    if (fgets(line, sizeof line, f) == NULL) line[0] = '\0';
    fclose(f);
    const char *open = strchr(line, '('), *close = strrchr(line, ')');
    if (open == NULL || close == NULL || sscanf(close + 1, " %*c %d", parent) != 1) return 0;
    snprintf(name, 32, "%.*s", (int)(close - open - 1), open + 1);
    return 1;
}

int run_ranks(const dt_spawn *job, pid_t *pid, int room)
{
    int n = 0;
    DIR *processes = opendir("/proc");
    cr_assert(processes);
    for (const struct dirent *entry; (entry = readdir(processes)) != NULL && n < room;) {
        char name[32];
        int parent = 0;
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || !read_process(entry->d_name, name, &parent)) continue;
        if (parent == job->pid && strcmp(name, "dtrain") == 0) pid[n++] = (pid_t)atoi(entry->d_name);
    }
    closedir(processes);
    return n;
}

void run_kill(dt_spawn *job, int ranks, int victim)
{
    pid_t pid[64];
    int n = run_ranks(job, pid, 64);
    cr_assert_eq(n, ranks, "%d ranks run, not %d:\n%s", n, ranks, job->output);
    kill(pid[victim % n], SIGKILL);
    dt_spawn_set_timeout(job, 10);
    dt_spawn_finish(job);
    cr_assert_gt(job->exit_code, 0, "exit code %d:\n%s", job->exit_code, job->output);
    /* mpirun does not wait for those that it kills, and what is left of them may hold the run folder's lock. */
    for (int r = 0; r < n; r++) cr_assert(dt_spawn_await_gone(pid[r]), "a rank of the dead job still runs");
    dt_spawn_free(job);
}
