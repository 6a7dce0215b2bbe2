/* A row of a JSONL file as token ids, with BOS and EOS around it, and marks on those that carry loss. */
#ifndef DT_DATA_ENCODE_H
#define DT_DATA_ENCODE_H

#include "data/chat.h"      // dt_chat
#include "data/jsonl.h"     // dt_jsonl_row
#include "data/tokenizer.h" // dt_tokenizer

typedef struct dt_encoder {
    const dt_tokenizer *tok;
    const dt_chat *chat;  /* its name is NULL where there is none */
    int add_bos, add_eos; /* -1: as the tokenizer or the template does ({text}); EOS always behind a completion */
    int loss_on_prompt;   /* {prompt, completion}, {messages}: loss on everything */
} dt_encoder;

/** Puts the row's marked ids (row.h) into *ids, in place of what is there. DT_ERR_DATA: "file:line: what is wrong",
 * which is also a row of fewer than two ids. A BOS, EOS or template that is needed but does not exist is DT_ERR_CONFIG.
 */
dt_status dt_encoder_run(const dt_encoder *encoder, const dt_jsonl_row *row, dt_ids *ids) DT_WARN_UNUSED;

#endif
