/* Fields of a proto2 message through its descriptor: whether they are given, where they lie, putting and clearing. All
 * memory is malloc's, laid out as protobuf_c_message_free_unpacked(message, NULL) expects it. */
#ifndef DT_CONFIG_MESSAGE_H
#define DT_CONFIG_MESSAGE_H

#include "base/status.h" // dt_status
#include <protobuf-c/protobuf-c.h>
#include <stddef.h> // size_t
#include <stdint.h> // int32_t, uint64_t

typedef ProtobufCFieldDescriptor dt_field;

/** One value of any type, as it lies in a message. */
typedef union dt_value {
    int32_t i32;
    uint32_t u32;
    int64_t i64;
    uint64_t u64;
    float f32;
    double f64;
    protobuf_c_boolean boolean;
    char *string;
    ProtobufCBinaryData bytes;
    ProtobufCMessage *message;
} dt_value;

/** Bytes of a value of `type`, and what becomes of what it owns. */
size_t dt_value_size(ProtobufCType type);
void dt_value_free(ProtobufCType type, dt_value *value);
/** "int32", "string", ...; for messages and enums the name of the type. */
const char *dt_field_type_name(const dt_field *field);

/** A message with every field absent. */
dt_status dt_message_new(const ProtobufCMessageDescriptor *type, ProtobufCMessage **out) DT_WARN_UNUSED;
/** The field called name[n], or NULL. */
const dt_field *dt_message_field(const ProtobufCMessageDescriptor *type, const char *name, size_t n);
/** The member that is set of the oneof that `field` belongs to; NULL if none is, or if it belongs to none. */
const dt_field *dt_message_chosen(const ProtobufCMessage *message, const dt_field *field);

/** Values the field holds: elements of a repeated field; 1 or 0 of another, for given or absent. (Of a required number,
 *  which has no flag: always 1.) */
size_t dt_field_count(const ProtobufCMessage *message, const dt_field *field);
/** Value i < count. At i = 0 also of a singular field that is absent: its default. */
void *dt_field_at(const ProtobufCMessage *message, const dt_field *field, size_t i);
/** Sets a singular field (and drops the other members of its oneof), replaces element i, or appends where i = count.
 *  Takes over what the value owns, also where it fails. */
dt_status dt_field_put(ProtobufCMessage *message, const dt_field *field, size_t i, dt_value *value) DT_WARN_UNUSED;
/** Makes the field (and the other members of its oneof) absent. */
void dt_field_clear(ProtobufCMessage *message, const dt_field *field);

#endif
