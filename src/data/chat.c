/* Chat templates: the built-in ones, those of a configuration, and conversations as ids. */
#include "data/chat.h"
#include "base/memory.h" // dt_grow
#include "data/row.h"    // DT_ID_TARGET

#include <stdio.h>  // snprintf
#include <stdlib.h> // free
#include <string.h> // strcmp, strlen

static const char *const ROLES[DT_CHAT_ROLES] = {"system", "user", "assistant", "tool"};

#define LLAMA3_ROLE(name)                                                                                              \
    {                                                                                                                  \
        1, "<|start_header_id|>" name "<|end_header_id|>\n\n", "<|eot_id|>", "", 1                                     \
    }
#define CHATML_ROLE(name)                                                                                              \
    {                                                                                                                  \
        1, "<|im_start|>" name "\n", "<|im_end|>", "\n", 0                                                             \
    }

static const dt_chat BUILT_IN[] = {
    [DTRAIN__CHAT_FORMAT__LLAMA3] = {.name = "LLAMA3",
                                     .bos = 1,
                                     .frame = {[DT_CHAT_SYSTEM] = LLAMA3_ROLE("system"),
                                               [DT_CHAT_USER] = LLAMA3_ROLE("user"),
                                               [DT_CHAT_ASSISTANT] = LLAMA3_ROLE("assistant"),
                                               [DT_CHAT_TOOL] = LLAMA3_ROLE("ipython")},
                                     .special = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
                                     .specials = 3},
    [DTRAIN__CHAT_FORMAT__CHATML] = {.name = "CHATML",
                                     .frame = {[DT_CHAT_SYSTEM] = CHATML_ROLE("system"),
                                               [DT_CHAT_USER] = CHATML_ROLE("user"),
                                               [DT_CHAT_ASSISTANT] = CHATML_ROLE("assistant"),
                                               [DT_CHAT_TOOL] = CHATML_ROLE("tool")},
                                     .special = {"<|im_start|>", "<|im_end|>"},
                                     .specials = 2},
    [DTRAIN__CHAT_FORMAT__MISTRAL] = {.name = "MISTRAL",
                                      .bos = 1,
                                      .frame = {[DT_CHAT_SYSTEM] = {1, "", "", "\n\n", 0},
                                                [DT_CHAT_USER] = {1, "[INST] ", "[/INST]", "", 0},
                                                [DT_CHAT_ASSISTANT] = {1, " ", "</s>", "", 1},
                                                [DT_CHAT_TOOL] = {0, "", "", "", 0}},
                                      .system_in_user = 1,
                                      .special = {"[INST]", "[/INST]", "</s>"},
                                      .specials = 3},
};

dt_chat_role dt_chat_role_find(const char *name)
{
    int role = 0;
    while (role < DT_CHAT_ROLES && strcmp(ROLES[role], name) != 0) role++;
    return (dt_chat_role)role;
}

/* ---- which template ---- */

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

static dt_status read_template(const Dtrain__ChatTemplate *config, dt_chat *out)
{
    const Dtrain__ChatRole *role[DT_CHAT_ROLES] = {config->system, config->user, config->assistant, config->tool};
    *out = (dt_chat){.name = "data.chat.template", .bos = config->bos, .system_in_user = config->system_in_user};
    for (int r = 0; r < DT_CHAT_ROLES; r++) {
        out->frame[r] = (dt_chat_frame){0, "", "", "", 0};
        if (role[r])
            out->frame[r] = (dt_chat_frame){1, or_empty(role[r]->prefix), or_empty(role[r]->end),
                                            or_empty(role[r]->suffix), role[r]->trim};
    }
    if (config->n_special > DT_CHAT_MOST_SPECIALS)
        return dt_fail(DT_ERR_CONFIG, "data.chat.template.special: %zu tokens, expected at most %d", config->n_special,
                       DT_CHAT_MOST_SPECIALS);
    out->specials = (int)config->n_special;
    for (int i = 0; i < out->specials; i++) out->special[i] = config->special[i];
    return DT_OK;
}

static dt_status check_specials(const dt_chat *chat, const dt_tokenizer *tok)
{
    char missing[512] = "";
    for (int i = 0; i < chat->specials; i++) {
        size_t used = strlen(missing);
        if (dt_tokenizer_find_added(tok, chat->special[i]) < 0)
            snprintf(missing + used, sizeof missing - used, "%s\"%s\"", used ? ", " : "", chat->special[i]);
    }
    if (!*missing) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "data.chat: the tokenizer has no special token %s, which the template %s is made of",
                   missing, chat->name);
}

dt_status dt_chat_open(const Dtrain__Chat *config, const dt_tokenizer *tok, dt_chat *out)
{
    *out = (dt_chat){0};
    if (config->kind_case == DTRAIN__CHAT__KIND__NOT_SET) return DT_OK;
    if (config->kind_case == DTRAIN__CHAT__KIND_FORMAT) *out = BUILT_IN[config->format];
    else DT_TRY(read_template(config->template_, out));
    return check_specials(out, tok);
}

dt_status dt_chat_describe(const dt_chat *chat, dt_text *out)
{
    char line[64];
    if (!chat->name) return dt_text_append(out, "no chat\n", 8);
    int n = snprintf(line, sizeof line, "chat %d %d\n", chat->bos, chat->system_in_user);
    DT_TRY(dt_text_append(out, line, (size_t)n));
    for (int r = 0; r < DT_CHAT_ROLES; r++) {
        const dt_chat_frame *f = &chat->frame[r];
        const char *text[] = {f->prefix, f->end, f->suffix};
        n = snprintf(line, sizeof line, "%d %d ", f->known, f->trim);
        DT_TRY(dt_text_append(out, line, (size_t)n));
        for (int i = 0; i < 3; i++) DT_TRY(dt_text_append(out, text[i], strlen(text[i]) + 1)); // each with its NUL
    }
    return DT_OK;
}

/* ---- a conversation ---- */

/* The text so far, and two marks for each turn that carries loss: where its content begins and where its `end` ends. */
typedef struct conversation {
    const dt_chat *chat;
    dt_text text;
    dt_text_mark *mark;
    int64_t marks, cap;
    const char *held; /* a system message that waits for the user's */
} conversation;

dt_chat_message dt_chat_message_at(const cJSON *item)
{
    return (dt_chat_message){.role = dt_chat_role_find(cJSON_GetObjectItemCaseSensitive(item, "role")->valuestring),
                             .content = cJSON_GetObjectItemCaseSensitive(item, "content")->valuestring};
}

static int is_space(int32_t c)
{
    return dt_char_is_space(c) || (c >= 0x1C && c <= 0x1F); // the separators, as Python's strip has them
}

/* Where the text begins and how long it is without white space around it. */
static size_t trim(const char **text)
{
    const char *from = *text, *end = *text;
    int length;
    while (*from && is_space(dt_utf8_decode(from, &length))) from += length;
    for (const char *at = end = from; *at; at += length)
        if (!is_space(dt_utf8_decode(at, &length))) end = at + length;
    *text = from;
    return (size_t)(end - from);
}

static dt_status put(conversation *c, const char *text)
{
    return dt_text_append(&c->text, text, strlen(text));
}

static dt_status put_mark(conversation *c)
{
    DT_TRY(dt_grow(&c->mark, &c->cap, c->marks + 1, sizeof *c->mark));
    c->mark[c->marks++] = (dt_text_mark){.at = (size_t)c->text.n};
    return DT_OK;
}

static dt_status put_content(conversation *c, const dt_chat_frame *frame, const char *content)
{
    size_t bytes = frame->trim ? trim(&content) : strlen(content);
    return dt_text_append(&c->text, content, bytes);
}

/* A system message as part of the user's, inside of its prefix. */
static dt_status put_held(conversation *c)
{
    const dt_chat_frame *frame = &c->chat->frame[DT_CHAT_SYSTEM];
    if (!c->held) return DT_OK;
    DT_TRY(put(c, frame->prefix));
    DT_TRY(put_content(c, frame, c->held));
    DT_TRY(put(c, frame->end));
    c->held = NULL;
    return put(c, frame->suffix);
}

static dt_status put_message(conversation *c, int64_t index, dt_chat_message message)
{
    const dt_chat_frame *frame = &c->chat->frame[message.role];
    const int has_loss = message.role == DT_CHAT_ASSISTANT;
    if (!frame->known)
        return dt_fail(DT_ERR_DATA, "messages[%lld].role: the chat template %s has no \"%s\"", (long long)index,
                       c->chat->name, ROLES[message.role]);
    if (message.role == DT_CHAT_SYSTEM && c->chat->system_in_user) {
        c->held = message.content;
        if (index == 0) return DT_OK;
        return dt_fail(DT_ERR_DATA, "messages[%lld].role: \"system\" must be the first in the chat template %s",
                       (long long)index, c->chat->name);
    }
    if (c->held && message.role != DT_CHAT_USER)
        return dt_fail(DT_ERR_DATA,
                       "messages[%lld].role: \"%s\", expected \"user\" behind \"system\" in the chat "
                       "template %s",
                       (long long)index, ROLES[message.role], c->chat->name);
    DT_TRY(put(c, frame->prefix));
    DT_TRY(put_held(c));
    if (has_loss) DT_TRY(put_mark(c));
    DT_TRY(put_content(c, frame, message.content));
    DT_TRY(put(c, frame->end));
    if (has_loss) DT_TRY(put_mark(c));
    return put(c, frame->suffix);
}

static dt_status put_all(conversation *c, const cJSON *messages)
{
    int64_t index = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, messages) DT_TRY(put_message(c, index++, dt_chat_message_at(item)));
    if (c->held) return dt_fail(DT_ERR_DATA, "messages: a \"system\" alone");
    return DT_OK;
}

dt_status dt_chat_encode(const dt_chat *chat, const dt_tokenizer *tok, const cJSON *messages, dt_ids *ids)
{
    conversation c = {.chat = chat};
    const int64_t from = ids->n;
    dt_status st;
    DT_GOTO(put_all(&c, messages), done);
    DT_GOTO(dt_tokenizer_encode_marked(tok, c.text.data, (size_t)c.text.n, c.mark, c.marks, ids), done);
    for (int64_t m = 0; m < c.marks; m += 2) // what stands across the end of a turn, if anything does, is of the turn
        for (int64_t i = c.mark[m].ended; i < c.mark[m + 1].begun; i++) ids->id[from + i] |= (int32_t)DT_ID_TARGET;
done:
    dt_text_free(&c.text);
    free(c.mark);
    return st;
}
