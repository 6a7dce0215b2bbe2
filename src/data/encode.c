/* Rows of text as marked ids. */
#include "data/encode.h"
#include "data/row.h" // DT_ID_TARGET

#include <string.h> // strlen

static dt_status append_token(dt_ids *ids, int32_t id, const char *option)
{
    if (id < 0)
        return dt_fail(DT_ERR_CONFIG, "data.%s: the tokenizer has no such token to put there; set it to false", option);
    return dt_ids_append(ids, id);
}

static void mark(dt_ids *ids, int64_t from)
{
    for (int64_t i = from; i < ids->n; i++) ids->id[i] |= (int32_t)DT_ID_TARGET;
}

/* text, or prompt and completion. */
static dt_status append_text(const dt_encoder *e, const dt_jsonl_row *row, dt_ids *ids)
{
    const char *first = row->text ? row->text : row->prompt;
    int64_t from = ids->n;
    DT_TRY(dt_tokenizer_encode(e->tok, first, strlen(first), ids));
    if (row->completion && !e->loss_on_prompt) from = ids->n;
    if (row->completion) DT_TRY(dt_tokenizer_encode(e->tok, row->completion, strlen(row->completion), ids));
    mark(ids, from);
    return DT_OK;
}

static dt_status append_messages(const dt_encoder *e, const dt_jsonl_row *row, dt_ids *ids)
{
    const int64_t from = ids->n;
    int64_t marked = 0;
    if (!e->chat->name)
        return dt_fail(DT_ERR_CONFIG,
                       "%s: a row of messages, but no data.chat is given: expected a template such as "
                       "data { chat { format: CHATML } }",
                       row->where);
    DT_TRY(dt_chat_encode(e->chat, e->tok, row->messages, ids));
    for (int64_t i = from; i < ids->n; i++) marked += ids->id[i] < 0;
    if (e->loss_on_prompt) mark(ids, from);
    else if (marked == 0) return dt_fail(DT_ERR_DATA, "messages: nothing of an assistant's to learn from");
    return DT_OK;
}

static dt_status append_row(const dt_encoder *e, const dt_jsonl_row *row, dt_ids *ids)
{
    int bos = row->messages ? e->chat->bos : dt_tokenizer_adds_bos(e->tok);
    int eos = row->messages ? 0 : !row->text || dt_tokenizer_adds_eos(e->tok);
    if (e->add_bos >= 0) bos = e->add_bos;
    if (e->add_eos >= 0) eos = e->add_eos;
    if (bos) DT_TRY(append_token(ids, dt_tokenizer_bos(e->tok), "add_bos"));
    DT_TRY(row->messages ? append_messages(e, row, ids) : append_text(e, row, ids));
    if (!eos) return DT_OK;
    DT_TRY(append_token(ids, dt_tokenizer_eos(e->tok), "add_eos"));
    mark(ids, ids->n - 1);
    return DT_OK;
}

dt_status dt_encoder_run(const dt_encoder *encoder, const dt_jsonl_row *row, dt_ids *ids)
{
    ids->n = 0;
    dt_status st = append_row(encoder, row, ids);
    if (st == DT_ERR_DATA) return dt_fail_in(st, "%s", row->where);
    DT_TRY(st);
    if (ids->n < 2)
        return dt_fail(DT_ERR_DATA, "%s: the row has %lld token%s, at least 2 are needed", row->where,
                       (long long)ids->n, ids->n == 1 ? "" : "s");
    return DT_OK;
}
