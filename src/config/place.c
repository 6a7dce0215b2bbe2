/* Where a value came from, for error messages. */
#include "config/place.h"

#include <stdarg.h> // va_list
#include <stdio.h>  // snprintf, vsnprintf
#include <stdlib.h> // free
#include <string.h> // strcmp, strncmp, strlen

struct dt_place_entry {
    const char *path; // NULL: forgotten
    dt_place place;
};

size_t dt_path_push(dt_path *path, const char *name, int64_t index)
{
    size_t before = path->n, room = sizeof path->text - before;
    char *end = path->text + before;
    const char *dot = before ? "." : "";
    int n = index < 0 ? snprintf(end, room, "%s%s", dot, name)
                      : snprintf(end, room, "%s%s[%lld]", dot, name, (long long)index);
    path->n += (size_t)n < room ? (size_t)n : room - 1;
    return before;
}

void dt_path_pop(dt_path *path, size_t before)
{
    path->n = before;
    path->text[before] = '\0';
}

dt_status dt_places_note(dt_places *places, const char *path, dt_place place)
{
    DT_TRY(dt_grow(&places->entry, &places->cap, places->n + 1, sizeof *places->entry));
    char *own = dt_region_strdup(&places->region, path);
    if (!own) return dt_fail(DT_ERR_MEMORY, "no memory for the place of %s", path);
    places->entry[places->n++] = (struct dt_place_entry){own, place};
    return DT_OK;
}

const dt_place *dt_places_find(const dt_places *places, const char *path)
{
    for (int64_t i = places->n - 1; i >= 0; i--) {
        const struct dt_place_entry *e = &places->entry[i];
        if (e->path && strcmp(e->path, path) == 0) return &e->place;
    }
    return NULL;
}

void dt_places_forget(dt_places *places, const char *path)
{
    size_t n = strlen(path);
    for (int64_t i = 0; i < places->n; i++) {
        const char *p = places->entry[i].path;
        if (p && strncmp(p, path, n) == 0 && (p[n] == '\0' || p[n] == '.' || p[n] == '[')) places->entry[i].path = NULL;
    }
}

void dt_places_free(dt_places *places)
{
    free(places->entry);
    dt_region_free(&places->region);
    *places = (dt_places){0};
}

static dt_status fail(dt_place place, const char *path, const char *fmt, va_list args) DT_PRINTF(3, 0);
static dt_status fail(dt_place place, const char *path, const char *fmt, va_list args)
{
    char text[2048], where[1024] = "";
    vsnprintf(text, sizeof text, fmt, args);
    if (place.source && place.line) {
        snprintf(where, sizeof where, "%.900s:%d:%d: ", place.source, place.line, place.column);
    } else if (place.source) {
        snprintf(where, sizeof where, "%.1000s: ", place.source);
    }
    return dt_fail(DT_ERR_CONFIG, "%s%.900s%s%s", where, path, *path ? ": " : "", text);
}

dt_status dt_fail_at(dt_place place, const char *path, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    dt_status st = fail(place, path, fmt, args);
    va_end(args);
    return st;
}

/* The place of a path, or of the nearest message around it that has one. */
static dt_place nearest_place(const dt_places *places, const char *path)
{
    char up[sizeof(((dt_path *)0)->text)];
    snprintf(up, sizeof up, "%s", path);
    for (size_t n = strlen(up); n > 0;) {
        const dt_place *place = dt_places_find(places, up);
        if (place) return *place;
        while (n > 0 && up[--n] != '.' && up[n] != '[') {}
        up[n] = '\0';
    }
    return places->otherwise;
}

dt_status dt_fail_field(const dt_places *places, const char *path, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    dt_status st = fail(places ? nearest_place(places, path) : (dt_place){0}, path, fmt, args);
    va_end(args);
    return st;
}
