/* Files for readers that take a path, and the checks that all targets make. */
#include "base/file.h" // dt_dir_remove
#include "fuzz.h"

#include <fcntl.h>  // open
#include <stdio.h>  // snprintf, fprintf
#include <stdlib.h> // mkdtemp, atexit, abort, getenv
#include <unistd.h> // write, close, getpid

int fuzz_verbose;
static char folder[4096];
static pid_t owner;

static void remove_folder(void)
{
    if (owner == getpid()) DT_IGNORE(dt_dir_remove(folder));
}

const char *fuzz_folder(void)
{
    if (owner) return folder;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/dtrain-fuzz-XXXXXX", base ? base : "/tmp");
    FUZZ_CHECK(mkdtemp(folder) != NULL);
    owner = getpid();
    atexit(remove_folder);
    return folder;
}

void fuzz_put(const char *name, const void *data, size_t size)
{
    char path[sizeof folder + 256];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FUZZ_CHECK(fd >= 0);
    for (const char *c = data, *end = c + size; c < end;) {
        ssize_t put = write(fd, c, (size_t)(end - c));
        FUZZ_CHECK(put > 0);
        c += put;
    }
    close(fd);
}

void fuzz_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: does not hold: %s\nlast error: %s\n", file, line, what, dt_error_text());
    abort();
}

int fuzz_took(dt_status st)
{
    FUZZ_CHECK(st != DT_ERR_INTERNAL && st != DT_ERR_MEMORY);
    FUZZ_CHECK(st == DT_OK || dt_error_text()[0] != '\0');
    if (st != DT_OK && fuzz_verbose) printf("  refused: %s\n", dt_error_text());
    if (st != DT_OK) dt_error_clear();
    return st == DT_OK;
}
