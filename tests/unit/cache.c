/* The token cache: what comes out of it is what was put in, whatever else lies there. */
#include "base/file.h"
#include "data/data.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OK(call) cr_assert_eq((call), DT_OK, "%s", dt_error_text())

static char folder[64], jsonl[96], cache[96];
static dt_tokenizer *tok;
static dt_data_options options;

static void write_file(const char *name, const void *data, size_t bytes)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    OK(dt_file_write_atomic(path, data, bytes));
}

static void write_rows(int n)
{
    static char rows[400 * 64];
    int at = 0;
    for (int i = 0; i < n; i++)
        at += i % 3 ? sprintf(rows + at, "{\"text\":\"row %d of some\"}\n", i * 7919)
                    : sprintf(rows + at, "{\"prompt\":\"%d\",\"completion\":\"is %d\"}\n", i, i * i);
    write_file("rows.jsonl", rows, (size_t)at);
}

static void set_up(void)
{
    strcpy(folder, "/tmp/dtrain-cache-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(jsonl, sizeof jsonl, "%s/rows.jsonl", folder);
    snprintf(cache, sizeof cache, "%s/deep/cache", folder);
    options =
        (dt_data_options){.seq_len = 64, .packing = 1, .shuffle = 1, .add_bos = -1, .add_eos = -1, .cache = cache};
    OK(dt_tokenizer_load(DT_SOURCE_DIR "/tests/golden/chat/llama3", &tok));
    write_rows(200);
}

static void tear_down(void)
{
    dt_tokenizer_destroy(tok);
    cr_assert_eq(dt_dir_remove(folder), DT_OK);
}

TestSuite(cache, .init = set_up, .fini = tear_down);

static dt_dataset *open_set(void)
{
    const dt_source source = {.jsonl = jsonl};
    dt_dataset *set;
    OK(dt_dataset_open(&source, 1, tok, &options, &set));
    return set;
}

/* Opens the set with and without the cache: they must be the same in everything. */
static void check_same(void)
{
    dt_dataset *cached = open_set();
    options.cache = NULL;
    dt_dataset *fresh = open_set();
    options.cache = cache;
    int32_t a[3][64], b[3][64];
    cr_assert_eq(dt_dataset_rows(cached), dt_dataset_rows(fresh));
    cr_assert_eq(dt_dataset_rows_cut(cached), dt_dataset_rows_cut(fresh));
    cr_assert_eq(dt_dataset_rows_skipped(cached), dt_dataset_rows_skipped(fresh));
    cr_assert_eq(dt_dataset_fingerprint(cached), dt_dataset_fingerprint(fresh));
    for (int64_t s = 0; s < 2 * dt_dataset_sequences(fresh); s++) {
        OK(dt_dataset_fill(cached, s, a[0], a[1], a[2]));
        OK(dt_dataset_fill(fresh, s, b[0], b[1], b[2]));
        cr_assert_eq(memcmp(a, b, sizeof a), 0, "sequence %lld", (long long)s);
    }
    dt_dataset_destroy(cached);
    dt_dataset_destroy(fresh);
}

/* Files of the cache: how many; the path and the inode of the last. */
static int list_cache(char path[512], ino_t *inode)
{
    int n = 0;
    DIR *list = opendir(cache);
    if (!list) return 0;
    for (const struct dirent *entry; (entry = readdir(list));) {
        struct stat info;
        if (entry->d_name[0] == '.') continue;
        snprintf(path, 512, "%s/%s", cache, entry->d_name);
        cr_assert_eq(stat(path, &info), 0);
        *inode = info.st_ino;
        n++;
    }
    closedir(list);
    return n;
}

static int count_cache(void)
{
    char path[512];
    ino_t inode;
    return list_cache(path, &inode);
}

Test(cache, the_second_time_nothing_is_tokenised)
{
    char path[512];
    ino_t first, second;
    check_same();
    cr_assert_eq(list_cache(path, &first), 1);
    cr_assert_not_null(strstr(path, "/rows.jsonl-"), "%s", path);
    check_same();
    cr_assert_eq(list_cache(path, &second), 1);
    cr_assert_eq(first, second, "it was made again");
}

Test(cache, what_decides_ids_makes_another_file)
{
    check_same();
    options.add_eos = 1;
    check_same();
    cr_expect_eq(count_cache(), 2);
    options.loss_on_prompt = 1;
    check_same();
    cr_expect_eq(count_cache(), 3);
    write_rows(199);
    check_same();
    cr_expect_eq(count_cache(), 4);
    options.seq_len = 63; // rows are cut, and put into sequences, when they are read
    options.shuffle = 0;
    options.packing = 0;
    options.seed = 3;
    dt_dataset_destroy(open_set());
    cr_expect_eq(count_cache(), 4);
    dt_tokenizer_destroy(tok);
    OK(dt_tokenizer_load(DT_SOURCE_DIR "/tests/golden/chat/chatml", &tok));
    dt_dataset_destroy(open_set());
    cr_expect_eq(count_cache(), 5);
}

Test(cache, a_file_with_the_same_size_and_another_time_is_read_anew)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1}};
    write_file("rows.jsonl", "{\"text\":\"one\"}\n", 15);
    check_same();
    write_file("rows.jsonl", "{\"text\":\"two\"}\n", 15);
    cr_assert_eq(utimensat(AT_FDCWD, jsonl, times, 0), 0);
    check_same();
    cr_expect_eq(count_cache(), 2);
}

/* Every byte of the file counts: where one is another, or the length is, the file is made again. */
Test(cache, damage_is_found_and_mended)
{
    char path[512], *whole, *mended;
    ino_t inode;
    size_t bytes, again;
    write_rows(6);
    check_same();
    list_cache(path, &inode);
    OK(dt_file_read(path, &whole, &bytes));
    for (size_t at = 0; at <= bytes; at++) {
        char *broken = malloc(bytes + 1);
        cr_assert_not_null(broken);
        memcpy(broken, whole, bytes);
        broken[bytes] = 0;
        if (at < bytes) broken[at] ^= 0x10;
        OK(dt_file_write_atomic(path, broken, at == bytes ? bytes + 1 : bytes));
        free(broken);
        check_same();
        OK(dt_file_read(path, &mended, &again));
        cr_assert(again == bytes && memcmp(whole, mended, bytes) == 0, "byte %zu", at);
        free(mended);
    }
    for (size_t n = 0; n < bytes; n += bytes / 13 + 1) {
        OK(dt_file_write_atomic(path, whole, n));
        check_same();
    }
    free(whole);
}

Test(cache, a_row_that_is_wrong_leaves_nothing_behind)
{
    const dt_source source = {.jsonl = jsonl};
    dt_dataset *set;
    char expected[160];
    write_file("rows.jsonl", "{\"text\":\"one\"}\n{\"text\":2}\n", 26);
    snprintf(expected, sizeof expected, "%s:2: text: is a number, expected a string", jsonl);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(dt_dataset_open(&source, 1, tok, &options, &set), DT_ERR_DATA);
        cr_expect_str_eq(dt_error_text(), expected);
        cr_expect_eq(count_cache(), 0);
    }
    options.skip_bad_rows = 1;
    check_same();
    check_same(); // the number of bad rows is kept too
}

Test(cache, what_a_killed_job_left_is_removed_after_a_day)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1}};
    char path[160];
    OK(dt_dir_make(cache));
    write_file("deep/cache/rows.jsonl-00.rows.7-0.tmp", "x", 1);
    write_file("deep/cache/other.rows.7-1.tmp", "x", 1);
    write_file("deep/cache/notes.tmp", "x", 1);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", cache, i ? "notes.tmp" : "rows.jsonl-00.rows.7-0.tmp");
        cr_assert_eq(utimensat(AT_FDCWD, path, times, 0), 0);
    }
    check_same();
    cr_expect_eq(count_cache(), 3, "%d", count_cache()); // the cache, what may be in the making, what is not ours
}

/* Processes that find an empty cache at once: each makes what it needs, and one file is there in the end. */
Test(cache, processes_can_race)
{
    enum { PROCESSES = 4, ROUNDS = 5 };
    for (int round = 0; round < ROUNDS; round++) {
        pid_t pid[PROCESSES];
        OK(dt_dir_remove(cache));
        for (int p = 0; p < PROCESSES; p++) {
            pid[p] = fork();
            cr_assert_geq(pid[p], 0);
            if (pid[p] == 0) {
                const dt_source source = {.jsonl = jsonl};
                dt_dataset *set;
                dt_status st = dt_dataset_open(&source, 1, tok, &options, &set);
                _exit(st == DT_OK && dt_dataset_rows(set) == 200 ? 0 : 1);
            }
        }
        for (int p = 0; p < PROCESSES; p++) {
            int status;
            cr_assert_eq(waitpid(pid[p], &status, 0), pid[p]);
            cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
        cr_expect_eq(count_cache(), 1);
        check_same();
    }
}

Test(cache, a_folder_that_cannot_be_made_is_an_error)
{
    const dt_source source = {.jsonl = jsonl};
    dt_dataset *set;
    options.cache = jsonl;
    cr_assert_eq(dt_dataset_open(&source, 1, tok, &options, &set), DT_ERR_IO);
    cr_expect_not_null(strstr(dt_error_text(), jsonl), "%s", dt_error_text());
}
