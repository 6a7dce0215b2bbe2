/* BOS and EOS of a tokenizer. */
#include "data/special.h"
#include "base/file.h"  // dt_path_exists
#include "data/parts.h" // dt_parts_load

#include <string.h> // strcmp

/* The number as an id; -1 if it cannot be one. */
static int32_t id_of(const cJSON *item)
{
    double id = cJSON_IsNumber(item) ? item->valuedouble : -1;
    return id >= 0 && id < DT_VOCAB_MOST && id == (int32_t)id ? (int32_t)id : -1;
}

/* The id of the special token that a piece of a template names. */
static dt_status template_id(const dt_json *template, const dt_json *piece, int32_t *id)
{
    const char *name;
    dt_json specials, special, ids;
    DT_TRY(dt_json_string(piece, "id", &name));
    DT_TRY(dt_json_object(template, "special_tokens", &specials));
    DT_TRY(dt_json_object(&specials, name, &special));
    DT_TRY(dt_json_array(&special, "ids", &ids));
    *id = cJSON_GetArraySize(ids.node) == 1 ? id_of(ids.node->child) : -1;
    return *id >= 0 ? DT_OK : dt_json_fail(&ids, NULL, "is not a list of one id");
}

/* template.single: at most one special token, the sequence, at most one special token. */
static dt_status load_template(void *owner, const dt_json *template)
{
    dt_special *special = owner;
    dt_json single;
    DT_TRY(dt_json_array(template, "single", &single));
    int seen = 0;
    int64_t index = 0;
    cJSON *item;
    cJSON_ArrayForEach(item, single.node)
    {
        dt_json at = dt_json_child(&single, item, index++), piece;
        if (!cJSON_IsObject(item)) return dt_json_fail(&at, NULL, "is not an object");
        DT_TRY(dt_parts_check_keys(&at, "Sequence SpecialToken"));
        if (dt_json_has(&at, "Sequence")) {
            const char *which;
            DT_TRY(dt_json_object(&at, "Sequence", &piece));
            DT_TRY(dt_json_string(&piece, "id", &which));
            if (seen++ || strcmp(which, "A")) return dt_json_fail(&piece, "id", "is not the one and only \"A\"");
            continue;
        }
        int *adds = seen ? &special->adds_eos : &special->adds_bos;
        if (*adds)
            return dt_json_fail(&at, NULL, "is a second token %s the text; one is understood",
                                seen ? "behind" : "in front of");
        *adds = 1;
        DT_TRY(dt_json_object(&at, "SpecialToken", &piece));
        DT_TRY(template_id(template, &piece, seen ? &special->eos : &special->bos));
    }
    return seen ? DT_OK : dt_json_fail(&single, NULL, "has no sequence \"A\"");
}

/* Only moves offsets, which nobody asks for here. */
static dt_status load_bytelevel(void *owner, const dt_json *part)
{
    return DT_OK;
}

static const dt_part_kind KINDS[] = {
    {"TemplateProcessing", "single pair special_tokens", load_template},
    {"ByteLevel", "add_prefix_space trim_offsets use_regex", load_bytelevel},
};

/* Parses <folder>/<name> into *out, which keeps a view of the path; an absent file leaves out->node NULL. */
static dt_status parse_beside(const char *folder, const char *name, dt_region *paths, dt_json *out)
{
    const char *path = dt_region_printf(paths, "%s/%s", folder, name);
    if (!path) return dt_fail(DT_ERR_MEMORY, "no memory for a path");
    return dt_path_exists(path) ? dt_json_parse_file(path, DT_ERR_DATA, out) : DT_OK;
}

static dt_status check_id(const dt_json *at, const char *key, const dt_vocab *vocab, int64_t id, int32_t *out)
{
    if (!dt_vocab_token(vocab, id)) return dt_json_fail(at, key, "%lld is the id of no token", (long long)id);
    *out = (int32_t)id;
    return DT_OK;
}

/* tokenizer_config.json's "bos_token": "<s>", {"content": "<s>"} or null. */
static dt_status read_token(const dt_json *config, const char *key, const dt_vocab *vocab, int32_t *id)
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
    for (int32_t i = 0; i < vocab->size; i++) { // added tokens are not indexed
        const dt_token *token = dt_vocab_token(vocab, i);
        if (!token || strcmp(token->text, text)) continue;
        *id = i;
        return DT_OK;
    }
    return dt_json_fail(config, key, "\"%s\" is no token of tokenizer.json", text);
}

/* config.json's "bos_token_id": an id, a list of ids, or null. */
static dt_status read_id(const dt_json *config, const char *key, const dt_vocab *vocab, int32_t *id)
{
    int64_t value;
    if (!dt_json_has(config, key)) return DT_OK;
    cJSON *item = cJSON_GetObjectItemCaseSensitive(config->node, key);
    if (cJSON_IsArray(item)) {
        if (id_of(item->child) < 0) return dt_json_fail(config, key, "is not a list of ids");
        return check_id(config, key, vocab, id_of(item->child), id);
    }
    DT_TRY(dt_json_i64(config, key, &value));
    return check_id(config, key, vocab, value, id);
}

/* One of the two tokens, where the post-processor has not named it. */
static dt_status find_token(const dt_json *tokenizer_config, const dt_json *config, const char *token,
                            const char *token_id, const dt_vocab *vocab, int32_t *id)
{
    if (*id >= 0) return DT_OK;
    if (tokenizer_config->node && cJSON_GetObjectItemCaseSensitive(tokenizer_config->node, token))
        return read_token(tokenizer_config, token, vocab, id);
    return config->node ? read_id(config, token_id, vocab, id) : DT_OK;
}

static dt_status read_adds(const dt_json *config, const char *key, int32_t id, int *adds)
{
    if (!config->node) return DT_OK;
    DT_TRY(dt_json_bool_or(config, key, *adds, adds));
    return *adds && id < 0 ? dt_json_fail(config, key, "is true, but there is no such token") : DT_OK;
}

dt_status dt_special_load(const char *folder, const dt_json *root, const dt_vocab *vocab, dt_special *out)
{
    dt_json tokenizer_config = {0}, config = {0};
    dt_region paths = {0};
    dt_status st = DT_OK;
    dt_special s = {.bos = -1, .eos = -1};
    DT_GOTO(dt_parts_load(root, "post_processor", "processors", KINDS, sizeof KINDS / sizeof *KINDS, &s), done);
    if (s.adds_bos) DT_GOTO(check_id(root, "post_processor", vocab, s.bos, &s.bos), done);
    if (s.adds_eos) DT_GOTO(check_id(root, "post_processor", vocab, s.eos, &s.eos), done);
    DT_GOTO(parse_beside(folder, "tokenizer_config.json", &paths, &tokenizer_config), done);
    DT_GOTO(parse_beside(folder, "config.json", &paths, &config), done);
    DT_GOTO(find_token(&tokenizer_config, &config, "bos_token", "bos_token_id", vocab, &s.bos), done);
    DT_GOTO(find_token(&tokenizer_config, &config, "eos_token", "eos_token_id", vocab, &s.eos), done);
    DT_GOTO(read_adds(&tokenizer_config, "add_bos_token", s.bos, &s.adds_bos), done);
    DT_GOTO(read_adds(&tokenizer_config, "add_eos_token", s.eos, &s.adds_eos), done);
    *out = s;
done:
    dt_json_free(&tokenizer_config);
    dt_json_free(&config);
    dt_region_free(&paths);
    return st;
}
