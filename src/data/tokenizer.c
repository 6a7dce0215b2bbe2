/* A tokenizer: the parts of tokenizer.json put together, text -> ids and back. */
#include "data/tokenizer.h"
#include "base/file.h"         // dt_file_read, dt_path_exists
#include "base/json.h"         // dt_json_parse
#include "base/memory.h"       // dt_alloc
#include "data/added.h"        // dt_added
#include "data/decoder.h"      // dt_decoder
#include "data/normalizer.h"   // dt_normalizer
#include "data/parts.h"        // dt_parts_check_keys
#include "data/pretokenizer.h" // dt_pretokenizer
#include "data/special.h"      // dt_special
#include "data/text.h"         // dt_text, dt_utf8_valid
#include "data/token_model.h"  // dt_token_model_ops
#include "data/vocabtxt.h"     // dt_vocabtxt_load

#include <stdlib.h> // free
#include <string.h> // strcmp, strlen, strncat

static const dt_token_model_ops *const MODELS[] = {&dt_token_bpe, &dt_token_wordpiece, &dt_token_unigram};
enum { N_MODELS = sizeof MODELS / sizeof *MODELS };

struct dt_tokenizer {
    dt_vocab vocab;
    dt_added added;
    dt_normalizer normalizer;
    dt_pretokenizer pretokenizer;
    const dt_token_model_ops *ops;
    void *model;
    dt_decoder decoder;
    dt_special special;
    dt_digest digest;
};

void dt_ids_free(dt_ids *ids)
{
    free(ids->id);
    *ids = (dt_ids){0};
}

dt_status dt_ids_append(dt_ids *ids, int32_t id)
{
    DT_TRY(dt_grow(&ids->id, &ids->cap, ids->n + 1, sizeof *ids->id));
    ids->id[ids->n++] = id;
    return DT_OK;
}

static dt_status load_model(const dt_json *root, dt_tokenizer *tok)
{
    dt_json model;
    const char *type;
    char known[128] = "";
    DT_TRY(dt_json_object(root, "model", &model));
    DT_TRY(dt_json_string_or(&model, "type", NULL, &type));
    for (int i = 0; i < N_MODELS; i++) {
        if (type ? !strcmp(type, MODELS[i]->type) : dt_json_has(&model, MODELS[i]->mark)) {
            tok->ops = MODELS[i];
            return tok->ops->load(&model, &tok->vocab, &tok->model);
        }
        if (i) strncat(known, ", ", sizeof known - strlen(known) - 1);
        strncat(known, MODELS[i]->type, sizeof known - strlen(known) - 1);
    }
    return dt_json_fail(&model, "type", "\"%s\" is not understood; known here: %s", type ? type : "", known);
}

static dt_status load_parts(const char *folder, const dt_json *root, dt_tokenizer *tok)
{
    const char *version;
    if (!cJSON_IsObject(root->node)) return dt_json_fail(root, NULL, "is not an object");
    // Truncation and padding belong to whoever makes batches: they are known, and left to the data set.
    DT_TRY(dt_parts_check_keys(root, "version truncation padding added_tokens normalizer pre_tokenizer post_processor "
                                     "decoder model"));
    DT_TRY(dt_json_string_or(root, "version", "1.0", &version));
    if (strcmp(version, "1.0")) return dt_json_fail(root, "version", "\"%s\" is not understood; known: 1.0", version);
    DT_TRY(load_model(root, tok));
    DT_TRY(dt_normalizer_load(root, &tok->normalizer));
    DT_TRY(dt_added_load(root, &tok->normalizer, &tok->vocab, &tok->added));
    DT_TRY(dt_pretokenizer_load(root, &tok->pretokenizer));
    DT_TRY(dt_decoder_load(root, &tok->decoder));
    return dt_special_load(folder, root, &tok->vocab, &tok->special);
}

/* The tokenizer.json at `path`, all of whose strings are valid UTF-8 without NUL. */
static dt_status parse(const char *path, dt_json *root)
{
    char *text;
    size_t bytes;
    DT_TRY(dt_file_read(path, &text, &bytes));
    size_t valid = dt_utf8_valid(text, bytes);
    dt_status st;
    if (valid < bytes) st = dt_fail(DT_ERR_DATA, "%s: invalid UTF-8 at byte %zu", path, valid);
    else if (dt_text_has_nul(text, bytes)) st = dt_fail(DT_ERR_DATA, "%s: a string with a NUL character", path);
    else st = dt_json_parse(text, bytes, path, DT_ERR_DATA, root);
    free(text);
    return st;
}

/* Of every file that has a say in what the ids of a text are. */
static dt_status digest_files(const char *folder, dt_tokenizer *tok)
{
    static const char *const FILES[] = {"tokenizer.json", "vocab.txt", "tokenizer_config.json", "config.json"};
    enum { N_FILES = sizeof FILES / sizeof *FILES };
    struct {
        dt_digest file[N_FILES];
        int32_t special[4];
    } all = {.special = {tok->special.bos, tok->special.eos, tok->special.adds_bos, tok->special.adds_eos}};
    dt_region paths = {0};
    dt_status st = DT_OK;
    for (int i = 0; i < N_FILES && st == DT_OK; i++) {
        const char *path = dt_region_printf(&paths, "%s/%s", folder, FILES[i]);
        if (!path) st = dt_fail(DT_ERR_MEMORY, "no memory for a path");
        else if (dt_path_exists(path)) st = dt_digest_file(path, &all.file[i]);
    }
    dt_region_free(&paths);
    tok->digest = dt_digest_bytes(&all, sizeof all);
    return st;
}

dt_status dt_tokenizer_load(const char *folder, dt_tokenizer **out)
{
    dt_region region = {0};
    dt_json root = {0};
    dt_tokenizer *tok = NULL;
    dt_status st = DT_OK;
    const char *path = dt_region_printf(&region, "%s/tokenizer.json", folder);
    const char *bare = dt_region_printf(&region, "%s/vocab.txt", folder);
    if (!path || !bare) {
        st = dt_fail(DT_ERR_MEMORY, "no memory for a path");
        goto done;
    }
    if (!dt_path_exists(path) && dt_path_exists(bare)) DT_GOTO(dt_vocabtxt_load(folder, &region, &root), done);
    else DT_GOTO(parse(path, &root), done);
    DT_GOTO(dt_alloc(1, sizeof *tok, &tok), done);
    DT_GOTO(load_parts(folder, &root, tok), done);
    DT_GOTO(digest_files(folder, tok), done);
    *out = tok;
    tok = NULL;
done:
    dt_tokenizer_destroy(tok);
    dt_json_free(&root);
    dt_region_free(&region);
    return st;
}

void dt_tokenizer_destroy(dt_tokenizer *tok)
{
    if (!tok) return;
    if (tok->ops) tok->ops->destroy(tok->model);
    dt_decoder_free(&tok->decoder);
    dt_pretokenizer_free(&tok->pretokenizer);
    dt_added_free(&tok->added);
    dt_normalizer_free(&tok->normalizer);
    dt_vocab_free(&tok->vocab);
    free(tok);
}

/* ---- text -> ids ---- */

/* One call's state: nothing of the tokenizer itself changes, so that threads can share it. */
typedef struct encoding {
    const dt_tokenizer *tok;
    dt_ids *ids;
    const char *text;      /* as given */
    dt_text normal, spare; /* the piece in hand, normalised */
    int at_start;          /* does that piece begin the text? */
    dt_text *buffers;      /* of the pre-tokenizer */
    dt_token_room room;
    dt_text_mark *mark; /* [marks]: those that are left */
    int64_t marks;
    int64_t from; /* ids that were there */
    dt_ids part;
} encoding;

static dt_status encode_word(void *ctx, const char *word, size_t bytes)
{
    encoding *e = ctx;
    return e->tok->ops->encode(e->tok->model, &e->tok->vocab, word, bytes, &e->room, e->ids);
}

/* A piece of normalised text, or an added token found in it. */
static dt_status encode_normal(void *ctx, const char *piece, size_t bytes, int32_t id)
{
    encoding *e = ctx;
    if (id >= 0) return dt_ids_append(e->ids, id);
    int at_start = e->at_start && piece == e->normal.data;
    return dt_pretokenizer_run(&e->tok->pretokenizer, piece, bytes, at_start, e->buffers, encode_word, e);
}

/* A piece of the text as given, or an added token found in it. */
static dt_status encode_raw(void *ctx, const char *piece, size_t bytes, int32_t id)
{
    encoding *e = ctx;
    if (id >= 0) return dt_ids_append(e->ids, id);
    e->normal.n = 0;
    e->at_start = piece == e->text;
    DT_TRY(dt_text_append(&e->normal, piece, bytes));
    DT_TRY(dt_normalizer_run(&e->tok->normalizer, &e->normal, &e->spare));
    return dt_added_each(&e->tok->added.normalized, e->normal.data, (size_t)e->normal.n, encode_normal, e);
}

/* What a mark inside of a piece counts: the ids that the piece shares with its part in front of the mark. Where they
 * end sooner than that part's own, something stands across the mark. */
static dt_status resolve(encoding *e, const char *piece, size_t bytes, int64_t before, dt_text_mark *mark)
{
    dt_ids *ids = e->ids;
    int64_t same = 0;
    e->part.n = 0;
    e->ids = &e->part;
    dt_status st = encode_raw(e, piece, bytes, -1);
    e->ids = ids;
    while (same < e->part.n && before + same < ids->n && e->part.id[same] == ids->id[before + same]) same++;
    mark->ended = before - e->from + same;
    mark->begun = mark->ended + (same < e->part.n);
    return st;
}

/* The same as encode_raw, and the marks that lie in the piece or at its end. */
static dt_status encode_marked(void *ctx, const char *piece, size_t bytes, int32_t id)
{
    encoding *e = ctx;
    const size_t from = (size_t)(piece - e->text), to = from + bytes;
    const int64_t before = e->ids->n;
    DT_TRY(encode_raw(e, piece, bytes, id));
    for (; e->marks && e->mark->at <= to; e->mark++, e->marks--) {
        if (e->mark->at > from && e->mark->at < to && id < 0) {
            DT_TRY(resolve(e, piece, e->mark->at - from, before, e->mark));
        } else { // inside of an added token there are only the spaces that it took
            e->mark->ended = e->mark->begun = (e->mark->at > from ? e->ids->n : before) - e->from;
        }
    }
    return DT_OK;
}

dt_status dt_tokenizer_encode_marked(const dt_tokenizer *tok, const char *text, size_t bytes, dt_text_mark *mark,
                                     int64_t n, dt_ids *ids)
{
    size_t valid = dt_utf8_valid(text, bytes);
    if (valid < bytes) return dt_fail(DT_ERR_DATA, "invalid UTF-8 at byte %zu", valid);
    encoding e = {.tok = tok, .ids = ids, .text = text, .mark = mark, .marks = n, .from = ids->n};
    for (int64_t i = 0; i < n; i++) mark[i].ended = mark[i].begun = 0; // of a text without a piece
    size_t n_buffers = 2 * (size_t)tok->pretokenizer.n;
    DT_TRY(dt_alloc(n_buffers, sizeof *e.buffers, &e.buffers));
    dt_status st = dt_added_each(&tok->added.raw, text, bytes, encode_marked, &e);
    for (size_t i = 0; i < n_buffers; i++) dt_text_free(&e.buffers[i]);
    free(e.buffers);
    dt_text_free(&e.normal);
    dt_text_free(&e.spare);
    free(e.room.first);
    free(e.room.second);
    dt_ids_free(&e.part);
    return st;
}

dt_status dt_tokenizer_encode(const dt_tokenizer *tok, const char *text, size_t bytes, dt_ids *ids)
{
    return dt_tokenizer_encode_marked(tok, text, bytes, NULL, 0, ids);
}

/* ---- ids -> text ---- */

/* Ids without a token, such as those that pad a backbone's vocabulary, say nothing. */
static dt_status append_tokens(const dt_tokenizer *tok, const int32_t *ids, int64_t n, int skip_special,
                               dt_pieces *pieces)
{
    for (int64_t i = 0; i < n; i++) {
        const dt_token *token = dt_vocab_token(&tok->vocab, ids[i]);
        if (!token || (skip_special && token->special)) continue;
        DT_TRY(dt_text_append(&pieces->text, token->shown, strlen(token->shown)));
        DT_TRY(dt_pieces_close(pieces));
    }
    return DT_OK;
}

dt_status dt_tokenizer_decode(const dt_tokenizer *tok, const int32_t *ids, int64_t n, int skip_special, char **text)
{
    dt_pieces pieces = {0};
    dt_text out = {0};
    dt_status st = DT_OK;
    DT_GOTO(append_tokens(tok, ids, n, skip_special, &pieces), done);
    DT_GOTO(dt_decoder_run(&tok->decoder, &pieces), done);
    for (int64_t i = 0; i < pieces.text.n; i++) { // a C string cannot hold the character NUL (of the token <0x00>)
        char c = pieces.text.data[i];
        DT_GOTO(c ? dt_text_append(&out, &c, 1) : dt_text_append_char(&out, 0xFFFD), done);
    }
    DT_GOTO(dt_text_append(&out, "", 1), done);
    *text = out.data;
    out.data = NULL;
done:
    dt_text_free(&out);
    dt_pieces_free(&pieces);
    return st;
}

int32_t dt_tokenizer_find_added(const dt_tokenizer *tok, const char *text)
{
    const dt_added_set *sets[] = {&tok->added.raw, &tok->added.normalized};
    for (int s = 0; s < 2; s++)
        for (int64_t i = 0; i < sets[s]->n; i++)
            if (strcmp(dt_vocab_token(&tok->vocab, sets[s]->token[i].id)->text, text) == 0) return sets[s]->token[i].id;
    return -1;
}

int32_t dt_tokenizer_bos(const dt_tokenizer *tok)
{
    return tok->special.bos;
}

int32_t dt_tokenizer_eos(const dt_tokenizer *tok)
{
    return tok->special.eos;
}

int dt_tokenizer_adds_bos(const dt_tokenizer *tok)
{
    return tok->special.adds_bos;
}

int dt_tokenizer_adds_eos(const dt_tokenizer *tok)
{
    return tok->special.adds_eos;
}

int32_t dt_tokenizer_size(const dt_tokenizer *tok)
{
    return tok->vocab.size;
}

dt_digest dt_tokenizer_digest(const dt_tokenizer *tok)
{
    return tok->digest;
}
