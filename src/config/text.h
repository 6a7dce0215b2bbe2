/* Protobuf text format <-> messages, value by value: what the reader, the printer and --set share. */
#ifndef DT_CONFIG_TEXT_H
#define DT_CONFIG_TEXT_H

#include "base/status.h"    // dt_status
#include "config/lexer.h"   // dt_lexer
#include "config/message.h" // dt_field, dt_value
#include "config/place.h"   // dt_path, dt_place, dt_places
#include <stddef.h>         // size_t
#include <stdio.h>          // FILE

enum { DT_TEXT_DEEPEST = 100 }; /* nested messages, as protobuf's own readers allow */

/** A reader: the tokens, the path of the field being read, and where each value is noted. The lexer's path is `path`.
 */
typedef struct dt_text {
    dt_lexer lexer;
    dt_path path;
    dt_places *places;
    int depth; /* of nested messages */
} dt_text;

/** Reads fields up to the end of the text into `message`. */
dt_status dt_text_read(dt_text *text, ProtobufCMessage *message) DT_WARN_UNUSED;
/** Reads what stands behind a field's name (and colon), one value or a list, into `field` of `message`. A message is
 *  noted at `name`, a scalar where it stands itself. */
dt_status dt_text_values(dt_text *text, ProtobufCMessage *message, const dt_field *field, dt_place name) DT_WARN_UNUSED;
/** Reads one value of the field, whose path text->path is; what *value owns is the caller's. */
dt_status dt_text_element(dt_text *text, const dt_field *field, dt_place name, dt_value *value) DT_WARN_UNUSED;
/** Fails because `type` has no field called name[n]: the nearest name, or all of them. */
dt_status dt_text_no_field(dt_place place, const char *path, const ProtobufCMessageDescriptor *type, const char *name,
                           size_t n) DT_WARN_UNUSED;

/** Reads one value of any type but a message. */
dt_status dt_scalar_read(dt_lexer *lexer, const dt_field *field, dt_value *value) DT_WARN_UNUSED;
/** A number, bool or enum as text: a name, or written to `buffer`; floats with as few digits as read back the same. */
const char *dt_scalar_show(const dt_field *field, const void *value, char buffer[32]);

/** Decodes the literal text[n], quotes included, to at most n bytes at `out`; *len of them. Returns the escape that is
 *  none (up to the closing quote), or NULL. */
const char *dt_string_decode(const char *text, size_t n, char *out, size_t *len);
/** Writes bytes as a literal: UTF-8 as it is, everything else that is not printable escaped. */
void dt_string_print(FILE *out, const void *data, size_t n);

#endif
