/* One log for all ranks: lines on stderr, "dtrain: text", with the rank in front where it is not rank 0's. */
#ifndef DT_BASE_LOG_H
#define DT_BASE_LOG_H

#include "base/status.h" // DT_PRINTF

typedef enum dt_log_level { DT_LOG_ERROR, DT_LOG_WARN, DT_LOG_INFO, DT_LOG_DEBUG } dt_log_level;

/** Sets this process's rank (for the prefix) and the highest level that is printed. Defaults: rank 0, INFO. Local. */
void dt_log_setup(int rank, dt_log_level level);

/** Prints one line if `level` is enabled. INFO prints on rank 0 only; the other levels on every rank. Thread-safe. */
void dt_log(dt_log_level level, const char *fmt, ...) DT_PRINTF(2, 3);

#endif
