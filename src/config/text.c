/* The reader of protobuf's text format: fields, lists and nested messages, over any proto2 descriptor. */
#include "config/text.h"
#include "config/config.h" // dt_nearest_name

#include <stdio.h>  // snprintf
#include <string.h> // strlen

dt_status dt_text_no_field(dt_place place, const char *path, const ProtobufCMessageDescriptor *type, const char *name,
                           size_t n)
{
    const char *names[type->n_fields + 1];
    char list[1024] = "";
    for (unsigned i = 0; i < type->n_fields; i++) {
        names[i] = type->fields[i].name;
        size_t have = strlen(list);
        snprintf(list + have, sizeof list - have, "%s%s", have ? ", " : "", names[i]);
    }
    char word[256];
    snprintf(word, sizeof word, "%.*s", (int)(n < 255 ? n : 255), name);
    const char *near = dt_nearest_name(word, names, (int)type->n_fields);
    const char *in = type->short_name;
    if (near) return dt_fail_at(place, path, "%s has no field \"%s\"; did you mean \"%s\"?", in, word, near);
    return dt_fail_at(place, path, "%s has no field \"%s\", only: %s", in, word, *list ? list : "none");
}

/* The place of a field of the message being read, NULL if it was not given. */
static const dt_place *find_place(dt_text *t, const dt_field *field)
{
    size_t up = dt_path_push(&t->path, field->name, -1);
    const dt_place *place = dt_places_find(t->places, t->path.text);
    dt_path_pop(&t->path, up);
    return place;
}

/* Has this singular field been given? A required number has no flag of its own; its place tells. */
static int is_given(dt_text *t, const ProtobufCMessage *message, const dt_field *field)
{
    if (field->label == PROTOBUF_C_LABEL_REQUIRED) return find_place(t, field) != NULL;
    return dt_field_count(message, field) > 0;
}

/* A field is given once, and one member of a oneof. */
static dt_status check_first(dt_text *t, const ProtobufCMessage *message, const dt_field *field, dt_place here)
{
    const dt_field *chosen = dt_message_chosen(message, field), *earlier = chosen ? chosen : field;
    if (field->label == PROTOBUF_C_LABEL_REPEATED || !(chosen || is_given(t, message, field))) return DT_OK;
    char where[32] = "", other[512];
    const dt_place *first = find_place(t, earlier);
    if (first && first->line) snprintf(where, sizeof where, " at %d:%d", first->line, first->column);
    snprintf(other, sizeof other, "%.400s%s%s", t->path.text, t->path.n ? "." : "", earlier->name);
    dt_path_push(&t->path, field->name, -1);
    const char *path = t->path.text;
    if (earlier == field) return dt_fail_at(here, path, "given twice%s%s", *where ? ", first" : "", where);
    return dt_fail_at(here, path, "%s is given%s; only one of them can be", other, where);
}

/* Fields up to `close`, which is passed too; '\0': up to the end of the text. */
static dt_status read_fields(dt_text *t, ProtobufCMessage *message, char close);

static dt_status read_message(dt_text *t, const dt_field *field, dt_value *value)
{
    dt_lexer *l = &t->lexer;
    char close = dt_lexer_at(l, '<') ? '>' : '}';
    dt_place open = l->token.place;
    DT_TRY(dt_lexer_expect(l, close == '>' ? '<' : '{'));
    if (t->depth == DT_TEXT_DEEPEST) {
        return dt_fail_at(open, t->path.text, "messages nest deeper than %d", DT_TEXT_DEEPEST);
    }
    DT_TRY(dt_message_new(field->descriptor, &value->message));
    t->depth++;
    dt_status st = read_fields(t, value->message, close);
    t->depth--;
    if (st != DT_OK) protobuf_c_message_free_unpacked(value->message, NULL);
    return st;
}

dt_status dt_text_element(dt_text *t, const dt_field *field, dt_place name, dt_value *value)
{
    int is_message = field->type == PROTOBUF_C_TYPE_MESSAGE;
    DT_TRY(dt_places_note(t->places, t->path.text, is_message ? name : t->lexer.token.place));
    return is_message ? read_message(t, field, value) : dt_scalar_read(&t->lexer, field, value);
}

static dt_status read_value(dt_text *t, ProtobufCMessage *message, const dt_field *field, dt_place name)
{
    int repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
    size_t index = repeated ? dt_field_count(message, field) : 0;
    size_t up = dt_path_push(&t->path, field->name, repeated ? (int64_t)index : -1);
    dt_value value;
    DT_TRY(dt_text_element(t, field, name, &value)); // an error leaves the path, which nothing reads any more
    DT_TRY(dt_field_put(message, field, index, &value));
    dt_path_pop(&t->path, up);
    return DT_OK;
}

dt_status dt_text_values(dt_text *t, ProtobufCMessage *message, const dt_field *field, dt_place name)
{
    dt_lexer *l = &t->lexer;
    if (field->label != PROTOBUF_C_LABEL_REPEATED || !dt_lexer_at(l, '[')) return read_value(t, message, field, name);
    DT_TRY(dt_lexer_next(l));
    if (dt_lexer_at(l, ']')) return dt_lexer_next(l);
    for (;;) {
        DT_TRY(read_value(t, message, field, l->token.place));
        if (dt_lexer_at(l, ']')) return dt_lexer_next(l);
        size_t up = dt_path_push(&t->path, field->name, -1);
        DT_TRY(dt_lexer_expect(l, ','));
        dt_path_pop(&t->path, up);
    }
}

static dt_status read_field(dt_text *t, ProtobufCMessage *message)
{
    dt_lexer *l = &t->lexer;
    dt_token name = l->token;
    dt_shown shown;
    if (name.kind != DT_TOKEN_NAME) {
        return dt_fail_at(name.place, t->path.text, "expected the name of a field, not %s",
                          dt_token_show(&name, shown));
    }
    const dt_field *field = dt_message_field(message->descriptor, name.text, name.n);
    if (!field) return dt_text_no_field(name.place, t->path.text, message->descriptor, name.text, name.n);
    DT_TRY(check_first(t, message, field, name.place));
    DT_TRY(dt_lexer_next(l));
    size_t up = dt_path_push(&t->path, field->name, -1);
    if (field->type != PROTOBUF_C_TYPE_MESSAGE || dt_lexer_at(l, ':')) DT_TRY(dt_lexer_expect(l, ':'));
    dt_path_pop(&t->path, up);
    DT_TRY(dt_text_values(t, message, field, name.place));
    return dt_lexer_at(l, ',') || dt_lexer_at(l, ';') ? dt_lexer_next(l) : DT_OK;
}

/* Required fields must have been given. */
static dt_status check_required(dt_text *t, const ProtobufCMessage *message, dt_place here)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const dt_field *field = &message->descriptor->fields[i];
        if (field->label != PROTOBUF_C_LABEL_REQUIRED || is_given(t, message, field)) continue;
        dt_path_push(&t->path, field->name, -1);
        return dt_fail_at(here, t->path.text, "required, but not given");
    }
    return DT_OK;
}

static dt_status read_fields(dt_text *t, ProtobufCMessage *message, char close)
{
    dt_lexer *l = &t->lexer;
    while (l->token.kind != DT_TOKEN_END && !(close && dt_lexer_at(l, close))) DT_TRY(read_field(t, message));
    DT_TRY(check_required(t, message, l->token.place));
    return close ? dt_lexer_expect(l, close) : DT_OK;
}

dt_status dt_text_read(dt_text *t, ProtobufCMessage *message)
{
    return read_fields(t, message, '\0');
}
