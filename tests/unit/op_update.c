/* Optimizers against numbers that PyTorch computed (tests/golden/optim_goldens.py), the gradient norm, and steps that
 * are skipped. */
#include "base/json.h"
#include "kernel.h"
#include "op/update.h"

enum { COUNT = 16, STEPS = 100 };

static double first(int i)
{
    return ((i * 5 + 3) % 16 - 8) / 8.0;
}

static double gradient(int step, int i)
{
    return ((step * 7919 + i * 104729) % 2003 - 1001) / 4096.0 * exp2(i % 5 - 2);
}

/* Parameters, moments and settings of a run, in double whatever the kernel computes in. */
typedef struct run {
    bool f64;
    double p[COUNT], m[COUNT], v[COUNT], grad[COUNT], hyper[DT_HYPER_COUNT], normsq[1];
} run;

/* One call; what it leaves in the storage of its outputs goes to where their operands point. */
static void call_kernel(const kernel_test *t, bool f64)
{
    dt_call call;
    run_kernel(t, f64, 2, &call);
    for (int k = 0; k < t->nout; k++)
        for (int64_t i = 0; call.out[k].data != NULL && i < operand_count(&t->out[k]); i++)
            t->out[k].real[i] = f64 ? ((double *)call.out[k].data)[i] : (double)((float *)call.out[k].data)[i];
    free_call(&call);
}

static void norm_of_gradient(run *r)
{
    dt_grad_norm_attr attr = {1};
    call_kernel(&(kernel_test){KERNEL(grad_norm), ATTR_OF(attr), .nin = 2, .in = {VECTOR(COUNT, r->grad), ABSENT},
                               .nout = 1, .out = {VECTOR(1, r->normsq)}},
                r->f64);
}

static void step_adamw(run *r, const dt_adamw_attr *attr)
{
    call_kernel(&(kernel_test){KERNEL(adamw), ATTR_OF(*attr), .nin = 6,
                               .in = {VECTOR(COUNT, r->p), VECTOR(COUNT, r->m), VECTOR(COUNT, r->v),
                                      VECTOR(COUNT, r->grad), VECTOR(DT_HYPER_COUNT, r->hyper), VECTOR(1, r->normsq)},
                               .nout = 3, .out = {VECTOR(COUNT, r->p), VECTOR(COUNT, r->m), VECTOR(COUNT, r->v)}},
                r->f64);
}

static void step_sgd(run *r, const dt_sgd_attr *attr)
{
    operand m = attr->momentum != 0 ? VECTOR(COUNT, r->m) : ABSENT;
    call_kernel(&(kernel_test){KERNEL(sgd), ATTR_OF(*attr), .nin = 5,
                               .in = {VECTOR(COUNT, r->p), VECTOR(COUNT, r->grad), VECTOR(DT_HYPER_COUNT, r->hyper),
                                      VECTOR(1, r->normsq), m},
                               .nout = 3, .out = {VECTOR(COUNT, r->p), ABSENT, m}},
                r->f64);
}

static void step_lion(run *r, const dt_lion_attr *attr)
{
    call_kernel(&(kernel_test){KERNEL(lion), ATTR_OF(*attr), .nin = 5,
                               .in = {VECTOR(COUNT, r->p), VECTOR(COUNT, r->m), VECTOR(COUNT, r->grad),
                                      VECTOR(DT_HYPER_COUNT, r->hyper), VECTOR(1, r->normsq)},
                               .nout = 2, .out = {VECTOR(COUNT, r->p), VECTOR(COUNT, r->m)}},
                r->f64);
}

static double number(const dt_json *at, const char *key, double otherwise)
{
    double x;
    cr_assert_eq(dt_json_f64_or(at, key, otherwise, &x), DT_OK, "%s", dt_error_text());
    return x;
}

static void compare(const run *r, int step, const dt_json *expected)
{
    int i = 0;
    const cJSON *want;
    cJSON_ArrayForEach(want, expected->node)
    {
        double tolerance = r->f64 ? 1e-13 : 1e-6;
        cr_assert_float_eq(r->p[i], want->valuedouble, tolerance, "step %d, value %d: %.12g, PyTorch %.12g", step, i,
                           r->p[i], want->valuedouble);
        i++;
    }
    cr_assert_eq(i, COUNT);
}

/* The run of one case; lr_scale times lr is the golden's lr. */
static void follow(const dt_json *at, const dt_json *kept, bool f64, double lr_scale)
{
    run r = {.f64 = f64};
    const char *name;
    dt_json expected;
    cr_assert_eq(dt_json_string(at, "name", &name), DT_OK);
    cr_assert_eq(dt_json_array(at, f64 ? "float64" : "fp32", &expected), DT_OK);
    double beta1 = number(at, "beta1", 0), beta2 = number(at, "beta2", 0), decay = number(at, "weight_decay", 0);
    const dt_adamw_attr adamw = {beta1, beta2, number(at, "eps", 0), decay, lr_scale};
    const dt_lion_attr lion = {beta1, beta2, decay, lr_scale};
    const dt_sgd_attr sgd = {number(at, "momentum", 0), decay, lr_scale};
    r.hyper[DT_HYPER_LR] = number(at, "lr", 0) / lr_scale;
    r.hyper[DT_HYPER_SCALE] = number(at, "scale", 1);
    r.hyper[DT_HYPER_CLIP] = number(at, "clip", 0);
    for (int i = 0; i < COUNT; i++) r.p[i] = first(i);
    int compared = 0;
    for (int step = 1; step <= STEPS; step++) {
        for (int i = 0; i < COUNT; i++) r.grad[i] = gradient(step, i);
        r.hyper[DT_HYPER_BIAS1] = 1 - pow(beta1, step);
        r.hyper[DT_HYPER_BIAS2] = 1 - pow(beta2, step);
        norm_of_gradient(&r);
        if (strcmp(name, "adamw") == 0) step_adamw(&r, &adamw);
        else if (strcmp(name, "lion") == 0) step_lion(&r, &lion);
        else step_sgd(&r, &sgd);
        if (cJSON_GetArrayItem(kept->node, compared)->valueint != step) continue;
        dt_json values = dt_json_child(&expected, cJSON_GetArrayItem(expected.node, compared), compared);
        compare(&r, step, &values);
        if (++compared == cJSON_GetArraySize(kept->node)) return;
    }
    cr_assert_fail("only %d of the kept steps were reached", compared);
}

Test(update, optimizers_agree_with_pytorch)
{
    dt_json file, kept, cases;
    cr_assert_eq(dt_json_parse_file(DT_SOURCE_DIR "/tests/golden/optim.json", DT_ERR_DATA, &file), DT_OK, "%s",
                 dt_error_text());
    cr_assert_eq(dt_json_array(&file, "kept", &kept), DT_OK);
    cr_assert_eq(dt_json_array(&file, "cases", &cases), DT_OK);
    cr_assert_eq(cJSON_GetArraySize(cases.node), 8);
    cJSON *at;
    cJSON_ArrayForEach(at, cases.node)
    {
        dt_json one = dt_json_child(&cases, at, 0);
        for (int f64 = 0; f64 < 2; f64++) {
            follow(&one, &kept, f64, 1);
            follow(&one, &kept, f64, 4);
        }
    }
    dt_json_free(&file);
}

Test(update, a_step_that_is_not_finite_changes_nothing)
{
    static const double bad[] = {NAN, INFINITY};
    for (int how = 0; how < 4; how++) {
        run r = {.f64 = how % 2};
        for (int i = 0; i < COUNT; i++) {
            r.p[i] = first(i);
            r.m[i] = r.v[i] = 0.5;
            r.grad[i] = NAN;
        }
        r.hyper[DT_HYPER_LR] = r.hyper[DT_HYPER_SCALE] = r.hyper[DT_HYPER_BIAS1] = r.hyper[DT_HYPER_BIAS2] = 1;
        r.normsq[0] = bad[how / 2];
        step_adamw(&r, &(dt_adamw_attr){0.9, 0.99, 1e-8, 0.1, 1});
        step_sgd(&r, &(dt_sgd_attr){0.9, 0.1, 1});
        step_lion(&r, &(dt_lion_attr){0.9, 0.99, 0.1, 1});
        for (int i = 0; i < COUNT; i++) {
            cr_assert_eq(r.p[i], first(i));
            cr_assert_eq(r.m[i], 0.5);
            cr_assert_eq(r.v[i], 0.5);
        }
    }
}

Test(update, updates_of_long_buffers_are_elementwise)
{
    enum { MANY = 3 * 16384 + 5 };
    static double p[MANY], m[MANY], grad[MANY], want[MANY], want_m[MANY];
    double hyper[DT_HYPER_COUNT] = {[DT_HYPER_LR] = 0.5, [DT_HYPER_SCALE] = 0.25}, normsq[1] = {1};
    dt_sgd_attr attr = {0.5, 0.125, 1};
    fill(p, MANY, 1);
    fill(m, MANY, 2);
    fill(grad, MANY, 3);
    for (int i = 0; i < MANY; i++) {
        want_m[i] = 0.5 * m[i] + (0.25 * grad[i] + 0.125 * p[i]);
        want[i] = p[i] - 0.5 * want_m[i];
    }
    check_kernel(&(kernel_test){
        KERNEL(sgd), ATTR_OF(attr), .nin = 5,
        .in = {VECTOR(MANY, p), VECTOR(MANY, grad), VECTOR(DT_HYPER_COUNT, hyper), VECTOR(1, normsq), VECTOR(MANY, m)},
        .nout = 3, .out = {VECTOR(MANY, want), ABSENT, VECTOR(MANY, want_m)}});
}

/* Chen et al. 2023, algorithm 2, in double; every seventh gradient and mean is 0, whose sign is. */
Test(update, lion_of_long_buffers_is_its_formula)
{
    enum { MANY = 3 * 16384 + 5 };
    static double p[MANY], m[MANY], grad[MANY], want[MANY], want_m[MANY];
    double hyper[DT_HYPER_COUNT] = {[DT_HYPER_LR] = 0.5, [DT_HYPER_SCALE] = 0.25}, normsq[1] = {1};
    dt_lion_attr attr = {0.75, 0.9375, 0.125, 0.5}; /* weight decay, share of lr: exact in fp32 */
    fill(p, MANY, 1);
    fill(m, MANY, 2);
    fill(grad, MANY, 3);
    for (int i = 0; i < MANY; i++) {
        if (i % 7 == 0) m[i] = grad[i] = 0;
        double g = 0.25 * grad[i], c = 0.75 * m[i] + (1 - 0.75) * g, lr = 0.5 * 0.5;
        double sign = c == 0 ? 0 : copysign(1, c);
        want[i] = p[i] - lr * (sign + 0.125 * p[i]);
        want_m[i] = 0.9375 * m[i] + (1 - 0.9375) * g;
    }
    check_kernel(&(kernel_test){
        KERNEL(lion), ATTR_OF(attr), .nin = 5,
        .in = {VECTOR(MANY, p), VECTOR(MANY, m), VECTOR(MANY, grad), VECTOR(DT_HYPER_COUNT, hyper), VECTOR(1, normsq)},
        .nout = 2, .out = {VECTOR(MANY, want), VECTOR(MANY, want_m)}});
}

Test(update, the_norm_adds_up_ranges_by_their_weight)
{
    enum { MANY = 100003 };
    static double x[MANY];
    double acc[1] = {12.5}, want[1] = {0};
    dt_grad_norm_attr attr = {0.25};
    fill(x, MANY, 4);
    for (int i = 0; i < MANY; i++) want[0] += 0.25 * x[i] * x[i];
    kernel_test t = {KERNEL(grad_norm),        ATTR_OF(attr),    .nin = 2, .in = {VECTOR(MANY, x), ABSENT}, .nout = 1,
                     .out = {VECTOR(1, want)}, .tolerance = 2e-7};
    check_kernel(&t);
    want[0] += acc[0];
    t.in[1] = VECTOR(1, acc);
    check_kernel(&t);
}

/* A value that several ranks hold lies elsewhere in each one's buffer, and must come out the same on all of them. */
Test(update, a_value_comes_out_the_same_wherever_it_lies)
{
    enum { LENGTH = 1277, DRAWS = 200 };
    const dt_adamw_attr adamw = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .lr_scale = 1};
    const dt_sgd_attr sgd = {.momentum = 0.9, .weight_decay = 0.01, .lr_scale = 1};
    const dt_lion_attr lion = {.beta1 = 0.9, .beta2 = 0.99, .weight_decay = 0.01, .lr_scale = 1};
    double hyper[DT_HYPER_COUNT] = {1e-3, 0.01, 0.3, 0.02, 1}, normsq[1] = {30000}, x[4][LENGTH];
    const operand p = VECTOR(LENGTH, x[0]), m = VECTOR(LENGTH, x[1]), v = VECTOR(LENGTH, x[2]),
                  g = VECTOR(LENGTH, x[3]);
    const operand h = VECTOR(DT_HYPER_COUNT, hyper), n = VECTOR(1, normsq);
    const kernel_test of[] = {
        {KERNEL(adamw), ATTR_OF(adamw), .nin = 6, .in = {p, m, v, g, h, n}, .nout = 3, .out = {p, m, v}},
        {KERNEL(sgd), ATTR_OF(sgd), .nin = 5, .in = {p, g, h, n, m}, .nout = 3, .out = {p, ABSENT, m}},
        {KERNEL(lion), ATTR_OF(lion), .nin = 5, .in = {p, m, g, h, n}, .nout = 2, .out = {p, m}},
    };
    for (int k = 0; k < 3; k++)
        for (uint64_t draw = 0; draw < DRAWS; draw++) {
            for (uint64_t a = 0; a < 4; a++)
                for (int i = 0; i < LENGTH; i++) x[a][i] = fabs(dt_rng_normal(7, DT_RNG_INIT, draw, a));
            call_kernel(&of[k], false);
            for (int a = 0; a < 3; a++)
                for (int i = 1; i < LENGTH; i++)
                    cr_assert_eq(x[a][i], x[a][0], "kernel %d, draw %d: value %d is %.9g, not %.9g", k, (int)draw, i,
                                 x[a][i], x[a][0]);
        }
}
