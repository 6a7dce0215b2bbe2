/* The error text of each thread, and the names of the status codes. */
#include "base/status.h"

#include <stdarg.h> // va_list
#include <stdio.h>  // vsnprintf
#include <string.h> // memcpy, strlen

enum { TEXT_BYTES = 4096 };
static _Thread_local char error_text[TEXT_BYTES];

dt_status dt_fail(dt_status status, const char *fmt, ...)
{
    char text[TEXT_BYTES]; // the arguments may point into the present text
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    memcpy(error_text, text, strlen(text) + 1);
    return status;
}

/** Appends what there is room for. */
static void append(char text[TEXT_BYTES], const char *more)
{
    const size_t n = strlen(text), left = TEXT_BYTES - 1 - n, wanted = strlen(more), m = wanted < left ? wanted : left;
    memcpy(text + n, more, m);
    text[n + m] = '\0';
}

dt_status dt_fail_in(dt_status status, const char *fmt, ...)
{
    if (status == DT_OK) return DT_OK;
    char text[TEXT_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    append(text, ": ");
    append(text, error_text);
    memcpy(error_text, text, strlen(text) + 1);
    return status;
}

const char *dt_error_text(void)
{
    return error_text;
}

void dt_error_clear(void)
{
    error_text[0] = '\0';
}

const char *dt_status_name(dt_status status)
{
    static const char *const name[DT_STATUS_COUNT] = {
        [DT_OK] = "ok",           [DT_ERR_CONFIG] = "config",     [DT_ERR_DATA] = "data", [DT_ERR_MODEL] = "model",
        [DT_ERR_IO] = "io",       [DT_ERR_MEMORY] = "memory",     [DT_ERR_COMM] = "comm", [DT_ERR_DEVICE] = "device",
        [DT_ERR_STATE] = "state", [DT_ERR_INTERNAL] = "internal",
    };
    return (unsigned)status < DT_STATUS_COUNT ? name[status] : "unknown";
}

int dt_status_exit_code(dt_status status)
{
    if (status == DT_OK) return 0;
    return status == DT_ERR_CONFIG ? 2 : 1;
}
