/* Stored floating-point types to fp32, and fp32 to those that are written. A tensor in a file need not be aligned to
 * its type: all loads are unaligned. */
#include "model/safetensors.h"

#include <string.h> // memcpy

typedef uint16_t bits16 __attribute__((aligned(1), may_alias));
typedef double f64 __attribute__((aligned(1), may_alias));

typedef union word {
    uint32_t bits;
    float value;
} word;

/* Half to single without branches: the exponent is re-biased; infinities and NaNs need it once more; a subnormal is
 * made a normal number with a leading one, which the subtraction takes away again (exactly). */
static inline float half_to_float(uint32_t half)
{
    const uint32_t magnitude = (half & 0x7fffu) << 13, rebias = (127u - 15u) << 23;
    const uint32_t is_special = -(uint32_t)(magnitude >= 0x7c00u << 13);
    const uint32_t is_small = -(uint32_t)(magnitude < 0x0400u << 13);
    const word normal = {.bits = magnitude + rebias + (rebias & is_special)};
    const word with_one = {.bits = magnitude + rebias + (1u << 23)}, one = {.bits = rebias + (1u << 23)};
    const word small = {.value = with_one.value - one.value};
    return (word){.bits = (half & 0x8000u) << 16 | (normal.bits & ~is_small) | (small.bits & is_small)}.value;
}

static void row_f16(const bits16 *src, int64_t n, float *dst)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dst[i] = half_to_float(src[i]);
}

static void row_bf16(const bits16 *src, int64_t n, float *dst)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dst[i] = (word){.bits = (uint32_t)src[i] << 16}.value;
}

static void row_f64(const f64 *src, int64_t n, float *dst)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dst[i] = (float)src[i];
}

dt_status dt_st_to_f32(dt_st_type type, const unsigned char *src, int64_t offset, int64_t rows, int64_t cols,
                       int64_t ld, float *dst)
{
    const int64_t size = (int64_t)dt_st_type_size(type);
    if (type > DT_ST_BF16)
        return dt_fail(DT_ERR_MODEL, "type %s is no floating-point type that can be read", dt_st_type_name(type));
    if (cols == 0) return DT_OK; // an empty tensor may have no address
    for (int64_t r = 0; r < rows; r++, dst += cols) {
        const void *row = src + (offset + r * ld) * size;
        switch (type) {
        case DT_ST_F32: memcpy(dst, row, (size_t)cols * sizeof *dst); break;
        case DT_ST_F16: row_f16(row, cols, dst); break;
        case DT_ST_BF16: row_bf16(row, cols, dst); break;
        default: row_f64(row, cols, dst);
        }
    }
    return DT_OK;
}

void dt_st_from_f32(dt_st_type type, const float *src, int64_t n, void *dst)
{
    if (type == DT_ST_F32) memcpy(dst, src, (size_t)n * sizeof *src);
    else
        for (int64_t i = 0; i < n; i++) {
            const uint32_t bits = (word){.value = src[i]}.bits, odd = bits >> 16 & 1;
            ((bits16 *)dst)[i] = (uint16_t)((bits + 0x7fff + odd) >> 16);
        }
}
