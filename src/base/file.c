/* Files: whole reads, private mappings, atomic writes, folders. */
#define _GNU_SOURCE // nftw, memfd_create
#include "base/file.h"
#include "base/memory.h" // dt_grow

#include <errno.h>     // errno
#include <fcntl.h>     // open
#include <ftw.h>       // nftw
#include <stdatomic.h> // atomic_uint
#include <stdio.h>     // snprintf, rename, remove
#include <stdlib.h>    // free
#include <string.h>    // strerror, strrchr
#include <sys/mman.h>  // mmap, memfd_create
#include <sys/stat.h>  // stat, mkdir
#include <unistd.h>    // read, write, fsync

static dt_status fail_errno(const char *path, const char *doing)
{
    return dt_fail(DT_ERR_IO, "%s: %s: %s", path, doing, strerror(errno));
}

/* Opens a file that may be read to its end: a folder or a device is an error here, not at the first read. */
static dt_status open_regular(const char *path, int *fd, size_t *bytes)
{
    struct stat info;
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) return fail_errno(path, "cannot open");
    dt_status st = DT_OK;
    if (fstat(*fd, &info) < 0) st = fail_errno(path, "cannot stat");
    else if (S_ISDIR(info.st_mode)) st = dt_fail(DT_ERR_IO, "%s: is a folder, not a file", path);
    if (st != DT_OK) close(*fd);
    else *bytes = (size_t)info.st_size;
    return st;
}

dt_status dt_file_read(const char *path, char **data, size_t *bytes)
{
    int fd;
    size_t expected, used = 0;
    DT_TRY(open_regular(path, &fd, &expected));
    dt_status st = DT_OK;
    char *text = NULL;
    int64_t cap = 0;
    DT_GOTO(dt_grow(&text, &cap, (int64_t)expected + 2, 1), fail); // one past the end to see the end, one for the NUL
    for (;;) {
        ssize_t got = read(fd, text + used, (size_t)cap - 1 - used);
        if (got == 0) break;
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            st = fail_errno(path, "cannot read");
            goto fail;
        }
        used += (size_t)got;
        DT_GOTO(dt_grow(&text, &cap, (int64_t)used + 2, 1), fail); // a pipe or a growing file is longer than its stat
    }
    close(fd);
    text[used] = '\0';
    *data = text;
    *bytes = used;
    return DT_OK;
fail:
    free(text);
    close(fd);
    return st;
}

dt_status dt_map_open(const char *path, dt_map *out)
{
    int fd;
    size_t bytes;
    DT_TRY(open_regular(path, &fd, &bytes));
    dt_status st = DT_OK;
    void *data = NULL;
    if (bytes > 0) {
        // NORESERVE: a backbone may be larger than memory; only pages that are written cost any.
        data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
        if (data == MAP_FAILED) st = fail_errno(path, "cannot map");
    }
    close(fd); // the mapping stays
    if (st == DT_OK) *out = (dt_map){.data = data, .bytes = bytes};
    return st;
}

void dt_map_forget(void *at, size_t bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t)at + page - 1) / page * page, end = ((uintptr_t)at + bytes) / page * page;
    if (first < end) madvise((void *)first, end - first, MADV_DONTNEED);
}

dt_status dt_map_view(int fd, const char *name, dt_map *out)
{
    struct stat info;
    if (fstat(fd, &info) < 0) return fail_errno(name, "cannot stat");
    void *data = NULL;
    if (info.st_size > 0) {
        data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) return fail_errno(name, "cannot map");
    }
    *out = (dt_map){.data = data, .bytes = (size_t)info.st_size};
    return DT_OK;
}

void dt_map_close(dt_map *map)
{
    if (map->data) munmap(map->data, map->bytes);
    *map = (dt_map){0};
}

dt_status dt_reader_read(dt_reader *reader, const char *path, int64_t offset, void *dst, size_t bytes)
{
    if (!reader->path || strcmp(reader->path, path) != 0) {
        size_t size;
        dt_reader_close(reader);
        char *name = strdup(path);
        if (!name) return dt_fail(DT_ERR_MEMORY, "%s: no memory for its name", path);
        dt_status st = open_regular(path, &reader->fd, &size);
        if (st != DT_OK) {
            free(name);
            return st;
        }
        reader->path = name;
        posix_fadvise(reader->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    }
    for (char *at = dst; bytes > 0;) {
        ssize_t got = pread(reader->fd, at, bytes, offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(path, "cannot read");
        if (got == 0)
            return dt_fail(DT_ERR_IO, "%s: ends at byte %lld, before %zu more", path, (long long)offset, bytes);
        at += got;
        offset += got;
        bytes -= (size_t)got;
    }
    return DT_OK;
}

void dt_reader_close(dt_reader *reader)
{
    if (!reader->path) return;
    close(reader->fd);
    free(reader->path);
    *reader = (dt_reader){0};
}

static dt_status write_all(int fd, const char *path, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t put = write(fd, data, bytes);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return fail_errno(path, "cannot write");
        data += put;
        bytes -= (size_t)put;
    }
    return DT_OK;
}

/* The folder that holds `path`; freed with free(). */
static char *parent_of(const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    while (end > 0 && path[end - 1] != '/') end--;
    while (end > 1 && path[end - 1] == '/') end--;
    return end ? strndup(path, end) : strdup(".");
}

/* Creates `path`.<something>.tmp. Two threads never share one, nor two processes, be it of two machines: it is new.
 */
static dt_status create_beside(const char *path, dt_draft *draft)
{
    static atomic_uint serial;
    do {
        free(draft->temporary);
        if (asprintf(&draft->temporary, "%s.%ld-%u.tmp", path, (long)getpid(), serial++) < 0) {
            draft->temporary = NULL;
            return dt_fail(DT_ERR_MEMORY, "%s: no memory for its name", path);
        }
        draft->fd = open(draft->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (draft->fd < 0 && errno == EEXIST);
    return draft->fd < 0 ? fail_errno(draft->temporary, "cannot create") : DT_OK;
}

dt_status dt_draft_open(const char *path, dt_draft *out)
{
    dt_draft draft = {.path = path ? strdup(path) : NULL, .temporary = path ? NULL : strdup("a file in memory")};
    dt_status st = DT_OK;
    if (!draft.path && !draft.temporary) {
        st = dt_fail(DT_ERR_MEMORY, "%s: no memory for its name", path ? path : "a file in memory");
    } else if (path) {
        st = create_beside(path, &draft);
    } else {
        draft.fd = memfd_create("dtrain", MFD_CLOEXEC);
        if (draft.fd < 0) st = fail_errno(draft.temporary, "cannot create");
    }
    if (st != DT_OK) {
        free(draft.path);
        free(draft.temporary);
        return st;
    }
    *out = draft;
    return DT_OK;
}

dt_status dt_draft_write(dt_draft *draft, const void *data, size_t bytes)
{
    return write_all(draft->fd, draft->temporary, data, bytes);
}

dt_status dt_draft_rewrite(dt_draft *draft, int64_t at, const void *data, size_t bytes)
{
    if (lseek(draft->fd, at, SEEK_SET) < 0) return fail_errno(draft->temporary, "cannot seek");
    DT_TRY(write_all(draft->fd, draft->temporary, data, bytes));
    return lseek(draft->fd, 0, SEEK_END) < 0 ? fail_errno(draft->temporary, "cannot seek") : DT_OK;
}

dt_status dt_draft_commit(dt_draft *draft)
{
    if (!draft->path) return DT_OK;
    char *folder = parent_of(draft->path);
    if (!folder) return dt_fail(DT_ERR_MEMORY, "%s: no memory for its name", draft->path);
    dt_status st = dt_file_sync(draft->fd, draft->temporary);
    if (st == DT_OK && rename(draft->temporary, draft->path) < 0) st = fail_errno(draft->path, "cannot rename to");
    if (st == DT_OK) {
        free(draft->path);
        draft->path = NULL; // nothing is left to be removed
        st = dt_dir_sync(folder);
    }
    free(folder);
    return st;
}

void dt_draft_close(dt_draft *draft)
{
    if (!draft->temporary) return;
    if (draft->path) unlink(draft->temporary);
    close(draft->fd);
    free(draft->path);
    free(draft->temporary);
    *draft = (dt_draft){0};
}

dt_status dt_file_write_pieces(const char *path, const dt_bytes *piece, int64_t n)
{
    dt_draft draft;
    DT_TRY(dt_draft_open(path, &draft));
    dt_status st = DT_OK;
    for (int64_t i = 0; i < n && st == DT_OK; i++) st = dt_draft_write(&draft, piece[i].data, piece[i].bytes);
    if (st == DT_OK) st = dt_draft_commit(&draft);
    dt_draft_close(&draft);
    return st;
}

dt_status dt_file_write_atomic(const char *path, const void *data, size_t bytes)
{
    return dt_file_write_pieces(path, &(dt_bytes){data, bytes}, 1);
}

dt_status dt_file_sync(int fd, const char *path)
{
    // Some network file systems do not offer fsync (EINVAL): what was written then is as durable as it gets there.
    if (fsync(fd) < 0 && errno != EINVAL && errno != ENOTSUP) return fail_errno(path, "cannot fsync");
    return DT_OK;
}

dt_status dt_dir_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail_errno(path, "cannot open");
    dt_status st = dt_file_sync(fd, path);
    close(fd);
    return st;
}

dt_status dt_dir_make(const char *path)
{
    if (dt_path_is_dir(path)) return DT_OK;
    char *folder = parent_of(path);
    if (!folder) return dt_fail(DT_ERR_MEMORY, "%s: no memory for its name", path);
    dt_status st = DT_OK;
    if (strcmp(folder, path) != 0 && !dt_path_is_dir(folder)) DT_GOTO(dt_dir_make(folder), done);
    if (mkdir(path, 0777) == 0) st = dt_dir_sync(folder);
    else if (!dt_path_is_dir(path)) // another rank may have made it meanwhile
        st = fail_errno(path, "cannot make this folder");
done:
    free(folder);
    return st;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info, (void)type, (void)walk;
    return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

dt_status dt_dir_remove(const char *path)
{
    if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        return fail_errno(path, "cannot remove");
    return DT_OK;
}

int dt_path_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

int dt_path_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}
