/* The log of a process. A line is one write, so that lines of ranks that share a terminal do not mix. */
#include "base/log.h"

#include <stdarg.h>    // va_list
#include <stdatomic.h> // atomic_int: the watchdog and the checkpoint thread log too
#include <stdio.h>     // vsnprintf, fwrite
#include <string.h>    // strlen

static atomic_int log_rank = 0;
static atomic_int log_level = DT_LOG_INFO;

void dt_log_setup(int rank, dt_log_level level)
{
    log_rank = rank;
    log_level = (int)level;
}

void dt_log(dt_log_level level, const char *fmt, ...)
{
    int rank = log_rank;
    if ((int)level > log_level || (level == DT_LOG_INFO && rank != 0)) return;

    char line[8192];
    const size_t room = sizeof line - 1; // for the newline
    if (rank == 0) snprintf(line, room, "dtrain: ");
    else snprintf(line, room, "dtrain: rank %d: ", rank);
    size_t used = strlen(line);
    va_list args;
    va_start(args, fmt);
    vsnprintf(line + used, room - used, fmt, args);
    va_end(args);
    used = strlen(line);
    line[used++] = '\n';
    fwrite(line, 1, used, stderr);
}
