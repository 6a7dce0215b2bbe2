/* Host memory: checked allocation, growable arrays, regions. */
#include "base/memory.h"

#include <stdarg.h> // va_list
#include <stdio.h>  // vsnprintf
#include <stdlib.h> // posix_memalign, realloc
#include <string.h> // memset, memcpy

dt_status dt_alloc(size_t count, size_t size, void *out)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return dt_fail(DT_ERR_MEMORY, "cannot allocate %zu x %zu bytes", count, size);
    void *memory;
    if (posix_memalign(&memory, 64, bytes ? bytes : 1))
        return dt_fail(DT_ERR_MEMORY, "cannot allocate %zu bytes", bytes);
    memset(memory, 0, bytes);
    memcpy(out, &memory, sizeof memory); // `out` is the address of a pointer of any type
    return DT_OK;
}

dt_status dt_grow(void *array, int64_t *cap, int64_t need, size_t size)
{
    if (need <= *cap) return DT_OK;
    int64_t grown = *cap > INT64_MAX / 2 ? need : *cap * 2;
    if (grown < need) grown = need;
    if (grown < 16) grown = 16;
    size_t bytes;
    if (__builtin_mul_overflow((size_t)grown, size, &bytes))
        return dt_fail(DT_ERR_MEMORY, "cannot allocate %lld x %zu bytes", (long long)grown, size);
    char *memory;
    memcpy(&memory, array, sizeof memory);
    memory = realloc(memory, bytes ? bytes : 1);
    if (!memory) return dt_fail(DT_ERR_MEMORY, "cannot allocate %zu bytes", bytes);
    memset(memory + (size_t)*cap * size, 0, bytes - (size_t)*cap * size);
    memcpy(array, &memory, sizeof memory);
    *cap = grown;
    return DT_OK;
}

enum { ALIGN = 16, BLOCK_BYTES = 64 << 10 };

struct dt_region_block {
    struct dt_region_block *next;
    size_t used, cap;
    _Alignas(ALIGN) char bytes[];
};

void *dt_region_alloc(dt_region *region, size_t bytes)
{
    if (bytes > SIZE_MAX - BLOCK_BYTES) return NULL;
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    struct dt_region_block *block = region->head;
    if (!block || block->cap - block->used < bytes) {
        int large = bytes > BLOCK_BYTES / 4;
        size_t cap = large ? bytes : BLOCK_BYTES;
        struct dt_region_block *fresh = calloc(1, sizeof *fresh + cap);
        if (!fresh) return NULL;
        fresh->cap = cap;
        if (large && block) { // goes behind the head, whose room stays in use
            fresh->next = block->next;
            block->next = fresh;
        } else {
            fresh->next = block;
            region->head = fresh;
        }
        block = fresh;
    }
    void *memory = block->bytes + block->used;
    block->used += bytes;
    return memory;
}

char *dt_region_strdup(dt_region *region, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = dt_region_alloc(region, bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

char *dt_region_printf(dt_region *region, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (length < 0) return NULL;
    char *text = dt_region_alloc(region, (size_t)length + 1);
    if (!text) return NULL;
    va_start(args, fmt);
    vsnprintf(text, (size_t)length + 1, fmt, args);
    va_end(args);
    return text;
}

void dt_region_free(dt_region *region)
{
    for (struct dt_region_block *block = region->head, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    region->head = NULL;
}
