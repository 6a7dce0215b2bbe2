/* gpu_attention [cpu]: attention and its gradient on a GPU against the CPU in float64, called as a rank of a tensor
 * group calls them: heads from some number on, several documents in a sequence, windows, sequences of several blocks
 * and a rest. In fp32 within 1e-5 of the result's norm; in bf16 within 1e-2, on tensor cores, on a Hopper's warpgroups,
 * without, and by cuDNN. Of some shapes each gradient is also asked for alone. Results and workspace are poisoned
 * first. Exit code 77 where there is no GPU; "cpu" takes the CPU in fp32 in its place. */
#include "op/attention.h"
#include "base/memory.h" // dt_alloc
#include "base/rng.h"    // dt_rng_normal
#include "device/module.h"
#include "op/op.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(dt_status st)
{
    if (st == DT_OK) return;
    fprintf(stderr, "gpu_attention: %s\n", dt_error_text());
    exit(1);
}

/* Query heads first .. first + count - 1 of `heads`, kv heads kv_first .. of kv_heads; documents of `document` tokens
 * on average (0: the whole sequence is one). */
typedef struct shape {
    int64_t sequences, seq, width, heads, kv_heads, first, count, kv_first, kv_count, window, document;
} shape;

static const shape shapes[] = {
    {1, 40, 64, 1, 1, 0, 1, 0, 1, 0, 0},    {1, 256, 64, 2, 2, 0, 2, 0, 2, 0, 0},
    {2, 200, 64, 4, 2, 0, 4, 0, 2, 0, 60},  {1, 1100, 64, 2, 1, 0, 2, 0, 1, 0, 400},
    {1, 333, 128, 3, 1, 0, 3, 0, 1, 0, 0},  {2, 300, 128, 4, 2, 0, 4, 0, 2, 70, 90},
    {1, 270, 80, 8, 4, 4, 4, 2, 2, 0, 50},  {1, 270, 96, 8, 2, 2, 3, 0, 2, 33, 0},
    {1, 150, 8, 6, 2, 0, 3, 0, 2, 0, 20},   {1, 500, 128, 16, 4, 8, 4, 2, 1, 0, 0},
    {1, 130, 48, 12, 6, 9, 3, 4, 2, 65, 0}, {1, 90, 20, 2, 1, 0, 2, 0, 1, 0, 30},
    {1, 200, 64, 2, 1, 0, 2, 0, 1, 2, 0}, /* a tile of keys of which one is seen */
};

enum { Q, K, V, POS, O, LSE, DO, DQ, DK, DV, TENSORS };
static const char *const names[TENSORS] = {"q", "k", "v", "pos", "o", "lse", "do", "dq", "dk", "dv"};

static dt_tensor tensor_of(const shape *s, int i)
{
    const bool of_keys = i == K || i == V || i == DK || i == DV;
    const int64_t d = i == LSE ? 1 : s->width, rows = s->sequences * s->seq;
    dt_tensor t = {.type = i == LSE ? DT_TYPE_ACC : i == POS ? DT_TYPE_I32 : DT_TYPE_ACT, .ndim = i == POS ? 1 : 2};
    t.dim[0] = t.full[0] = rows;
    if (i == POS) return t;
    t.dim[1] = (of_keys ? s->kv_count : s->count) * d;
    t.off[1] = (of_keys ? s->kv_first : s->first) * d;
    t.full[1] = (of_keys ? s->kv_heads : s->heads) * d;
    return t;
}

static size_t count_of(const dt_tensor *t)
{
    return (size_t)(t->dim[0] * (t->ndim == 2 ? t->dim[1] : 1));
}

static size_t element_size(const dt_device *device, const dt_tensor *t)
{
    return t->type == DT_TYPE_I32 ? 4 : t->type == DT_TYPE_ACT ? device->ops->act_size : device->ops->acc_size;
}

/* ---- one device's tensors and calls ---- */

static void fill(dt_device *device, const shape *s, int i, dt_tensor *t)
{
    const size_t n = count_of(t);
    float *x = NULL;
    int32_t *pos = NULL;
    must(dt_alloc(n + 1, sizeof *x, &x));
    must(dt_alloc(n + 1, sizeof *pos, &pos));
    must(device->ops->alloc(device, n * element_size(device, t), &t->data));
    for (size_t k = 0; k < n; k++) {
        union {
            float f;
            uint32_t u;
        } number = {.f = dt_rng_normal(3, DT_RNG_INIT, (uint64_t)i, k)};
        number.u &= 0xffff0000u; // bf16 holds it exactly
        x[k] = i <= V || i == DO ? number.f : NAN;
        const bool begins = k % (size_t)s->seq == 0 || (s->document > 0 && (k * k + 7 * k) % (size_t)s->document == 0);
        pos[k] = begins ? 0 : pos[k - 1] + 1;
    }
    if (i == POS) must(device->ops->put_bytes(device, t->data, pos, 4 * n));
    else must(device->ops->put(device, t->data, element_size(device, t), x, n));
    free(x);
    free(pos);
}

static void run_call(dt_device *device, const shape *s, const dt_op *op, const dt_tensor *t, const int *in, int nin,
                     const int *out, int nout)
{
    const int number = dt_op_index(op);
    const dt_attention_attr attr = {s->seq, s->width, s->heads, s->kv_heads, 1 / sqrt((double)s->width), s->window};
    dt_call call = {.op = op, .nin = nin, .nout = nout, .device = device, .threads = device->threads};
    memcpy(call.attr.byte, &attr, sizeof attr);
    for (int i = 0; i < nin; i++) call.in[i] = t[in[i]];
    for (int i = 0; i < nout; i++) call.out[i] = t[out[i]];
    const size_t bytes = device->ops->workspace != NULL ? device->ops->workspace(device, number, &call)
                                                        : op->workspace(&call, device->ops->act_size);
    float *poison = NULL;
    must(device->ops->alloc(device, bytes, &call.workspace));
    must(dt_alloc(bytes + 1, 1, &poison));
    memset(poison, 0xff, bytes);
    must(device->ops->put_bytes(device, call.workspace, poison, bytes));
    must(device->kernels[number](&call));
    if (device->ops->wait != NULL) must(device->ops->wait(device));
    device->ops->free(device, call.workspace);
    free(poison);
}

static void run_both(dt_device *device, const shape *s, dt_tensor *t)
{
    static const int in[] = {Q, K, V, POS}, out[] = {O, LSE};
    static const int grad_in[] = {DO, Q, K, V, O, LSE, POS}, grad_out[] = {DQ, DK, DV};
    for (int i = 0; i < TENSORS; i++) {
        t[i] = tensor_of(s, i);
        fill(device, s, i, &t[i]);
    }
    run_call(device, s, &dt_op_attention, t, in, 4, out, 2);
    run_call(device, s, &dt_op_attention_grad, t, grad_in, 7, grad_out, 3);
}

/* Gradient `i` once more, and no other. */
static void run_alone(dt_device *device, const shape *s, dt_tensor *t, int i)
{
    static const int grad_in[] = {DO, Q, K, V, O, LSE, POS}, grad_out[] = {DQ, DK, DV};
    dt_tensor of[TENSORS];
    memcpy(of, t, sizeof of);
    of[DQ].data = of[DK].data = of[DV].data = NULL;
    device->ops->free(device, t[i].data);
    fill(device, s, i, &t[i]);
    of[i].data = t[i].data;
    run_call(device, s, &dt_op_attention_grad, of, grad_in, 7, grad_out, 3);
}

static void release(dt_device *device, dt_tensor *t)
{
    for (int i = 0; i < TENSORS; i++) device->ops->free(device, t[i].data);
}

/* ---- comparison ---- */

static int failures;

/* The difference's norm over the reference's. */
static double distance(dt_device *reference, const dt_tensor *want, dt_device *device, const dt_tensor *got)
{
    const size_t n = count_of(want);
    float *x = NULL, *y = NULL;
    double error = 0, norm = 0;
    must(dt_alloc(n + 1, sizeof *x, &x));
    must(dt_alloc(n + 1, sizeof *y, &y));
    must(reference->ops->get(reference, x, want->data, element_size(reference, want), n));
    must(device->ops->get(device, y, got->data, element_size(device, got), n));
    for (size_t i = 0; i < n; i++) {
        error += ((double)y[i] - x[i]) * ((double)y[i] - x[i]);
        norm += (double)x[i] * x[i];
    }
    free(x);
    free(y);
    return norm > 0 ? sqrt(error / norm) : sqrt(error);
}

static void check(dt_device *reference, const dt_tensor *want, dt_device *device, const dt_tensor *got, int i,
                  const char *how, size_t number, double tolerance, double *worst)
{
    const double off = distance(reference, want, device, got);
    if (off > *worst) *worst = off;
    if (off <= tolerance) return; // not true of NaN
    printf("FAIL  %s, shape %zu, %s: off by %.3g of the norm, allowed %.1g\n", how, number, names[i], off, tolerance);
    failures++;
}

static void check_device(dt_device *device, const char *how, double tolerance)
{
    dt_device reference;
    double worst = 0;
    must(dt_device_cpu_f64(1, &reference));
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        const shape *s = &shapes[k];
        dt_tensor want[TENSORS], got[TENSORS];
        run_both(&reference, s, want);
        run_both(device, s, got);
        for (int i = O; i < TENSORS; i++)
            if (i != DO) check(&reference, &want[i], device, &got[i], i, how, k, tolerance, &worst);
        for (int i = DQ; i <= DV && k % 3 == 2; i++) {
            run_alone(device, s, got, i);
            check(&reference, &want[i], device, &got[i], i, how, k, tolerance, &worst);
        }
        release(&reference, want);
        release(device, got);
    }
    printf("%s: worst %.2g of the norm\n", how, worst);
    dt_device_destroy(&reference);
}

/* Compute capability of the GPU: 90 is 9.0. */
static int capability_of(const dt_device *device)
{
    int (*ask)(const dt_device *) = dt_device_module_symbol("dt_cuda_capability");
    return ask != NULL ? ask(device) : 0;
}

int main(int argc, char **argv)
{
    const bool on_cpu = argc > 1 && strcmp(argv[1], "cpu") == 0;
    static const struct {
        const char *how, *kernels;
        int bf16, capability; /* 0: any */
    } ways[] = {{"fp32", "mma", 0, 0},
                {"bf16 on tensor cores", "mma", 1, 0},
                {"bf16 on Hopper's warpgroups", "wgmma", 1, 90},
                {"bf16 without tensor cores", "simple", 1, 0},
                {"bf16 by cuDNN where it can", "cudnn", 1, 0}};
    for (size_t i = 0; i < (on_cpu ? 1 : sizeof ways / sizeof *ways); i++) {
        dt_device device;
        setenv("DTRAIN_ATTENTION", ways[i].kernels, 1);
        const dt_status st = on_cpu ? dt_device_cpu(1, &device) : dt_device_cuda(0, ways[i].bf16, &device);
        if (st == DT_ERR_DEVICE) {
            printf("skipped: %s\n", dt_error_text());
            return 77;
        }
        must(st);
        const int needed = ways[i].capability;
        if (needed == 0 || needed == capability_of(&device))
            check_device(&device, ways[i].how, ways[i].bf16 ? 1e-2 : 1e-5);
        else printf("%s: skipped, on compute capability %d alone\n", ways[i].how, needed);
        dt_device_destroy(&device);
    }
    return failures > 0;
}
