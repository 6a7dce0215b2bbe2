/* Sums of many terms that come out the same whatever the number of threads: blocks of fixed size, each summed in double
 * by one thread, then the blocks in order. */
#ifndef DT_OP_TOTAL_H
#define DT_OP_TOTAL_H
#include <stddef.h> // size_t
#include <stdint.h> // int64_t

enum { DT_TOTAL_BLOCK = 4096 };

/** Scratch bytes of a sum over `count` terms: one double a block. */
static inline size_t dt_total_workspace(int64_t count)
{
    return (size_t)((count + DT_TOTAL_BLOCK - 1) / DT_TOTAL_BLOCK) * sizeof(double);
}
#endif
