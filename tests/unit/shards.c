/* Files of token ids as rows: windows, documents, headers, and what is refused. */
#include "base/file.h"
#include "data/data.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert_eq((call), DT_OK, "%s", dt_error_text())
enum { VOCAB = 900, EOS = 1 }; /* of the golden in the shape of Llama 3's */

static char folder[64], pattern[96];
static dt_tokenizer *tok;
static dt_data_options options;
static dt_source source;

static void set_up(void)
{
    strcpy(folder, "/tmp/dtrain-shards-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(pattern, sizeof pattern, "%s/s?.bin", folder);
    OK(dt_tokenizer_load(DT_SOURCE_DIR "/tests/golden/chat/llama3", &tok));
    options = (dt_data_options){.seq_len = 4, .packing = 1, .add_bos = -1, .add_eos = -1};
    source = (dt_source){.tokens = pattern, .type = DT_IDS_U16};
}

static void tear_down(void)
{
    dt_tokenizer_destroy(tok);
    cr_assert_eq(dt_dir_remove(folder), DT_OK);
}

TestSuite(shards, .init = set_up, .fini = tear_down);

static void write_file(const char *name, const void *data, size_t bytes)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    OK(dt_file_write_atomic(path, data, bytes));
}

/* ids[n] as a file, with llm.c's header where `magic` is given. */
static void write_ids(const char *name, const uint32_t *ids, int n, int32_t magic)
{
    char data[4096];
    int32_t header[256] = {magic, magic == 20240801 ? 7 : 1, n};
    size_t at = 0;
    if (magic) memcpy(data, header, at = sizeof header);
    for (int i = 0; i < n; i++) {
        uint16_t narrow = (uint16_t)ids[i];
        memcpy(data + at, source.type == DT_IDS_U16 ? (void *)&narrow : (void *)&ids[i],
               source.type == DT_IDS_U16 ? 2 : 4);
        at += source.type == DT_IDS_U16 ? 2 : 4;
    }
    write_file(name, data, at);
}

/* "2 3 4|5 6": rows and their ids; all but the first of a row are targets. */
static void expect_rows(const char *expected)
{
    dt_dataset *set;
    char text[512] = "";
    int n = 0;
    OK(dt_dataset_open(&source, 1, tok, &options, &set));
    for (int64_t r = 0; r < dt_dataset_rows(set); r++) {
        dt_row row = dt_dataset_row(set, r);
        if (r) n += sprintf(text + n, "|");
        for (int32_t i = 0; i < row.n; i++) {
            n += sprintf(text + n, "%s%d", i ? " " : "", dt_row_id(row, i));
            cr_expect_eq(dt_row_is_target(row, i), i > 0);
        }
        cr_expect_eq(dt_row_targets(row), row.n - 1);
    }
    cr_expect_str_eq(text, expected, "%s", text);
    cr_expect_eq(dt_dataset_rows_cut(set), 0);
    dt_dataset_destroy(set);
}

static const uint32_t A[] = {10, 11, 12, 13, 14, 15}, B[] = {20, EOS, 21, 22, 23, 24, 25, EOS, EOS, 26};

static void check_types(int32_t magic)
{
    write_ids("s2.bin", B, 10, magic);
    write_ids("s1.bin", A, 6, 0);
    write_file("other.bin", "x", 1);
    source.split_at_eos = 0;
    expect_rows("10 11 12 13|14 15|20 1 21 22|23 24 25 1|1 26");
    source.split_at_eos = 1;
    expect_rows("10 11 12 13|14 15|20 1|21 22 23 24|25 1"); // single ids are no rows
    source.max_rows = 3;
    expect_rows("10 11 12 13|14 15|20 1");
    source.max_rows = 0;
}

Test(shards, rows_are_windows_or_documents)
{
    check_types(0);
    check_types(20240520);
    source.type = DT_IDS_U32;
    check_types(0);
    check_types(20240801);
}

Test(shards, a_cache_keeps_their_rows)
{
    char cache[96];
    snprintf(cache, sizeof cache, "%s/cache", folder);
    options.cache = cache;
    for (int i = 0; i < 2; i++) check_types(0);
    options.seq_len = 6;
    source.split_at_eos = 0;
    expect_rows("10 11 12 13 14 15|20 1 21 22 23 24|25 1 1 26");
}

Test(shards, sequences_and_fingerprint_are_those_of_the_ids)
{
    dt_dataset *set;
    uint64_t print[4];
    int32_t tokens[4], pos[4], targets[4];
    for (int i = 0; i < 4; i++) {
        uint32_t ids[] = {10, 11, 12, 13, 14, 15};
        if (i == 1) ids[5] = 16;
        write_ids("s1.bin", ids, i == 2 ? 5 : 6, 0);
        OK(dt_dataset_open(&source, 1, tok, &options, &set));
        print[i] = dt_dataset_fingerprint(set);
        if (i == 3) {
            OK(dt_dataset_fill(set, 1, tokens, pos, targets));
            cr_expect(tokens[0] == 14 && tokens[1] == 15 && tokens[2] == 0 && pos[1] == 1 && pos[2] == 0);
            cr_expect(targets[0] == 15 && targets[1] == -1 && targets[2] == -1);
        }
        dt_dataset_destroy(set);
    }
    cr_expect(print[0] != print[1] && print[0] != print[2] && print[0] == print[3]);
}

static void refuse(dt_status status, const char *file, const char *message)
{
    char expected[512];
    dt_dataset *set;
    snprintf(expected, sizeof expected, "%s%s%s%s", file ? folder : "", file ? "/" : "", file ? file : "", message);
    cr_assert_eq(dt_dataset_open(&source, 1, tok, &options, &set), status, "%s", dt_error_text());
    cr_expect_str_eq(dt_error_text(), expected, "%s", dt_error_text());
}

Test(shards, what_is_wrong_is_named_with_file_and_byte)
{
    uint32_t ids[] = {1, 2, 3, 0};
    char expected[128];
    const int vocab = dt_tokenizer_size(tok);
    refuse(DT_ERR_IO, "s?.bin", ": cannot open: No such file or directory");
    write_file("s1.bin", "abc", 3);
    refuse(DT_ERR_DATA, "s1.bin", ": 3 bytes are no whole number of ids of 2 bytes");
    write_file("s1.bin", "", 0);
    refuse(DT_ERR_DATA, "s?.bin", ": no rows");
    ids[2] = (uint32_t)vocab;
    write_ids("s1.bin", ids, 4, 0);
    snprintf(expected, sizeof expected, ": byte 4: id %d, but the tokenizer has ids below %d", vocab, vocab);
    refuse(DT_ERR_DATA, "s1.bin", expected);
    write_ids("s1.bin", ids, 4, 20240520);
    snprintf(expected, sizeof expected, ": byte 1028: id %d, but the tokenizer has ids below %d", vocab, vocab);
    refuse(DT_ERR_DATA, "s1.bin", expected);
    source.type = DT_IDS_U32;
    refuse(DT_ERR_DATA, "s1.bin", ": its header says UINT16, but dtype is UINT32");
    ids[2] = 0x80000003u;
    write_ids("s1.bin", ids, 4, 0);
    snprintf(expected, sizeof expected, ": byte 8: id 2147483651, but the tokenizer has ids below %d", vocab);
    refuse(DT_ERR_DATA, "s1.bin", expected);
}

Test(shards, headers_must_be_true)
{
    int32_t header[260] = {20240520, 2, 8};
    write_file("s1.bin", header, sizeof header);
    refuse(DT_ERR_DATA, "s1.bin", ": a header of llm.c with version 2, expected 1");
    header[1] = 1;
    header[2] = 9;
    write_file("s1.bin", header, sizeof header);
    refuse(DT_ERR_DATA, "s1.bin", ": its header says 9 ids, which are not what 1040 bytes hold");
    header[2] = -1;
    write_file("s1.bin", header, sizeof header);
    refuse(DT_ERR_DATA, "s1.bin", ": its header says -1 ids, which are not what 1040 bytes hold");
}
