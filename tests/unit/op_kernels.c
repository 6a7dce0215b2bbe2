/* Kernels of the CPU that work row by row or element by element, against references in double, on slices too. */
#include "kernel.h"
#include "op/add.h"
#include "op/dropout.h"
#include "op/layernorm.h"
#include "op/rmsnorm.h"
#include "op/rope.h"

enum { MOST = 20000 }; /* enough for several threads */
static double a[MOST], b[MOST], c[MOST], want[MOST], more[MOST];

static void fill_all(void)
{
    fill(a, MOST, 1);
    fill(b, MOST, 2);
    fill(c, MOST, 3);
}

Test(add, kernels_are_elementwise_over_any_count)
{
    static const int64_t counts[] = {1, 5, 64, 8192, 8193, MOST};
    fill_all();
    for (size_t s = 0; s < sizeof counts / sizeof *counts; s++) {
        int64_t n = counts[s];
        for (int64_t i = 0; i < n; i++) want[i] = a[i] + b[i];
        check_kernel(&(kernel_test){KERNEL(add), .nin = 2, .in = {VECTOR(n, a), VECTOR(n, b)}, .nout = 1,
                                    .out = {VECTOR(n, want)}});
        check_kernel(&(kernel_test){KERNEL(accumulate), .nin = 2, .in = {VECTOR(n, a), VECTOR(n, b)}, .nout = 1,
                                    .out = {VECTOR(n, want)}});
        dt_scale_attr attr = {-0.375};
        for (int64_t i = 0; i < n; i++) want[i] = -0.375 * a[i];
        check_kernel(&(kernel_test){KERNEL(scale), ATTR_OF(attr), .nin = 1, .in = {VECTOR(n, a)}, .nout = 1,
                                    .out = {VECTOR(n, want)}});
        for (int64_t i = 0; i < n; i++) want[i] = a[i] * a[i];
        check_kernel(
            &(kernel_test){KERNEL(square), .nin = 1, .in = {VECTOR(n, a)}, .nout = 1, .out = {VECTOR(n, want)}});
    }
}

static const int64_t shapes[][2] = {{1, 1}, {3, 7}, {5, 64}, {9, 130}, {1, 257}, {129, 130}};
#define FOR_SHAPES(N, C)                                                                                               \
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)                                                        \
        for (int64_t N = shapes[s][0], C = shapes[s][1], once = 1; once; once = 0)

Test(bias, kernel_adds_to_every_row_and_sums_every_column)
{
    fill_all();
    FOR_SHAPES(N, O)
    {
        memset(more, 0, sizeof more);
        for (int64_t i = 0; i < N * O; i++) {
            want[i] = a[i] + b[i % O];
            more[i % O] += a[i];
        }
        check_kernel(&(kernel_test){KERNEL(bias), .nin = 2, .in = {MATRIX(N, O, a), VECTOR(O, b)}, .nout = 1,
                                    .out = {MATRIX(N, O, want)}});
        check_kernel(
            &(kernel_test){KERNEL(bias_grad), .nin = 1, .in = {MATRIX(N, O, a)}, .nout = 1, .out = {VECTOR(O, more)}});
    }
}

/* Rows 2 .. 4 of a vocabulary of 6: other tokens give zeros, and take no gradient. */
Test(embed, slice_of_the_vocabulary_gives_and_takes_only_its_rows)
{
    enum { N = 240 };
    int32_t tokens[N];
    const int64_t C = 70, rows = 3, first = 2;
    fill_all();
    for (int n = 0; n < N; n++) tokens[n] = (int32_t)(dt_rng_normal(1, DT_RNG_INIT, 0, (uint64_t)n) * 2 + 3);
    memset(more, 0, sizeof more);
    for (int64_t n = 0; n < N; n++) {
        int64_t row = tokens[n] - first;
        for (int64_t j = 0; j < C; j++) {
            bool here = row >= 0 && row < rows;
            want[n * C + j] = here ? a[row * C + j] : 0;
            if (here) more[row * C + j] += b[n * C + j];
        }
    }
    operand w = MATRIX(rows, C, a), dw = MATRIX(rows, C, more);
    w.off[0] = dw.off[0] = first;
    w.full[0] = dw.full[0] = 6;
    check_kernel(&(kernel_test){KERNEL(embed), .nin = 2, .in = {integers(N, tokens), w}, .nout = 1,
                                .out = {MATRIX(N, C, want)}});
    check_kernel(&(kernel_test){KERNEL(embed_grad), .nin = 3, .in = {integers(N, tokens), MATRIX(N, C, b), w},
                                .nout = 1, .out = {dw}});
}

/* y, rstd, dx, dgain of rows x with gain b and gradient c: rows, or groups of features, of C. */
static void rmsnorm_reference(int64_t N, int64_t C, double eps, const double *x, double *y, double *rstd, double *dx,
                              double *dgain)
{
    memset(dgain, 0, (size_t)C * sizeof *dgain);
    for (int64_t n = 0; n < N; n++) {
        double s = 0, t = 0;
        for (int64_t j = 0; j < C; j++) s += x[n * C + j] * x[n * C + j];
        double r = rstd[n] = 1 / sqrt(s / (double)C + eps);
        for (int64_t j = 0; j < C; j++) t += b[j] * c[n * C + j] * x[n * C + j];
        for (int64_t j = 0; j < C; j++) {
            y[n * C + j] = x[n * C + j] * r * b[j];
            dx[n * C + j] = r * b[j] * c[n * C + j] - r * r * r * x[n * C + j] * t / (double)C;
            dgain[j] += c[n * C + j] * x[n * C + j] * r;
        }
    }
}

Test(rmsnorm, kernel_and_gradient_agree_with_the_formulas)
{
    static double y[MOST], dx[MOST], rstd[256], dgain[MOST];
    const dt_rmsnorm_attr attr = {1e-3};
    fill_all();
    FOR_SHAPES(N, C)
    {
        rmsnorm_reference(N, C, attr.eps, a, y, rstd, dx, dgain);
        check_kernel(&(kernel_test){KERNEL(rmsnorm), ATTR_OF(attr), .nin = 2, .in = {MATRIX(N, C, a), VECTOR(C, b)},
                                    .nout = 2, .out = {MATRIX(N, C, y), VECTOR(N, rstd)}});
        kernel_test grad = {KERNEL(rmsnorm_grad),
                            ATTR_OF(attr),
                            .nin = 4,
                            .in = {MATRIX(N, C, c), MATRIX(N, C, a), VECTOR(C, b), VECTOR(N, rstd)},
                            .nout = 2,
                            .out = {MATRIX(N, C, dx), VECTOR(C, dgain)},
                            .tolerance = C == 1 ? 1e-2 : 1e-5}; /* one column: all of dx but eps' share cancels */
        check_kernel(&grad);
        grad.out[0] = ABSENT;
        check_kernel(&grad);
        grad.out[0] = MATRIX(N, C, dx);
        grad.out[1] = ABSENT;
        check_kernel(&grad);
    }
}

/* Three groups a row are as many rows three times as short. */
Test(rmsnorm, groups_of_features_are_rows_of_their_own)
{
    enum { N = 150, G = 3, C = 22 };
    static double y[N * G * C], dx[N * G * C], rstd[N * G], dgain[C];
    const dt_rmsnorm_attr attr = {1e-3};
    fill_all();
    rmsnorm_reference(N * G, C, attr.eps, a, y, rstd, dx, dgain);
    check_kernel(&(kernel_test){KERNEL(rmsnorm), ATTR_OF(attr), .nin = 2, .in = {MATRIX(N, G * C, a), VECTOR(C, b)},
                                .nout = 2, .out = {MATRIX(N, G * C, y), MATRIX(N, G, rstd)}});
    check_kernel(&(kernel_test){KERNEL(rmsnorm_grad), ATTR_OF(attr), .nin = 4,
                                .in = {MATRIX(N, G * C, c), MATRIX(N, G * C, a), VECTOR(C, b), MATRIX(N, G, rstd)},
                                .nout = 2, .out = {MATRIX(N, G * C, dx), VECTOR(C, dgain)}, .tolerance = 1e-5});
}

Test(layernorm, kernel_and_gradient_agree_with_the_formulas)
{
    static double bias[MOST], y[MOST], mean[256], rstd[256], dx[MOST], dgain[MOST], dbias[MOST];
    const dt_layernorm_attr attr = {1e-3};
    fill_all();
    fill(bias, MOST, 4);
    for (int i = 0; i < MOST; i++) a[i] = (double)(float)(a[i] + 30); /* far from the origin: no E x^2 - (E x)^2 */
    FOR_SHAPES(N, C)
    {
        memset(dgain, 0, sizeof dgain);
        memset(dbias, 0, sizeof dbias);
        for (int64_t n = 0; n < N; n++) {
            const double *x = a + n * C, *dy = c + n * C;
            double m = 0, square = 0, whole = 0, along = 0;
            for (int64_t j = 0; j < C; j++) m += x[j] / (double)C;
            for (int64_t j = 0; j < C; j++) square += (x[j] - m) * (x[j] - m) / (double)C;
            double r = rstd[n] = 1 / sqrt(square + attr.eps);
            mean[n] = m;
            for (int64_t j = 0; j < C; j++) whole += b[j] * dy[j] / (double)C;
            for (int64_t j = 0; j < C; j++) along += b[j] * dy[j] * (x[j] - m) * r / (double)C;
            for (int64_t j = 0; j < C; j++) {
                double z = (x[j] - m) * r;
                y[n * C + j] = z * b[j] + bias[j];
                dx[n * C + j] = r * (b[j] * dy[j] - whole - z * along);
                dgain[j] += dy[j] * z;
                dbias[j] += dy[j];
            }
        }
        check_kernel(&(kernel_test){KERNEL(layernorm), ATTR_OF(attr), .nin = 3,
                                    .in = {MATRIX(N, C, a), VECTOR(C, b), VECTOR(C, bias)}, .nout = 3,
                                    .out = {MATRIX(N, C, y), VECTOR(N, mean), VECTOR(N, rstd)},
                                    .tolerance = 2e-5}); /* the mean of 30 rounds in fp32 */
        const operand out[] = {MATRIX(N, C, dx), VECTOR(C, dgain), VECTOR(C, dbias)};
        for (int wanted = 1; wanted < 8 && C > 1; wanted++) { /* of one column dx is 0 but for rounding */
            kernel_test grad = {
                KERNEL(layernorm_grad),
                ATTR_OF(attr),
                .nin = 5,
                .in = {MATRIX(N, C, c), MATRIX(N, C, a), VECTOR(C, b), VECTOR(N, mean), VECTOR(N, rstd)},
                .nout = 3,
                .tolerance = 5e-5};
            for (int i = 0; i < 3; i++) grad.out[i] = wanted >> i & 1 ? out[i] : ABSENT;
            check_kernel(&grad);
        }
    }
}

Test(gelu, kernel_and_gradient_over_the_whole_range)
{
    static double da[MOST];
    const double root = sqrt(2 / acos(-1.0));
    fill_all();
    for (int64_t i = 0; i < MOST; i++) a[i] = (double)(float)(a[i] * (i % 4 == 0 ? 8 : 2));
    a[0] = -200, a[1] = 200, a[2] = 0;
    for (int64_t i = 0; i < MOST; i++) {
        double x = a[i], t = tanh(root * (x + 0.044715 * x * x * x));
        want[i] = x / 2 * (1 + t);
        da[i] = c[i] * ((1 + t) / 2 + x / 2 * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x));
    }
    check_kernel(
        &(kernel_test){KERNEL(gelu), .nin = 1, .in = {VECTOR(MOST, a)}, .nout = 1, .out = {VECTOR(MOST, want)}});
    check_kernel(&(kernel_test){KERNEL(gelu_grad), .nin = 2, .in = {VECTOR(MOST, c), VECTOR(MOST, a)}, .nout = 1,
                                .out = {VECTOR(MOST, da)}});
}

Test(rope, table_and_rotation_of_each_head)
{
    enum { N = 930, D = 6, HEADS = 3 };
    static double table[N * D];
    int32_t pos[N];
    double frequency[D / 2] = {1, 0.125, (double)0.0123f};
    fill_all();
    for (int n = 0; n < N; n++) pos[n] = n * n % 4096;
    for (int n = 0; n < N; n++) {
        for (int j = 0; j < D / 2; j++) {
            table[n * D + j] = cos(pos[n] * frequency[j]);
            table[n * D + D / 2 + j] = sin(pos[n] * frequency[j]);
        }
    }
    check_kernel(&(kernel_test){KERNEL(rope_table), .nin = 2, .in = {integers(N, pos), VECTOR(D / 2, frequency)},
                                .nout = 1, .out = {MATRIX(N, D, table)}});
    for (int inverse = 0; inverse < 2; inverse++) {
        for (int n = 0; n < N; n++) {
            for (int h = 0; h < HEADS; h++) {
                for (int j = 0; j < D / 2; j++) {
                    double angle = (inverse ? -1 : 1) * pos[n] * frequency[j];
                    const double *x = a + (n * HEADS + h) * D;
                    want[(n * HEADS + h) * D + j] = x[j] * cos(angle) - x[j + D / 2] * sin(angle);
                    want[(n * HEADS + h) * D + j + D / 2] = x[j + D / 2] * cos(angle) + x[j] * sin(angle);
                }
            }
        }
        dt_rope_attr attr = {D, inverse};
        check_kernel(&(kernel_test){KERNEL(rope), ATTR_OF(attr), .nin = 2,
                                    .in = {MATRIX(N, HEADS * D, a), MATRIX(N, D, table)}, .nout = 1,
                                    .out = {MATRIX(N, HEADS * D, want)}});
    }
}

Test(rope, a_slice_that_cuts_a_head_is_an_error)
{
    float x[4], y[4], table[4];
    dt_rope_attr attr = {4, false};
    dt_call call = {.op = &dt_op_rope,
                    .nin = 2,
                    .in = {{.data = x, .ndim = 2, .dim = {1, 2}}, {.data = table, .ndim = 2, .dim = {1, 4}}},
                    .nout = 1,
                    .out = {{.data = y, .ndim = 2, .dim = {1, 2}}},
                    .threads = 1};
    memcpy(call.attr.byte, &attr, sizeof attr);
    cr_assert_eq(dt_cpu_f32_rope(&call), DT_ERR_INTERNAL);
}

Test(swiglu, kernel_and_gradient_over_the_whole_range)
{
    static double dgate[MOST], dup[MOST];
    fill_all();
    for (int64_t i = 0; i < MOST; i++) a[i] = (double)(float)(a[i] * (i % 4 == 0 ? 40 : 2));
    a[0] = -200, a[1] = 200, a[2] = 0;
    for (int64_t i = 0; i < MOST; i++) {
        double s = 1 / (1 + exp(-a[i]));
        want[i] = a[i] * s * b[i];
        dgate[i] = c[i] * b[i] * s * (1 + a[i] * (1 - s));
        dup[i] = c[i] * a[i] * s;
    }
    check_kernel(&(kernel_test){KERNEL(swiglu), .nin = 2, .in = {VECTOR(MOST, a), VECTOR(MOST, b)}, .nout = 1,
                                .out = {VECTOR(MOST, want)}});
    kernel_test grad = {KERNEL(swiglu_grad), .nin = 3, .in = {VECTOR(MOST, c), VECTOR(MOST, a), VECTOR(MOST, b)},
                        .nout = 2, .out = {VECTOR(MOST, dgate), VECTOR(MOST, dup)}};
    check_kernel(&grad);
    grad.out[0] = ABSENT;
    check_kernel(&grad);
    grad.out[0] = VECTOR(MOST, dgate);
    grad.out[1] = ABSENT;
    check_kernel(&grad);
}

/* The exponential of fp32, seen through silu(x) at x = -t where it is x / (1 + e^t): each element by itself. */
Test(swiglu, fp32_is_accurate_element_by_element)
{
    fill_all();
    for (int64_t i = 0; i < MOST; i++) {
        a[i] = (double)(float)(-80 + 160.0 * (double)i / MOST);
        b[i] = 1;
    }
    kernel_test t = {KERNEL(swiglu), .nin = 2, .in = {VECTOR(MOST, a), VECTOR(MOST, b)}, .nout = 1,
                     .out = {VECTOR(MOST, want)}};
    dt_call call;
    run_kernel(&t, false, 1, &call);
    for (int64_t i = 0; i < MOST; i++) {
        double silu = a[i] / (1 + exp(-a[i]));
        cr_assert(fabs((double)((float *)call.out[0].data)[i] - silu) <= 3e-7 * fabs(silu), "x %g", a[i]);
    }
    free_call(&call);
}

static bool kept(const dt_dropout_attr *attr, int64_t step, int64_t key, int64_t feature)
{
    uint32_t word[4];
    dt_rng_words(attr->seed, DT_RNG_DROPOUT, attr->site + (uint64_t)step * 0x9E3779B97F4A7C15u,
                 ((uint64_t)key << 32) + (uint64_t)(feature / 4), word);
    return (double)dt_rng_unit(word[feature % 4]) >= attr->p;
}

Test(dropout, an_element_is_dropped_by_what_it_is_and_not_by_the_slice)
{
    static const int32_t key[] = {7, 0, 2000000000}, step[] = {12};
    const dt_dropout_attr attr = {0.3, 5, 0xdeadbeefcafe};
    const int64_t N = 3, C = 23;
    fill_all();
    for (int64_t first = 0; first < C; first++) {
        for (int64_t width = 1; first + width <= C; width += 3) {
            for (int64_t n = 0; n < N; n++)
                for (int64_t j = 0; j < width; j++)
                    want[n * width + j] = kept(&attr, step[0], key[n], first + j) ? a[n * width + j] / 0.7 : 0;
            operand x = MATRIX(N, width, a), y = MATRIX(N, width, want);
            x.off[1] = y.off[1] = first;
            x.full[1] = y.full[1] = C;
            check_kernel(&(kernel_test){KERNEL(dropout), ATTR_OF(attr), .nin = 3,
                                        .in = {x, integers(N, key), integers(1, step)}, .nout = 1, .out = {y}});
        }
    }
}

Test(dropout, rows_may_go_to_any_thread)
{
    enum { N = 129, C = 130 };
    int32_t key[N];
    const int32_t step[] = {1};
    const dt_dropout_attr attr = {0.5, 2, 3};
    fill_all();
    for (int n = 0; n < N; n++) {
        key[n] = 1000 + n;
        for (int j = 0; j < C; j++) want[n * C + j] = kept(&attr, 1, key[n], j) ? 2 * a[n * C + j] : 0;
    }
    check_kernel(&(kernel_test){KERNEL(dropout), ATTR_OF(attr), .nin = 3,
                                .in = {MATRIX(N, C, a), integers(N, key), integers(1, step)}, .nout = 1,
                                .out = {MATRIX(N, C, want)}});
}

Test(dropout, drops_the_asked_share_and_differs_by_step_site_and_key)
{
    const int64_t C = 4096;
    static const int32_t key[] = {3, 4};
    for (int64_t i = 0; i < 2 * C; i++) a[i] = 1;
    double mask[4][8192];
    for (int v = 0; v < 3; v++) {
        const int32_t step[] = {v == 1 ? 2 : 1};
        dt_dropout_attr attr = {0.25, 1, v == 2 ? 11 : 10};
        kernel_test t = {KERNEL(dropout), ATTR_OF(attr),
                         .nin = 3,        .in = {MATRIX(2, C, a), integers(2, key), integers(1, step)},
                         .nout = 1,       .out = {MATRIX(2, C, want)}};
        dt_call call;
        run_kernel(&t, true, 1, &call);
        memcpy(mask[v], call.out[0].data, sizeof mask[v]);
        free_call(&call);
    }
    memcpy(mask[3], mask[0] + C, (size_t)C * sizeof(double)); /* the other key's row */
    double sum = 0;
    for (int64_t i = 0; i < 2 * C; i++) sum += mask[0][i];
    cr_assert_float_eq(sum / (double)(2 * C), 1, 0.03); /* the mean is kept; standard error 0.0064 */
    for (int v = 1; v < 4; v++) {
        int same = 0;
        for (int64_t i = 0; i < C; i++) same += mask[v][i] == mask[0][i];
        cr_assert_float_eq(same / (double)C, 0.75 * 0.75 + 0.25 * 0.25, 0.04); /* independent */
    }
}
