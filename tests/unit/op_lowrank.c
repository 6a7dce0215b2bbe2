/* Kernels of the CPU that take low-rank addends, against the sums written out in double. */
#include "kernel.h"
#include "op/lowrank.h"

enum { WIDE = 66 * 1030, FACTOR = 4096 }; /* more than a tile each way */
static double dh[WIDE], gate[WIDE], up[WIDE], sum[3][WIDE], expected[2][WIDE], u[3][FACTOR], w[3][FACTOR];

/* x + alpha op(U) op(B), or x. */
static const double *added(int i, int64_t n, int64_t f, int64_t rank, dt_lowrank how, const double *x)
{
    for (int64_t r = 0; r < n; r++) {
        for (int64_t j = 0; j < f; j++) {
            double s = 0;
            for (int64_t k = 0; k < rank; k++)
                s += u[i][how.ta ? k * n + r : r * rank + k] * w[i][how.tb ? j * rank + k : k * f + j];
            sum[i][r * f + j] = x[r * f + j] + how.alpha * s;
        }
    }
    return sum[i];
}

/* An operand's U and B behind the op's `operands` operands; rank 0: absent. */
static void give(kernel_test *t, dt_lowrank_attr *attr, int operands, int i, int64_t n, int64_t f, int64_t rank,
                 dt_lowrank how)
{
    const operand left = how.ta ? MATRIX(rank, n, u[i]) : MATRIX(n, rank, u[i]);
    const operand right = how.tb ? MATRIX(f, rank, w[i]) : MATRIX(rank, f, w[i]);
    attr->of[i] = how;
    t->attr = attr;
    t->attr_bytes = sizeof *attr;
    t->nin = 3 * operands;
    t->in[operands + 2 * i] = rank > 0 ? left : ABSENT;
    t->in[operands + 2 * i + 1] = rank > 0 ? right : ABSENT;
}

static void fill_all(void)
{
    fill(dh, WIDE, 11);
    fill(gate, WIDE, 12);
    fill(up, WIDE, 13);
    for (int i = 0; i < 3; i++) {
        fill(u[i], FACTOR, 14 + (uint64_t)i);
        fill(w[i], FACTOR, 17 + (uint64_t)i);
    }
}

static const struct {
    int64_t n, f, rank[3];
    dt_lowrank how[3];
} cases[] = {
    {1, 1, {1, 1, 1}, {{false, false, 1}, {false, true, 1}, {true, false, 1}}},
    {5, 7, {3, 0, 5}, {{true, true, 0.5}, {false, false, 1}, {false, true, -2}}},
    {66, 1030, {2, 3, 1}, {{false, false, 0.25}, {true, true, 0.5}, {false, true, 1}}},
    {64, 30, {64, 8, 0}, {{true, false, 0.125}, {false, true, 1}, {false, false, 1}}},
};
#define FOR_CASES(c) for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)

Test(lowrank, swiglu_adds_to_its_operands)
{
    fill_all();
    FOR_CASES(c)
    {
        const int64_t n = cases[c].n, f = cases[c].f, *rank = cases[c].rank;
        const dt_lowrank *how = cases[c].how;
        const double *dy = added(0, n, f, rank[0], how[0], dh), *x = added(1, n, f, rank[1], how[1], gate),
                     *y = added(2, n, f, rank[2], how[2], up);
        dt_lowrank_attr attr = {0}, grad_attr = {0};
        kernel_test t = {KERNEL(swiglu), .in = {MATRIX(n, f, gate), MATRIX(n, f, up)}, .nout = 1,
                         .out = {MATRIX(n, f, expected[0])}};
        kernel_test grad = {KERNEL(swiglu_grad), .in = {MATRIX(n, f, dh), MATRIX(n, f, gate), MATRIX(n, f, up)},
                            .nout = 2, .out = {MATRIX(n, f, expected[0]), MATRIX(n, f, expected[1])}};
        for (int64_t i = 0; i < n * f; i++) expected[0][i] = x[i] / (1 + exp(-x[i])) * y[i];
        for (int i = 0; i < 3; i++) give(&grad, &grad_attr, 3, i, n, f, rank[i], how[i]);
        for (int i = 0; i < 2; i++) {
            give(&t, &attr, 2, i, n, f, rank[i + 1], how[i + 1]);
            t.in[2 + 2 * i] = grad.in[3 + 2 * (i + 1)];
            t.in[3 + 2 * i] = grad.in[4 + 2 * (i + 1)];
        }
        check_kernel(&t);
        for (int64_t i = 0; i < n * f; i++) {
            const double s = 1 / (1 + exp(-x[i]));
            expected[0][i] = dy[i] * y[i] * s * (1 + x[i] * (1 - s));
            expected[1][i] = dy[i] * x[i] * s;
        }
        check_kernel(&grad);
        grad.out[0] = ABSENT;
        check_kernel(&grad);
    }
}

Test(lowrank, gelu_adds_to_its_operands)
{
    const double root = sqrt(2 / acos(-1.0));
    fill_all();
    FOR_CASES(c)
    {
        const int64_t n = cases[c].n, f = cases[c].f, *rank = cases[c].rank;
        const dt_lowrank *how = cases[c].how;
        const double *dy = added(0, n, f, rank[0], how[0], dh), *x = added(1, n, f, rank[1], how[1], gate);
        dt_lowrank_attr attr = {0}, grad_attr = {0};
        kernel_test t = {KERNEL(gelu), .in = {MATRIX(n, f, gate)}, .nout = 1, .out = {MATRIX(n, f, expected[0])}};
        kernel_test grad = {KERNEL(gelu_grad), .in = {MATRIX(n, f, dh), MATRIX(n, f, gate)}, .nout = 1,
                            .out = {MATRIX(n, f, expected[1])}};
        for (int i = 0; i < 2; i++) give(&grad, &grad_attr, 2, i, n, f, rank[i], how[i]);
        give(&t, &attr, 1, 0, n, f, rank[1], how[1]);
        t.in[1] = grad.in[4];
        t.in[2] = grad.in[5];
        for (int64_t i = 0; i < n * f; i++) {
            const double tanh_of = tanh(root * (x[i] + 0.044715 * x[i] * x[i] * x[i]));
            expected[0][i] = x[i] / 2 * (1 + tanh_of);
            expected[1][i] = dy[i] * ((1 + tanh_of) / 2 +
                                      x[i] / 2 * (1 - tanh_of * tanh_of) * root * (1 + 3 * 0.044715 * x[i] * x[i]));
        }
        check_kernel(&t);
        check_kernel(&grad);
    }
}
