/* Persistent storage by name. */
#include "base/hash.h" // dt_hash_string
#include "graph/exec.h"
#include <stdlib.h>
#include <string.h>

typedef struct slot {
    char *name;
    dt_stored stored;
} slot;

struct dt_store {
    dt_device *device;
    slot *slot; /* open addressing; `slots` is a power of two, at most half of them used */
    size_t slots, used;
};

dt_status dt_store_create(dt_device *device, dt_store **out)
{
    dt_store *s = NULL;
    DT_TRY(dt_alloc(1, sizeof *s, &s));
    s->device = device;
    s->slots = 64;
    dt_status st = dt_alloc(s->slots, sizeof *s->slot, &s->slot);
    if (st != DT_OK) free(s);
    else *out = s;
    return st;
}

void dt_store_destroy(dt_store *s)
{
    if (s == NULL) return;
    for (size_t i = 0; i < s->slots; i++) {
        if (s->slot[i].stored.owned) s->device->ops->free(s->device, s->slot[i].stored.data);
        free(s->slot[i].name);
    }
    free(s->slot);
    free(s);
}

static slot *slot_of(slot *table, size_t slots, const char *name)
{
    size_t i = dt_hash_string(name) & (slots - 1);
    while (table[i].name != NULL && strcmp(table[i].name, name) != 0) i = (i + 1) & (slots - 1);
    return &table[i];
}

dt_stored *dt_store_find(dt_store *s, const char *name)
{
    slot *at = slot_of(s->slot, s->slots, name);
    return at->name != NULL ? &at->stored : NULL;
}

static dt_status add(dt_store *s, const char *name, dt_stored stored)
{
    if (dt_store_find(s, name) != NULL) return dt_fail(DT_ERR_INTERNAL, "%s is stored twice", name);
    if (2 * (s->used + 1) > s->slots) {
        slot *larger = NULL;
        DT_TRY(dt_alloc(2 * s->slots, sizeof *larger, &larger));
        for (size_t i = 0; i < s->slots; i++)
            if (s->slot[i].name != NULL) *slot_of(larger, 2 * s->slots, s->slot[i].name) = s->slot[i];
        free(s->slot);
        s->slot = larger;
        s->slots *= 2;
    }
    slot *at = slot_of(s->slot, s->slots, name);
    at->name = strdup(name);
    if (at->name == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    at->stored = stored;
    s->used++;
    return DT_OK;
}

dt_status dt_store_put(dt_store *s, const char *name, void *data, size_t bytes)
{
    return add(s, name, (dt_stored){data, bytes, false});
}

dt_status dt_store_new(dt_store *s, const char *name, size_t bytes, void **data)
{
    void *fresh = NULL;
    DT_TRY(s->device->ops->alloc(s->device, bytes, &fresh));
    dt_status st = add(s, name, (dt_stored){fresh, bytes, true});
    if (st != DT_OK) s->device->ops->free(s->device, fresh);
    else if (data != NULL) *data = fresh;
    return st;
}

int64_t dt_store_owned_bytes(const dt_store *s)
{
    int64_t bytes = 0;
    for (size_t i = 0; i < s->slots; i++)
        if (s->slot[i].stored.owned) bytes += (int64_t)s->slot[i].stored.bytes;
    return bytes;
}
