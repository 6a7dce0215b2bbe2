/* Chat templates: the messages of a conversation as one text, and as ids of which the assistant's turns carry loss. */
#ifndef DT_DATA_CHAT_H
#define DT_DATA_CHAT_H

#include "base/json.h"      // cJSON
#include "data/text.h"      // dt_text
#include "data/tokenizer.h" // dt_tokenizer
#include "dtrain.pb-c.h"    // Dtrain__Chat

/** Who speaks. */
typedef enum dt_chat_role { DT_CHAT_SYSTEM, DT_CHAT_USER, DT_CHAT_ASSISTANT, DT_CHAT_TOOL, DT_CHAT_ROLES } dt_chat_role;
/** DT_CHAT_ROLES if no role is called so. */
dt_chat_role dt_chat_role_find(const char *name);

/** What stands around a message. No string is NULL. */
typedef struct dt_chat_frame {
    int known; /* does the template have this role? */
    const char *prefix, *end, *suffix;
    int trim; /* white space around the content is taken away */
} dt_chat_frame;

/** A template: the text of each message is prefix, content, end, suffix, as its role says. Loss on a message is on its
 *  content and `end`. */
typedef struct dt_chat {
    const char *name;
    int bos; /* the BOS token comes first */
    dt_chat_frame frame[DT_CHAT_ROLES];
    int system_in_user; /* the text of a system message, which comes first, stands behind the next one's prefix */
    const char *special[8];
    int specials; /* tokens that must be ids of the tokenizer */
} dt_chat;

enum { DT_CHAT_MOST_SPECIALS = 8 };

/** The template that the configuration names or describes; its strings are views of `config`. DT_ERR_CONFIG names the
 *  special tokens that the tokenizer does not have. *out->name is NULL where none is configured. */
dt_status dt_chat_open(const Dtrain__Chat *config, const dt_tokenizer *tok, dt_chat *out) DT_WARN_UNUSED;

/** A message of a row's list, which dt_jsonl_row_read has checked. */
typedef struct dt_chat_message {
    dt_chat_role role;
    const char *content;
} dt_chat_message;
dt_chat_message dt_chat_message_at(const cJSON *item);

/** Appends the conversation's ids without BOS to *ids; those that carry loss are marked (DT_ID_TARGET): the assistant's
 *  turns. DT_ERR_DATA: a role that the template does not have, or no assistant. */
dt_status dt_chat_encode(const dt_chat *chat, const dt_tokenizer *tok, const cJSON *messages,
                         dt_ids *ids) DT_WARN_UNUSED;

/** Appends all of the template that decides ids, as a key for what was made with it. */
dt_status dt_chat_describe(const dt_chat *chat, dt_text *out) DT_WARN_UNUSED;

#endif
