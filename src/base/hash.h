/* Stable 64- and 128-bit hashes (XXH3) of bytes and files: fingerprints and checksums, not secrets. */
#ifndef DT_BASE_HASH_H
#define DT_BASE_HASH_H

#include "base/status.h" // dt_status
#include <stddef.h>      // size_t
#include <stdint.h>      // uint64_t

uint64_t dt_hash_bytes(const void *data, size_t bytes, uint64_t seed);
uint64_t dt_hash_string(const char *text);

/** 128-bit hash as 32 lower-case hex digits and a NUL. */
typedef struct dt_digest {
    char hex[33];
} dt_digest;
dt_digest dt_digest_bytes(const void *data, size_t bytes);
/** Digest of a whole file, read in pieces. DT_ERR_IO names the path. Local. */
dt_status dt_digest_file(const char *path, dt_digest *out) DT_WARN_UNUSED;

#endif
