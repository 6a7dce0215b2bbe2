/* Messages as protobuf text format, and as binary. */
#include "config/config.h"
#include "config/text.h"

#include <stdio.h>  // open_memstream
#include <stdlib.h> // malloc, free
#include <string.h> // strlen

static void print_message(FILE *out, const ProtobufCMessage *message, int all, int indent);

static void print_value(FILE *out, const dt_field *field, const void *at, int all, int indent)
{
    char buffer[32];
    const ProtobufCBinaryData *bytes = at;
    fprintf(out, "%*s%s", indent, "", field->name);
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        fputs(" {\n", out);
        print_message(out, *(ProtobufCMessage *const *)at, all, indent + 2);
        fprintf(out, "%*s}\n", indent, "");
        return;
    case PROTOBUF_C_TYPE_STRING:
        fputs(": ", out);
        dt_string_print(out, *(char *const *)at, strlen(*(char *const *)at));
        break;
    case PROTOBUF_C_TYPE_BYTES:
        fputs(": ", out);
        dt_string_print(out, bytes->data, bytes->len);
        break;
    default: fprintf(out, ": %s", dt_scalar_show(field, at, buffer));
    }
    fputc('\n', out);
}

static void print_message(FILE *out, const ProtobufCMessage *message, int all, int indent)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const dt_field *field = &message->descriptor->fields[i];
        size_t count = dt_field_count(message, field);
        // An absent member of a oneof has no default: its memory is another member's.
        int has_default = field->default_value && !(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF);
        if (all && count == 0 && has_default && field->label != PROTOBUF_C_LABEL_REPEATED) count = 1;
        for (size_t k = 0; k < count; k++) print_value(out, field, dt_field_at(message, field, k), all, indent);
    }
}

dt_status dt_config_print(const ProtobufCMessage *message, int all, char **text)
{
    char *data = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&data, &n);
    if (!out) return dt_fail(DT_ERR_MEMORY, "no memory to print a %s", message->descriptor->short_name);
    print_message(out, message, all, 0);
    int bad = ferror(out);
    if (fclose(out) != 0 || bad) {
        free(data);
        return dt_fail(DT_ERR_MEMORY, "no memory to print a %s", message->descriptor->short_name);
    }
    *text = data;
    return DT_OK;
}

dt_status dt_config_pack(const ProtobufCMessage *message, unsigned char **data, size_t *bytes)
{
    size_t n = protobuf_c_message_get_packed_size(message);
    unsigned char *out = malloc(n ? n : 1);
    if (!out) return dt_fail(DT_ERR_MEMORY, "no memory for %zu bytes of %s", n, message->descriptor->short_name);
    *bytes = protobuf_c_message_pack(message, out);
    *data = out;
    return DT_OK;
}
