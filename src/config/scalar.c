/* One value of the text format: a token, or a sign and a token, as the field's type wants it; and the way back. */
#include "config/config.h" // dt_nearest_name
#include "config/text.h"

#include <errno.h>
#include <inttypes.h> // PRId64
#include <math.h>     // INFINITY, NAN
#include <stdio.h>    // snprintf
#include <stdlib.h>   // realloc, free, strtod, strtoull
#include <string.h>   // memcpy, memchr, strndup
#include <strings.h>  // strcasecmp

/* A number as it is written. */
typedef struct number {
    int negative;
    dt_token token;
    char *digits; /* the token, NUL-terminated; malloc's */
} number;

static int is_integer(ProtobufCType type)
{
    return type <= PROTOBUF_C_TYPE_FIXED64;
}

/* The current token, with the sign in front of it if there was one, as no value of this type. */
static dt_status not_a(const dt_lexer *l, int negative, const dt_token *token, const char *what)
{
    dt_shown shown;
    return dt_fail_at(token->place, l->path->text, "%s%s is not %s", negative ? "-" : "", dt_token_show(token, shown),
                      what);
}

static dt_status take_number(dt_lexer *l, number *out)
{
    *out = (number){0};
    dt_place place = l->token.place;
    if (dt_lexer_at(l, '-')) {
        out->negative = 1;
        DT_TRY(dt_lexer_next(l));
    }
    out->token = l->token;
    out->token.place = place;
    out->digits = strndup(l->token.text, l->token.n);
    return out->digits ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a number of %zu characters", l->token.n);
}

/* The limits of an integer type: -low .. high. */
static void integer_limits(ProtobufCType type, uint64_t *low, uint64_t *high)
{
    switch (type) {
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        *low = 0;
        *high = UINT32_MAX;
        break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        *low = 0;
        *high = UINT64_MAX;
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        *low = (uint64_t)INT64_MAX + 1;
        *high = INT64_MAX;
        break;
    default: *low = (uint64_t)INT32_MAX + 1; *high = INT32_MAX;
    }
}

static dt_status to_integer(const dt_lexer *l, const dt_field *field, const number *x, dt_value *out)
{
    uint64_t low, high;
    integer_limits(field->type, &low, &high);
    errno = 0;
    uint64_t magnitude = x->token.kind == DT_TOKEN_INTEGER ? strtoull(x->digits, NULL, 0) : 0;
    if (x->token.kind != DT_TOKEN_INTEGER || errno || magnitude > (x->negative ? low : high)) {
        char what[96];
        const char *type = dt_field_type_name(field);
        snprintf(what, sizeof what, "%s %s (%s%" PRIu64 "..%" PRIu64 ")", *type == 'i' ? "an" : "a", type,
                 low ? "-" : "", low, high);
        return not_a(l, x->negative, &x->token, what);
    }
    uint64_t bits = x->negative ? 0 - magnitude : magnitude; // two's complement; the low half is the 32-bit value
    if (dt_value_size(field->type) == 8) {
        out->u64 = bits;
    } else {
        out->u32 = (uint32_t)bits;
    }
    return DT_OK;
}

static dt_status to_float(const dt_lexer *l, const dt_field *field, const number *x, dt_value *out)
{
    int single = field->type == PROTOBUF_C_TYPE_FLOAT, is_name = x->token.kind == DT_TOKEN_NAME;
    int octal_or_hex = x->token.kind == DT_TOKEN_INTEGER && x->digits[0] == '0' && x->digits[1];
    double value;
    if (is_name && (!strcasecmp(x->digits, "inf") || !strcasecmp(x->digits, "infinity"))) {
        value = INFINITY;
    } else if (is_name && !strcasecmp(x->digits, "nan")) {
        value = (double)NAN;
    } else if ((x->token.kind == DT_TOKEN_INTEGER && !octal_or_hex) || x->token.kind == DT_TOKEN_FLOAT) {
        value = strtod(x->digits, NULL);
        const char *what = single ? "within the range of a float" : "within the range of a double";
        if (isinf(single ? (double)(float)value : value)) return not_a(l, x->negative, &x->token, what);
    } else {
        return not_a(l, x->negative, &x->token, "a decimal number");
    }
    if (x->negative) value = -value;
    if (single) {
        out->f32 = (float)value;
    } else {
        out->f64 = value;
    }
    return DT_OK;
}

static dt_status to_enum(const dt_lexer *l, const dt_field *field, const number *x, dt_value *out)
{
    const ProtobufCEnumDescriptor *type = field->descriptor;
    const char *names[type->n_value_names];
    char list[512] = "";
    for (unsigned i = 0; i < type->n_values; i++) {
        const ProtobufCEnumValue *v = &type->values[i];
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "one of ", v->name);
        errno = 0;
        int64_t magnitude = x->token.kind == DT_TOKEN_INTEGER ? strtoll(x->digits, NULL, 0) : -1;
        if (!errno && magnitude >= 0 && (x->negative ? -magnitude : magnitude) == v->value) {
            out->i32 = v->value;
            return DT_OK;
        }
    }
    for (unsigned i = 0; i < type->n_value_names; i++) {
        names[i] = type->values_by_name[i].name;
        if (x->token.kind == DT_TOKEN_NAME && !x->negative && strcmp(names[i], x->digits) == 0) {
            out->i32 = type->values[type->values_by_name[i].index].value;
            return DT_OK;
        }
    }
    const char *near =
        x->token.kind == DT_TOKEN_NAME ? dt_nearest_name(x->digits, names, (int)type->n_value_names) : NULL;
    size_t n = strlen(list);
    if (near) snprintf(list + n, sizeof list - n, "; did you mean %s?", near);
    return not_a(l, x->negative, &x->token, list);
}

static dt_status to_bool(const dt_lexer *l, const number *x, dt_value *out)
{
    static const char *const word[2][3] = {{"false", "False", "f"}, {"true", "True", "t"}};
    for (int b = 0; b < 2; b++) {
        int hit = x->token.kind == DT_TOKEN_INTEGER && strtoull(x->digits, NULL, 0) == (unsigned)b;
        for (int i = 0; i < 3; i++) hit |= strcmp(word[b][i], x->digits) == 0;
        if (hit && !x->negative) {
            out->boolean = b;
            return DT_OK;
        }
    }
    return not_a(l, x->negative, &x->token, "true or false");
}

/* Adjacent literals are one string. */
static dt_status take_string(dt_lexer *l, const dt_field *field, dt_value *out)
{
    int is_bytes = field->type == PROTOBUF_C_TYPE_BYTES;
    if (l->token.kind != DT_TOKEN_STRING) return not_a(l, 0, &l->token, "a string in quotes");
    char *data = NULL;
    size_t have = 0, more = 0;
    dt_status st = DT_OK;
    do {
        char *grown = realloc(data, have + l->token.n + 1);
        if (!grown) {
            st = dt_fail(DT_ERR_MEMORY, "no memory for a string of %zu bytes", have + l->token.n);
            goto done;
        }
        data = grown;
        const char *bad = dt_string_decode(l->token.text, l->token.n, data + have, &more);
        if (bad) {
            dt_token escape = {DT_TOKEN_STRING, bad, 2, l->token.place};
            while ((bad[escape.n] & 0xc0) == 0x80) escape.n++;
            for (const char *c = l->token.text; c < bad; c++) escape.place.column += (*c & 0xc0) != 0x80;
            DT_GOTO(not_a(l, 0, &escape, "an escape"), done);
        }
        if (!is_bytes && memchr(data + have, '\0', more)) {
            DT_GOTO(dt_fail_at(l->token.place, l->path->text, "a string cannot hold a NUL byte"), done);
        }
        have += more;
        DT_GOTO(dt_lexer_next(l), done);
    } while (l->token.kind == DT_TOKEN_STRING);
    data[have] = '\0';
    if (is_bytes) {
        out->bytes = (ProtobufCBinaryData){have, (uint8_t *)data};
    } else {
        out->string = data;
    }
    data = NULL;
done:
    free(data);
    return st;
}

dt_status dt_scalar_read(dt_lexer *lexer, const dt_field *field, dt_value *value)
{
    if (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_BYTES) {
        return take_string(lexer, field, value);
    }
    number x;
    DT_TRY(take_number(lexer, &x));
    dt_status st = field->type == PROTOBUF_C_TYPE_ENUM   ? to_enum(lexer, field, &x, value)
                   : field->type == PROTOBUF_C_TYPE_BOOL ? to_bool(lexer, &x, value)
                   : is_integer(field->type)             ? to_integer(lexer, field, &x, value)
                                                         : to_float(lexer, field, &x, value);
    free(x.digits);
    DT_TRY(st);
    return dt_lexer_next(lexer);
}

const char *dt_scalar_show(const dt_field *field, const void *at, char buffer[32])
{
    dt_value v = {0};
    memcpy(&v, at, dt_value_size(field->type));
    int precision;
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL: return v.boolean ? "true" : "false";
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumValue *e = protobuf_c_enum_descriptor_get_value(field->descriptor, v.i32);
        if (e) return e->name;
        snprintf(buffer, 32, "%" PRId32, v.i32);
        return buffer;
    }
    case PROTOBUF_C_TYPE_FLOAT:
        for (precision = 6; precision <= 9; precision++) {
            snprintf(buffer, 32, "%.*g", precision, (double)v.f32);
            if (strtof(buffer, NULL) == v.f32) break;
        }
        return isnan(v.f32) ? "nan" : buffer;
    case PROTOBUF_C_TYPE_DOUBLE:
        for (precision = 15; precision <= 17; precision++) {
            snprintf(buffer, 32, "%.*g", precision, v.f64);
            if (strtod(buffer, NULL) == v.f64) break;
        }
        return isnan(v.f64) ? "nan" : buffer;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: snprintf(buffer, 32, "%" PRIu32, v.u32); return buffer;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: snprintf(buffer, 32, "%" PRIu64, v.u64); return buffer;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64: snprintf(buffer, 32, "%" PRId64, v.i64); return buffer;
    default: snprintf(buffer, 32, "%" PRId32, v.i32); return buffer;
    }
}
