/* Attention kernels against sums over all visible keys in double: packed rows, shared and split heads, blocks of every
 * kind; the gradient against finite differences; generation against whole sequences. */
#include "kernel.h"
#include "op/attention.h"

enum { MOST = 120000 };
static double q[MOST], k[MOST], v[MOST], o[MOST], lse[MOST], dout[MOST], dq[MOST], dk[MOST], dv[MOST];
static int32_t pos[2048];

typedef struct shape {
    int64_t sequences, seq, heads, kv_heads, width;
    int64_t row;    /* tokens of the rows packed into a sequence */
    int64_t window; /* that a token sees; 0: all of its row */
} shape;

/* One row alone, many rows, a block of queries whose first keys belong to another row, one kv head for all; lengths on
 * both sides of the kernel's blocks of 64 queries and 256 keys; windows shorter than a block, a row and neither. */
static const shape shapes[] = {{1, 1, 1, 1, 1, 1, 0},       {2, 7, 4, 2, 3, 7, 0},      {3, 65, 2, 2, 8, 10, 0},
                               {1, 330, 2, 1, 5, 290, 0},   {2, 257, 4, 4, 6, 257, 0},  {1, 600, 3, 1, 4, 600, 0},
                               {3, 65, 2, 2, 8, 10, 4},     {2, 100, 2, 1, 3, 100, 1},  {1, 330, 2, 1, 5, 290, 70},
                               {1, 600, 3, 1, 4, 600, 300}, {1, 600, 3, 1, 4, 600, 601}};
#define FOR_SHAPES(s) for (const shape *s = shapes; s < shapes + sizeof shapes / sizeof *shapes; s++)

static void set_up(const shape *s)
{
    int64_t n = s->sequences * s->seq;
    fill(q, n * s->heads * s->width, 1);
    fill(k, n * s->kv_heads * s->width, 2);
    fill(v, n * s->kv_heads * s->width, 3);
    fill(dout, n * s->heads * s->width, 4);
    for (int64_t t = 0; t < n; t++) pos[t] = (int32_t)(t % s->seq % s->row);
}

static dt_attention_attr attr_of(const shape *s)
{
    return (dt_attention_attr){s->seq, s->width, s->heads, s->kv_heads, 0.6, s->window};
}

static double score(const shape *s, int64_t t, int64_t key, int64_t head)
{
    int64_t kv = head * s->kv_heads / s->heads, d = s->width;
    double sum = 0;
    for (int64_t i = 0; i < d; i++) sum += q[t * s->heads * d + head * d + i] * k[key * s->kv_heads * d + kv * d + i];
    return 0.6 * sum;
}

/* o, lse, dq, dk, dv by the definition. */
static void reference(const shape *s)
{
    int64_t n = s->sequences * s->seq, d = s->width, ldq = s->heads * d, ldk = s->kv_heads * d;
    memset(o, 0, sizeof o);
    memset(dq, 0, sizeof dq);
    memset(dk, 0, sizeof dk);
    memset(dv, 0, sizeof dv);
    for (int64_t t = 0; t < n; t++) {
        for (int64_t head = 0; head < s->heads; head++) {
            double max = -INFINITY, sum = 0, delta = 0, p[600];
            const int64_t row = t - pos[t], window = s->window > 0 ? t - s->window + 1 : row;
            const int64_t first = window > row ? window : row, kv = head * s->kv_heads / s->heads * d,
                          mine = t * ldq + head * d;
            for (int64_t j = first; j <= t; j++) max = fmax(max, p[j - first] = score(s, t, j, head));
            for (int64_t j = first; j <= t; j++) sum += p[j - first] = exp(p[j - first] - max);
            lse[t * s->heads + head] = max + log(sum);
            for (int64_t j = first; j <= t; j++)
                for (int64_t i = 0; i < d; i++) o[mine + i] += p[j - first] / sum * v[j * ldk + kv + i];
            for (int64_t i = 0; i < d; i++) delta += dout[mine + i] * o[mine + i];
            for (int64_t j = first; j <= t; j++) {
                double dp = 0, w = p[j - first] / sum;
                for (int64_t i = 0; i < d; i++) dp += dout[mine + i] * v[j * ldk + kv + i];
                for (int64_t i = 0; i < d; i++) {
                    dq[mine + i] += 0.6 * w * (dp - delta) * k[j * ldk + kv + i];
                    dk[j * ldk + kv + i] += 0.6 * w * (dp - delta) * q[mine + i];
                    dv[j * ldk + kv + i] += w * dout[mine + i];
                }
            }
        }
    }
}

Test(attention, kernel_sums_over_the_visible_keys)
{
    FOR_SHAPES(s)
    {
        set_up(s);
        reference(s);
        int64_t n = s->sequences * s->seq, cq = s->heads * s->width, ck = s->kv_heads * s->width;
        dt_attention_attr attr = attr_of(s);
        kernel_test t = {
            KERNEL(attention), ATTR_OF(attr),
            .nin = 4,          .in = {MATRIX(n, cq, q), MATRIX(n, ck, k), MATRIX(n, ck, v), integers(n, pos)},
            .nout = 2,         .out = {MATRIX(n, cq, o), MATRIX(n, s->heads, lse)}};
        check_kernel(&t);
        t.out[1] = ABSENT;
        check_kernel(&t);
    }
}

static kernel_test gradient_of(const shape *s, const dt_attention_attr *attr)
{
    int64_t n = s->sequences * s->seq, cq = s->heads * s->width, ck = s->kv_heads * s->width;
    return (kernel_test){KERNEL(attention_grad),
                         .attr = attr,
                         .attr_bytes = sizeof *attr,
                         .nin = 7,
                         .in = {MATRIX(n, cq, dout), MATRIX(n, cq, q), MATRIX(n, ck, k), MATRIX(n, ck, v),
                                MATRIX(n, cq, o), MATRIX(n, s->heads, lse), integers(n, pos)},
                         .nout = 3,
                         .out = {MATRIX(n, cq, dq), MATRIX(n, ck, dk), MATRIX(n, ck, dv)}};
}

Test(attention, gradient_kernel_gives_each_operand_its_own)
{
    FOR_SHAPES(s)
    {
        set_up(s);
        reference(s);
        dt_attention_attr attr = attr_of(s);
        kernel_test t = gradient_of(s, &attr);
        check_kernel(&t);
        for (int leave = 0; leave < 3; leave++) {
            t = gradient_of(s, &attr);
            t.out[leave] = ABSENT;
            check_kernel(&t);
        }
    }
}

/* sum(dout * o) through the float64 kernel. */
static double weighted_output(const shape *s)
{
    int64_t n = s->sequences * s->seq, cq = s->heads * s->width, ck = s->kv_heads * s->width;
    dt_attention_attr attr = attr_of(s);
    const kernel_test t = {
        KERNEL(attention), ATTR_OF(attr),
        .nin = 4,          .in = {MATRIX(n, cq, q), MATRIX(n, ck, k), MATRIX(n, ck, v), integers(n, pos)},
        .nout = 2,         .out = {MATRIX(n, cq, o), MATRIX(n, s->heads, lse)}};
    dt_call call;
    double sum = 0;
    run_kernel(&t, true, 1, &call);
    for (int64_t i = 0; i < n * cq; i++) sum += dout[i] * ((double *)call.out[0].data)[i];
    memcpy(o, call.out[0].data, (size_t)(n * cq) * sizeof *o);
    memcpy(lse, call.out[1].data, (size_t)(n * s->heads) * sizeof *lse);
    free_call(&call);
    return sum;
}

Test(attention, gradient_matches_finite_differences)
{
    const shape s = {1, 70, 2, 1, 3, 50, 20};
    const double h = 1e-5;
    dt_attention_attr attr = attr_of(&s);
    dt_call call;
    set_up(&s);
    weighted_output(&s);
    kernel_test t = gradient_of(&s, &attr);
    run_kernel(&t, true, 1, &call);
    double *const operand_data[] = {q, k, v};
    for (int i = 0; i < 3; i++) {
        double error = 0, norm = 0;
        for (int64_t j = 0; j < operand_count(&t.out[i]); j++) {
            double *x = &operand_data[i][j], at = *x;
            *x = at + h;
            double above = weighted_output(&s);
            *x = at - h;
            double below = weighted_output(&s), slope = (above - below) / (2 * h);
            *x = at;
            error += pow(((double *)call.out[i].data)[j] - slope, 2);
            norm += slope * slope;
        }
        cr_assert(sqrt(error) <= 1e-6 * sqrt(norm), "operand %d: off by %g of %g", i, sqrt(error), sqrt(norm));
    }
    free_call(&call);
}

/* Heads [first, first + count) of a tensor of `heads`, copied out of its rows. */
static operand heads_of(int64_t n, int64_t heads, int64_t width, int64_t first, int64_t count, const double *x,
                        double *to)
{
    for (int64_t t = 0; t < n; t++)
        memcpy(to + t * count * width, x + (t * heads + first) * width, (size_t)(count * width) * sizeof *to);
    operand slice = MATRIX(n, count * width, to);
    slice.off[1] = first * width;
    slice.full[1] = heads * width;
    return slice;
}

/* Query heads over `ranks`, kv heads over as many or kept whole: results are slices; gradients of whole kv heads are
 * sums over the ranks. */
static void check_split(const shape *s, int ranks, bool split_kv)
{
    static double part[10][20000], summed[2][20000];
    int64_t n = s->sequences * s->seq, count = s->heads / ranks, d = s->width;
    int64_t kv_count = split_kv ? s->kv_heads / ranks : s->kv_heads;
    dt_attention_attr attr = attr_of(s);
    set_up(s);
    reference(s);
    memset(summed, 0, sizeof summed);
    for (int rank = 0; rank < ranks; rank++) {
        int64_t first = rank * count, kv_first = split_kv ? rank * kv_count : 0;
        const double *const by_head[] = {q, o, dout, dq}, *const by_kv[] = {k, v, dk, dv};
        operand mine[4], kv[4];
        for (int i = 0; i < 4; i++) {
            mine[i] = heads_of(n, s->heads, d, first, count, by_head[i], part[i]);
            kv[i] = heads_of(n, s->kv_heads, d, kv_first, kv_count, by_kv[i], part[4 + i]);
        }
        operand my_lse = heads_of(n, s->heads, 1, first, count, lse, part[8]);
        check_kernel(&(kernel_test){KERNEL(attention), ATTR_OF(attr), .nin = 4,
                                    .in = {mine[0], kv[0], kv[1], integers(n, pos)}, .nout = 2,
                                    .out = {mine[1], my_lse}});
        kernel_test t = {KERNEL(attention_grad),
                         ATTR_OF(attr),
                         .nin = 7,
                         .in = {mine[2], mine[0], kv[0], kv[1], mine[1], my_lse, integers(n, pos)},
                         .nout = 3,
                         .out = {mine[3], kv[2], kv[3]}};
        if (split_kv) {
            check_kernel(&t);
            continue;
        }
        dt_call call;
        run_kernel(&t, true, 2, &call);
        for (int i = 0; i < 2; i++)
            for (int64_t j = 0; j < n * kv_count * d; j++) summed[i][j] += ((double *)call.out[1 + i].data)[j];
        free_call(&call);
    }
    for (int64_t j = 0; j < n * s->kv_heads * d && !split_kv; j++) {
        cr_assert_float_eq(summed[0][j], dk[j], 1e-12);
        cr_assert_float_eq(summed[1][j], dv[j], 1e-12);
    }
}

Test(attention, slices_of_heads_are_those_of_the_whole)
{
    check_split(&(shape){2, 33, 4, 2, 3, 20, 0}, 2, true);
    check_split(&(shape){2, 33, 4, 2, 3, 20, 8}, 2, false);
    check_split(&(shape){1, 70, 4, 2, 3, 70, 0}, 4, false);
    check_split(&(shape){1, 70, 4, 1, 3, 70, 0}, 2, false);
}

Test(attention, heads_without_their_kv_heads_are_an_error)
{
    const shape s = {1, 4, 4, 2, 2, 4, 0};
    double part[3][64];
    set_up(&s);
    dt_attention_attr attr = attr_of(&s);
    operand mine = heads_of(4, 4, 2, 2, 2, q, part[0]), kv = heads_of(4, 2, 2, 0, 1, k, part[1]);
    dt_call call = {.op = &dt_op_attention, .nin = 4, .nout = 2, .threads = 1};
    memcpy(call.attr.byte, &attr, sizeof attr);
    for (int i = 0; i < 3; i++) call.in[i] = tensor_of(i == 0 ? &mine : &kv, part[i]);
    call.in[3] = (dt_tensor){.data = pos, .type = DT_TYPE_I32, .ndim = 1, .dim = {4}};
    call.out[0] = call.in[0];
    cr_assert_eq(dt_cpu_f64_attention(&call), DT_ERR_INTERNAL);
    cr_assert_not_null(strstr(dt_error_text(), "query heads 2..3"), "%s", dt_error_text());
}

/* ---- generation ---- */

/* One call with `count` new tokens from `at` on, after which the caches hold what the kernel put there. */
static void generate(const shape *s, bool f64, int64_t at, int64_t count, double *kcache, double *vcache,
                     double *result)
{
    int64_t cq = s->heads * s->width, ck = s->kv_heads * s->width;
    const int32_t start = (int32_t)at;
    dt_attention_attr attr = attr_of(s);
    const kernel_test t = {KERNEL(attention_cached),
                           ATTR_OF(attr),
                           .nin = 6,
                           .in = {MATRIX(count, cq, q + at * cq), MATRIX(count, ck, k + at * ck),
                                  MATRIX(count, ck, v + at * ck), MATRIX(s->seq, ck, kcache),
                                  MATRIX(s->seq, ck, vcache), integers(1, &start)},
                           .nout = 3,
                           .out = {MATRIX(count, cq, result), MATRIX(s->seq, ck, kcache), MATRIX(s->seq, ck, vcache)}};
    dt_call call;
    run_kernel(&t, f64, 2, &call);
    double *const to[] = {kcache, vcache, result};
    const void *const from[] = {call.out[1].data, call.out[2].data, call.out[0].data};
    for (int i = 0; i < 3; i++)
        for (int64_t j = 0; j < (i < 2 ? s->seq * ck : count * cq); j++)
            to[i][j] = f64 ? ((const double *)from[i])[j] : (double)((const float *)from[i])[j];
    free_call(&call);
}

Test(attention, tokens_one_by_one_see_what_they_see_together)
{
    static const int64_t steps[] = {1, 5, 70, 1, 1, 2};
    static double kcache[80 * 6], vcache[80 * 6], result[80 * 12];
    for (int variant = 0; variant < 4; variant++) {
        const bool f64 = variant & 1;
        const shape s = {1, 80, 4, 2, 3, 80, variant < 2 ? 0 : 9};
        set_up(&s);
        reference(&s);
        for (int i = 0; i < 80 * 6; i++) kcache[i] = vcache[i] = NAN; /* behind the last token nothing is read */
        int64_t at = 0;
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
            generate(&s, f64, at, steps[i], kcache, vcache, result);
            for (int64_t j = 0; j < steps[i] * 12; j++)
                cr_assert_float_eq(result[j], o[at * 12 + j], f64 ? 1e-13 : 5e-6, "token %lld",
                                   (long long)(at + j / 12));
            at += steps[i];
        }
        cr_assert_eq(at, s.seq);
        cr_assert_arr_eq(kcache, k, sizeof kcache);
        cr_assert_arr_eq(vcache, v, sizeof vcache);
    }
}

Test(attention, more_tokens_than_the_cache_holds_are_an_error)
{
    const shape s = {1, 3, 1, 1, 1, 3, 0};
    const int32_t start = 2;
    dt_attention_attr attr = attr_of(&s);
    double x[3] = {0};
    dt_tensor two = {.data = x, .ndim = 2, .dim = {2, 1}}, cache = {.data = x, .ndim = 2, .dim = {3, 1}};
    dt_call call = {.op = &dt_op_attention_cached,
                    .nin = 6,
                    .in = {two, two, two, cache, cache},
                    .nout = 3,
                    .out = {two, cache, cache},
                    .threads = 1};
    call.in[5].data = (void *)(uintptr_t)&start;
    memcpy(call.attr.byte, &attr, sizeof attr);
    cr_assert_eq(dt_cpu_f64_attention_cached(&call), DT_ERR_INTERNAL);
    cr_assert_not_null(strstr(dt_error_text(), "tokens 2..3 do not fit a cache of 3"), "%s", dt_error_text());
}
