/* Every op of the table, in every variant of its example: gradients against central finite differences in float64, with
 * and without the merge and fuse passes; fp32 against float64; threads against one thread. A new line in ops.def is
 * tested by being there. */
#include "base/hash.h" // dt_hash_string
#include "base/rng.h"  // dt_rng_normal
#include "graph/exec.h"
#include "op/op.h"
#include "op/swiglu.h"
#include "op/xent.h" // dt_sum
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OK(expr) cr_assert_eq((expr), DT_OK, "%s", dt_error_text())

static const dt_mesh alone = {0, 1, {1, 1, 1}, {0, 0, 0}};

/* A graph ready to run on one rank. */
typedef struct bench {
    dt_graph *g;
    dt_device device;
    dt_comm comm;
    dt_store *store;
    dt_exec *exec;
    dt_val result;
} bench;

/* The example's result, or (`loss`) sum_i silu(c_i) result_i for fixed random c: a scalar that weighs every element
 * differently, differentiated, behind the merge pass or not. False if the op has no such variant. */
static bool build(bench *b, const dt_op *op, int variant, bool loss, bool merge)
{
    *b = (bench){0};
    OK(dt_graph_create(&b->g));
    if (!op->example(b->g, variant, &b->result)) {
        dt_graph_destroy(b->g);
        return false;
    }
    OK(dt_graph_status(b->g));
    cr_assert_neq(b->result, DT_NONE, "%s %d: no result", op->name, variant);
    if (loss) {
        const dt_value y = *dt_value_of(b->g, b->result);
        int64_t count = dt_value_count(b->g, b->result);
        float *weight = calloc((size_t)count, sizeof *weight);
        for (int64_t i = 0; i < count; i++) weight[i] = dt_rng_normal(3, DT_RNG_INIT, 0, (uint64_t)i);
        dt_val c = dt_graph_const(b->g, "weights of the loss", DT_TYPE_ACC, y.ndim, y.dim, weight);
        free(weight);
        b->result = dt_sum(b->g, dt_swiglu(b->g, c, b->result));
        dt_graph_mark_output(b->g, b->result);
        if (merge) OK(dt_pass_merge(b->g));
        OK(dt_pass_grad(b->g, b->result, DT_GRAD_SUM));
    } else {
        dt_graph_mark_output(b->g, b->result);
    }
    return true;
}

/* Places, plans and binds it; parameters and weights get normal numbers that fp32 holds exactly. */
static void prepare(bench *b, bool fuse, bool f64, int threads)
{
    OK(dt_pass_shard(b->g, &alone));
    if (fuse) OK(dt_pass_fuse(b->g));
    OK(f64 ? dt_device_cpu_f64(threads, &b->device) : dt_device_cpu(threads, &b->device));
    OK(dt_comm_create_host(&alone, &b->comm));
    OK(dt_store_create(&b->device, &b->store));
    for (dt_val v = 0; v < b->g->values; v++) {
        const dt_value *val = dt_value_of(b->g, v);
        if (val->kind != DT_KIND_PARAM && val->kind != DT_KIND_WEIGHT) continue;
        int64_t count = dt_value_local_count(b->g, v);
        void *data = NULL;
        OK(dt_store_new(b->store, val->name, (size_t)count * b->device.ops->acc_size, &data));
        for (int64_t i = 0; i < count; i++) {
            float x = dt_rng_normal(5, DT_RNG_INIT, dt_hash_string(val->name), (uint64_t)i);
            OK(b->device.ops->put(&b->device, (char *)data + (size_t)i * b->device.ops->acc_size,
                                  b->device.ops->acc_size, &x, 1));
        }
    }
    OK(dt_exec_create(b->g, &b->device, &b->comm, b->store, &b->exec));
}

static void run(bench *b)
{
    for (int program = 0; program < DT_PROGRAM_COUNT; program++) OK(dt_exec_run(b->exec, (dt_program)program));
}

static void finish(bench *b)
{
    dt_exec_destroy(b->exec);
    dt_store_destroy(b->store);
    dt_comm_destroy(&b->comm);
    dt_device_destroy(&b->device);
    dt_graph_destroy(b->g);
}

static double loss_of(bench *b)
{
    run(b);
    return *(const double *)dt_exec_data(b->exec, b->result);
}

/* |gradient - finite difference| against |finite difference|, norms over one parameter. */
static void check_gradient(bench *b, dt_val param, const char *op, int variant)
{
    const double h = 1e-5;
    const dt_value *val = dt_value_of(b->g, param);
    int64_t count = dt_value_local_count(b->g, param);
    double *x = dt_store_find(b->store, val->name)->data, *grad = calloc((size_t)count, sizeof *grad);
    dt_val acc = dt_grad_of(b->g, param);
    if (acc != DT_NONE) {
        for (dt_val v = 0; v < b->g->values; v++) { /* what the prologue computes has an accumulator too */
            const dt_value *state = dt_value_of(b->g, v);
            if (state->kind == DT_KIND_STATE && strncmp(state->name, "grad:", 5) == 0)
                memset(dt_exec_data(b->exec, v), 0, (size_t)dt_value_local_count(b->g, v) * sizeof *grad);
        }
        run(b);
        memcpy(grad, dt_exec_data(b->exec, acc), (size_t)count * sizeof *grad);
    }
    double error = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        const double at = x[i];
        x[i] = at + h;
        double above = loss_of(b);
        x[i] = at - h;
        double below = loss_of(b);
        x[i] = at;
        double difference = (above - below) / (2 * h);
        error += (grad[i] - difference) * (grad[i] - difference);
        norm += difference * difference;
    }
    cr_assert(sqrt(error) <= 1e-6 * sqrt(norm) + 1e-9, "%s %d: gradient of %s is off by %g of %g", op, variant,
              val->name, sqrt(error), sqrt(norm));
    free(grad);
}

Test(ops, every_differentiable_op_has_an_example)
{
    for (int i = 0; i < DT_OP_COUNT; i++)
        cr_assert(dt_ops[i]->grad == NULL || dt_ops[i]->example != NULL, "%s has none", dt_ops[i]->name);
}

Test(ops, gradients_match_finite_differences)
{
    for (int i = 0; i < DT_OP_COUNT; i++) {
        const dt_op *op = dt_ops[i];
        if (op->grad == NULL) continue;
        bench b;
        int variants = 0;
        for (; build(&b, op, variants, true, false); variants++) {
            for (int fuse = 0; fuse < 2; fuse++) {
                if (fuse) build(&b, op, variants, true, true);
                int params = 0;
                prepare(&b, fuse, true, 1);
                for (dt_val v = 0; v < b.g->values; v++) {
                    if (dt_value_of(b.g, v)->kind != DT_KIND_PARAM) continue;
                    check_gradient(&b, v, op->name, variants);
                    params++;
                }
                cr_assert_gt(params, 0, "%s %d has nothing to differentiate", op->name, variants);
                finish(&b);
            }
        }
        cr_assert_gt(variants, 0, "%s: no variants", op->name);
    }
}

/* The result as doubles, in a new array. */
static double *result_of(bench *b, int64_t *count)
{
    const dt_value *y = dt_value_of(b->g, b->result);
    const void *data = dt_exec_data(b->exec, b->result);
    *count = dt_value_local_count(b->g, b->result);
    double *x = calloc((size_t)*count, sizeof *x);
    for (int64_t i = 0; i < *count; i++) {
        if (y->type == DT_TYPE_I32) x[i] = ((const int32_t *)data)[i];
        else if (b->device.ops->acc_size == sizeof(double)) x[i] = ((const double *)data)[i];
        else x[i] = (double)((const float *)data)[i];
    }
    return x;
}

Test(ops, fp32_agrees_with_float64_and_threads_with_one)
{
    for (int i = 0; i < DT_OP_COUNT; i++) {
        const dt_op *op = dt_ops[i];
        bench b[3];
        for (int variant = 0; op->example != NULL && build(&b[0], op, variant, false, false); variant++) {
            double *y[3], error = 0, norm = 0;
            int64_t count;
            for (int k = 0; k < 3; k++) { /* float64; fp32; fp32 on three threads */
                if (k > 0) build(&b[k], op, variant, false, false);
                prepare(&b[k], false, k == 0, k == 2 ? 3 : 1);
                run(&b[k]);
                y[k] = result_of(&b[k], &count);
            }
            for (int64_t j = 0; j < count; j++) {
                error += (y[1][j] - y[0][j]) * (y[1][j] - y[0][j]);
                norm += y[0][j] * y[0][j];
            }
            cr_assert(sqrt(error) <= 1e-5 * sqrt(norm), "%s %d: fp32 is off by %g of %g", op->name, variant,
                      sqrt(error), sqrt(norm));
            cr_assert_eq(memcmp(y[1], y[2], (size_t)count * sizeof **y), 0, "%s %d: depends on the number of threads",
                         op->name, variant);
            for (int k = 0; k < 3; k++) {
                finish(&b[k]);
                free(y[k]);
            }
        }
    }
}
