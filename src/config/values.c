/* Validation of single values: ranges from the .proto's comments, enums, unknown fields. */
#include "config/check.h"
#include "config/doc.h"
#include "config/text.h"

#include <math.h>   // isfinite
#include <string.h> // memcpy

static double as_double(const dt_field *field, const void *at)
{
    dt_value v;
    memcpy(&v, at, dt_value_size(field->type));
    switch (field->type) {
    case PROTOBUF_C_TYPE_FLOAT: return (double)v.f32;
    case PROTOBUF_C_TYPE_DOUBLE: return v.f64;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: return (double)v.u64;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64: return (double)v.i64;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: return (double)v.u32;
    default: return (double)v.i32;
    }
}

static dt_status check_number(const dt_field *field, const void *at, const dt_config_doc *doc, const char *path,
                              const dt_places *places)
{
    char buffer[32];
    double x = as_double(field, at);
    int inside = (doc->lo_open ? x > doc->lo : x >= doc->lo) && (doc->hi_open ? x < doc->hi : x <= doc->hi);
    if (inside && isfinite(x)) return DT_OK;
    const char *shown = dt_scalar_show(field, at, buffer), *in = doc->range[0] == '>' ? "" : "in ";
    if (inside) return dt_fail_field(places, path, "%s is not finite", shown);
    return dt_fail_field(places, path, "%s is not %s%s", shown, in, doc->range);
}

static dt_status check_value(const ProtobufCMessage *message, const dt_field *field, size_t i, dt_path *path,
                             const dt_places *places)
{
    const void *at = dt_field_at(message, field, i);
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) return dt_check_values(*(ProtobufCMessage *const *)at, path, places);
    if (field->type == PROTOBUF_C_TYPE_ENUM) {
        int32_t value = *(const int32_t *)at;
        if (protobuf_c_enum_descriptor_get_value(field->descriptor, value)) return DT_OK;
        return dt_fail_field(places, path->text, "%d is no value of %s", (int)value, dt_field_type_name(field));
    }
    const dt_config_doc *doc = dt_config_doc_find(message->descriptor->short_name, field->name);
    return doc && doc->range ? check_number(field, at, doc, path->text, places) : DT_OK;
}

dt_status dt_check_values(const ProtobufCMessage *message, dt_path *path, const dt_places *places)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    if (message->n_unknown_fields) {
        return dt_fail_field(places, path->text, "%s has no field number %u", type->short_name,
                             message->unknown_fields[0].tag);
    }
    for (unsigned f = 0; f < type->n_fields; f++) {
        const dt_field *field = &type->fields[f];
        int repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
        for (size_t i = 0; i < dt_field_count(message, field); i++) {
            size_t up = dt_path_push(path, field->name, repeated ? (int64_t)i : -1);
            DT_TRY(check_value(message, field, i, path, places));
            dt_path_pop(path, up);
        }
    }
    return DT_OK;
}
