/* Data sets: rows are read and refused as they should be, and sequences hold every row once an epoch, apart from
 * others. */
#include "data/data.h"
#include "base/file.h"
#include "data/text.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert_eq((call), DT_OK, "%s", dt_error_text())

/* Ids are characters: a..z are 0..25, BOS is 26, EOS is 27, anything else is nothing. */
enum { BOS = 26, EOS = 27 };

static char folder[64], jsonl[96];
static dt_tokenizer *tok;

static void write_file(const char *name, const char *text, size_t bytes)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    OK(dt_file_write_atomic(path, text, bytes));
}

static void load_tokenizer(const char *config)
{
    char json[1024];
    int n = snprintf(json, sizeof json, "{\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{");
    for (int c = 0; c < 26; c++)
        n += snprintf(json + n, sizeof json - (size_t)n, "%s\"%c\":%d", c ? "," : "", 'a' + c, c);
    snprintf(json + n, sizeof json - (size_t)n,
             "}},\"decoder\":{\"type\":\"Fuse\"},\"added_tokens\":[{\"id\":26,\"content\":\"<s>\",\"special\":true},"
             "{\"id\":27,\"content\":\"</s>\",\"special\":true}]}");
    write_file("tokenizer.json", json, strlen(json));
    write_file("tokenizer_config.json", config, strlen(config));
    dt_tokenizer_destroy(tok);
    OK(dt_tokenizer_load(folder, &tok));
}

static void set_up(void)
{
    strcpy(folder, "/tmp/dtrain-data-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(jsonl, sizeof jsonl, "%s/rows.jsonl", folder);
    tok = NULL;
    load_tokenizer("{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_bos_token\":true}");
}

static void tear_down(void)
{
    dt_tokenizer_destroy(tok);
    cr_assert_eq(dt_dir_remove(folder), DT_OK);
}

TestSuite(data, .init = set_up, .fini = tear_down);

static const dt_data_options PLAIN = {.seq_len = 16, .add_bos = -1, .add_eos = -1};

static dt_status open_file(const char *path, const dt_data_options *options, dt_dataset **set)
{
    const dt_source source = {.jsonl = path};
    return dt_dataset_open(&source, 1, tok, options, set);
}

static dt_dataset *open_text(const char *rows, dt_data_options options)
{
    dt_dataset *set;
    write_file("rows.jsonl", rows, strlen(rows));
    OK(open_file(jsonl, &options, &set));
    return set;
}

/* "(ab|c)" for ids: a letter each, ( for BOS, ) for EOS; | where targets begin and where they end. */
static const char *spell(dt_row row)
{
    static char text[256];
    int n = 0, within = 0;
    for (int32_t i = 0; i < row.n; i++) {
        int32_t id = dt_row_id(row, i);
        if (dt_row_is_target(row, i) != within) text[n++] = '|';
        within = dt_row_is_target(row, i);
        text[n++] = id == BOS ? '(' : id == EOS ? ')' : (char)('a' + id);
    }
    text[n] = '\0';
    return text;
}

static void check_row(const char *row, dt_data_options options, const char *expected)
{
    dt_dataset *set = open_text(row, options);
    cr_assert_eq(dt_dataset_rows(set), 1);
    cr_assert_str_eq(spell(dt_dataset_row(set, 0)), expected, "%s: %s", row, spell(dt_dataset_row(set, 0)));
    dt_dataset_destroy(set);
}

/* ---- rows ---- */

Test(data, rows_carry_bos_eos_and_loss_as_asked)
{
    static const char text[] = "{\"text\":\"abc\"}", pair[] = "{\"prompt\":\"ab\",\"completion\":\"xyz\"}";
    dt_data_options o = PLAIN;
    check_row(text, o, "(|abc");
    check_row(pair, o, "(ab|xyz)"); // EOS is always behind a completion
    o.loss_on_prompt = 1;
    check_row(pair, o, "(|abxyz)");
    o = PLAIN;
    o.add_bos = 0;
    check_row(text, o, "a|bc");
    check_row(pair, o, "ab|xyz)");
    o.add_eos = 1;
    check_row(text, o, "a|bc)");
    o.add_eos = 0;
    check_row(pair, o, "ab|xyz");
    load_tokenizer("{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_eos_token\":true}");
    check_row(text, PLAIN, "a|bc)");
    check_row("{\"prompt\":\"\",\"completion\":\"x\"}", PLAIN, "x|)");
    check_row("{\"prompt\":\"ab\",\"completion\":\"\"}", PLAIN, "ab|)");
}

Test(data, other_keys_blank_lines_and_line_ends_are_let_be)
{
    dt_dataset *set = open_text("\n  \t\r\n{\"id\":7,\"text\":\"ab\",\"meta\":{\"text\":1}}\r\n\n"
                                "\t{ \"completion\" : \"c\\u0064\", \"prompt\" : \"b\" } \n{\"text\":\"a</s>b\"}",
                                PLAIN);
    cr_assert_eq(dt_dataset_rows(set), 3);
    cr_assert_str_eq(spell(dt_dataset_row(set, 0)), "(|ab");
    cr_assert_str_eq(spell(dt_dataset_row(set, 1)), "(b|cd)");
    cr_assert_str_eq(spell(dt_dataset_row(set, 2)), "(|a)b");
    dt_dataset_destroy(set);
}

Test(data, long_rows_are_cut_and_counted)
{
    dt_data_options o = PLAIN;
    o.seq_len = 4;
    dt_dataset *set = open_text("{\"text\":\"abc\"}\n{\"text\":\"abcd\"}\n{\"prompt\":\"a\",\"completion\":\"bcd\"}\n"
                                "{\"prompt\":\"abcdef\",\"completion\":\"x\"}\n",
                                o);
    int64_t targets;
    cr_assert(dt_dataset_rows(set) == 4 && dt_dataset_rows_cut(set) == 3 && dt_dataset_rows_skipped(set) == 0);
    cr_assert_str_eq(spell(dt_dataset_row(set, 0)), "(|abc");
    cr_assert_str_eq(spell(dt_dataset_row(set, 1)), "(|abc");
    cr_assert_str_eq(spell(dt_dataset_row(set, 2)), "(a|bc");
    cr_assert_str_eq(spell(dt_dataset_row(set, 3)), "(abc"); // nothing of the completion is left
    OK(dt_dataset_targets(set, 3, &targets));
    cr_assert_eq(targets, 0);
    dt_dataset_destroy(set);
}

Test(data, max_rows_takes_the_first)
{
    static const char rows[] = "{\"text\":\"a\"}\n{\"text\":\"b\"}\n{\"text\":\"c\"}\nnot read\n";
    const dt_source source = {.jsonl = jsonl, .max_rows = 2};
    dt_dataset *set;
    write_file("rows.jsonl", rows, strlen(rows));
    OK(dt_dataset_open(&source, 1, tok, &PLAIN, &set));
    cr_assert_eq(dt_dataset_rows(set), 2);
    cr_assert_str_eq(spell(dt_dataset_row(set, 1)), "(|b");
    dt_dataset_destroy(set);
}

/* ---- refusals ---- */

static void check_refused(dt_data_options options, const char *rows, size_t bytes, dt_status status,
                          const char *message)
{
    char expected[512];
    dt_dataset *set;
    snprintf(expected, sizeof expected, "%s%s", status == DT_ERR_DATA ? jsonl : "", message);
    write_file("rows.jsonl", rows, bytes);
    cr_assert_eq(open_file(jsonl, &options, &set), status, "%s: %s", rows, dt_error_text());
    cr_assert_str_eq(dt_error_text(), expected, "%s: %s", rows, dt_error_text());
}

static const struct {
    const char *row, *message;
} BAD[] = {
    {"{\"text\":\"\"}", ": the row has 1 token, at least 2 are needed"},
    {"{\"text\":3}", ": text: is a number, expected a string"},
    {"{\"text\":null}", ": text: is missing, expected a string"},
    {"{\"prompt\":\"a\"}", ": completion: is missing, expected a string"},
    {"{\"completion\":\"a\"}", ": prompt: is missing, expected a string"},
    {"{\"prompt\":\"a\",\"completion\":[]}", ": completion: is an array, expected a string"},
    {"{\"question\":\"a\",\"answer\":\"b\"}",
     ": a row of {\"question\", \"answer\"}, expected {\"text\"}, {\"prompt\", \"completion\"} or {\"messages\"}"},
    {"{\"text\":\"a\",\"completion\":\"b\"}",
     ": a row of {\"text\", \"completion\"}, expected {\"text\"}, {\"prompt\", \"completion\"} or {\"messages\"}"},
    {"{}", ": a row of {}, expected {\"text\"}, {\"prompt\", \"completion\"} or {\"messages\"}"},
    {"[1]", ": not an object, expected {\"text\"}, {\"prompt\", \"completion\"} or {\"messages\"}"},
    {"{\"text\":\"a\",\"text\":\"b\"}", ": text: stands there twice"},
    {"{\"text\":\"a\"", ": not valid JSON at byte 13"},
    {"{\"text\":\"a\"} {}", ": more text behind the JSON value, at byte 14"},
    {"{\"text\":\"\\ud83d\"}", ": not valid JSON at byte 10"},
    {"{\"text\":\"a\\u0000b\"}", ": a NUL character in the line"},
    {"{\"text\":\"a\xE9\"}", ": invalid UTF-8 at byte 11"},
};
enum { N_BAD = sizeof BAD / sizeof *BAD };

Test(data, bad_rows_are_named_with_file_and_line)
{
    for (int i = 0; i < N_BAD; i++) {
        char rows[256], message[256];
        snprintf(rows, sizeof rows, "{\"text\":\"ab\"}\n\n%s\n{\"text\":\"ab\"}\n", BAD[i].row);
        snprintf(message, sizeof message, ":3%s", BAD[i].message);
        check_refused(PLAIN, rows, strlen(rows), DT_ERR_DATA, message);
    }
}

Test(data, bad_rows_may_be_skipped_and_counted)
{
    dt_text rows = {0};
    dt_data_options o = PLAIN;
    o.skip_bad_rows = 1;
    for (int i = 0; i < N_BAD; i++) {
        char two[128];
        snprintf(two, sizeof two, "{\"text\":\"%c\"}\n%s\n", 'a' + i, BAD[i].row);
        OK(dt_text_append(&rows, two, strlen(two)));
    }
    OK(dt_text_append(&rows, "", 1));
    dt_dataset *set = open_text(rows.data, o);
    cr_assert(dt_dataset_rows(set) == N_BAD && dt_dataset_rows_skipped(set) == N_BAD);
    for (int i = 0; i < N_BAD; i++) {
        char expected[] = {'(', '|', (char)('a' + i), '\0'};
        cr_assert_str_eq(spell(dt_dataset_row(set, i)), expected);
    }
    dt_dataset_destroy(set);
    dt_text_free(&rows);
    check_refused(o, "[]\n{}\n", 6, DT_ERR_DATA, ": no row that can be used: all 2 are bad");
}

Test(data, what_no_row_can_mend_is_refused)
{
    dt_data_options o = PLAIN;
    dt_dataset *set;
    char expected[160];
    check_refused(o, "", 0, DT_ERR_DATA, ": no rows");
    check_refused(o, "{\"text\":\"a\0\"}", 13, DT_ERR_DATA, ":1: a NUL character in the line");
    o.seq_len = 1;
    check_refused(o, "{}", 2, DT_ERR_CONFIG, "data.seq_len: 1 is not >= 2");
    o = PLAIN;
    o.skip_bad_rows = 1; // none of these is a row's fault
    load_tokenizer("{}");
    check_refused(o, "{\"prompt\":\"a\",\"completion\":\"b\"}", 31, DT_ERR_CONFIG,
                  "data.add_eos: the tokenizer has no such token to put there; set it to false");
    o.add_bos = 1;
    check_refused(o, "{\"text\":\"a\"}", 12, DT_ERR_CONFIG,
                  "data.add_bos: the tokenizer has no such token to put there; set it to false");
    cr_assert_eq(open_file(folder, &o, &set), DT_ERR_IO);
    snprintf(expected, sizeof expected, "%s: cannot read: Is a directory", folder);
    cr_assert_str_eq(dt_error_text(), expected);
    snprintf(jsonl, sizeof jsonl, "%s/none.jsonl", folder);
    cr_assert_eq(open_file(jsonl, &o, &set), DT_ERR_IO);
    snprintf(expected, sizeof expected, "%s: cannot open: No such file or directory", jsonl);
    cr_assert_str_eq(dt_error_text(), expected);
}

/* ---- sequences ---- */

enum { ROWS = 200, T = 24 };

/* Row i: its number in three letters, then letters up to a length between 4 and T ids; every third has a prompt. */
static dt_dataset *open_many(int packing, int shuffle, uint64_t seed)
{
    dt_text rows = {0};
    for (int i = 0; i < ROWS; i++) {
        char number[4] = {(char)('a' + i / 26), (char)('a' + i % 26), 'x', '\0'}, rest[T] = "", row[128];
        int more = i * 7 % (T - 4);
        for (int k = 0; k < more - (i % 3 == 0); k++) rest[k] = (char)('a' + (i + k) % 26);
        if (i % 3) snprintf(row, sizeof row, "{\"text\":\"%s%s\"}\n", number, rest);
        else snprintf(row, sizeof row, "{\"prompt\":\"%s\",\"completion\":\"%s\"}\n", number, rest);
        OK(dt_text_append(&rows, row, strlen(row)));
    }
    OK(dt_text_append(&rows, "", 1));
    dt_data_options o = PLAIN;
    o.seq_len = T;
    o.packing = packing;
    o.shuffle = shuffle;
    o.seed = seed;
    dt_dataset *set = open_text(rows.data, o);
    dt_text_free(&rows);
    cr_assert_eq(dt_dataset_rows(set), ROWS);
    return set;
}

typedef struct sequence {
    int32_t tokens[T], pos[T], targets[T];
} sequence;

static sequence fill(dt_dataset *set, int64_t s)
{
    sequence q;
    memset(&q, 0x5A, sizeof q);
    OK(dt_dataset_fill(set, s, q.tokens, q.pos, q.targets));
    return q;
}

/* The sequence holds exactly the rows of its layout, each whole and apart; adds them to seen[ROWS]. Returns the rows.
 */
static int check_sequence(dt_dataset *set, int64_t s, int *seen)
{
    const int64_t *rows;
    const int32_t *starts;
    int n, t = 0;
    int64_t targets = 0, counted;
    sequence q = fill(set, s);
    OK(dt_dataset_layout(set, s, &rows, &starts, &n));
    cr_assert_geq(n, 1);
    for (int k = 0; k < n; k++) {
        cr_assert(rows[k] >= 0 && rows[k] < ROWS);
        dt_row row = dt_dataset_row(set, rows[k]);
        seen[rows[k]]++;
        cr_assert_eq(starts[k], t);
        cr_assert_leq(t + row.n, T);
        for (int32_t i = 0; i < row.n; i++, t++) {
            int has_loss = i + 1 < row.n && dt_row_is_target(row, i + 1);
            cr_assert_eq(q.tokens[t], dt_row_id(row, i));
            cr_assert_eq(q.pos[t], i); // attention reaches back to t - pos[t], the row's first id
            cr_assert_eq(q.targets[t], has_loss ? dt_row_id(row, i + 1) : -1);
            targets += has_loss;
        }
    }
    for (; t < T; t++) cr_assert(q.tokens[t] == 0 && q.pos[t] == 0 && q.targets[t] == -1);
    OK(dt_dataset_targets(set, s, &counted));
    cr_assert_eq(counted, targets);
    return n;
}

/* Every row once in the sequences from `s` on; returns the first behind the epoch. order[ROWS]: as they come. */
static int64_t check_epoch(dt_dataset *set, int64_t s, int64_t *order)
{
    int seen[ROWS] = {0}, total = 0;
    while (total < ROWS) {
        const int64_t *rows;
        const int32_t *starts;
        int n;
        total += check_sequence(set, s, seen);
        OK(dt_dataset_layout(set, s++, &rows, &starts, &n));
        cr_assert_leq(total, ROWS, "sequence %lld crosses epochs", (long long)s);
        memcpy(order + total - n, rows, (size_t)n * sizeof *rows);
    }
    for (int i = 0; i < ROWS; i++) cr_assert_eq(seen[i], 1, "row %d comes %d times", i, seen[i]);
    return s;
}

Test(data, every_row_comes_once_an_epoch_and_in_a_new_order)
{
    for (int packing = 0; packing < 2; packing++) {
        dt_dataset *set = open_many(packing, 1, 5), *other = open_many(packing, 1, 6);
        int64_t order[4][ROWS], s = 0, of_other[ROWS];
        for (int e = 0; e < 4; e++) {
            s = check_epoch(set, s, order[e]);
            if (!e) cr_assert_eq(s, dt_dataset_sequences(set));
            for (int before = 0; before < e; before++) cr_assert_neq(memcmp(order[e], order[before], sizeof *order), 0);
        }
        check_epoch(other, 0, of_other);
        cr_assert_neq(memcmp(order[0], of_other, sizeof of_other), 0, "the seed does not matter");
        if (packing) cr_assert_lt(dt_dataset_sequences(set), ROWS * 3 / 4);
        else cr_assert_eq(dt_dataset_sequences(set), ROWS);
        dt_dataset_destroy(set);
        dt_dataset_destroy(other);
    }
}

Test(data, packing_takes_rows_until_the_next_does_not_fit)
{
    dt_dataset *set = open_many(1, 1, 5);
    for (int64_t s = 0; s + 1 < dt_dataset_sequences(set); s++) {
        const int64_t *rows;
        const int32_t *starts;
        int n;
        OK(dt_dataset_layout(set, s, &rows, &starts, &n));
        int32_t used = starts[n - 1] + dt_dataset_row(set, rows[n - 1]).n;
        OK(dt_dataset_layout(set, s + 1, &rows, &starts, &n));
        cr_assert_gt(used + dt_dataset_row(set, rows[0]).n, T);
    }
    dt_dataset_destroy(set);
}

Test(data, without_shuffling_rows_come_as_in_the_file_and_once)
{
    for (int packing = 0; packing < 2; packing++) {
        dt_dataset *set = open_many(packing, 0, 5);
        int64_t order[ROWS], end = check_epoch(set, 0, order);
        sequence q;
        cr_assert_eq(end, dt_dataset_sequences(set));
        for (int i = 0; i < ROWS; i++) cr_assert_eq(order[i], i);
        cr_assert_eq(dt_dataset_fill(set, end, q.tokens, q.pos, q.targets), DT_ERR_INTERNAL);
        cr_assert_eq(dt_dataset_fill(set, -1, q.tokens, q.pos, q.targets), DT_ERR_INTERNAL);
        dt_dataset_destroy(set);
    }
}

Test(data, a_sequence_does_not_depend_on_what_was_asked_before)
{
    enum { MOST = 700 };
    dt_dataset *set = open_many(1, 1, 5);
    sequence *in_order = malloc(MOST * sizeof *in_order);
    cr_assert_not_null(in_order);
    for (int s = 0; s < MOST; s++) in_order[s] = fill(set, s);
    dt_dataset *fresh = open_many(1, 1, 5);
    uint32_t state = 1;
    for (int i = 0; i < 300; i++) {
        state = state * 1664525u + 1013904223u;
        int s = (int)((state >> 8) % MOST);
        sequence q = fill(fresh, s);
        cr_assert_eq(memcmp(&q, &in_order[s], sizeof q), 0, "sequence %d", s);
    }
    free(in_order);
    dt_dataset_destroy(set);
    dt_dataset_destroy(fresh);
}

Test(data, the_fingerprint_changes_with_rows_and_layout)
{
    dt_data_options o = PLAIN, changed[5] = {PLAIN, PLAIN, PLAIN, PLAIN, PLAIN};
    const char *rows = "{\"text\":\"ab\"}\n{\"prompt\":\"c\",\"completion\":\"d\"}\n";
    changed[0].seq_len = 17;
    changed[1].packing = 1;
    changed[2].shuffle = 1;
    changed[3].seed = 1;
    changed[4].loss_on_prompt = 1;
    dt_dataset *set = open_text(rows, o), *again = open_text(rows, o);
    uint64_t print = dt_dataset_fingerprint(set);
    cr_assert_eq(dt_dataset_fingerprint(again), print);
    dt_dataset_destroy(again);
    for (int i = 0; i < 5; i++) {
        again = open_text(rows, changed[i]);
        cr_assert_neq(dt_dataset_fingerprint(again), print, "change %d", i);
        dt_dataset_destroy(again);
    }
    again = open_text("{\"text\":\"abc\"}\n{\"prompt\":\"\",\"completion\":\"d\"}\n", o); // the same ids in all
    cr_assert_neq(dt_dataset_fingerprint(again), print);
    dt_dataset_destroy(again);
    dt_dataset_destroy(set);
}

/* ---- several sources ---- */

static dt_status open_two(double first, double second, int shuffle, dt_dataset **set)
{
    static char other[96];
    dt_data_options o = PLAIN;
    snprintf(other, sizeof other, "%s/other.jsonl", folder);
    const dt_source sources[] = {{.jsonl = jsonl, .weight = first}, {.jsonl = other, .weight = second}};
    write_file("rows.jsonl", "{\"text\":\"aa\"}\n{\"text\":\"ab\"}\n", 28);
    write_file("other.jsonl", "{\"text\":\"xa\"}\n{\"text\":\"xb\"}\n{\"text\":\"xc\"}\n{\"text\":\"xd\"}\n", 56);
    o.shuffle = shuffle;
    o.seed = 3;
    return dt_dataset_open(sources, 2, tok, &o, set);
}

Test(data, sources_are_mixed_by_weight_and_rows_are_numbered_through_them)
{
    dt_dataset *set;
    int of_first = 0;
    OK(open_two(2, 1, 1, &set));
    cr_assert(dt_dataset_rows(set) == 6 && dt_dataset_sequences(set) == 6);
    cr_expect_str_eq(spell(dt_dataset_row(set, 1)), "(|ab");
    cr_expect_str_eq(spell(dt_dataset_row(set, 5)), "(|xd");
    for (int64_t s = 0; s < 60; s++) {
        int32_t tokens[16], pos[16], targets[16];
        OK(dt_dataset_fill(set, s, tokens, pos, targets));
        of_first += tokens[1] == 0;
        if (s % 3 == 2) cr_expect_eq(of_first, (s + 1) / 3 * 2);
    }
    dt_dataset_destroy(set);
}

Test(data, the_fingerprint_changes_with_the_shares)
{
    dt_dataset *set, *twice, *other;
    OK(open_two(1, 1, 1, &set));
    OK(open_two(2, 2, 1, &twice));
    OK(open_two(2, 1, 1, &other));
    cr_expect_eq(dt_dataset_fingerprint(set), dt_dataset_fingerprint(twice));
    cr_expect_neq(dt_dataset_fingerprint(set), dt_dataset_fingerprint(other));
    dt_dataset_destroy(set);
    dt_dataset_destroy(twice);
    dt_dataset_destroy(other);
}

/* ---- bytes that no data set was made of ---- */

/* Lines are changed at random: each is a row or an error that names its line, and nothing else. */
Test(data, any_bytes_are_rows_or_errors)
{
    static const char *const SEEDS[] = {"{\"text\":\"abc\"}", "{\"prompt\":\"ab\",\"completion\":\"x\\u00e9\"}",
                                        "{\"messages\":[{\"role\":\"user\",\"content\":\"ab\"},"
                                        "{\"role\":\"assistant\",\"content\":\"c\"}]}"};
    static const char BYTES[] = "{}[]\",:\\ntu0 \xE9\x80\n\0";
    static const dt_chat chat = {
        .name = "test", .frame = {{1, "", "", "", 0}, {1, "a", "", "b", 1}, {1, "", "", "c", 0}, {0, "", "", "", 0}}};
    uint32_t state = 7;
    int good = 0;
    for (int i = 0; i < 6000; i++) {
        char line[160];
        size_t n = strlen(SEEDS[i % 3]);
        memcpy(line, SEEDS[i % 3], n);
        for (int change = 0; change < i % 4; change++) {
            state = state * 1664525u + 1013904223u;
            line[(state >> 8) % n] = BYTES[(state >> 24) % sizeof BYTES];
        }
        dt_data_options o = PLAIN;
        dt_dataset *set = NULL;
        o.chat = &chat;
        write_file("rows.jsonl", line, n);
        dt_status st = open_file(jsonl, &o, &set);
        cr_assert(st == DT_OK || st == DT_ERR_DATA, "%.*s: %s", (int)n, line, dt_error_text());
        if (st != DT_OK) cr_assert_eq(strncmp(dt_error_text(), jsonl, strlen(jsonl)), 0, "%s", dt_error_text());
        good += st == DT_OK;
        dt_dataset_destroy(set);
    }
    cr_expect(good > 1500 && good < 6000, "%d", good);
}
