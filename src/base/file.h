/* Files: reading, mapping, writing so that a reader never sees half of one. Errors are DT_ERR_IO and name the path. */
#ifndef DT_BASE_FILE_H
#define DT_BASE_FILE_H

#include "base/status.h" // dt_status
#include <stddef.h>      // size_t
#include <stdint.h>      // int64_t

/** Reads a whole file; *data is NUL-terminated past *bytes and freed with free(). Local. */
dt_status dt_file_read(const char *path, char **data, size_t *bytes) DT_WARN_UNUSED;

/** A private, copy-on-write mapping of a whole file: writes stay in this process. */
typedef struct dt_map {
    unsigned char *data;
    size_t bytes;
} dt_map;
dt_status dt_map_open(const char *path, dt_map *out) DT_WARN_UNUSED;
/** A read-only mapping of an open file, which may be closed then; `name` is for messages. */
dt_status dt_map_view(int fd, const char *name, dt_map *out) DT_WARN_UNUSED;
void dt_map_close(dt_map *map);
/** Gives back the memory of the whole pages within [at, at + bytes) of a mapping: they are read from the file again
 * when they are next touched, and what was written there is lost. */
void dt_map_forget(void *at, size_t bytes);

/** Reads pieces of files, as they are asked for: front to back is what file systems are good at. Zeroed: no file is
 * open yet. Local. */
typedef struct dt_reader {
    char *path; /* of the file that is open */
    int fd;
} dt_reader;
/** dst[bytes] <- the file at `offset`. DT_ERR_IO, also where it ends before. */
dt_status dt_reader_read(dt_reader *reader, const char *path, int64_t offset, void *dst, size_t bytes) DT_WARN_UNUSED;
void dt_reader_close(dt_reader *reader);

/** A file that is being written, beside the path that it is to have: nobody sees it before it is whole. Without a path
 *  it lives in memory, for as long as somebody has it open or mapped. Zero-initialise. */
typedef struct dt_draft {
    int fd;                 /* open while `temporary` is set */
    char *path, *temporary; /* path: NULL in memory */
} dt_draft;
dt_status dt_draft_open(const char *path, dt_draft *out) DT_WARN_UNUSED;
dt_status dt_draft_write(dt_draft *draft, const void *data, size_t bytes) DT_WARN_UNUSED;
/** Overwrites bytes from `at` on that were written before. */
dt_status dt_draft_rewrite(dt_draft *draft, int64_t at, const void *data, size_t bytes) DT_WARN_UNUSED;
/** fsync, rename, fsync of the folder (nothing in memory). The descriptor stays open until the draft is closed. */
dt_status dt_draft_commit(dt_draft *draft) DT_WARN_UNUSED;
/** Closes; removes what was not committed. Fine on a zeroed draft. */
void dt_draft_close(dt_draft *draft);

/** Writes `path` as a whole: a temporary beside it, fsync, rename, fsync of the folder. Local. */
dt_status dt_file_write_atomic(const char *path, const void *data, size_t bytes) DT_WARN_UNUSED;
/** The same for a file that is the concatenation of `n` pieces. */
typedef struct dt_bytes {
    const void *data;
    size_t bytes;
} dt_bytes;
dt_status dt_file_write_pieces(const char *path, const dt_bytes *piece, int64_t n) DT_WARN_UNUSED;
/** fsync of an open descriptor / of the folder at `path`. */
dt_status dt_file_sync(int fd, const char *path) DT_WARN_UNUSED;
dt_status dt_dir_sync(const char *path) DT_WARN_UNUSED;

/** Creates `path` and its parents. Fine if it is there. */
dt_status dt_dir_make(const char *path) DT_WARN_UNUSED;
/** Removes a folder and all that is in it. Fine if it is not there. */
dt_status dt_dir_remove(const char *path) DT_WARN_UNUSED;
int dt_path_exists(const char *path);
int dt_path_is_dir(const char *path);

#endif
