/* Tokenizers: ids and decodings equal those of the Python package `tokenizers` (tests/golden/tokenizer_goldens.py made
 * the files), BOS and EOS come from where they should, and what is not understood is refused by name. */
#include "data/tokenizer.h"
#include "base/file.h"
#include "base/json.h"
#include "data/regex.h"
#include "data/text.h"
#include "unit/tokenizer_check.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(tokenizer, .init = make_folder, .fini = remove_folder);

/* ---- goldens ---- */

static void check_texts(const char *name, const char *path)
{
    dt_json file = golden_file(GOLDEN "/tokenizer_texts.json"), texts, cases;
    OK(dt_json_array(&file, "texts", &texts));
    OK(dt_json_array(&file, name, &cases));
    dt_tokenizer *tok = load_from(path);
    check_goldens(tok, name, texts.node, cases.node);
    dt_tokenizer_destroy(tok);
    dt_json_free(&file);
}

Test(tokenizer, llama3_shape_equals_goldens)
{
    check_texts("llama3", GOLDEN "/llama3/tokenizer.json");
}

Test(tokenizer, gpt2_equals_goldens)
{
    if (!dt_path_exists(SHARED)) cr_skip_test("skipped: no " SHARED);
    check_texts("gpt2", SHARED "/tokenizers/gpt2.tokenizer.json");
}

Test(tokenizer, stories260k_equals_goldens)
{
    if (!dt_path_exists(SHARED)) cr_skip_test("skipped: no " SHARED);
    check_texts("stories260k", SHARED "/stories260k/tokenizer.json");
}

Test(tokenizer, stories260k_has_the_ids_of_its_reference_losses)
{
    if (!dt_path_exists(SHARED)) cr_skip_test("skipped: no " SHARED);
    dt_json file = golden_file(SHARED "/stories260k/golden/nll.json");
    dt_tokenizer *tok;
    int64_t texts = 0, targets = 0;
    OK(dt_tokenizer_load(SHARED "/stories260k", &tok));
    cr_assert(dt_tokenizer_bos(tok) == 1 && dt_tokenizer_eos(tok) == 2 && dt_tokenizer_size(tok) == 512);
    cr_assert(dt_tokenizer_adds_bos(tok) && !dt_tokenizer_adds_eos(tok));
    cJSON *item;
    cJSON_ArrayForEach(item, file.node)
    {
        dt_json at = dt_json_child(&file, item, texts++), expected;
        const char *text;
        dt_ids ids = {0};
        char *decoded;
        OK(dt_json_string(&at, "text", &text));
        OK(dt_json_array(&at, "ids", &expected));
        OK(dt_tokenizer_encode(tok, text, strlen(text), &ids));
        cr_assert_eq(ids.n + 1, cJSON_GetArraySize(expected.node)); // BOS in front
        const cJSON *id = expected.node->child;
        cr_assert_eq(id->valueint, dt_tokenizer_bos(tok));
        for (int64_t i = 0; i < ids.n; i++) cr_assert_eq(ids.id[i], (id = id->next)->valueint);
        targets += ids.n;
        OK(dt_tokenizer_decode(tok, ids.id, ids.n, 0, &decoded));
        cr_assert_str_eq(decoded, text);
        free(decoded);
        dt_ids_free(&ids);
    }
    cr_assert(texts == 5 && targets == 1802, "%lld tokens", (long long)targets);
    dt_tokenizer_destroy(tok);
    dt_json_free(&file);
}

Test(tokenizer, every_shape_of_file_equals_goldens)
{
    check_shapes(GOLDEN "/tokenizer_shapes.json", "texts", "", 16);
}

/* ---- encoding ---- */

Test(tokenizer, a_text_without_word_breaks_comes_back)
{
    check_texts("llama3", GOLDEN "/llama3/tokenizer.json"); // leaves the link
    static const char piece[] = "abcabdthe\xC3\xA9";
    size_t n = 1 << 20;
    char *text = malloc(n + 1), *decoded;
    cr_assert_not_null(text);
    for (size_t i = 0; i < n; i++) text[i] = piece[i % (sizeof piece - 1)];
    n -= n % (sizeof piece - 1);
    text[n] = '\0';
    dt_tokenizer *tok;
    dt_ids ids = {0};
    OK(dt_tokenizer_load(folder, &tok));
    OK(dt_tokenizer_encode(tok, text, n, &ids));
    cr_assert_lt(ids.n, (int64_t)n);
    OK(dt_tokenizer_decode(tok, ids.id, ids.n, 0, &decoded));
    cr_assert_str_eq(decoded, text);
    free(decoded);
    free(text);
    dt_ids_free(&ids);
    dt_tokenizer_destroy(tok);
}

/* With `rest` of the file, `text` becomes expected[n]. */
static void check_ids(const char *rest, const char *text, const int32_t *expected, int64_t n)
{
    char json[1024];
    dt_tokenizer *tok;
    dt_ids ids = {0};
    snprintf(json, sizeof json,
             "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\" \":3,\"ab\":4,"
             "\"abc\":5},\"merges\":[[\"a\",\"b\"]]%s}",
             rest);
    write_file("tokenizer.json", json);
    OK(dt_tokenizer_load(folder, &tok));
    OK(dt_tokenizer_encode(tok, text, strlen(text), &ids));
    cr_assert_eq(ids.n, n, "\"%s\" of %s: %lld ids", text, json, (long long)ids.n);
    cr_assert_arr_eq(ids.id, expected, (size_t)n * sizeof *expected, "\"%s\" of %s", text, json);
    dt_ids_free(&ids);
    dt_tokenizer_destroy(tok);
}
#define IDS(...) (const int32_t[]){__VA_ARGS__}, sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)

Test(tokenizer, a_word_of_the_vocabulary_may_go_before_merges)
{
    check_ids("}", "abc", IDS(4, 2));
    check_ids(",\"ignore_merges\":true}", "abc", IDS(5));
    check_ids(",\"ignore_merges\":true}", "abcb", IDS(4, 2, 1));
}

Test(tokenizer, added_tokens_are_found_leftmost_then_longest)
{
    static const char added[] = "},\"added_tokens\":[{\"id\":6,\"content\":\"<\"},{\"id\":7,\"content\":\"<<b\"},"
                                "{\"id\":8,\"content\":\"<a\"},{\"id\":9,\"content\":\"ac\",\"single_word\":true}]";
    check_ids(added, "<<b<a<", IDS(7, 8, 6));
    check_ids(added, "b<<a", IDS(1, 6, 8));
    check_ids(added, "acb ac", IDS(0, 2, 1, 3, 9));
}

Test(tokenizer, added_tokens_share_the_spaces_between_them)
{
    static const char added[] = "},\"added_tokens\":[{\"id\":6,\"content\":\"<L>\",\"lstrip\":true},"
                                "{\"id\":7,\"content\":\"<R>\",\"rstrip\":true},{\"id\":8,\"content\":\"  \"},"
                                "{\"id\":9,\"content\":\" \\n\",\"lstrip\":true}]";
    check_ids(added, "a <L> b", IDS(0, 6, 3, 1));
    check_ids(added, "a <R> b", IDS(0, 3, 7, 1));
    check_ids(added, "<R> <L>", IDS(7, 6));
    check_ids(added, "<R>  b", IDS(7, 8, 1)); // what was taken along is still found
    check_ids(added, "<R> \nb", IDS(7, 1));   // unless that too would take the spaces in front of it
}

Test(tokenizer, encoding_appends)
{
    dt_tokenizer *tok = load_from(GOLDEN "/llama3/tokenizer.json");
    dt_ids once = {0}, twice = {0};
    OK(dt_tokenizer_encode(tok, "the boat", 8, &once));
    OK(dt_tokenizer_encode(tok, "the boat", 8, &twice));
    OK(dt_tokenizer_encode(tok, "", 0, &twice));
    OK(dt_tokenizer_encode(tok, "the boat", 8, &twice));
    cr_assert(once.n > 0 && twice.n == 2 * once.n);
    cr_assert_arr_eq(twice.id, once.id, (size_t)once.n * sizeof *once.id);
    cr_assert_arr_eq(twice.id + once.n, once.id, (size_t)once.n * sizeof *once.id);
    dt_ids_free(&once);
    dt_ids_free(&twice);
    dt_tokenizer_destroy(tok);
}

Test(tokenizer, invalid_utf8_is_refused)
{
    dt_tokenizer *tok = load_from(GOLDEN "/llama3/tokenizer.json");
    dt_ids ids = {0};
    cr_assert_eq(dt_tokenizer_encode(tok, "ab\xC3", 3, &ids), DT_ERR_DATA);
    cr_assert_str_eq(dt_error_text(), "invalid UTF-8 at byte 2");
    cr_assert_eq(ids.n, 0);
    dt_tokenizer_destroy(tok);
}

Test(tokenizer, ids_without_a_token_decode_to_nothing)
{
    dt_tokenizer *tok = load_from(GOLDEN "/llama3/tokenizer.json");
    dt_ids ids = {0};
    char *text;
    OK(dt_tokenizer_encode(tok, "x1", 2, &ids));
    cr_assert_eq(ids.n, 2);
    int32_t padded[] = {-1, ids.id[0], dt_tokenizer_size(tok), INT32_MAX, ids.id[1]};
    OK(dt_tokenizer_decode(tok, padded, 5, 0, &text));
    cr_assert_str_eq(text, "x1");
    free(text);
    dt_ids_free(&ids);
    dt_tokenizer_destroy(tok);
}

static void *encode_goldens(void *shared)
{
    dt_tokenizer *tok = shared;
    dt_json file = golden_file(GOLDEN "/tokenizer_texts.json"), texts, cases;
    OK(dt_json_array(&file, "texts", &texts));
    OK(dt_json_array(&file, "llama3", &cases));
    for (int i = 0; i < 5; i++) check_goldens(tok, "llama3", texts.node, cases.node);
    dt_json_free(&file);
    return NULL;
}

Test(tokenizer, threads_may_share_one)
{
    dt_tokenizer *tok = load_from(GOLDEN "/llama3/tokenizer.json");
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) cr_assert_eq(pthread_create(&thread[i], NULL, encode_goldens, tok), 0);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    dt_tokenizer_destroy(tok);
}

/* ---- BOS and EOS ---- */

#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"
#define ADDED                                                                                                          \
    "\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true},{\"id\":4,\"content\":\"</"                     \
    "s>\",\"special\":true}]"
#define TEMPLATE(pieces)                                                                                               \
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[" pieces "],\"pair\":[],"                         \
    "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[3],\"tokens\":[\"<s>\"]},"                                   \
    "\"</s>\":{\"id\":\"</s>\",\"ids\":[4],\"tokens\":[\"</s>\"]}}}"
#define PIECE(name) "{\"SpecialToken\":{\"id\":\"" name "\",\"type_id\":0}}"
#define TEXT "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"

/* NULL: no such file. Expected: the two ids, the two "adds". */
static void check_special(const char *tokenizer, const char *tokenizer_config, const char *config, int bos, int eos,
                          int adds_bos, int adds_eos)
{
    dt_tokenizer *tok;
    write_file("tokenizer.json", tokenizer);
    if (tokenizer_config) write_file("tokenizer_config.json", tokenizer_config);
    if (config) write_file("config.json", config);
    OK(dt_tokenizer_load(folder, &tok));
    cr_assert_eq(dt_tokenizer_bos(tok), bos, "%s %s %s", tokenizer, tokenizer_config, config);
    cr_assert_eq(dt_tokenizer_eos(tok), eos, "%s %s %s", tokenizer, tokenizer_config, config);
    cr_assert_eq(dt_tokenizer_adds_bos(tok), adds_bos, "%s %s %s", tokenizer, tokenizer_config, config);
    cr_assert_eq(dt_tokenizer_adds_eos(tok), adds_eos, "%s %s %s", tokenizer, tokenizer_config, config);
    dt_tokenizer_destroy(tok);
    remove_folder();
    OK(dt_dir_make(folder));
}

Test(tokenizer, bos_and_eos_come_from_the_files_in_turn)
{
    const char *plain = "{" ADDED "," MODEL "}";
    const char *both = "{" ADDED "," MODEL "," TEMPLATE(PIECE("<s>") "," TEXT "," PIECE("</s>")) "}";
    const char *front = "{" ADDED "," MODEL "," TEMPLATE(PIECE("<s>") "," TEXT) "}";
    check_special(plain, NULL, NULL, -1, -1, 0, 0);
    check_special(both, NULL, NULL, 3, 4, 1, 1);
    check_special(front, NULL, "{\"bos_token_id\":0,\"eos_token_id\":1}", 3, 1, 1, 0);
    check_special(plain, NULL, "{\"bos_token_id\":3,\"eos_token_id\":[4,1]}", 3, 4, 0, 0);
    check_special(plain, NULL, "{\"bos_token_id\":null}", -1, -1, 0, 0);
    check_special(plain, "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"}}", "{\"eos_token_id\":1}", 3, 4,
                  0, 0);
    check_special(plain, "{\"bos_token\":null}", "{\"bos_token_id\":3,\"eos_token_id\":4}", -1, 4, 0, 0);
    check_special(front, "{\"add_bos_token\":false,\"add_eos_token\":true,\"eos_token\":\"</s>\"}", NULL, 3, 4, 0, 1);
}

/* ---- refusals ---- */

Test(tokenizer, what_is_not_understood_is_refused_by_name)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[]", ": is not an object"},
        {"{", ":1: not valid JSON"},
        {"{" MODEL ",\"version\":\"2.0\"}", ": version: \"2.0\" is not understood; known: 1.0"},
        {"{" MODEL ",\"extra\":1}", ": extra: is not understood; known here: version truncation padding added_tokens "
                                    "normalizer pre_tokenizer post_processor decoder model"},
        {"{}", ": model: is missing, expected an object"},
        {"{\"model\":{\"type\":\"WordLevel\"}}",
         ": model.type: \"WordLevel\" is not understood; known here: BPE, WordPiece, Unigram"},
        {"{\"model\":{\"vocab\":{}}}", ": model.type: \"\" is not understood; known here: BPE, WordPiece, Unigram"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}",
         ": model.vocab.a: is not an id in [0, 2^22)"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}",
         ": model.vocab.b: id 0 is \"a\" already"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}",
         ": model.vocab: \"a\" has the ids 0 and 1"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}",
         ": model.merges[0]: is not \"LEFT RIGHT\" or [\"LEFT\", \"RIGHT\"]"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"a\"]]}}",
         ": model.merges[0]: \"aa\" is not in model.vocab"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[],\"dropout\":0.1}}",
         ": model.dropout: is 0.1; only 0 is understood"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}",
         ": model.end_of_word_suffix: is \"</w>\"; only none is understood"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[],\"unk_token\":\"<unk>\"}}",
         ": model.unk_token: \"<unk>\" is not in model.vocab"},
        {"{" MODEL ",\"normalizer\":{\"type\":\"Nmt\"}}",
         ": normalizer.type: \"Nmt\" is not understood; known here: Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD, "
         "Lowercase, StripAccents, Strip, BertNormalizer, Precompiled"},
        {"{" MODEL ",\"normalizer\":{\"type\":\"NFC\",\"strip\":true}}",
         ": normalizer.strip: is not understood; known here: type "},
        {"{" MODEL ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{}]}}",
         ": normalizer.normalizers[1].type: is missing, expected a string"},
        {"{" MODEL ",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(a)\"},\"content\":\"$1\"}}",
         ": normalizer.content: group references ($) are not understood: $1"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a\"},\"behavior\":\"Isolated\"}}",
         ": pre_tokenizer.pattern.Regex: missing terminating ] for character class: [a"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},\"behavior\":\"Isolated\"}}",
         ": pre_tokenizer.pattern.String: is empty"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Gone\"}}",
         ": pre_tokenizer.behavior: \"Gone\" is not understood"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}}",
         ": pre_tokenizer.replacement: \"ab\" is not one character"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}}",
         ": pre_tokenizer.prepend_scheme: \"last\" is not always, first or never"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\","
         "\"add_prefix_space\":false}}",
         ": pre_tokenizer.prepend_scheme: \"first\" contradicts add_prefix_space, which is false"},
        {"{" MODEL ",\"decoder\":{\"type\":\"CTC\"}}",
         ": decoder.type: \"CTC\" is not understood; known here: Sequence, ByteLevel, Metaspace, Replace, "
         "ByteFallback, Fuse, Strip, WordPiece"},
        {"{" MODEL ",\"decoder\":{\"type\":\"Strip\",\"content\":\"  \",\"start\":1,\"stop\":0}}",
         ": decoder.content: \"  \" is not one character"},
        {"{" MODEL ",\"added_tokens\":[{\"id\":7,\"content\":\"ab\"}]}",
         ": added_tokens[0].id: is 7, but \"ab\" is 2 in the model's vocabulary"},
        {"{" MODEL ",\"added_tokens\":[{\"id\":1,\"content\":\"<s>\"}]}",
         ": added_tokens[0].id: 1 is \"b\" already, not \"<s>\""},
        {"{" MODEL ",\"added_tokens\":[{\"id\":0,\"content\":\"a\"},{\"id\":0,\"content\":\"a\"}]}",
         ": added_tokens: \"a\" stands there twice"},
        {"{" MODEL ",\"added_tokens\":[{\"id\":99999999,\"content\":\"<s>\"}]}",
         ": added_tokens[0]: id 99999999 is not in [0, 2^22)"},
        {"{" MODEL ",\"added_tokens\":[{\"id\":3,\"content\":\"\"}]}", ": added_tokens[0].content: is empty"},
        {"{" MODEL ",\"post_processor\":{\"type\":\"BertProcessing\"}}",
         ": post_processor.type: \"BertProcessing\" is not understood; known here: Sequence, TemplateProcessing, "
         "ByteLevel"},
        {"{" ADDED "," MODEL "," TEMPLATE(PIECE("<s>") "," PIECE("</s>") "," TEXT) "}",
         ": post_processor.single[1]: is a second token in front of the text; one is understood"},
        {"{" ADDED "," MODEL "," TEMPLATE(PIECE("<s>")) "}", ": post_processor.single: has no sequence \"A\""},
        {"{" MODEL "," TEMPLATE(PIECE("<s>") "," TEXT) "}", ": post_processor: 3 is the id of no token"},
        {"{" MODEL ",\"decoder\":{\"type\":\"\\u0000\"}}", ": a string with a NUL character"},
        {"{\"\xFF\":0}", ": invalid UTF-8 at byte 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(cases[i].text, "tokenizer.json", cases[i].message);
}

Test(tokenizer, files_beside_it_are_refused_by_name)
{
    const char *plain = "{" ADDED "," MODEL "}";
    write_file("tokenizer_config.json", "{\"bos_token\":\"<bos>\"}");
    check_refused(plain, "tokenizer_config.json", ": bos_token: \"<bos>\" is no token of tokenizer.json");
    write_file("tokenizer_config.json", "{\"bos_token\":5}");
    check_refused(plain, "tokenizer_config.json", ": bos_token: is a number, expected a string");
    write_file("tokenizer_config.json", "{\"add_eos_token\":true}");
    check_refused(plain, "tokenizer_config.json", ": add_eos_token: is true, but there is no such token");
    write_file("tokenizer_config.json", "{}");
    write_file("config.json", "{\"eos_token_id\":77}");
    check_refused(plain, "config.json", ": eos_token_id: 77 is the id of no token");
    write_file("config.json", "{\"eos_token_id\":[]}");
    check_refused(plain, "config.json", ": eos_token_id: is not a list of ids");
}

Test(tokenizer, a_missing_file_is_named)
{
    dt_tokenizer *tok;
    char expected[128];
    snprintf(expected, sizeof expected, "%s/tokenizer.json: cannot open: No such file or directory", folder);
    cr_assert_eq(dt_tokenizer_load(folder, &tok), DT_ERR_IO);
    cr_assert_str_eq(dt_error_text(), expected);
}

/* ---- regular expressions and text ---- */

static dt_status compile(const char *pattern, dt_regex **out)
{
    dt_json at = {.file = "f", .kind = DT_ERR_DATA};
    return dt_regex_compile(&at, "Regex", pattern, 0, out);
}

Test(regex, what_oniguruma_reads_otherwise_is_refused)
{
    static const char *const refused[] = {
        "\\h",  "\\b",    "\\1",     "\\R",    "\\K",    "[\\S]",   "[a[b]]",  "[a&&b]", "[[:alpha:]]",
        "[]a]", "[^]a]",  "(?<n>a)", "(?m:a)", "a(?i)b", "(*UTF)a", "a{1,3}+", "a{,3}",  "\\pL",
        "\\p{", "\\x{41", "\\xE9",   "\\u12",  "\\x",    "\\",      "a\\",     "[\\",
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        dt_regex *regex;
        cr_assert_eq(compile(refused[i], &regex), DT_ERR_DATA, "not refused: %s", refused[i]);
        cr_assert_eq(strncmp(dt_error_text(), "f: Regex: ", 10), 0, "%s", dt_error_text());
        cr_assert_not_null(strstr(dt_error_text(), refused[i]), "%s", dt_error_text());
    }
}

static dt_status collect(void *ctx, const char *stretch, size_t bytes, int is_match)
{
    dt_text *out = ctx;
    DT_TRY(dt_text_append(out, is_match ? "<" : "(", 1));
    DT_TRY(dt_text_append(out, stretch, bytes));
    return dt_text_append(out, is_match ? ">" : ")", 1);
}

static void check_matches(const char *pattern, const char *text, const char *expected)
{
    dt_regex *regex;
    dt_text out = {0};
    OK(compile(pattern, &regex));
    OK(dt_regex_each(regex, text, strlen(text), collect, &out));
    OK(dt_text_append(&out, "", 1));
    cr_assert_str_eq(out.data, expected, "%s on \"%s\": %s", pattern, text, out.data);
    dt_text_free(&out);
    dt_regex_destroy(regex);
}

Test(regex, matches_and_what_lies_between_cover_the_text)
{
    check_matches("b+", "abbcb", "(a)<bb>(c)<b>");
    check_matches("b+", "", "");
    check_matches("x", "abc", "(abc)");
    check_matches("(?=[A-Z])", "aBcD", "(a)<>(Bc)<>(D)");
    check_matches("x*", "a\xC3\xA9x", "<>(a)<>(\xC3\xA9)<x>");
    check_matches("^b$", "a\nb\nc", "(a\n)<b>(\nc)");
    check_matches("a.", "a\nab", "(a\n)<ab>");
    check_matches("\\v", "a\x0B\n", "(a)<\x0B>(\n)");
}

Test(regex, classes_are_those_of_oniguruma)
{
    check_matches("\\s", "a\xC2\x85\xE1\xA0\x8E", "(a)<\xC2\x85>(\xE1\xA0\x8E)"); // U+180E is no space
    check_matches("\\w", "\xC2\xB2\xCC\x81-", "<\xC2\xB2><\xCC\x81>(-)");         // a superscript, a combining mark
    check_matches("[\\w]", "\xC2\xB2\xCC\x81-", "(\xC2\xB2)<\xCC\x81>(-)");       // in a class, superscripts are not
    check_matches("\\d", "1\xD9\xA1\xC2\xBD", "<1><\xD9\xA1>(\xC2\xBD)");
    check_matches("\\p{Han}", "\xE6\xB5\xB7\xE3\x80\x81",
                  "<\xE6\xB5\xB7>(\xE3\x80\x81)"); // by script, not by extension
    check_matches("\\P{^Lu}", "aB", "(a)<B>");
    check_matches("\\x{e9}|\\u00E8|\\x41", "A\xC3\xA8\xC3\xA9", "<A><\xC3\xA8><\xC3\xA9>");
}

Test(text, invalid_utf8_is_found_where_it_begins)
{
    static const struct {
        const char *text;
        int bytes, valid, bad; /* bad: bytes of the maximal subpart there */
    } cases[] = {
        {"abc", 3, 3, 0},
        {"\xC3\xA9", 2, 2, 0},
        {"\xF4\x8F\xBF\xBF", 4, 4, 0},
        {"a\x80", 2, 1, 1},
        {"\xC0\x80", 2, 0, 1},
        {"\xE0\x9F\xBF", 3, 0, 1},
        {"\xED\xA0\x80", 3, 0, 1},
        {"\xEF\xBF", 2, 0, 2},
        {"\xF0\x8F\xBF\xBF", 4, 0, 1},
        {"\xF4\x90\x80\x80", 4, 0, 1},
        {"\xF0\x9F\x98x", 4, 0, 3},
        {"\xFF", 1, 0, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t valid = dt_utf8_valid(cases[i].text, (size_t)cases[i].bytes);
        cr_assert_eq((int)valid, cases[i].valid, "case %zu: %zu", i, valid);
        if ((int)valid < cases[i].bytes)
            cr_assert_eq(dt_utf8_next(cases[i].text + valid, (size_t)cases[i].bytes - valid), -cases[i].bad, "case %zu",
                         i);
    }
}

Test(text, nul_escapes_are_found_but_not_escaped_backslashes)
{
    cr_assert(dt_text_has_nul("\"a\\u0000\"", 9));
    cr_assert(dt_text_has_nul("\"\\\\\\u0000\"", 10));
    cr_assert(!dt_text_has_nul("\"\\\\u0000\"", 9));
    cr_assert(!dt_text_has_nul("\"\\u0001\"", 8));
    cr_assert(dt_text_has_nul("a\0b", 3));
}
