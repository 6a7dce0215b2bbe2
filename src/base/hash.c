/* XXH3 hashes of bytes and files. */
#include "base/hash.h"

#include <errno.h>  // errno
#include <fcntl.h>  // open
#include <stdio.h>  // snprintf
#include <stdlib.h> // malloc
#include <string.h> // strlen, strerror
#include <unistd.h> // read, close
#include <xxhash.h> // XXH3_*

uint64_t dt_hash_bytes(const void *data, size_t bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, bytes, seed);
}

uint64_t dt_hash_string(const char *text)
{
    return dt_hash_bytes(text, strlen(text), 0);
}

static dt_digest digest_of(XXH128_hash_t hash)
{
    dt_digest digest;
    snprintf(digest.hex, sizeof digest.hex, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
    return digest;
}

dt_digest dt_digest_bytes(const void *data, size_t bytes)
{
    return digest_of(XXH3_128bits(data, bytes));
}

dt_status dt_digest_file(const char *path, dt_digest *out)
{
    enum { PIECE = 1 << 20 };
    dt_status st = DT_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return dt_fail(DT_ERR_IO, "%s: %s", path, strerror(errno));
    char *piece = malloc(PIECE);
    XXH3_state_t *state = XXH3_createState();
    if (!piece || !state) {
        st = dt_fail(DT_ERR_MEMORY, "%s: no memory to hash it", path);
        goto done;
    }
    XXH3_128bits_reset(state);
    for (;;) {
        ssize_t got = read(fd, piece, PIECE);
        if (got == 0) break;
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            st = dt_fail(DT_ERR_IO, "%s: %s", path, strerror(errno));
            goto done;
        }
        XXH3_128bits_update(state, piece, (size_t)got);
    }
    *out = digest_of(XXH3_128bits_digest(state));
done:
    XXH3_freeState(state);
    free(piece);
    close(fd);
    return st;
}
