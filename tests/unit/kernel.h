/* Calls a CPU kernel on small host tensors in fp32 and in float64, on one thread and on three, and compares each result
 * with a reference in double. Outputs hold NaN before the call. */
#ifndef DT_TESTS_UNIT_KERNEL_H
#define DT_TESTS_UNIT_KERNEL_H

#include "base/rng.h" // dt_rng_normal
#include "op/op.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Both builds of every kernel; only those that a test names are linked. */
#define DT_OP(name)                                                                                                    \
    dt_status dt_cpu_f32_##name(const dt_call *call);                                                                  \
    dt_status dt_cpu_f64_##name(const dt_call *call);
#include "op/ops.def"
#undef DT_OP

/** An operand: a slice of `dim`, at `off` of a tensor of `full`; data in double or in i32 (both NULL: absent). */
typedef struct operand {
    int ndim;
    int64_t dim[DT_DIMS], off[DT_DIMS], full[DT_DIMS];
    double *real;
    const int32_t *i32;
} operand;

static inline operand whole(int ndim, int64_t rows, int64_t cols, double *real)
{
    return (operand){.ndim = ndim, .dim = {rows, cols}, .full = {rows, cols}, .real = real};
}
#define MATRIX(rows, cols, data) whole(2, rows, cols, data)
#define VECTOR(count, data) whole(1, count, 1, data)
static inline operand integers(int64_t count, const int32_t *data)
{
    return (operand){.ndim = 1, .dim = {count}, .full = {count}, .i32 = data};
}
#define ABSENT ((operand){0})

static inline int64_t operand_count(const operand *o)
{
    int64_t n = 1;
    for (int i = 0; i < o->ndim; i++) n *= o->dim[i];
    return n;
}

/** Fills with normal numbers that fp32 holds exactly; `stream` tells arrays of one test apart. */
static inline void fill(double *x, int64_t count, uint64_t stream)
{
    for (int64_t i = 0; i < count; i++) x[i] = (double)dt_rng_normal(7, DT_RNG_INIT, stream, (uint64_t)i);
}

typedef struct kernel_test {
    const dt_op *op;
    dt_kernel f32, f64;
    const void *attr;
    size_t attr_bytes;
    int nin;
    operand in[DT_MAX_IN];
    int nout;
    operand out[DT_MAX_OUT]; /* what is expected */
    dt_comm *comm;
    double tolerance; /* of fp32, relative to the largest element; 0: 2e-6 */
} kernel_test;
#define KERNEL(name) .op = &dt_op_##name, .f32 = dt_cpu_f32_##name, .f64 = dt_cpu_f64_##name
#define ATTR_OF(a) .attr = &(a), .attr_bytes = sizeof(a)

static inline void *to_device(const operand *o, bool f64)
{
    size_t count = (size_t)operand_count(o);
    if (o->real == NULL && o->i32 == NULL) return NULL;
    double *data = malloc(count * sizeof(double) + 8);
    for (size_t i = 0; i < count; i++) {
        if (o->i32 != NULL) ((int32_t *)(void *)data)[i] = o->i32[i];
        else if (f64) data[i] = o->real[i];
        else ((float *)(void *)data)[i] = (float)o->real[i];
    }
    return data;
}

static inline dt_tensor tensor_of(const operand *o, void *data)
{
    dt_tensor t = {.data = data, .type = o->i32 != NULL ? DT_TYPE_I32 : DT_TYPE_ACC, .ndim = o->ndim};
    memcpy(t.dim, o->dim, sizeof t.dim);
    memcpy(t.off, o->off, sizeof t.off);
    memcpy(t.full, o->full, sizeof t.full);
    return t;
}

/* Runs the kernel once; out[i] is freed by the caller unless it is an input's storage. */
static inline void run_kernel(const kernel_test *t, bool f64, int threads, dt_call *call)
{
    size_t size = f64 ? sizeof(double) : sizeof(float);
    *call = (dt_call){.op = t->op, .nin = t->nin, .nout = t->nout, .comm = t->comm, .threads = threads};
    if (t->attr != NULL) memcpy(call->attr.byte, t->attr, t->attr_bytes);
    for (int i = 0; i < t->nin; i++) call->in[i] = tensor_of(&t->in[i], to_device(&t->in[i], f64));
    for (int i = 0; i < t->nout; i++) {
        int storage = t->op->inplace[i] - 1;
        void *data = storage >= 0 && storage < t->nin ? call->in[storage].data : NULL;
        if (data == NULL && (data = to_device(&t->out[i], f64)) != NULL)
            memset(data, 0xff, (size_t)operand_count(&t->out[i]) * size);
        call->out[i] = tensor_of(&t->out[i], data);
    }
    if (t->op->workspace != NULL) call->workspace = malloc(t->op->workspace(call, size) + 1);
    cr_assert_eq((f64 ? t->f64 : t->f32)(call), DT_OK, "%s: %s", t->op->name, dt_error_text());
}

static inline void free_call(dt_call *call)
{
    for (int i = 0; i < call->nout; i++) {
        bool shared = false;
        for (int k = 0; k < call->nin; k++) shared |= call->out[i].data == call->in[k].data;
        if (!shared) free(call->out[i].data);
    }
    for (int i = 0; i < call->nin; i++) free(call->in[i].data);
    free(call->workspace);
}

static inline void check_kernel(const kernel_test *t)
{
    for (int f64 = 0; f64 < 2; f64++) {
        double tolerance = f64 ? 1e-13 : t->tolerance != 0 ? t->tolerance : 2e-6;
        dt_call one, three;
        run_kernel(t, f64, 1, &one);
        run_kernel(t, f64, 3, &three);
        for (int k = 0; k < t->nout; k++) {
            const operand *want = &t->out[k];
            if (want->real == NULL && want->i32 == NULL) continue;
            int64_t count = operand_count(want);
            double largest = 0;
            for (int64_t i = 0; want->real != NULL && i < count; i++)
                if (isfinite(want->real[i])) largest = fmax(largest, fabs(want->real[i]));
            for (int64_t i = 0; i < count; i++) {
                const void *data = one.out[k].data;
                if (want->i32 != NULL) {
                    cr_assert_eq(((const int32_t *)data)[i], want->i32[i]);
                    continue;
                }
                double got = f64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
                bool equal = got == want->real[i] || fabs(got - want->real[i]) <= tolerance * largest;
                cr_assert(equal, "%s: output %d, element %lld, %s: %.9g, not %.9g", t->op->name, k, (long long)i,
                          f64 ? "float64" : "fp32", got, want->real[i]);
            }
            cr_assert_eq(memcmp(one.out[k].data, three.out[k].data, (size_t)count * (f64 && !want->i32 ? 8 : 4)), 0,
                         "%s: the result depends on the number of threads", t->op->name);
        }
        free_call(&one);
        free_call(&three);
    }
}

#endif
