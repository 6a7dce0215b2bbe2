/* A configuration from its file: text or binary, told apart by content; --set; defaults; values checked at once. */
#include "base/file.h" // dt_file_read
#include "config/check.h"
#include "config/config.h"
#include "config/set.h"
#include "config/text.h"

#include <dirent.h> // opendir
#include <stdio.h>  // snprintf
#include <stdlib.h> // free
#include <string.h> // memchr, strdup

static dt_status read_text(const char *name, const char *data, size_t bytes, dt_places *places, ProtobufCMessage **out)
{
    dt_text text = {.places = places};
    ProtobufCMessage *message;
    DT_TRY(dt_message_new(&dtrain__config__descriptor, &message));
    dt_status st = dt_lexer_start(&text.lexer, (dt_place){name, 1, 1}, &text.path, data, bytes);
    if (st == DT_OK) st = dt_text_read(&text, message);
    if (st == DT_OK) {
        *out = message;
    } else {
        protobuf_c_message_free_unpacked(message, NULL);
    }
    return st;
}

/* The first byte that no text has: a control character that is no white space. */
static const char *find_control(const char *data, size_t bytes)
{
    for (const char *c = data; c < data + bytes; c++) {
        if ((unsigned char)*c < ' ' && !memchr("\t\n\v\f\r", *c, 5)) return c;
    }
    return NULL;
}

/* Binary is what unpacks and has no text's bytes, or unpacks to fields that a Config has: a field of Config starts with
 * a byte that no text starts with, a blank line apart, and a text that unpacks behind one would be a miracle. */
static dt_status read_either(const char *name, const char *data, size_t bytes, dt_places *places,
                             ProtobufCMessage **out)
{
    const char *control = find_control(data, bytes);
    ProtobufCMessage *message =
        protobuf_c_message_unpack(&dtrain__config__descriptor, NULL, bytes, (const uint8_t *)data);
    if (message && bytes > 0 && (control || message->n_unknown_fields == 0)) {
        *out = message;
        return DT_OK;
    }
    protobuf_c_message_free_unpacked(message, NULL);
    if (!control) return read_text(name, data, bytes, places, out);
    dt_place place = {name, 1, 1};
    for (const char *c = data; c < control; c++) {
        place.column = *c == '\n' ? 1 : place.column + ((*c & 0xc0) != 0x80);
        place.line += *c == '\n';
    }
    return dt_fail_at(place, "", "byte 0x%02x makes it no text, and it is no binary dtrain.Config either",
                      (unsigned char)*control);
}

/* Makes every singular sub-message that is not there, but for those that mean something by being absent. */
static dt_status fill_messages(ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const dt_field *field = &message->descriptor->fields[i];
        if (field->type != PROTOBUF_C_TYPE_MESSAGE || field->label == PROTOBUF_C_LABEL_REPEATED ||
            (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) || field->descriptor == &dtrain__source__descriptor) {
            continue;
        }
        if (dt_field_count(message, field) == 0) {
            dt_value value;
            DT_TRY(dt_message_new(field->descriptor, &value.message));
            DT_TRY(dt_field_put(message, field, 0, &value));
        }
        DT_TRY(fill_messages(*(ProtobufCMessage **)dt_field_at(message, field, 0)));
    }
    return DT_OK;
}

/* The defaults that are no plain value: the optimiser, and deltas called after their methods. */
static dt_status fill_choices(Dtrain__Config *config)
{
    Dtrain__Optim *optim = config->optim;
    if (optim->kind_case == DTRAIN__OPTIM__KIND__NOT_SET) {
        ProtobufCMessage *adamw;
        DT_TRY(dt_message_new(&dtrain__adam_w__descriptor, &adamw));
        optim->adamw = (Dtrain__AdamW *)adamw;
        optim->kind_case = DTRAIN__OPTIM__KIND_ADAMW;
    }
    for (size_t d = 0; d < config->n_delta; d++) {
        Dtrain__Delta *delta = config->delta[d];
        const dt_field *method = protobuf_c_message_descriptor_get_field(delta->base.descriptor, delta->method_case);
        if (delta->name || !method) continue;
        delta->name = strdup(method->name);
        if (!delta->name) return dt_fail(DT_ERR_MEMORY, "no memory for the name of delta[%zu]", d);
    }
    return DT_OK;
}

dt_status dt_config_parse(const char *name, const char *text, size_t bytes, const char *const *sets, int n_sets,
                          Dtrain__Config **out)
{
    dt_places places = {.otherwise = {.source = name}};
    ProtobufCMessage *message = NULL;
    dt_status st;
    DT_GOTO(read_either(name, text, bytes, &places, &message), done);
    for (int i = 0; i < n_sets; i++) DT_GOTO(dt_set_apply(message, sets[i], &places), done);
    DT_GOTO(fill_messages(message), done);
    DT_GOTO(fill_choices((Dtrain__Config *)message), done);
    DT_GOTO(dt_check_config((Dtrain__Config *)message, &places), done);
    *out = (Dtrain__Config *)message;
    message = NULL;
done:
    protobuf_c_message_free_unpacked(message, NULL);
    dt_places_free(&places);
    return st;
}

/* That a configuration cannot be read is the command line's mistake: a file nearby may have been meant. */
static dt_status fail_unread(const char *path)
{
    const char *slash = strrchr(path, '/'), *word = slash ? slash + 1 : path;
    char near[256] = "", *folder = slash ? strndup(path, (size_t)(slash + 1 - path)) : strdup(".");
    DIR *dir = folder && !dt_path_exists(path) ? opendir(folder) : NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        const char *const names[] = {near, entry->d_name};
        const char *nearest = dt_nearest_name(word, names, 2);
        if (nearest == entry->d_name) snprintf(near, sizeof near, "%s", entry->d_name);
    }
    if (dir) closedir(dir);
    free(folder);
    if (!*near) return DT_ERR_CONFIG;
    char text[1024];
    snprintf(text, sizeof text, "%s", dt_error_text());
    return dt_fail(DT_ERR_CONFIG, "%s; nearest: %.*s%s", text, slash ? (int)(slash + 1 - path) : 0, path, near);
}

dt_status dt_config_load(const char *path, const char *const *sets, int n_sets, Dtrain__Config **out)
{
    char *data;
    size_t bytes;
    if (dt_file_read(path, &data, &bytes) != DT_OK) return fail_unread(path);
    dt_status st = dt_config_parse(path, data, bytes, sets, n_sets, out);
    free(data);
    return st;
}

void dt_config_free(Dtrain__Config *config)
{
    protobuf_c_message_free_unpacked((ProtobufCMessage *)config, NULL);
}
