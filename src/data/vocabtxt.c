/* A bare vocab.txt read as a tokenizer.json. */
#include "data/vocabtxt.h"
#include "base/file.h"  // dt_file_read, dt_path_exists
#include "data/parts.h" // dt_parts_knows
#include "data/text.h"  // dt_utf8_valid

#include <stdlib.h> // free
#include <string.h> // memchr, strcmp

enum { UNK, SEP, PAD, CLS, MASK, N_SPECIAL };
static const char *const KEYS[] = {"unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

typedef struct settings {
    int lower, chinese, accents; /* accents: -1: as `lower` says */
    const char *special[N_SPECIAL];
    int64_t id[N_SPECIAL];
    int lost; /* memory was exhausted while something was put into the document */
} settings;

/* Parses <folder>/<name>; an absent file leaves out->node NULL. */
static dt_status parse_beside(const char *folder, const char *name, dt_region *paths, dt_json *out)
{
    const char *path = dt_region_printf(paths, "%s/%s", folder, name);
    if (!path) return dt_fail(DT_ERR_MEMORY, "no memory for a path");
    return dt_path_exists(path) ? dt_json_parse_file(path, DT_ERR_DATA, out) : DT_OK;
}

/* A vocab.txt does not say how text is cut: only of these is it known. */
static dt_status check_name(const dt_json *config, const char *key, const char *known)
{
    const char *name;
    if (!config->node || !dt_json_has(config, key)) return DT_OK;
    DT_TRY(dt_json_string(config, key, &name));
    if (dt_parts_knows(known, name)) return DT_OK;
    return dt_json_fail(config, key, "\"%s\": how it reads its vocab.txt is not understood; known here: %s", name,
                        known);
}

/* "[CLS]" or {"content": "[CLS]"}; the text is copied, as the document does not stay. */
static dt_status read_special(const dt_json *config, const char *key, dt_region *texts, const char **out)
{
    const char *text;
    dt_json object;
    if (!dt_json_has(config, key)) return DT_OK;
    if (cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(config->node, key))) {
        DT_TRY(dt_json_object(config, key, &object));
        DT_TRY(dt_json_string(&object, "content", &text));
    } else {
        DT_TRY(dt_json_string(config, key, &text));
    }
    *out = dt_region_strdup(texts, text);
    return *out ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a token");
}

static dt_status read_settings(const dt_json *config, dt_region *texts, settings *s)
{
    int basic;
    if (!config->node) return DT_OK;
    DT_TRY(check_name(config, "tokenizer_class",
                      "BertTokenizer BertTokenizerFast DistilBertTokenizer DistilBertTokenizerFast ElectraTokenizer "
                      "ElectraTokenizerFast MobileBertTokenizer MobileBertTokenizerFast"));
    DT_TRY(dt_json_bool_or(config, "do_basic_tokenize", 1, &basic));
    if (!basic) return dt_json_fail(config, "do_basic_tokenize", "is false; only true is understood");
    if (dt_json_has(config, "never_split")) return dt_json_fail(config, "never_split", "is not understood");
    DT_TRY(dt_json_bool_or(config, "do_lower_case", 1, &s->lower));
    DT_TRY(dt_json_bool_or(config, "tokenize_chinese_chars", 1, &s->chinese));
    DT_TRY(dt_json_bool_or(config, "strip_accents", -1, &s->accents));
    for (int i = 0; i < N_SPECIAL; i++) DT_TRY(read_special(config, KEYS[i], texts, &s->special[i]));
    return DT_OK;
}

/* ---- building; cJSON's functions take NULL, and give NULL where memory is exhausted ---- */

static void put_text(settings *s, cJSON *object, const char *key, const char *value)
{
    if (!cJSON_AddStringToObject(object, key, value)) s->lost = 1;
}

static void put_number(settings *s, cJSON *object, const char *key, int64_t value)
{
    if (!cJSON_AddNumberToObject(object, key, (double)value)) s->lost = 1;
}

static void put_bool(settings *s, cJSON *object, const char *key, int value)
{
    if (!cJSON_AddBoolToObject(object, key, value)) s->lost = 1;
}

/* Line i of text[bytes], which is cut into strings on the way, is token i. */
static cJSON *build_vocab(char *text, size_t bytes, settings *s)
{
    cJSON *vocab = cJSON_CreateObject();
    int64_t id = 0;
    for (char *line = text, *end = text + bytes; line < end; id++) {
        char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        *stop = '\0';
        if (stop > line && stop[-1] == '\r') stop[-1] = '\0';
        for (int i = 0; i < N_SPECIAL; i++)
            if (strcmp(line, s->special[i]) == 0) s->id[i] = id;
        put_number(s, vocab, line, id);
        line = stop + 1;
    }
    return vocab;
}

static void build_model(cJSON *root, cJSON *vocab, settings *s)
{
    cJSON *model = cJSON_AddObjectToObject(root, "model");
    put_text(s, model, "type", "WordPiece");
    put_text(s, model, "unk_token", s->special[UNK]);
    put_text(s, model, "continuing_subword_prefix", "##");
    put_number(s, model, "max_input_chars_per_word", 100);
    if (cJSON_AddItemToObject(model, "vocab", vocab)) return;
    cJSON_Delete(vocab);
    s->lost = 1;
}

static void build_parts(cJSON *root, settings *s)
{
    cJSON *normalizer = cJSON_AddObjectToObject(root, "normalizer");
    put_text(s, normalizer, "type", "BertNormalizer");
    put_bool(s, normalizer, "handle_chinese_chars", s->chinese);
    put_bool(s, normalizer, "strip_accents", s->accents < 0 ? s->lower : s->accents);
    put_bool(s, normalizer, "lowercase", s->lower);
    put_text(s, cJSON_AddObjectToObject(root, "pre_tokenizer"), "type", "BertPreTokenizer");
    cJSON *decoder = cJSON_AddObjectToObject(root, "decoder");
    put_text(s, decoder, "type", "WordPiece");
    put_text(s, decoder, "prefix", "##");
    put_bool(s, decoder, "cleanup", 1);
}

/* An object at the end of the array. */
static cJSON *add_object(cJSON *array)
{
    cJSON *object = cJSON_CreateObject();
    if (cJSON_AddItemToArray(array, object)) return object;
    cJSON_Delete(object);
    return NULL;
}

static void build_specials(cJSON *root, settings *s)
{
    static const int AROUND[] = {CLS, SEP};
    cJSON *added = cJSON_AddArrayToObject(root, "added_tokens");
    for (int i = 0; i < N_SPECIAL; i++) {
        cJSON *token = add_object(added);
        put_number(s, token, "id", s->id[i]);
        put_text(s, token, "content", s->special[i]);
        put_bool(s, token, "special", 1);
    }
    cJSON *post = cJSON_AddObjectToObject(root, "post_processor");
    put_text(s, post, "type", "TemplateProcessing");
    cJSON *single = cJSON_AddArrayToObject(post, "single"), *tokens = cJSON_AddObjectToObject(post, "special_tokens");
    for (int i = 0; i < 2; i++) {
        const char *text = s->special[AROUND[i]];
        if (i) put_text(s, cJSON_AddObjectToObject(add_object(single), "Sequence"), "id", "A");
        put_text(s, cJSON_AddObjectToObject(add_object(single), "SpecialToken"), "id", text);
        cJSON *ids = cJSON_AddArrayToObject(cJSON_AddObjectToObject(tokens, text), "ids");
        cJSON *id = cJSON_CreateNumber((double)s->id[AROUND[i]]);
        if (cJSON_AddItemToArray(ids, id)) continue;
        cJSON_Delete(id);
        s->lost = 1;
    }
}

static dt_status build(const char *path, char *text, size_t bytes, settings *s, dt_json *out)
{
    size_t valid = dt_utf8_valid(text, bytes);
    if (valid < bytes) return dt_fail(DT_ERR_DATA, "%s: invalid UTF-8 at byte %zu", path, valid);
    if (memchr(text, '\0', bytes)) return dt_fail(DT_ERR_DATA, "%s: a NUL character", path);
    cJSON *root = cJSON_CreateObject();
    *out = (dt_json){.node = root, .file = path, .kind = DT_ERR_DATA};
    build_model(root, build_vocab(text, bytes, s), s);
    for (int i = 0; i < N_SPECIAL; i++)
        if (s->id[i] < 0) return dt_fail(DT_ERR_DATA, "%s: has no line %s", path, s->special[i]);
    build_parts(root, s);
    build_specials(root, s);
    return s->lost ? dt_fail(DT_ERR_MEMORY, "%s: no memory for the vocabulary", path) : DT_OK;
}

dt_status dt_vocabtxt_load(const char *folder, dt_region *paths, dt_json *out)
{
    settings s = {.lower = 1,
                  .chinese = 1,
                  .accents = -1,
                  .special = {"[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"},
                  .id = {-1, -1, -1, -1, -1}};
    dt_json config = {0}, tokenizer_config = {0}, root = {0};
    dt_status st = DT_OK;
    char *text = NULL;
    size_t bytes;
    const char *path = dt_region_printf(paths, "%s/vocab.txt", folder);
    if (!path) return dt_fail(DT_ERR_MEMORY, "no memory for a path");
    DT_GOTO(parse_beside(folder, "config.json", paths, &config), done);
    DT_GOTO(check_name(&config, "model_type", "bert distilbert electra mobilebert"), done);
    DT_GOTO(parse_beside(folder, "tokenizer_config.json", paths, &tokenizer_config), done);
    DT_GOTO(read_settings(&tokenizer_config, paths, &s), done);
    DT_GOTO(dt_file_read(path, &text, &bytes), done);
    DT_GOTO(build(path, text, bytes, &s, &root), done);
    *out = root;
    root.node = NULL;
done:
    free(text);
    dt_json_free(&root);
    dt_json_free(&config);
    dt_json_free(&tokenizer_config);
    return st;
}
