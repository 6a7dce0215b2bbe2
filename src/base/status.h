/* Status codes and the error text of the calling thread. The first function that detects an error sets the text with
 * dt_fail (which returns the status); everything above it passes the status on unchanged. Nothing here exits. */
#ifndef DT_BASE_STATUS_H
#define DT_BASE_STATUS_H

typedef enum dt_status {
    DT_OK = 0,
    DT_ERR_CONFIG,   /* the user's configuration or command line */
    DT_ERR_DATA,     /* the user's data: rows, tokenizer */
    DT_ERR_MODEL,    /* the backbone's files */
    DT_ERR_IO,       /* the file system */
    DT_ERR_MEMORY,   /* an allocation failed */
    DT_ERR_COMM,     /* MPI or NCCL, or a dead or silent rank */
    DT_ERR_DEVICE,   /* the accelerator or its libraries */
    DT_ERR_STATE,    /* a checkpoint that does not fit, a run directory in use */
    DT_ERR_INTERNAL, /* a broken invariant of dtrain itself */
    DT_STATUS_COUNT
} dt_status;

#define DT_WARN_UNUSED __attribute__((warn_unused_result))
#define DT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/** Sets the calling thread's error text (printf style, no trailing newline) and returns `status`. Local. */
dt_status dt_fail(dt_status status, const char *fmt, ...) DT_PRINTF(2, 3) DT_WARN_UNUSED;

/** Puts `fmt` in front of the present error text ("context: text") and returns `status`; on DT_OK does nothing. Local.
 */
dt_status dt_fail_in(dt_status status, const char *fmt, ...) DT_PRINTF(2, 3) DT_WARN_UNUSED;

/** The calling thread's error text; "" if there is none. Valid until the next dt_fail of this thread. */
const char *dt_error_text(void);
void dt_error_clear(void);

/** Short name of a status: "config", "data", ... */
const char *dt_status_name(dt_status status);

/** Process exit code of a status: 0 for DT_OK, 2 for DT_ERR_CONFIG, otherwise 1. */
int dt_status_exit_code(dt_status status);

/* Returns from the calling function, or jumps to `label`, unless `expr` is DT_OK. DT_GOTO needs `dt_status st`. */
#define DT_TRY(expr)                                                                                                   \
    do {                                                                                                               \
        dt_status dt_try_status_ = (expr);                                                                             \
        if (dt_try_status_ != DT_OK) return dt_try_status_;                                                            \
    } while (0)
#define DT_GOTO(expr, label)                                                                                           \
    do {                                                                                                               \
        st = (expr);                                                                                                   \
        if (st != DT_OK) goto label;                                                                                   \
    } while (0)
/* The status is of no interest (a clean-up path whose first error is already set). */
#define DT_IGNORE(expr)                                                                                                \
    do {                                                                                                               \
        if ((expr) != DT_OK) {}                                                                                        \
    } while (0)

#endif
