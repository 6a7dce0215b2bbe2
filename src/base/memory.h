/* Host memory: checked allocation, growable arrays, and a region allocator for everything that dies together. */
#ifndef DT_BASE_MEMORY_H
#define DT_BASE_MEMORY_H

#include "base/status.h" // dt_status
#include <stddef.h>      // size_t
#include <stdint.h>      // int64_t

/** Allocates `count * size` zeroed bytes, aligned to 64; *out is freed with free(). DT_ERR_MEMORY names the size. */
dt_status dt_alloc(size_t count, size_t size, void *out) DT_WARN_UNUSED;

/** Grows `*array` (elements of `size` bytes, capacity `*cap`) so that it holds `need`; new bytes are zero. */
dt_status dt_grow(void *array, int64_t *cap, int64_t need, size_t size) DT_WARN_UNUSED;

/** A region: allocations that are freed together. Zero-initialise before use; dt_region_free frees all of it. */
typedef struct dt_region {
    struct dt_region_block *head;
} dt_region;

/** Zeroed memory from the region, aligned to 16. NULL if memory is exhausted. */
void *dt_region_alloc(dt_region *region, size_t bytes);
/** Copies of strings in the region. NULL if memory is exhausted. */
char *dt_region_strdup(dt_region *region, const char *text);
char *dt_region_printf(dt_region *region, const char *fmt, ...) DT_PRINTF(2, 3);
void dt_region_free(dt_region *region);

#endif
