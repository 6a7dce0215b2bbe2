/* WordPiece: ids and decodings equal those of the Python package (tests/golden/tokenizer_models_goldens.py made the
 * files), a bare vocab.txt is read as BERT's tokenizer and as nobody else's, and what is not understood is refused by
 * name. */
#include "data/charclass.h"
#include "unit/tokenizer_check.h"

TestSuite(tokenizer_wordpiece, .init = make_folder, .fini = remove_folder);

/* ---- goldens ---- */

/* The tokenizer that a folder with nothing but this vocab.txt and these settings (NULL: none) holds. */
static dt_tokenizer *load_bare(const char *vocab_txt, const char *tokenizer_config)
{
    char link[128];
    dt_tokenizer *tok;
    snprintf(link, sizeof link, "%s/vocab.txt", folder);
    unlink(link);
    cr_assert_eq(symlink(vocab_txt, link), 0);
    if (tokenizer_config) write_file("tokenizer_config.json", tokenizer_config);
    OK(dt_tokenizer_load(folder, &tok));
    return tok;
}

static void check_models(const char *name, dt_tokenizer *tok)
{
    dt_json file = golden_file(GOLDEN "/tokenizer_models.json"), texts, cases;
    OK(dt_json_array(&file, "texts", &texts));
    OK(dt_json_array(&file, name, &cases));
    check_goldens(tok, name, texts.node, cases.node);
    dt_tokenizer_destroy(tok);
    dt_json_free(&file);
}

Test(tokenizer_wordpiece, a_small_vocabulary_equals_goldens)
{
    check_models("wordpiece", load_bare(GOLDEN "/wordpiece/vocab.txt", NULL));
}

Test(tokenizer_wordpiece, cased_is_what_tokenizer_config_says)
{
    check_models("wordpiece_cased", load_bare(GOLDEN "/wordpiece/vocab.txt", "{\"do_lower_case\":false}"));
}

Test(tokenizer_wordpiece, bert_equals_goldens)
{
    if (!dt_path_exists(SHARED)) cr_skip_test("skipped: no " SHARED);
    check_models("bert-uncased", load_bare(SHARED "/tokenizers/bert-uncased.vocab.txt", NULL));
}

Test(tokenizer_wordpiece, every_shape_of_file_equals_goldens)
{
    check_shapes(GOLDEN "/tokenizer_models.json", "few", "wordpiece", 5);
}

/* ---- encoding ---- */

/* With this vocab.txt, `text` becomes expected[n]. */
static void check_ids(const dt_tokenizer *tok, const char *text, const int32_t *expected, int64_t n)
{
    dt_ids ids = {0};
    OK(dt_tokenizer_encode(tok, text, strlen(text), &ids));
    cr_assert_eq(ids.n, n, "\"%s\": %lld ids", text, (long long)ids.n);
    cr_assert_arr_eq(ids.id, expected, (size_t)n * sizeof *expected, "\"%s\"", text);
    dt_ids_free(&ids);
}
#define IDS(...) (const int32_t[]){__VA_ARGS__}, sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)

#define SPECIALS "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"

Test(tokenizer_wordpiece, the_longest_piece_goes_first_and_a_rest_makes_all_unknown)
{
    dt_tokenizer *tok;
    write_file("vocab.txt", SPECIALS "a\nab\n##b\n##c\n##bcd\n\xC3\xA9\n##\xC3\xA9");
    write_file("tokenizer_config.json", "{\"strip_accents\":false}");
    OK(dt_tokenizer_load(folder, &tok));
    check_ids(tok, "abc abbc abcd", IDS(6, 8, 6, 7, 8, 1)); // ab ##c, ab ##b ##c; of abcd, d is left over
    check_ids(tok, "abbcd ab d", IDS(6, 9, 6, 1));
    check_ids(tok,
              "\xC3\x89"
              "\xC3\xA9"
              "a [SEP]",
              IDS(1, 3));
    check_ids(tok, "a\xC3\x89", IDS(5, 11));
    char word[128];
    memset(word, 'b', sizeof word);
    word[0] = 'a';
    word[100] = '\0';
    dt_ids ids = {0};
    OK(dt_tokenizer_encode(tok, word, 100, &ids));
    cr_assert_eq(ids.n, 99); // ab and 98 ##b
    word[100] = 'b';
    word[101] = '\0';
    check_ids(tok, word, IDS(1)); // 101 characters
    dt_ids_free(&ids);
    dt_tokenizer_destroy(tok);
}

Test(tokenizer_wordpiece, a_bare_vocabulary_puts_cls_and_sep_around)
{
    dt_tokenizer *tok;
    write_file("vocab.txt", "<p>\r\n<u>\r\n<c>\r\n<s>\r\n<m>\r\nword\r\n");
    write_file("tokenizer_config.json",
               "{\"unk_token\":\"<u>\",\"sep_token\":{\"content\":\"<s>\"},\"pad_token\":\"<p>\","
               "\"cls_token\":\"<c>\",\"mask_token\":\"<m>\"}");
    OK(dt_tokenizer_load(folder, &tok));
    cr_assert(dt_tokenizer_bos(tok) == 2 && dt_tokenizer_adds_bos(tok));
    cr_assert(dt_tokenizer_eos(tok) == 3 && dt_tokenizer_adds_eos(tok));
    cr_assert_eq(dt_tokenizer_size(tok), 6);
    check_ids(tok, "Word<m> other", IDS(5, 4, 1));
    dt_tokenizer_destroy(tok);
}

Test(tokenizer_wordpiece, a_tokenizer_json_goes_before_a_vocab_txt)
{
    dt_tokenizer *tok;
    write_file("vocab.txt", "broken");
    write_file("tokenizer.json",
               "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"u\":0,\"a\":1},\"unk_token\":\"u\"}}");
    OK(dt_tokenizer_load(folder, &tok));
    check_ids(tok, "a", IDS(1));
    dt_tokenizer_destroy(tok);
}

Test(tokenizer_wordpiece, classes_are_those_of_the_package)
{
    cr_assert(dt_char_is_punctuation('$') && dt_char_is_punctuation('`') && dt_char_is_punctuation(0x2014));
    cr_assert(!dt_char_is_punctuation('a') && !dt_char_is_punctuation('0') && !dt_char_is_punctuation(0x20AC));
    cr_assert(dt_char_is_punctuation(0x166D) && !dt_char_is_punctuation(0x2E5D)); // by age
    cr_assert(dt_char_is_nonspacing_mark(0x301) && !dt_char_is_nonspacing_mark(0x903));
    cr_assert(dt_char_is_combining_mark(0x903) && !dt_char_is_combining_mark(0x16FF1));
    cr_assert(dt_char_is_control(0xAD) && !dt_char_is_control('\n') && !dt_char_is_control(0x890));
    cr_assert(dt_char_is_chinese(0x3400) && dt_char_is_chinese(0x2FA1F) && !dt_char_is_chinese(0x2B820));
    static const int32_t UPPER[] = {'A', 0x130, 0x3A3, 0x10D51, 0x16EB8};
    dt_text lower = {0};
    for (int i = 0; i < 5; i++) OK(dt_char_append_lower(&lower, UPPER[i]));
    OK(dt_text_append(&lower, "", 1));
    cr_assert_str_eq(lower.data, "ai\xCC\x87\xCF\x83\xF0\x90\xB5\xB1\xF0\x96\xBB\x93");
    dt_text_free(&lower);
}

/* ---- refusals ---- */

Test(tokenizer_wordpiece, what_is_not_understood_is_refused_by_name)
{
#define MODEL(more) "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0}" more "}"
    static const char *const cases[][2] = {
        {MODEL(",\"extra\":1") "}", ": model.extra: is not understood; known here: type unk_token "
                                    "continuing_subword_prefix max_input_chars_per_word vocab"},
        {MODEL(",\"unk_token\":\"<u>\"") "}", ": model.unk_token: \"<u>\" is not in model.vocab"},
        {MODEL(",\"max_input_chars_per_word\":-1") "}", ": model.max_input_chars_per_word: is negative"},
        {MODEL(",\"continuing_subword_prefix\":1") "}",
         ": model.continuing_subword_prefix: is a number, expected a string"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":[]}}", ": model.vocab: is an array, expected an object"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":1e9}}}", ": model.vocab.a: is not an id in [0, 2^22)"},
        {MODEL("") ",\"normalizer\":{\"type\":\"BertNormalizer\",\"nfkc\":true}}",
         ": normalizer.nfkc: is not understood; known here: type clean_text handle_chinese_chars strip_accents "
         "lowercase"},
        {MODEL("") ",\"normalizer\":{\"type\":\"Strip\"}}", ": normalizer.strip_left: is missing, expected a boolean"},
        {MODEL("") ",\"pre_tokenizer\":{\"type\":\"Punctuation\",\"behavior\":\"isolated\"}}",
         ": pre_tokenizer.behavior: \"isolated\" is not understood"},
        {MODEL("") ",\"decoder\":{\"type\":\"WordPiece\",\"cleanup\":true}}",
         ": decoder.prefix: is missing, expected a string"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_refused(cases[i][0], "tokenizer.json", cases[i][1]);
}

/* Loading a folder with this vocab.txt and this other file (NULL: none) fails with "<folder>/<file><message>". */
static void check_bare_refused(const char *vocab_txt, const char *name, const char *text, const char *file,
                               const char *message)
{
    dt_tokenizer *tok;
    char expected[512];
    write_file("vocab.txt", vocab_txt);
    if (name) write_file(name, text);
    snprintf(expected, sizeof expected, "%s/%s%s", folder, file, message);
    cr_assert_eq(dt_tokenizer_load(folder, &tok), DT_ERR_DATA, "not refused: %s %s", vocab_txt, text);
    cr_assert_str_eq(dt_error_text(), expected);
    remove_folder();
    OK(dt_dir_make(folder));
}

Test(tokenizer_wordpiece, a_bare_vocabulary_that_is_not_berts_is_refused)
{
    check_bare_refused("a\nb\n", NULL, NULL, "vocab.txt", ": has no line [UNK]");
    check_bare_refused("", NULL, NULL, "vocab.txt", ": has no line [UNK]");
    check_bare_refused(SPECIALS "a\nb\na\n", NULL, NULL, "vocab.txt", ": model.vocab: \"a\" has the ids 5 and 7");
    check_bare_refused(SPECIALS "\xC3\n", NULL, NULL, "vocab.txt", ": invalid UTF-8 at byte 31");
    check_bare_refused(
        SPECIALS, "config.json", "{\"model_type\":\"albert\"}", "config.json",
        ": model_type: \"albert\": how it reads its vocab.txt is not understood; known here: bert distilbert "
        "electra mobilebert");
    check_bare_refused(
        SPECIALS, "tokenizer_config.json", "{\"tokenizer_class\":\"RoFormerTokenizer\"}", "tokenizer_config.json",
        ": tokenizer_class: \"RoFormerTokenizer\": how it reads its vocab.txt is not understood; known here: "
        "BertTokenizer BertTokenizerFast DistilBertTokenizer DistilBertTokenizerFast ElectraTokenizer "
        "ElectraTokenizerFast MobileBertTokenizer MobileBertTokenizerFast");
    check_bare_refused(SPECIALS, "tokenizer_config.json", "{\"do_basic_tokenize\":false}", "tokenizer_config.json",
                       ": do_basic_tokenize: is false; only true is understood");
    check_bare_refused(SPECIALS, "tokenizer_config.json", "{\"cls_token\":\"<c>\"}", "vocab.txt", ": has no line <c>");
}

/* Ordering marks takes the square of their number. */
Test(tokenizer_wordpiece, an_endless_pile_of_accents_is_refused)
{
    char text[2 * 5000 + 2] = "e";
    dt_tokenizer *tok = load_bare(GOLDEN "/wordpiece/vocab.txt", NULL);
    dt_ids ids = {0};
    for (size_t i = 0; i < 5000; i++) memcpy(text + 1 + 2 * i, i % 2 ? "\xCC\x81" : "\xCC\xA3", 2);
    OK(dt_tokenizer_encode(tok, text, 1 + 2 * 4096, &ids));
    cr_assert_eq(dt_tokenizer_encode(tok, text, 1 + 2 * 5000, &ids), DT_ERR_DATA);
    cr_assert_str_eq(dt_error_text(), "more than 4096 combining marks in a row");
    dt_ids_free(&ids);
    dt_tokenizer_destroy(tok);
}
