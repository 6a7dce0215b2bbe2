/* Text as ids, framed by BOS and EOS as the configuration resolves them; rows of ids as JSON. */
#include "base/memory.h" // dt_grow
#include "cli/cli.h"

static dt_status append(dt_ids *ids, int32_t id, const char *option)
{
    if (id < 0)
        return dt_fail(DT_ERR_CONFIG, "data.%s: true, but the tokenizer has no such token; expected false", option);
    DT_TRY(dt_grow(&ids->id, &ids->cap, ids->n + 1, sizeof *ids->id));
    ids->id[ids->n++] = id;
    return DT_OK;
}

dt_status dt_cli_encode(const Dtrain__Config *config, const dt_tokenizer *tok, const char *text, size_t bytes,
                        bool with_eos, dt_ids *ids)
{
    const Dtrain__Data *d = config->data;
    bool bos = d->has_add_bos ? d->add_bos : dt_tokenizer_adds_bos(tok);
    bool eos = d->has_add_eos ? d->add_eos : dt_tokenizer_adds_eos(tok);
    if (bos) DT_TRY(append(ids, dt_tokenizer_bos(tok), "add_bos"));
    DT_TRY(dt_tokenizer_encode(tok, text, bytes, ids));
    if (with_eos && eos) DT_TRY(append(ids, dt_tokenizer_eos(tok), "add_eos"));
    return DT_OK;
}

void dt_cli_print_row(FILE *out, dt_row row)
{
    const char *comma = "";
    fprintf(out, "\"ids\":[");
    for (int32_t i = 0; i < row.n; i++) fprintf(out, "%s%d", i != 0 ? "," : "", dt_row_id(row, i));
    fprintf(out, "],\"loss\":[");
    for (int32_t from = 0, to; from < row.n; from = to) {
        for (to = from; to < row.n && dt_row_is_target(row, to); to++) {}
        if (to > from) {
            fprintf(out, "%s[%d,%d]", comma, from, to);
            comma = ",";
        } else {
            to++;
        }
    }
    fprintf(out, "]");
}
