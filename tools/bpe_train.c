/* bpe_train VOCAB < rows.jsonl > tokenizer.json: learns a byte-level BPE (Sennrich et al. 2016, Radford et al. 2019)
 * from the rows' "text": id 0 is <|endoftext|>, then the 256 bytes' letters, then one merge after the other of the pair
 * that is most frequent inside words. Ties go to the pair of the older symbols: the same text gives the same file. */
#include "base/hash.h"
#include "base/json.h"
#include "base/memory.h"
#include "data/bytelevel.h"
#include "data/pretokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/** The file without its vocabulary and merges. */
static const char skeleton[] =
    "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [{\"id\": 0, \"content\": "
    "\"<|endoftext|>\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
    "\"special\": "
    "true}], \"normalizer\": null, \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
    "\"trim_offsets\": true, \"use_regex\": true}, \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": "
    "[{\"SpecialToken\": {\"id\": \"<|endoftext|>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": "
    "0}}], "
    "\"pair\": [{\"SpecialToken\": {\"id\": \"<|endoftext|>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", "
    "\"type_id\": 0}}, {\"SpecialToken\": {\"id\": \"<|endoftext|>\", \"type_id\": 1}}, {\"Sequence\": {\"id\": \"B\", "
    "\"type_id\": 1}}], \"special_tokens\": {\"<|endoftext|>\": {\"id\": \"<|endoftext|>\", \"ids\": [0], \"tokens\": "
    "[\"<|endoftext|>\"]}}}, \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": "
    "true, "
    "\"use_regex\": true}, \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, "
    "\"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": "
    "false}}";

/** A distinct word of the text: how often it stands there, and the symbols it is made of at present. */
typedef struct word {
    uint64_t hash;
    int64_t count;
    int32_t *symbol; /* [n] */
    int64_t n;
} word;

typedef struct trainer {
    dt_region region;
    word *word; /* open addressing, [slots], a power of two */
    int64_t words, slots;
    char **text; /* [vocab] of the symbols */
    int32_t symbols, vocab;
    int32_t of_letter[DT_BYTELEVEL_LETTERS];
    int64_t *pairs; /* [vocab][vocab] */
} trainer;

static word *find_slot(word *table, int64_t slots, uint64_t hash)
{
    int64_t i = (int64_t)(hash & (uint64_t)(slots - 1));
    while (table[i].n > 0 && table[i].hash != hash) i = (i + 1) & (slots - 1);
    return &table[i];
}

static dt_status grow_table(trainer *t)
{
    const int64_t slots = t->slots ? 2 * t->slots : 1024;
    word *table;
    DT_TRY(dt_alloc((size_t)slots, sizeof *table, &table));
    for (int64_t i = 0; i < t->slots; i++)
        if (t->word[i].n > 0) *find_slot(table, slots, t->word[i].hash) = t->word[i];
    free(t->word);
    t->word = table;
    t->slots = slots;
    return DT_OK;
}

/** Counts one word of letters (dt_word_fn). */
static dt_status count_word(void *ctx, const char *text, size_t bytes)
{
    trainer *t = ctx;
    if (2 * t->words >= t->slots) DT_TRY(grow_table(t));
    const uint64_t hash = dt_hash_bytes(text, bytes, 0);
    word *w = find_slot(t->word, t->slots, hash);
    if (w->n == 0) {
        w->hash = hash;
        w->symbol = dt_region_alloc(&t->region, bytes * sizeof *w->symbol);
        if (!w->symbol) return dt_fail(DT_ERR_MEMORY, "out of memory after %lld words", (long long)t->words);
        for (const char *end = text + bytes; text < end;) {
            int length;
            w->symbol[w->n++] = t->of_letter[dt_utf8_decode(text, &length)];
            text += length;
        }
        t->words++;
    }
    w->count++;
    return DT_OK;
}

static dt_status read_rows(trainer *t, const dt_pretokenizer *pretokenizer)
{
    dt_text buffers[2] = {0};
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    dt_status st = DT_OK;
    for (int64_t rows = 1; st == DT_OK && (n = getline(&line, &cap, stdin)) > 0; rows++) {
        dt_json row = {0};
        const char *text;
        st = dt_json_parse(line, (size_t)n, "row", DT_ERR_DATA, &row);
        if (st == DT_OK) st = dt_json_string(&row, "text", &text);
        if (st == DT_OK) st = dt_pretokenizer_run(pretokenizer, text, strlen(text), 1, buffers, count_word, t);
        if (st != DT_OK) st = dt_fail_in(st, "stdin: row %lld", (long long)rows);
        dt_json_free(&row);
    }
    free(line);
    for (int i = 0; i < 2; i++) dt_text_free(&buffers[i]);
    return st;
}

static dt_status add_symbol(trainer *t, const char *left, const char *right)
{
    char *text = dt_region_printf(&t->region, "%s%s", left, right);
    if (!text) return dt_fail(DT_ERR_MEMORY, "out of memory after %d symbols", t->symbols);
    t->text[t->symbols++] = text;
    return DT_OK;
}

static dt_status start_symbols(trainer *t)
{
    int32_t letter[256];
    dt_bytelevel_alphabet(letter);
    DT_TRY(add_symbol(t, "<|endoftext|>", ""));
    for (int32_t c = 0, b; c < DT_BYTELEVEL_LETTERS; c++) { /* in the order of the letters, as is the custom */
        for (b = 0; b < 256 && letter[b] != c;) b++;
        if (b == 256) continue;
        char utf8[3] = {(char)c};
        if (c >= 0x80) {
            utf8[0] = (char)(0xC0 | c >> 6);
            utf8[1] = (char)(0x80 | (c & 0x3F));
        }
        t->of_letter[c] = t->symbols;
        DT_TRY(add_symbol(t, utf8, ""));
    }
    return DT_OK;
}

/** Counts all pairs of neighbours; the most frequent one in *left and *right. Returns how often it stands there. */
static int64_t best_pair(trainer *t, int32_t *left, int32_t *right)
{
    memset(t->pairs, 0, (size_t)t->vocab * (size_t)t->vocab * sizeof *t->pairs);
    for (int64_t i = 0; i < t->slots; i++)
        for (int64_t s = 0; s + 1 < t->word[i].n; s++)
            t->pairs[(int64_t)t->word[i].symbol[s] * t->vocab + t->word[i].symbol[s + 1]] += t->word[i].count;
    int64_t best = 0;
    for (int32_t a = 0; a < t->symbols; a++)
        for (int32_t b = 0; b < t->symbols; b++)
            if (t->pairs[(int64_t)a * t->vocab + b] > best) {
                best = t->pairs[(int64_t)a * t->vocab + b];
                *left = a;
                *right = b;
            }
    return best;
}

static void merge_pair(word *w, int32_t left, int32_t right, int32_t merged)
{
    int64_t n = 0;
    for (int64_t s = 0; s < w->n; s++) {
        const int is_pair = s + 1 < w->n && w->symbol[s] == left && w->symbol[s + 1] == right;
        w->symbol[n++] = is_pair ? merged : w->symbol[s];
        s += is_pair;
    }
    w->n = n;
}

static dt_status learn(trainer *t, cJSON *merges)
{
    DT_TRY(dt_alloc((size_t)t->vocab * (size_t)t->vocab, sizeof *t->pairs, &t->pairs));
    while (t->symbols < t->vocab) {
        int32_t left = 0, right = 0;
        if (best_pair(t, &left, &right) == 0)
            return dt_fail(DT_ERR_DATA, "the text has only enough words for a vocabulary of %d", t->symbols);
        char *merge = dt_region_printf(&t->region, "%s %s", t->text[left], t->text[right]);
        if (!merge || !cJSON_AddItemToArray(merges, cJSON_CreateString(merge)))
            return dt_fail(DT_ERR_MEMORY, "out of memory after %d symbols", t->symbols);
        for (int64_t i = 0; i < t->slots; i++) merge_pair(&t->word[i], left, right, t->symbols);
        DT_TRY(add_symbol(t, t->text[left], t->text[right]));
    }
    return DT_OK;
}

static dt_status run(int32_t vocab)
{
    trainer t = {.vocab = vocab};
    dt_json file = {0};
    dt_pretokenizer pretokenizer = {0};
    char *text = NULL;
    dt_status st = dt_alloc((size_t)vocab, sizeof *t.text, &t.text);
    if (st != DT_OK) goto end;
    DT_GOTO(dt_json_parse(skeleton, strlen(skeleton), "tokenizer.json", DT_ERR_INTERNAL, &file), end);
    DT_GOTO(dt_pretokenizer_load(&file, &pretokenizer), end);
    DT_GOTO(start_symbols(&t), end);
    DT_GOTO(read_rows(&t, &pretokenizer), end);

    cJSON *model = cJSON_GetObjectItem(file.node, "model");
    cJSON *ids = cJSON_AddObjectToObject(model, "vocab"), *merges = cJSON_AddArrayToObject(model, "merges");
    DT_GOTO(learn(&t, merges), end);
    for (int32_t i = 0; i < t.symbols; i++) cJSON_AddNumberToObject(ids, t.text[i], i);
    text = cJSON_Print(file.node);
    if (!text || puts(text) == EOF || fflush(stdout) != 0) st = dt_fail(DT_ERR_IO, "cannot write the tokenizer");
end:
    free(text);
    dt_pretokenizer_free(&pretokenizer);
    dt_json_free(&file);
    free(t.text);
    free(t.word);
    free(t.pairs);
    dt_region_free(&t.region);
    return st;
}

int main(int argc, char **argv)
{
    const long vocab = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    if (vocab < 257 || vocab > 8192) {
        fputs("usage: bpe_train VOCAB < rows.jsonl > tokenizer.json    (257 <= VOCAB <= 8192)\n", stderr);
        return 2;
    }
    if (run((int32_t)vocab) == DT_OK) return 0;
    fprintf(stderr, "bpe_train: %s\n", dt_error_text());
    return 1;
}
