/* GEMM of the CPU device. A large product is cut into a grid of tiles of C, one a thread; each tile is one call of
 * oneDNN (float) or of the blocked loops below (double). No sum is ever split between threads. */
#include "op/cpu.h"
#include <omp.h>
#ifndef DT_REAL_F64
#include <oneapi/dnnl/dnnl.h>
#endif

/* A product of fewer operations is not worth waking threads for. */
#define SMALL (4.0e6)

#define BLOCK_M 64
#define BLOCK_N 64
#define BLOCK_K 128

typedef struct gemm {
    bool ta, tb;
    int64_t m, n, k;
    real alpha;
    const real *a;
    int64_t lda;
    const real *b;
    int64_t ldb;
    real beta;
    real *c;
    int64_t ldc;
} gemm;

/* sum[i,j] += pa[i,:] pb[:,j] for packed blocks. */
DT_VECTOR static void multiply_block(int64_t mb, int64_t kb, const real (*pa)[BLOCK_K], const real (*pb)[BLOCK_N],
                                     real (*sum)[BLOCK_N])
{
    for (int64_t i = 0; i < mb; i++) {
        for (int64_t l = 0; l < kb; l++) {
            const real x = pa[i][l];
#pragma omp simd
            for (int64_t j = 0; j < BLOCK_N; j++) sum[i][j] += x * pb[l][j];
        }
    }
}

/* Any product: blocks of op(A) and op(B) are packed, so that transposes cost nothing in the inner loop. */
static void multiply(const gemm *g)
{
    real pa[BLOCK_M][BLOCK_K], pb[BLOCK_K][BLOCK_N], sum[BLOCK_M][BLOCK_N];
    for (int64_t i0 = 0; i0 < g->m; i0 += BLOCK_M) {
        for (int64_t j0 = 0; j0 < g->n; j0 += BLOCK_N) {
            int64_t mb = g->m - i0 < BLOCK_M ? g->m - i0 : BLOCK_M, nb = g->n - j0 < BLOCK_N ? g->n - j0 : BLOCK_N;
            for (int64_t i = 0; i < mb; i++)
                for (int64_t j = 0; j < BLOCK_N; j++) sum[i][j] = 0;
            for (int64_t l0 = 0; l0 < g->k; l0 += BLOCK_K) {
                int64_t kb = g->k - l0 < BLOCK_K ? g->k - l0 : BLOCK_K;
                for (int64_t i = 0; i < mb; i++)
                    for (int64_t l = 0; l < kb; l++)
                        pa[i][l] = g->ta ? g->a[(l0 + l) * g->lda + i0 + i] : g->a[(i0 + i) * g->lda + l0 + l];
                for (int64_t l = 0; l < kb; l++)
                    for (int64_t j = 0; j < BLOCK_N; j++)
                        pb[l][j] = j >= nb ? 0
                                   : g->tb ? g->b[(j0 + j) * g->ldb + l0 + l]
                                           : g->b[(l0 + l) * g->ldb + j0 + j];
                multiply_block(mb, kb, pa, pb, sum);
            }
            for (int64_t i = 0; i < mb; i++) {
                real *c = g->c + (i0 + i) * g->ldc + j0;
                for (int64_t j = 0; j < nb; j++) c[j] = g->alpha * sum[i][j] + (g->beta != 0 ? g->beta * c[j] : 0);
            }
        }
    }
}

/* One tile on the calling thread. */
static void tile(const gemm *g)
{
#ifndef DT_REAL_F64
    int threads = omp_get_max_threads(); /* of this thread's own setting, which is what oneDNN goes by */
    omp_set_num_threads(1);
    dnnl_status_t st = g->k > 0 ? dnnl_sgemm(g->ta ? 'T' : 'N', g->tb ? 'T' : 'N', g->m, g->n, g->k, g->alpha, g->a,
                                             g->lda, g->b, g->ldb, g->beta, g->c, g->ldc)
                                : dnnl_unimplemented;
    omp_set_num_threads(threads);
    if (st == dnnl_success) return;
#endif
    multiply(g); /* oneDNN does not do empty sums, and may lack memory for its buffers */
}

static int64_t rounded(int64_t x, int64_t parts)
{
    return ((x + parts - 1) / parts + 15) / 16 * 16;
}

/* Rows and columns of a tile when `threads` of them cover C: the largest tile's work, and what packing its operands
 * costs, kept small. */
static void choose_tile(int64_t m, int64_t n, int threads, int64_t *rows, int64_t *cols)
{
    double best = INFINITY;
    for (int t = 1; t <= threads; t++) {
        int64_t r = rounded(m, t), c = rounded(n, threads / t);
        double cost = (double)r * (double)c + 64.0 * (double)(r + c);
        if (cost >= best) continue;
        best = cost;
        *rows = r;
        *cols = c;
    }
}

void DT_CPU_KERNEL(gemm)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, real alpha, const real *a, int64_t lda,
                         const real *b, int64_t ldb, real beta, real *c, int64_t ldc, int threads)
{
    if (m <= 0 || n <= 0) return;
    const gemm whole = {ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc};
    if (threads <= 1 || 2.0 * (double)m * (double)n * (double)k < SMALL) {
        tile(&whole);
        return;
    }
    int64_t rows = m, cols = n;
    choose_tile(m, n, threads, &rows, &cols);
    int64_t down = (m + rows - 1) / rows, across = (n + cols - 1) / cols;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t t = 0; t < down * across; t++) {
        int64_t i = t / across * rows, j = t % across * cols;
        gemm part = whole;
        part.m = m - i < rows ? m - i : rows;
        part.n = n - j < cols ? n - j : cols;
        part.a += ta ? i : i * lda;
        part.b += tb ? j * ldb : j;
        part.c += i * ldc + j;
        tile(&part);
    }
}
