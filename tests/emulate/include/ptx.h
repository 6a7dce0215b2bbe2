/* The instructions of op/mma.cuh on the host: what PTX says of each (m16n8k16, ldmatrix, cp.async), for a whole warp.
 */
#ifndef DT_EMULATE_PTX_H
#define DT_EMULATE_PTX_H

#include "cuda_language.h"
#include <vector>

/* ---- products ---- */

struct emulate_mma {
    float *c;
    const uint32_t *a;
    uint32_t b[2];
};

static inline float emulate_half(uint32_t pair, int i)
{
    return __uint_as_float(i == 0 ? pair << 16 : pair & 0xffff0000u);
}

/* Lane 4 g + t holds of a: rows g and g + 8, columns 2 t, 2 t + 1 and those 8 further; of b: rows 2 t, 2 t + 1 and
 * those 8 further, column g; of c: rows g and g + 8, columns 2 t and 2 t + 1. */
static void emulate_finish_mma(void *const lane[32], unsigned mask)
{
    float a[16][16], b[16][8];
    for (int l = 0; l < 32; l++) {
        const emulate_mma *x = (const emulate_mma *)lane[l];
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 2; j++) a[l / 4 + 8 * (i % 2)][l % 4 * 2 + 8 * (i / 2) + j] = emulate_half(x->a[i], j);
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 2; j++) b[l % 4 * 2 + 8 * i + j][l / 4] = emulate_half(x->b[i], j);
    }
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            float sum = 0;
            for (int k = 0; k < 16; k++) sum += a[l / 4 + 8 * (i / 2)][k] * b[k][l % 4 * 2 + i % 2];
            ((emulate_mma *)lane[l])->c[i] += sum;
        }
}

static inline void mma(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1, EMULATE_LINE)
{
    emulate_mma mine = {c, a, {b0, b1}};
    emulate::meet("mma", line, 0xffffffffu, &mine, emulate_finish_mma);
}

/* ---- shared memory ---- */

typedef uintptr_t shared_at;

static inline shared_at shared_address(const void *p)
{
    return (uintptr_t)p;
}

struct emulate_ldmatrix {
    const uint16_t *row;
    uint32_t *r;
};

template <bool TRANSPOSED>
void emulate_finish_ldmatrix(void *const lane[32], unsigned mask)
{
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            uint32_t pair = 0;
            for (int j = 0; j < 2; j++) {
                const int row = TRANSPOSED ? l % 4 * 2 + j : l / 4, column = TRANSPOSED ? l / 4 : l % 4 * 2 + j;
                pair |= (uint32_t)((const emulate_ldmatrix *)lane[8 * i + row])->row[column] << 16 * j;
            }
            ((emulate_ldmatrix *)lane[l])->r[i] = pair;
        }
}

static inline emulate_ldmatrix emulate_row(uint32_t r[4], shared_at row, int line)
{
    if (row % 16 != 0) emulate::die("line %d: ldmatrix of a row at %p; expected a multiple of 16", line, (void *)row);
    return {(const uint16_t *)row, r};
}

static inline void ldmatrix(uint32_t r[4], shared_at row, EMULATE_LINE)
{
    emulate_ldmatrix mine = emulate_row(r, row, line);
    emulate::meet("ldmatrix", line, 0xffffffffu, &mine, emulate_finish_ldmatrix<false>);
}

static inline void ldmatrix_t(uint32_t r[4], shared_at row, EMULATE_LINE)
{
    emulate_ldmatrix mine = emulate_row(r, row, line);
    emulate::meet("ldmatrix.trans", line, 0xffffffffu, &mine, emulate_finish_ldmatrix<true>);
}

/* ---- copies: they arrive as late as they may, and until then there is nothing that could pass for a number ---- */

struct emulate_copy {
    shared_at to;
    const void *from;
    bool there;
};

static inline std::vector<emulate_copy> &emulate_copies(void)
{
    static std::vector<emulate_copy> of_thread[1024];
    return of_thread[threadIdx.x];
}

static inline void copy16(shared_at to, const void *from, bool there, EMULATE_LINE)
{
    if (to % 16 != 0 || (uintptr_t)from % 16 != 0)
        emulate::die("line %d: a copy from %p to %p; expected multiples of 16", line, from, (void *)to);
    memset((void *)to, 0xff, 16);
    emulate_copies().push_back({to, from, there});
}

static inline void copy_wait(void)
{
    for (const emulate_copy &c : emulate_copies())
        if (c.there) memcpy((void *)c.to, c.from, 16);
        else memset((void *)c.to, 0, 16);
    emulate_copies().clear();
}

static inline float exp2_of(float x)
{
    return exp2f(x);
}

#endif
