/* Patterns that select names: exact, a suffix on a "." boundary, or a regular expression. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "config/config.h"

#include <pcre2.h>
#include <string.h> // strcmp, strlen, strncmp

static dt_status match_expression(const char *expression, const char *name, int *matches)
{
    int error;
    PCRE2_SIZE offset;
    PCRE2_UCHAR text[256];
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                                     PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &error, &offset, NULL);
    if (!code) {
        pcre2_get_error_message(error, text, sizeof text);
        return dt_fail(DT_ERR_CONFIG, "re:%s: %s (at offset %zu)", expression, (char *)text, (size_t)offset);
    }
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    int found = data ? pcre2_match(code, (PCRE2_SPTR)name, strlen(name), 0, 0, data, NULL) : PCRE2_ERROR_NOMEMORY;
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    if (found < 0 && found != PCRE2_ERROR_NOMATCH) {
        pcre2_get_error_message(found, text, sizeof text);
        return dt_fail(DT_ERR_CONFIG, "re:%s: cannot be matched with %s: %s", expression, name, (char *)text);
    }
    *matches = found >= 0;
    return DT_OK;
}

dt_status dt_pattern_match(const char *pattern, const char *name, int *matches)
{
    if (strncmp(pattern, "re:", 3) == 0) return match_expression(pattern + 3, name, matches);
    size_t n = strlen(name), p = strlen(pattern);
    *matches = n >= p && strcmp(name + n - p, pattern) == 0 && (n == p || name[n - p - 1] == '.');
    return DT_OK;
}
