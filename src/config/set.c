/* --set path=value: one field of a message, found by its path and given a value. */
#include "config/set.h"
#include "config/text.h"

#include <stdlib.h> // strtoll
#include <string.h> // strchr, strcspn, strdup, strlen

/* One step of a path: name, or name[index]. */
typedef struct step {
    const dt_field *field;
    int64_t index; /* -1: none given */
    int last;
} step;

/* The path as it is being walked. */
typedef struct walk {
    dt_text text; /* its path is where `message` is; reads the value in the end */
    dt_place place;
    const char *at; /* rest of the path, up to the "=" */
    ProtobufCMessage *message;
} walk;

static dt_status read_step(walk *w, step *out)
{
    const char *path = w->text.path.text;
    size_t n = strcspn(w->at, ".[=");
    out->field = dt_message_field(w->message->descriptor, w->at, n);
    if (!out->field) return dt_text_no_field(w->place, path, w->message->descriptor, w->at, n);
    out->index = -1;
    w->at += n;
    if (*w->at == '[') {
        char *end;
        int is_number = w->at[1] >= '0' && w->at[1] <= '9';
        out->index = is_number ? strtoll(w->at + 1, &end, 10) : 0;
        if (!is_number || *end != ']' || !strchr(".=", end[1])) {
            return dt_fail_at(w->place, path, "%.*s is not an index such as [0]", (int)strcspn(w->at, "="), w->at);
        }
        w->at = end + 1;
    }
    out->last = *w->at == '=';
    w->at++;
    return DT_OK;
}

/* Is the index right for the field? None, on the way to a field of its only (or first) element, is [0]. */
static dt_status check_index(const walk *w, step *s)
{
    const char *path = w->text.path.text, *name = s->field->name;
    int repeated = s->field->label == PROTOBUF_C_LABEL_REPEATED;
    if (!repeated && s->index >= 0) return dt_fail_at(w->place, path, "%s is not repeated: it takes no index", name);
    if (!repeated || (s->index < 0 && s->last)) return DT_OK;
    long long count = (long long)dt_field_count(w->message, s->field);
    if (s->index < 0 && count > 1)
        return dt_fail_at(w->place, path, "%s has %lld elements: say which one, such as %s[0]", name, count, name);
    if (s->index < 0) s->index = 0;
    if (s->index <= count) return DT_OK;
    return dt_fail_at(w->place, path, "%s[%lld] is past the end; [%lld] would append", name, (long long)s->index,
                      count);
}

/* Goes down into a message, which is made where it is not there. */
static dt_status enter(walk *w, const step *s)
{
    const char *path = w->text.path.text, *name = s->field->name;
    if (s->field->type != PROTOBUF_C_TYPE_MESSAGE) {
        return dt_fail_at(w->place, path, "%s has no fields: it is of type %s", name, dt_field_type_name(s->field));
    }
    if (++w->text.depth > DT_TEXT_DEEPEST) {
        return dt_fail_at(w->place, "", "messages nest deeper than %d", DT_TEXT_DEEPEST);
    }
    size_t index = s->index < 0 ? 0 : (size_t)s->index;
    dt_path_push(&w->text.path, s->field->name, s->index);
    if (index >= dt_field_count(w->message, s->field)) {
        dt_value value;
        DT_TRY(dt_message_new(s->field->descriptor, &value.message));
        DT_TRY(dt_field_put(w->message, s->field, index, &value));
        DT_TRY(dt_places_note(w->text.places, w->text.path.text, w->place));
    }
    w->message = *(ProtobufCMessage **)dt_field_at(w->message, s->field, index);
    return DT_OK;
}

/* Is the value a string that stands there without quotes? */
static int is_bare(const walk *w, const dt_field *field)
{
    return field->type == PROTOBUF_C_TYPE_STRING && *w->at != '"' && *w->at != '\'';
}

static dt_status check_end(const walk *w)
{
    dt_shown shown;
    const dt_token *rest = &w->text.lexer.token;
    if (rest->kind == DT_TOKEN_END) return DT_OK;
    return dt_fail_at(w->place, w->text.path.text, "%s stands behind the value", dt_token_show(rest, shown));
}

/* Sets a singular field (index -1) or one element. */
static dt_status assign_one(walk *w, const dt_field *field, int64_t index)
{
    dt_value value;
    dt_path_push(&w->text.path, field->name, index);
    const char *path = w->text.path.text;
    dt_places_forget(w->text.places, path);
    if (is_bare(w, field)) {
        DT_TRY(dt_places_note(w->text.places, path, w->place));
        value.string = strdup(w->at);
        if (!value.string) return dt_fail(DT_ERR_MEMORY, "no memory for a value of %s", path);
    } else {
        DT_TRY(dt_lexer_start(&w->text.lexer, w->place, &w->text.path, w->at, strlen(w->at)));
        DT_TRY(dt_text_element(&w->text, field, w->place, &value));
    }
    DT_TRY(dt_field_put(w->message, field, index < 0 ? 0 : (size_t)index, &value));
    return check_end(w);
}

/* Replaces all elements by one value or by a list. */
static dt_status assign_all(walk *w, const dt_field *field)
{
    size_t up = dt_path_push(&w->text.path, field->name, -1);
    dt_places_forget(w->text.places, w->text.path.text);
    dt_path_pop(&w->text.path, up);
    dt_field_clear(w->message, field);
    if (*w->at != '[') return assign_one(w, field, 0);
    DT_TRY(dt_lexer_start(&w->text.lexer, w->place, &w->text.path, w->at, strlen(w->at)));
    DT_TRY(dt_text_values(&w->text, w->message, field, w->place));
    return check_end(w);
}

dt_status dt_set_apply(ProtobufCMessage *message, const char *set, dt_places *places)
{
    char *source = dt_region_printf(&places->region, "--set %s", set);
    if (!source) return dt_fail(DT_ERR_MEMORY, "no memory for --set %s", set);
    walk w = {.text = {.places = places}, .place = {.source = source}, .at = set, .message = message};
    if (!strchr(set, '=')) return dt_fail_at(w.place, "", "expected path=value");
    for (step s = {0};;) {
        DT_TRY(read_step(&w, &s));
        DT_TRY(check_index(&w, &s));
        if (s.last && s.field->label == PROTOBUF_C_LABEL_REPEATED && s.index < 0) return assign_all(&w, s.field);
        if (s.last) return assign_one(&w, s.field, s.index);
        DT_TRY(enter(&w, &s));
    }
}
