/* Parts of a tokenizer.json, through tables of kinds. */
#include "data/parts.h"

#include <string.h> // strcmp, strchr, strlen, strncat

int dt_parts_knows(const char *keys, const char *name)
{
    size_t length = strlen(name);
    for (const char *key = keys; length && *key;) {
        size_t n = strcspn(key, " ");
        if (n == length && memcmp(key, name, n) == 0) return 1;
        key += n + (key[n] == ' ');
    }
    return 0;
}

dt_status dt_parts_check_keys(const dt_json *object, const char *keys)
{
    cJSON *item;
    cJSON_ArrayForEach(item, object->node)
    {
        if (!dt_parts_knows(keys, item->string))
            return dt_json_fail(object, item->string, "is not understood; known here: %s", keys);
    }
    return DT_OK;
}

static dt_status load_one(const dt_json *part, const char *list, const dt_part_kind *kinds, int n, void *owner)
{
    if (!cJSON_IsObject(part->node)) return dt_json_fail(part, NULL, "is not an object");
    const char *type;
    DT_TRY(dt_json_string(part, "type", &type));
    if (strcmp(type, "Sequence") == 0) {
        dt_json items;
        DT_TRY(dt_json_array(part, list, &items));
        int64_t i = 0;
        cJSON *item;
        cJSON_ArrayForEach(item, items.node)
        {
            dt_json inner = dt_json_child(&items, item, i++);
            DT_TRY(load_one(&inner, list, kinds, n, owner));
        }
        return DT_OK;
    }
    char known[256] = "Sequence";
    for (int i = 0; i < n; i++) {
        if (strcmp(type, kinds[i].type) == 0) {
            char keys[256] = "type ";
            strncat(keys, kinds[i].keys, sizeof keys - strlen(keys) - 1);
            DT_TRY(dt_parts_check_keys(part, keys));
            return kinds[i].load(owner, part);
        }
        strncat(known, ", ", sizeof known - strlen(known) - 1);
        strncat(known, kinds[i].type, sizeof known - strlen(known) - 1);
    }
    return dt_json_fail(part, "type", "\"%s\" is not understood; known here: %s", type, known);
}

dt_status dt_parts_load(const dt_json *at, const char *key, const char *list, const dt_part_kind *kinds, int n,
                        void *owner)
{
    if (!dt_json_has(at, key)) return DT_OK;
    dt_json part;
    DT_TRY(dt_json_object(at, key, &part));
    return load_one(&part, list, kinds, n, owner);
}
