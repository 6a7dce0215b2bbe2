/* Parts of a tokenizer.json: an object {"type": NAME, ...}, or null, or a {"type": "Sequence"} of such objects. Kinds
 * of parts stand in a table; a type or a key that no row knows is an error that names it. */
#ifndef DT_DATA_PARTS_H
#define DT_DATA_PARTS_H

#include "base/json.h" // dt_json

typedef struct dt_part_kind {
    const char *type;
    const char *keys;                                    /* all that it may have, separated by spaces */
    dt_status (*load)(void *owner, const dt_json *part); /* takes the part in, behind those before it */
} dt_part_kind;

/** Loads the part at at[key] through kinds[n]; the parts of a Sequence (which are at `list` in it) one by one, in
 * order. */
dt_status dt_parts_load(const dt_json *at, const char *key, const char *list, const dt_part_kind *kinds, int n,
                        void *owner) DT_WARN_UNUSED;

/** An error if the object has a key that is not one of `keys` (separated by spaces). */
dt_status dt_parts_check_keys(const dt_json *object, const char *keys) DT_WARN_UNUSED;

/** Is `name` one of `keys`? */
int dt_parts_knows(const char *keys, const char *name);

#endif
