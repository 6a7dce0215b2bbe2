/* Frozen matrices in 8 bits (e4m3): each row is divided by its own largest magnitude over the format's 448, so
 * W[r,c] ~ value[r,c] scale[r]; activations likewise, row by row, when they are multiplied.
 *
 * Hopper multiplies e4m3 in one layout only, both operands with the summed dimension last. y = x W^T has it; dx = dy W
 * needs W^T stored as well, and its own factors, since a factor must not lie on the summed dimension. So a weight takes
 * 2 bytes beside the bf16 ones that stay for everything else: this buys speed, not memory. */
#ifndef DT_DEVICE_FP8_H
#define DT_DEVICE_FP8_H

#include "device/cuda.h" // dt_cuda
#include <stdbool.h>

typedef struct dt_cuda_fp8 {
    void *value;    /* [rows, columns] e4m3 */
    float *scale;   /* [rows] */
    const void *of; /* the bf16 weight, in the device's memory */
    int transposed; /* rows are its columns */
    int64_t rows, columns;
    bool made;
    struct dt_cuda_fp8 *next;
} dt_cuda_fp8;

/** Can a product over `k` with `n` columns be done in 8 bits? */
static inline bool dt_cuda_fp8_fits(int64_t n, int64_t k)
{
    return n % 16 == 0 && k % 16 == 0;
}
/** The 8-bit matrix of a weight [rows, columns], or of its transpose: its space is taken while the device considers, it
 * is filled at its first use, both outside recordings. */
dt_status dt_cuda_fp8_of(dt_cuda *cuda, const void *weight, int64_t rows, int64_t columns, int transposed,
                         const dt_cuda_fp8 **out) DT_WARN_UNUSED;
/** value[rows, columns], scale[rows] <- x [rows, columns] bf16. */
dt_status dt_cuda_fp8_quantise(dt_cuda *cuda, const void *x, int64_t rows, int64_t columns, void *value,
                               float *scale) DT_WARN_UNUSED;
/** The memory at `weight` is given back. NULL: everything. */
void dt_cuda_fp8_forget(dt_cuda *cuda, const void *weight);

#endif
