/* Metaspace's options, in their present and in their older spelling. */
#include "data/metaspace.h"
#include "data/text.h" // dt_utf8_single

#include <stdio.h>  // snprintf
#include <string.h> // strcmp

dt_status dt_metaspace_load(const dt_json *part, dt_metaspace *out)
{
    const char *mark, *scheme;
    int prefix;
    DT_TRY(dt_json_string(part, "replacement", &mark));
    if (dt_utf8_single(mark) < 0) return dt_json_fail(part, "replacement", "\"%s\" is not one character", mark);
    snprintf(out->mark, sizeof out->mark, "%s", mark);
    DT_TRY(dt_json_bool_or(part, "split", 1, &out->split));
    DT_TRY(dt_json_bool_or(part, "add_prefix_space", 1, &prefix));
    DT_TRY(dt_json_string_or(part, "prepend_scheme", prefix ? "always" : "never", &scheme));
    if (strcmp(scheme, "always") == 0) out->prepend = DT_METASPACE_ALWAYS;
    else if (strcmp(scheme, "first") == 0) out->prepend = DT_METASPACE_FIRST;
    else if (strcmp(scheme, "never") == 0) out->prepend = DT_METASPACE_NEVER;
    else return dt_json_fail(part, "prepend_scheme", "\"%s\" is not always, first or never", scheme);
    if (!prefix && out->prepend != DT_METASPACE_NEVER)
        return dt_json_fail(part, "prepend_scheme", "\"%s\" contradicts add_prefix_space, which is false", scheme);
    return DT_OK;
}
