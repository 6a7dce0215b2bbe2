/* Unigram and its charsmap: ids and decodings equal those of the Python package
 * (tests/golden/tokenizer_models_goldens.py made the files), the best way through a word is found, and broken files are
 * refused by name. */
#include "data/charsmap.h"
#include "unit/tokenizer_check.h"

TestSuite(tokenizer_unigram, .init = make_folder, .fini = remove_folder);

/* ---- goldens ---- */

static void check_models(const char *name, const char *path)
{
    dt_json file = golden_file(GOLDEN "/tokenizer_models.json"), texts, cases;
    OK(dt_json_array(&file, "texts", &texts));
    OK(dt_json_array(&file, name, &cases));
    dt_tokenizer *tok = load_from(path);
    check_goldens(tok, name, texts.node, cases.node);
    dt_tokenizer_destroy(tok);
    dt_json_free(&file);
}

Test(tokenizer_unigram, a_small_t5_shape_equals_goldens)
{
    check_models("unigram", GOLDEN "/unigram/tokenizer.json");
}

Test(tokenizer_unigram, t5_equals_goldens)
{
    if (!dt_path_exists(SHARED)) cr_skip_test("skipped: no " SHARED);
    check_models("t5-small", SHARED "/tokenizers/t5-small.tokenizer.json");
}

Test(tokenizer_unigram, every_shape_of_file_equals_goldens)
{
    check_shapes(GOLDEN "/tokenizer_models.json", "few", "unigram", 5);
}

Test(tokenizer_unigram, t5_ends_a_text_with_its_eos)
{
    if (!dt_path_exists(SHARED)) cr_skip_test("skipped: no " SHARED);
    dt_tokenizer *tok = load_from(SHARED "/tokenizers/t5-small.tokenizer.json");
    cr_assert(dt_tokenizer_eos(tok) == 1 && dt_tokenizer_adds_eos(tok) && !dt_tokenizer_adds_bos(tok));
    cr_assert_eq(dt_tokenizer_size(tok), 32100);
    dt_tokenizer_destroy(tok);
}

/* ---- encoding ---- */

static dt_tokenizer *load_vocab(const char *vocab, const char *more)
{
    char json[1024];
    dt_tokenizer *tok;
    snprintf(json, sizeof json, "{\"model\":{\"type\":\"Unigram\",\"vocab\":[%s]%s}}", vocab, more);
    write_file("tokenizer.json", json);
    OK(dt_tokenizer_load(folder, &tok));
    return tok;
}

static void check_ids(const dt_tokenizer *tok, const char *text, const int32_t *expected, int64_t n)
{
    dt_ids ids = {0};
    OK(dt_tokenizer_encode(tok, text, strlen(text), &ids));
    cr_assert_eq(ids.n, n, "\"%s\": %lld ids", text, (long long)ids.n);
    cr_assert_arr_eq(ids.id, expected, (size_t)n * sizeof *expected, "\"%s\"", text);
    dt_ids_free(&ids);
}
#define IDS(...) (const int32_t[]){__VA_ARGS__}, sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)

Test(tokenizer_unigram, the_best_sum_of_scores_wins)
{
    dt_tokenizer *tok = load_vocab(
        "[\"?\",0],[\"a\",-1],[\"b\",-1],[\"ab\",-1.5],[\"abc\",-5],[\"c\",-2],[\"bc\",-2.25]", ",\"unk_id\":0");
    check_ids(tok, "abc", IDS(1, 6)); // a bc -3.25, ab c -3.5, a b c -4, abc -5
    check_ids(tok, "abab", IDS(3, 3));
    check_ids(tok, "bcc", IDS(6, 5));
    dt_tokenizer_destroy(tok);
}

/* An unknown character costs 10 more than the worst token: here -30. */
Test(tokenizer_unigram, an_unknown_character_costs_more_than_any_token)
{
    dt_tokenizer *tok = load_vocab("[\"?\",0],[\"a\",9],[\"b\",11],[\"xa\",-20],[\"xb\",-20]", ",\"unk_id\":0");
    check_ids(tok, "xa", IDS(3));    // -20, not -30 + 9
    check_ids(tok, "xb", IDS(0, 2)); // -30 + 11
    dt_tokenizer_destroy(tok);
}

Test(tokenizer_unigram, neighbours_that_are_unknown_are_one_token_or_their_bytes)
{
    dt_tokenizer *tok = load_vocab("[\"?\",0],[\"a\",-1]", ",\"unk_id\":0");
    check_ids(tok,
              "xy\xE6\xB5\xB7"
              "axa",
              IDS(0, 1, 0, 1));
    dt_tokenizer_destroy(tok);
    tok = load_vocab("[\"?\",0],[\"a\",-1],[\"<0xC3>\",0],[\"<0xA9>\",0]", ",\"unk_id\":0,\"byte_fallback\":true");
    check_ids(tok,
              "\xC3\xA9\xC3\xA9"
              "a\xC3\xA8",
              IDS(2, 3, 2, 3, 1, 0)); // of the last, one byte is missing
    dt_tokenizer_destroy(tok);
}

Test(tokenizer_unigram, without_an_unknown_token_a_strange_character_is_an_error)
{
    dt_tokenizer *tok = load_vocab("[\"a\",-1]", "");
    dt_ids ids = {0};
    check_ids(tok, "aa", IDS(0, 0));
    cr_assert_eq(dt_tokenizer_encode(tok, "a\xC3\xA9", 3, &ids), DT_ERR_DATA);
    cr_assert_str_eq(dt_error_text(), "\"\xC3\xA9\" is not in the vocabulary, which has no unknown token");
    dt_ids_free(&ids);
    dt_tokenizer_destroy(tok);
}

Test(tokenizer_unigram, a_long_text_without_word_breaks_is_encoded)
{
    dt_tokenizer *tok = load_vocab("[\"?\",0],[\"a\",-1],[\"aa\",-1.5],[\"aab\",-1]", ",\"unk_id\":0");
    size_t n = 3 << 18;
    char *text = malloc(n);
    cr_assert_not_null(text);
    for (size_t i = 0; i < n; i++) text[i] = "aab"[i % 3];
    dt_ids ids = {0};
    OK(dt_tokenizer_encode(tok, text, n, &ids));
    cr_assert_eq(ids.n, (int64_t)n / 3);
    for (int64_t i = 0; i < ids.n; i++) cr_assert_eq(ids.id[i], 3);
    free(text);
    dt_ids_free(&ids);
    dt_tokenizer_destroy(tok);
}

/* ---- charsmap ---- */

/* A map of two entries: units at 0 (root), 'a' ^ 1 and the value of "a"; texts "" and "bc". */
enum { UNITS = 256, BYTES = 4 + 4 * UNITS + 4 };

static void put_u32(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) at[i] = (unsigned char)(value >> 8 * i);
}

static void make_map(unsigned char map[BYTES])
{
    memset(map, 0, BYTES);
    put_u32(map, 4 * UNITS);
    put_u32(map + 4, 1 << 10);                                              // children of the root at 1 ^ byte
    put_u32(map + 4 + 4 * (1 ^ 'a'), 'a' | 1 << 8 | ((1 ^ 'a' ^ 2) << 10)); // its own at 2 ^ byte
    put_u32(map + 4 + 4 * 2, 1u << 31 | 1);                                 // the text at 1
    memcpy(map + 4 + 4 * UNITS, "\0bc", 4);
}

static const char *base64(const unsigned char *data, size_t bytes)
{
    static const char LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static char out[2 * BYTES];
    size_t n = 0;
    for (size_t i = 0; i < bytes; i += 3) {
        uint32_t v =
            (uint32_t)data[i] << 16 | (i + 1 < bytes ? data[i + 1] << 8 : 0) | (i + 2 < bytes ? data[i + 2] : 0);
        for (int k = 0; k < 4; k++) out[n++] = i + (size_t)k > bytes ? '=' : LETTERS[v >> (18 - 6 * k) & 63];
    }
    out[n] = '\0';
    return out;
}

static dt_status load_map(const char *text, dt_charsmap **out)
{
    char *json = malloc(strlen(text) + 64);
    dt_json part;
    cr_assert_not_null(json);
    int n = sprintf(json, "{\"precompiled_charsmap\":\"%s\"}", text);
    OK(dt_json_parse(json, (size_t)n, "f", DT_ERR_DATA, &part));
    dt_status st = dt_charsmap_load(&part, out);
    dt_json_free(&part);
    free(json);
    return st;
}

Test(tokenizer_unigram, a_charsmap_maps_short_graphemes_by_their_shortest_entry)
{
    unsigned char data[BYTES];
    dt_charsmap *map;
    dt_text out = {0};
    static const char text[] = "xa"
                               "a\xCC\x81"
                               "a\xCC\x81\xCC\x81\xCC\x81"; // the last is 7 bytes: by character
    make_map(data);
    OK(load_map(base64(data, BYTES), &map));
    OK(dt_charsmap_run(map, text, sizeof text, &out)); // with the NUL, which no walk gets past
    cr_assert_eq(out.n, 1 + 2 + 2 + 8 + 1);
    cr_assert_str_eq(out.data, "xbc"
                               "bc"
                               "bc\xCC\x81\xCC\x81\xCC\x81");
    dt_text_free(&out);
    dt_charsmap_destroy(map);
}

static void check_map_refused(const unsigned char *data, size_t bytes, const char *message)
{
    dt_charsmap *map;
    char expected[256];
    snprintf(expected, sizeof expected, "f: precompiled_charsmap: %s", message);
    cr_assert_eq(load_map(base64(data, bytes), &map), DT_ERR_DATA, "not refused: %s", message);
    cr_assert_str_eq(dt_error_text(), expected);
}

Test(tokenizer_unigram, a_broken_charsmap_is_refused)
{
    unsigned char data[BYTES];
    dt_charsmap *map;
    make_map(data);
    check_map_refused(data, 0, "ends inside of its array");
    check_map_refused(data, 3, "ends inside of its array");
    check_map_refused(data, 4 + 4 * UNITS - 1, "ends inside of its array");
    check_map_refused(data, 4 + 4 * UNITS, "has an array whose unit 96 leads out of it"); // its text is gone
    check_map_refused(data, BYTES - 1, "ends inside of a text");
    put_u32(data, 4 * UNITS - 2);
    check_map_refused(data, BYTES, "has an array of 1022 bytes, not of 4-byte units");
    put_u32(data, 0);
    check_map_refused(data, BYTES, "has an array of 0 bytes, not of 4-byte units");
    put_u32(data, UINT32_MAX);
    check_map_refused(data, BYTES, "ends inside of its array");
    make_map(data);
    put_u32(data + 4, 1 << 20); // the root's children lie beyond the end
    check_map_refused(data, BYTES, "has an array whose unit 0 leads out of it");
    make_map(data);
    put_u32(data + 4 + 4 * 2, 1u << 31 | 4); // no such text
    check_map_refused(data, BYTES, "has an array whose unit 96 leads out of it");
    make_map(data);
    put_u32(data + 4, 1u << 31 | 1 << 20);
    check_map_refused(data, BYTES, "has an array that starts with a value");
    make_map(data);
    data[BYTES - 2] = 0xFF;
    check_map_refused(data, BYTES, "has texts that are not UTF-8");
    static const char *const broken[] = {"A",
                                         "AAA",
                                         "A===",
                                         "AB==",
                                         "AA=A",
                                         "AA!A",
                                         "AAAA=AAA",
                                         "\xC3\xA9"
                                         "AA"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        cr_assert_eq(load_map(broken[i], &map), DT_ERR_DATA, "not refused: %s", broken[i]);
        cr_assert_str_eq(dt_error_text(), "f: precompiled_charsmap: is not base64", "%s", broken[i]);
    }
}

/* Whatever the bytes of the array say, a map that loads reads nothing beyond it (the sanitizers look). */
Test(tokenizer_unigram, any_array_that_loads_is_safe_to_walk)
{
    unsigned char data[BYTES];
    char text[256];
    uint32_t random = 1;
    int loaded = 0;
    for (int i = 0; i < 256; i++) text[i] = (char)(i < 128 ? i : i % 96 + ' ');
    for (int round = 0; round < 4000; round++) {
        dt_charsmap *map;
        dt_text out = {0};
        make_map(data);
        for (int k = 0; k < 40; k++) {
            random = random * 1664525 + 1013904223;
            uint32_t place = random >> 8 & 255;
            random = random * 1664525 + 1013904223;
            uint32_t child = random >> 12 & 255, ends = random >> 28 & 1, value = random >> 29 == 0;
            put_u32(data + 4 + 4 * place,
                    value ? random | 1u << 31 : (place ^ child) << 10 | ends << 8 | (random >> 20 & 127));
        }
        if (load_map(base64(data, BYTES), &map) != DT_OK) continue;
        OK(dt_charsmap_run(map, text, sizeof text, &out));
        dt_text_free(&out);
        dt_charsmap_destroy(map);
        loaded++;
    }
    cr_assert(loaded > 10 && loaded < 4000, "%d", loaded);
}

/* ---- refusals ---- */

Test(tokenizer_unigram, what_is_not_understood_is_refused_by_name)
{
#define MODEL(vocab, more) "{\"model\":{\"type\":\"Unigram\",\"vocab\":" vocab more "}}"
#define NOT_A_TOKEN ": model.vocab[0]: is not [\"TOKEN\", SCORE] with a finite score"
    static const char *const cases[][2] = {
        {MODEL("[]", ""), ": model.vocab: is empty"},
        {MODEL("{}", ""), ": model.vocab: is an object, expected an array"},
        {MODEL("[\"a\"]", ""), NOT_A_TOKEN},
        {MODEL("[[]]", ""), NOT_A_TOKEN},
        {MODEL("[[\"a\"]]", ""), NOT_A_TOKEN},
        {MODEL("[[\"a\",null]]", ""), NOT_A_TOKEN},
        {MODEL("[[\"a\",\"-1\"]]", ""), NOT_A_TOKEN},
        {MODEL("[[\"a\",-1e999]]", ""), NOT_A_TOKEN},
        {MODEL("[[\"a\",-1,0]]", ""), NOT_A_TOKEN},
        {MODEL("[[1,-1]]", ""), NOT_A_TOKEN},
        {MODEL("[[\"a\",NaN]]", ""), ":1: not valid JSON"},
        {MODEL("[[\"a\",0],[\"a\",0]]", ""), ": model.vocab: \"a\" has the ids 0 and 1"},
        {MODEL("[[\"a\",0]]", ",\"unk_id\":1"), ": model.unk_id: 1 is the id of no token"},
        {MODEL("[[\"a\",0]]", ",\"unk_id\":-1"), ": model.unk_id: -1 is the id of no token"},
        {MODEL("[[\"a\",0]]", ",\"alpha\":0.5"), ": model.alpha: is not null: sampling is not understood"},
        {MODEL("[[\"a\",0]]", ",\"unk\":0"),
         ": model.unk: is not understood; known here: type unk_id vocab byte_fallback alpha nbest_size"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_refused(cases[i][0], "tokenizer.json", cases[i][1]);
}
