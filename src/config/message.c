/* Fields of a proto2 message through its descriptor. */
#include "config/message.h"

#include <stdlib.h> // malloc, realloc, free
#include <string.h> // memcpy, memset, strncmp

size_t dt_value_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return 8;
    case PROTOBUF_C_TYPE_BOOL: return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING: return sizeof(char *);
    case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_MESSAGE: return sizeof(ProtobufCMessage *);
    default: return 4;
    }
}

void dt_value_free(ProtobufCType type, dt_value *value)
{
    if (type == PROTOBUF_C_TYPE_STRING) free(value->string);
    if (type == PROTOBUF_C_TYPE_BYTES) free(value->bytes.data);
    if (type == PROTOBUF_C_TYPE_MESSAGE) protobuf_c_message_free_unpacked(value->message, NULL);
}

const char *dt_field_type_name(const dt_field *field)
{
    static const char *const name[] = {
        [PROTOBUF_C_TYPE_INT32] = "int32",       [PROTOBUF_C_TYPE_SINT32] = "sint32",
        [PROTOBUF_C_TYPE_SFIXED32] = "sfixed32", [PROTOBUF_C_TYPE_INT64] = "int64",
        [PROTOBUF_C_TYPE_SINT64] = "sint64",     [PROTOBUF_C_TYPE_SFIXED64] = "sfixed64",
        [PROTOBUF_C_TYPE_UINT32] = "uint32",     [PROTOBUF_C_TYPE_FIXED32] = "fixed32",
        [PROTOBUF_C_TYPE_UINT64] = "uint64",     [PROTOBUF_C_TYPE_FIXED64] = "fixed64",
        [PROTOBUF_C_TYPE_FLOAT] = "float",       [PROTOBUF_C_TYPE_DOUBLE] = "double",
        [PROTOBUF_C_TYPE_BOOL] = "bool",         [PROTOBUF_C_TYPE_STRING] = "string",
        [PROTOBUF_C_TYPE_BYTES] = "bytes",
    };
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        return ((const ProtobufCMessageDescriptor *)field->descriptor)->short_name;
    }
    if (field->type == PROTOBUF_C_TYPE_ENUM) return ((const ProtobufCEnumDescriptor *)field->descriptor)->short_name;
    return name[field->type];
}

dt_status dt_message_new(const ProtobufCMessageDescriptor *type, ProtobufCMessage **out)
{
    ProtobufCMessage *message = malloc(type->sizeof_message);
    if (!message) return dt_fail(DT_ERR_MEMORY, "no memory for a %s", type->short_name);
    protobuf_c_message_init(type, message);
    *out = message;
    return DT_OK;
}

const dt_field *dt_message_field(const ProtobufCMessageDescriptor *type, const char *name, size_t n)
{
    for (unsigned i = 0; i < type->n_fields; i++) {
        const dt_field *field = &type->fields[i];
        if (strlen(field->name) == n && memcmp(field->name, name, n) == 0) return field;
    }
    return NULL;
}

/* What stands at `offset` of the message. */
static void *member(const ProtobufCMessage *message, unsigned offset)
{
    return (char *)message + offset;
}

static int in_oneof(const dt_field *field)
{
    return (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}

static int is_repeated(const dt_field *field)
{
    return field->label == PROTOBUF_C_LABEL_REPEATED;
}

const dt_field *dt_message_chosen(const ProtobufCMessage *message, const dt_field *field)
{
    if (!in_oneof(field)) return NULL;
    uint32_t id = *(uint32_t *)member(message, field->quantifier_offset);
    return id ? protobuf_c_message_descriptor_get_field(message->descriptor, id) : NULL;
}

size_t dt_field_count(const ProtobufCMessage *message, const dt_field *field)
{
    const dt_value *value = member(message, field->offset);
    if (is_repeated(field)) return *(size_t *)member(message, field->quantifier_offset);
    if (in_oneof(field)) return dt_message_chosen(message, field) == field;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) return value->message != NULL;
    if (field->type == PROTOBUF_C_TYPE_STRING) return value->string && value->string != field->default_value;
    if (field->label == PROTOBUF_C_LABEL_REQUIRED) return 1;
    return *(protobuf_c_boolean *)member(message, field->quantifier_offset) != 0;
}

void *dt_field_at(const ProtobufCMessage *message, const dt_field *field, size_t i)
{
    void *at = member(message, field->offset);
    return is_repeated(field) ? *(char **)at + i * dt_value_size(field->type) : at;
}

/* Frees what a value in a message owns; defaults are static. */
static void free_at(const dt_field *field, void *at)
{
    dt_value value;
    memcpy(&value, at, dt_value_size(field->type));
    const ProtobufCBinaryData *bytes = field->default_value;
    if (field->type == PROTOBUF_C_TYPE_STRING && value.string == field->default_value) return;
    if (field->type == PROTOBUF_C_TYPE_BYTES && bytes && value.bytes.data == bytes->data) return;
    dt_value_free(field->type, &value);
}

void dt_field_clear(ProtobufCMessage *message, const dt_field *field)
{
    if (in_oneof(field)) field = dt_message_chosen(message, field);
    if (!field) return;
    void *at = member(message, field->offset);
    if (is_repeated(field)) {
        size_t *count = member(message, field->quantifier_offset);
        for (size_t i = 0; i < *count; i++) free_at(field, dt_field_at(message, field, i));
        free(*(void **)at);
        *(void **)at = NULL;
        *count = 0;
        return;
    }
    free_at(field, at);
    memset(at, 0, dt_value_size(field->type));
    if (in_oneof(field)) {
        *(uint32_t *)member(message, field->quantifier_offset) = 0;
        return;
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        *(const char **)at = field->default_value;
    } else if (field->default_value) {
        memcpy(at, field->default_value, dt_value_size(field->type));
    }
    if (field->type != PROTOBUF_C_TYPE_MESSAGE && field->type != PROTOBUF_C_TYPE_STRING &&
        field->label == PROTOBUF_C_LABEL_OPTIONAL) {
        *(protobuf_c_boolean *)member(message, field->quantifier_offset) = 0;
    }
}

/* One more zero element. */
static dt_status extend(ProtobufCMessage *message, const dt_field *field)
{
    size_t *count = member(message, field->quantifier_offset), size = dt_value_size(field->type);
    void **array = member(message, field->offset);
    void *grown = realloc(*array, (*count + 1) * size);
    if (!grown) return dt_fail(DT_ERR_MEMORY, "no memory for %zu elements of %s", *count + 1, field->name);
    *array = grown;
    memset((char *)grown + *count * size, 0, size);
    ++*count;
    return DT_OK;
}

dt_status dt_field_put(ProtobufCMessage *message, const dt_field *field, size_t i, dt_value *value)
{
    if (!is_repeated(field)) {
        dt_field_clear(message, field);
        if (in_oneof(field)) {
            *(uint32_t *)member(message, field->quantifier_offset) = field->id;
        } else if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->type != PROTOBUF_C_TYPE_MESSAGE &&
                   field->type != PROTOBUF_C_TYPE_STRING) {
            *(protobuf_c_boolean *)member(message, field->quantifier_offset) = 1;
        }
    } else if (i < dt_field_count(message, field)) {
        free_at(field, dt_field_at(message, field, i));
    } else {
        dt_status st = extend(message, field);
        if (st != DT_OK) {
            dt_value_free(field->type, value);
            return st;
        }
    }
    memcpy(dt_field_at(message, field, i), value, dt_value_size(field->type));
    return DT_OK;
}
