/* The flat buffers and the epilogue on them: layout, groups, reductions, and steps of a toy against a computation by
 * hand in double. */
#include "op/cast.h"
#include "op/collective.h"
#include "op/matmul.h"
#include "op/update.h"
#include "op/xent.h"
#include "train/trainer.h"
#include "unit/sizes.h"
#include "unit/tiny.h"
#include <math.h>

static tiny t;
static dt_trainer step;

static void open_step(tiny_model m, const char *config, int rank, int ranks)
{
    tiny_open(&t, m, config);
    tiny_place(&t, rank, ranks);
    OK(dt_job_assume_selection(&t.job, &t.job.mesh));
    OK(dt_trainer_build(&t.job, &t.job.mesh, &step));
}

/* The same with a mask of these entries of one weight, as a checkpoint would have it. */
static void open_masked_step(const char *config, const char *weight, const int64_t *index, int64_t n, int rank,
                             int ranks)
{
    tiny_open(&t, (tiny_model){.kv_heads = 2}, config);
    tiny_place(&t, rank, ranks);
    dt_deltas all = t.job.deltas;
    t.job.deltas.n = 0;
    tiny_build(&t, DT_FOR_EVAL);
    t.job.deltas = all;
    const dt_score slice = dt_job_slice(t.g, value_named(t.g, weight));
    OK(all.delta[0].method->restore(&all.delta[0], &slice, index, n));
    OK(dt_trainer_build(&t.job, &t.job.mesh, &step));
}

static void close_step(void)
{
    dt_trainer_destroy(&step);
    tiny_close(&t);
}

/* ---- On devices that compute in less than fp32 ---- */

static int count_ops(dt_program program, const dt_op *op)
{
    int n = 0;
    DT_FOR_NODES (step.g, i) n += step.g->node[i].program == program && step.g->node[i].op == op;
    return n;
}

/* Once a step for all of them, into views of the same shape and placement. */
Test(optim_flat, trained_values_are_rounded_once_a_step)
{
    static dt_device_ops narrow;
    for (int rank = 0; rank < 4; rank++) {
        tiny_open(&t, (tiny_model){.kv_heads = 2},
                  "delta { lora { rank: 8 } target: \"" ALL_LINEARS "\" } parallel { tensor: 2 }");
        tiny_place(&t, rank, 4);
        narrow = *t.job.device.ops;
        narrow.act_size = narrow.acc_size / 2;
        t.job.device.ops = &narrow;
        OK(dt_trainer_build(&t.job, &t.job.mesh, &step));
        cr_expect_eq(count_ops(DT_PROLOGUE, &dt_op_cast), 1);
        int views = 0;
        DT_FOR_NODES (step.g, i) {
            const dt_node *n = &step.g->node[i];
            for (int k = 0; k < n->nin && n->program == DT_MICRO; k++) {
                const dt_value *v = n->in[k] != DT_NONE ? &step.g->value[n->in[k]] : NULL;
                if (v == NULL || strncmp(v->name, "act:", 4) != 0) continue;
                const dt_value *of = &step.g->value[value_named(step.g, v->name + 4)];
                cr_expect_eq(v->type, DT_TYPE_ACT);
                cr_expect_eq(v->base_offset, of->base_offset);
                cr_expect(memcmp(v->local, of->local, sizeof v->local) == 0);
                cr_expect(memcmp(v->place, of->place, sizeof v->place) == 0);
                views++;
            }
            for (int k = 0; k < 2 && n->program == DT_MICRO && n->op == &dt_op_matmul; k++)
                cr_expect(step.g->value[n->in[k]].kind != DT_KIND_PARAM || step.g->value[n->in[k]].base_offset % 8 != 0,
                          "%s is rounded by a product", step.g->value[n->in[k]].name);
        }
        cr_expect_gt(views, 0);
        close_step();
    }
}

Test(optim_flat, without_need_nothing_is_rounded)
{
    open_step((tiny_model){.kv_heads = 2}, "delta { lora { rank: 8 } target: \"" ALL_LINEARS "\" }", 0, 1);
    cr_expect_eq(count_ops(DT_PROLOGUE, &dt_op_cast), 0);
    cr_expect_eq(dt_graph_find(step.g, "flat:act"), DT_NONE);
    close_step();
}

/* ---- Layout ---- */

static int section_of(const dt_flat_param *p)
{
    return p->split == DT_AXES_TENSOR ? 0 : p->split != 0 ? 1 : p->partial != 0 ? 2 : 3;
}

static const char *const layouts[] = {
    "delta { lora { rank: 2 } target: \"" ALL_LINEARS "\" } parallel { tensor: 4 }",
    "delta { full {} } parallel { tensor: 4 sequence: true }",
    "delta { fish { keep: 0.02 } } parallel { tensor: 4 }",
};

/* [split | replicated], one behind the other, in the same order on every rank; parameter and gradient at one place. */
Test(optim_flat, parameters_lie_one_behind_the_other_split_ones_first)
{
    for (size_t l = 0; l < sizeof layouts / sizeof *layouts; l++) {
        dt_val first_rank[256];
        for (int rank = 0; rank < 8; rank++) {
            open_step((tiny_model){.kv_heads = 2}, layouts[l], rank, 8);
            int64_t offset = 0, global = 0;
            for (int i = 0; i < step.flat.n; i++) {
                const dt_flat_param *p = &step.flat.param[i];
                const dt_value *param = &step.g->value[p->param], *grad = &step.g->value[p->grad];
                cr_assert_eq(p->offset, offset);
                cr_assert_eq(p->count, dt_value_local_count(step.g, p->param));
                cr_assert_eq(param->base, step.flat.params);
                cr_assert_eq(grad->base, step.flat.grads);
                cr_assert_eq(param->base_offset, offset);
                cr_assert_eq(grad->base_offset, offset);
                cr_assert(i == 0 || section_of(p) >= section_of(&step.flat.param[i - 1]));
                cr_assert(rank == 0 || first_rank[i] == p->param, "the order depends on the rank");
                first_rank[i] = p->param;
                offset += p->count;
                global += dt_value_count(step.g, p->param);
            }
            cr_assert_gt(step.flat.n, 10);
            cr_assert_eq(step.flat.count, offset);
            cr_assert_eq(step.flat.global_count, global);
            close_step();
        }
    }
}

static double share_of_rank(void)
{
    double held = 0;
    for (int i = 0; i < step.flat.n; i++) {
        const dt_flat_param *p = &step.flat.param[i];
        held += (double)p->count / dt_mesh_group_size(&t.job.mesh, DT_AXES_TENSOR & ~p->split);
    }
    return held;
}

/* The parts of all tensor ranks make up the delta, what several hold counted once. */
Test(optim_flat, ranks_together_hold_the_delta)
{
    for (size_t l = 0; l < 2; l++) {
        double held = 0;
        int64_t global = 0;
        for (int rank = 0; rank < 4; rank++) {
            open_step((tiny_model){.kv_heads = 2}, layouts[l], rank, 4);
            held += share_of_rank();
            global = step.flat.global_count;
            close_step();
        }
        cr_assert_float_eq(held, (double)global, 1e-6, "%s: %g of %lld", layouts[l], held, (long long)global);
    }
}

/* Rows of k_proj lie on two ranks of four, each twice; entries of q_proj on one. The others have empty buffers. */
Test(optim_flat, a_rank_may_hold_nothing_of_a_mask)
{
    const int64_t q[] = {3, 47, 200}, k[] = {5, 119, 120, 239};
    const int64_t held_q[] = {3, 0, 0, 0}, held_k[] = {2, 2, 2, 2};
    for (int rank = 0; rank < 4; rank++) {
        dt_plan plan;
        open_masked_step("delta { fish {} } parallel { tensor: 4 }", "model.layers.0.self_attn.q_proj.weight", q, 3,
                         rank, 4);
        cr_assert_eq(step.flat.n, 1);
        cr_assert_eq(step.flat.count, held_q[rank]);
        cr_assert_eq(step.flat.global_count, 3);
        OK(dt_pass_plan(step.g, &device_fp32, &plan));
        dt_plan_free(&plan);
        close_step();
        open_masked_step("delta { fish {} } parallel { tensor: 4 }", "model.layers.0.self_attn.k_proj.weight", k, 4,
                         rank, 4);
        cr_assert_eq(step.flat.count, held_k[rank]);
        cr_assert_eq(step.flat.global_count, 4);
        cr_assert_float_eq(share_of_rank(), 1, 1e-12);
        close_step();
    }
}

/* ---- Reductions ---- */

Test(optim_flat, one_all_reduce_moves_every_gradient_over_the_data_ranks)
{
    for (size_t l = 0; l < sizeof layouts / sizeof *layouts; l++) {
        open_step((tiny_model){.kv_heads = 2}, layouts[l], 5, 8);
        int reductions = 0;
        bool after = false;
        DT_FOR_NODES (step.g, i) {
            const dt_node *n = &step.g->node[i];
            if (n->op == &dt_op_all_reduce && DT_ATTR(dt_collective_attr, n)->axes & DT_AXES_DATA) {
                cr_assert_eq(DT_ATTR(dt_collective_attr, n)->axes, DT_AXES_DATA);
                cr_assert_eq(n->program, DT_EPILOGUE);
                cr_assert_eq(n->in[0], step.flat.grads);
                cr_assert_eq(step.g->value[n->out[0]].base, step.flat.grads, "summed where it lies");
                reductions++;
                after = true;
            }
            if (n->op == &dt_op_grad_norm) cr_assert(after, "the norm is of sums over the data ranks");
        }
        cr_assert_eq(reductions, 1);
        close_step();
    }
}

/* Every gradient that is partial along tensor axes is summed over those, once. */
Test(optim_flat, partial_gradients_are_summed_over_their_axes)
{
    for (size_t l = 0; l < sizeof layouts / sizeof *layouts; l++) {
        open_step((tiny_model){.kv_heads = 2}, layouts[l], 3, 8);
        const dt_graph *g = step.g;
        int partial = 0;
        for (int k = 0; k < step.flat.n; k++) {
            const dt_flat_param *p = &step.flat.param[k];
            dt_axes summed = 0;
            if (p->count == 0) continue;
            DT_FOR_NODES (g, i) {
                const dt_node *n = &g->node[i];
                if (n->op != &dt_op_all_reduce || n->program != DT_EPILOGUE ||
                    g->value[n->in[0]].base != step.flat.grads)
                    continue;
                int64_t from = g->value[n->in[0]].base_offset, count = dt_value_local_count(g, n->in[0]);
                if (p->offset + p->count <= from || from + count <= p->offset) continue;
                cr_assert(from <= p->offset && p->offset + p->count <= from + count);
                cr_assert_eq(summed & DT_ATTR(dt_collective_attr, n)->axes, 0, "summed twice");
                summed |= DT_ATTR(dt_collective_attr, n)->axes;
            }
            dt_axes expected = 0;
            for (int a = DT_AXIS_TENSOR_MAJOR; a <= DT_AXIS_TENSOR_MINOR; a++)
                if (g->value[p->grad].place[a].kind == DT_PARTIAL) expected |= 1u << a;
            cr_assert_eq(summed, expected, "%s", g->value[p->param].name);
            partial += expected != 0;
        }
        cr_assert_gt(partial, 0);
        close_step();
    }
}

Test(optim_flat, the_norm_counts_what_several_ranks_hold_once)
{
    open_step((tiny_model){.kv_heads = 2}, layouts[0], 6, 8);
    int64_t offset = 0;
    DT_FOR_NODES (step.g, i) {
        const dt_node *n = &step.g->node[i];
        if (n->op != &dt_op_grad_norm) continue;
        cr_assert_eq(step.g->value[n->in[0]].base_offset, offset);
        int64_t end = offset + dt_value_local_count(step.g, n->in[0]);
        for (int k = 0; k < step.flat.n; k++) {
            const dt_flat_param *p = &step.flat.param[k];
            double holders = p->split == DT_AXES_TENSOR ? 1 : p->split != 0 ? 2 : 4;
            if (p->offset >= offset && p->offset < end)
                cr_assert_float_eq(DT_ATTR(dt_grad_norm_attr, n)->weight, 1 / holders, 0);
        }
        offset = end;
    }
    cr_assert_eq(offset, step.flat.count, "all of the gradient");
    const dt_node *last = &step.g->node[step.g->value[step.normsq].producer];
    cr_assert_eq(last->op, &dt_op_all_reduce);
    cr_assert_eq(DT_ATTR(dt_collective_attr, last)->axes, DT_AXES_TENSOR);
    close_step();
}

/* ---- Groups ---- */

Test(optim_flat, the_first_group_that_matches_counts)
{
    open_step(
        (tiny_model){0},
        "delta { name: \"d\" lora { rank: 2 } target: \"attn.q\" target: \"ffn.up\" } optim { adamw { weight_decay: "
        "0.5 } group { match: \"lora_B.weight\" lr_scale: 16 } group { match: \"re:.*layers.1.*\" lr_scale: 3 "
        "weight_decay: 0 } }",
        0, 1);
    for (int i = 0; i < step.flat.n; i++) {
        const dt_flat_param *p = &step.flat.param[i];
        const char *name = step.g->value[p->param].name;
        bool b = strstr(name, "lora_B") != NULL, one = strstr(name, "layers.1.") != NULL;
        cr_assert_eq(p->lr_scale, b ? 16 : one ? 3 : 1, "%s: %g", name, p->lr_scale);
        cr_assert_eq(p->weight_decay, b || !one ? 0.5 : 0, "%s: %g", name, p->weight_decay);
    }
    int64_t updated = 0;
    DT_FOR_NODES (step.g, i) {
        const dt_node *n = &step.g->node[i];
        if (n->op != &dt_op_adamw) continue;
        const dt_adamw_attr *attr = DT_ATTR(dt_adamw_attr, n);
        int64_t from = step.g->value[n->in[0]].base_offset, end = from + dt_value_local_count(step.g, n->in[0]);
        for (int k = 0; k < step.flat.n; k++) {
            const dt_flat_param *p = &step.flat.param[k];
            if (p->offset >= from && p->offset < end)
                cr_assert(attr->lr_scale == p->lr_scale && attr->weight_decay == p->weight_decay);
        }
        for (int k = 1; k < 4; k++) cr_assert_eq(step.g->value[n->in[k]].base_offset, from);
        updated += end - from;
    }
    cr_assert_eq(updated, step.flat.count, "every value is updated once");
    close_step();
}

Test(optim_flat, deltas_that_train_nothing_are_an_error)
{
    tiny_open(&t, (tiny_model){0}, "delta { bitfit {} }"); /* a backbone without biases */
    cr_assert_eq(dt_trainer_build(&t.job, &t.job.mesh, &step), DT_ERR_CONFIG);
    cr_assert(strstr(dt_error_text(), "the deltas train nothing") != NULL, "%s", dt_error_text());
    tiny_close(&t);
}

/* ---- Steps of a toy: p[7] = a[2,2], b[1,3]; the gradient of each micro-batch is the constant c. ---- */

enum { COUNT = 7 };
static const dt_mesh alone = {0, 1, {1, 1, 1}, {0, 0, 0}};
static const double start[COUNT] = {0.5, -1, 2, 0.25, 1.5, -0.75, 3};
static const float by_a[2] = {0.5f, -3}, by_b[3] = {1, 0.125f, -2};
static const double c[COUNT] = {0.5, -3, 0.5, -3, 1, 0.125, -2};

typedef struct toy {
    Dtrain__Config *config;
    dt_graph *g;
    dt_flat flat;
    dt_val hyper, normsq, factor;
    dt_device device;
    dt_comm comm;
    dt_store *store;
    dt_exec *exec;
} toy;

static void open_toy(toy *y, const char *optim)
{
    memset(y, 0, sizeof *y);
    OK(dt_config_parse("test", optim, strlen(optim), NULL, 0, &y->config));
    OK(dt_graph_create(&y->g));
    dt_val a = dt_graph_param(y->g, "a", 2, (int64_t[]){2, 2}, NULL);
    dt_val b = dt_graph_param(y->g, "b", 2, (int64_t[]){1, 3}, NULL);
    dt_val u = dt_graph_const(y->g, "u", DT_TYPE_ACC, 2, (int64_t[]){2, 1}, by_a);
    dt_val v = dt_graph_const(y->g, "v", DT_TYPE_ACC, 2, (int64_t[]){3, 1}, by_b);
    y->factor = dt_graph_input(y->g, "factor", DT_TYPE_ACC, 2, (int64_t[]){1, 1}, DT_NO_SPLIT);
    dt_val rows =
        dt_matmul(y->g, dt_matmul(y->g, a, u, false, false, 1, DT_TYPE_ACC), y->factor, false, false, 1, DT_TYPE_ACC);
    dt_val row =
        dt_matmul(y->g, dt_matmul(y->g, b, v, false, false, 1, DT_TYPE_ACC), y->factor, false, false, 1, DT_TYPE_ACC);
    OK(dt_pass_grad(y->g, dt_add(y->g, dt_sum(y->g, rows), dt_sum(y->g, row)), DT_GRAD_SUM));
    OK(dt_pass_shard(y->g, &alone));
    OK(dt_pass_fuse(y->g));
    OK(dt_flat_create(y->g, y->config->optim, &y->flat));
    OK(dt_optim_emit(y->g, &y->flat, y->config->optim, true, &y->hyper, &y->normsq));
    OK(dt_device_cpu_f64(1, &y->device));
    OK(dt_comm_create_host(&alone, &y->comm));
    OK(dt_store_create(&y->device, &y->store));
    OK(dt_exec_create(y->g, &y->device, &y->comm, y->store, &y->exec));
    memcpy(dt_exec_data(y->exec, y->flat.params), start, sizeof start);
}

static void close_toy(toy *y)
{
    dt_exec_destroy(y->exec);
    dt_store_destroy(y->store);
    dt_comm_destroy(&y->comm);
    dt_device_destroy(&y->device);
    dt_flat_destroy(&y->flat);
    dt_graph_destroy(y->g);
    dt_config_free(y->config);
}

/* Step `number`: two micro-batches, the sum of whose gradients is multiplied by `scale`. */
static void run_step(toy *y, int64_t number, double lr, double scale, float factor)
{
    float hyper[DT_HYPER_COUNT] = {0};
    const dt_optimizer *optimizer = dt_optimizer_of(y->config->optim);
    if (optimizer->hyper != NULL) optimizer->hyper(y->config->optim, number, hyper);
    hyper[DT_HYPER_LR] = (float)lr;
    hyper[DT_HYPER_SCALE] = (float)scale;
    hyper[DT_HYPER_CLIP] = (float)y->config->optim->clip_norm;
    memset(dt_exec_data(y->exec, y->flat.grads), 0, COUNT * sizeof(double));
    OK(dt_exec_put_f32(y->exec, y->factor, &factor));
    OK(dt_exec_put_f32(y->exec, y->hyper, hyper));
    OK(dt_exec_run(y->exec, DT_PROLOGUE));
    OK(dt_exec_run(y->exec, DT_MICRO));
    OK(dt_exec_run(y->exec, DT_MICRO));
    OK(dt_exec_run(y->exec, DT_EPILOGUE));
}

static void check_params(const toy *y, const double *expected, double tolerance)
{
    const double *p = dt_exec_data(y->exec, y->flat.params);
    for (int i = 0; i < COUNT; i++)
        cr_assert(fabs(p[i] - expected[i]) <= tolerance * fabs(expected[i]), "value %d: %.17g, not %.17g", i, p[i],
                  expected[i]);
}

static void check_state(const toy *y, const char *name, const double *expected, double tolerance)
{
    const double *s = dt_store_find(y->store, name)->data;
    for (int i = 0; i < COUNT; i++)
        cr_assert(fabs(s[i] - expected[i]) <= tolerance * fabs(expected[i]), "%s %d: %.17g, not %.17g", name, i, s[i],
                  expected[i]);
}

/* Sum of squares of two micro-batches' gradient. */
static double norm_squared(void)
{
    double sum = 0;
    for (int i = 0; i < COUNT; i++) sum += 4 * c[i] * c[i];
    return sum;
}

/* Hyperparameters travel in fp32: lr and scale here are powers of two, so that they do so exactly. */
static const double lr = 0.0625, scale = 0.25;

Test(optim_flat, sgd_takes_the_mean_gradient)
{
    toy y;
    open_toy(&y, "optim { sgd { lr: 0.0625 } clip_norm: 0 }");
    double p[COUNT];
    memcpy(p, start, sizeof p);
    for (int s = 1; s <= 3; s++) {
        run_step(&y, s, lr, scale, 1);
        for (int i = 0; i < COUNT; i++) p[i] -= lr * 2 * c[i] * scale;
        check_params(&y, p, 1e-14);
        cr_assert_float_eq(*(double *)dt_exec_data(y.exec, y.normsq), norm_squared(), 1e-12);
    }
    close_toy(&y);
}

Test(optim_flat, sgd_with_momentum_decay_and_groups)
{
    toy y;
    open_toy(&y, "optim { sgd { lr: 0.0625 momentum: 0.75 weight_decay: 0.125 } clip_norm: 0 "
                 "group { match: \"b\" lr_scale: 2 weight_decay: 0 } }");
    double p[COUNT], m[COUNT] = {0};
    memcpy(p, start, sizeof p);
    for (int s = 1; s <= 4; s++) {
        run_step(&y, s, lr, scale, 1);
        for (int i = 0; i < COUNT; i++) {
            bool b = i >= 4;
            m[i] = 0.75 * m[i] + 2 * c[i] * scale + (b ? 0 : 0.125) * p[i];
            p[i] -= lr * (b ? 2 : 1) * m[i];
        }
        check_params(&y, p, 1e-14);
    }
    close_toy(&y);
}

static void adamw_by_hand(double *p, double *m, double *v, int s, double clip, double decay)
{
    for (int i = 0; i < COUNT; i++) {
        double g = 2 * c[i] * scale * clip;
        p[i] *= 1 - lr * decay;
        m[i] = 0.875 * m[i] + 0.125 * g;
        v[i] = 0.75 * v[i] + 0.25 * g * g;
        p[i] -= lr * (m[i] / (1 - pow(0.875, s))) / (sqrt(v[i] / (1 - pow(0.75, s))) + 1e-8);
    }
}

Test(optim_flat, adamw_with_clipping)
{
    toy y;
    open_toy(&y, "optim { adamw { lr: 0.0625 beta1: 0.875 beta2: 0.75 weight_decay: 0.25 } clip_norm: 0.5 }");
    double p[COUNT], m[COUNT] = {0}, v[COUNT] = {0};
    double norm = sqrt(norm_squared()) * scale;
    memcpy(p, start, sizeof p);
    cr_assert_gt(norm, 0.5);
    for (int s = 1; s <= 4; s++) {
        run_step(&y, s, lr, scale, 1);
        adamw_by_hand(p, m, v, s, 0.5 / (norm + 1e-6), 0.25);
        check_params(&y, p, 1e-6); /* 1 - beta^t is in fp32 */
    }
    close_toy(&y);
}

/* b's gradients change their sign in the third step: its mean turns later than the gradient. */
Test(optim_flat, lion_with_clipping_decay_and_groups)
{
    toy y;
    open_toy(&y, "optim { lion { lr: 0.0625 beta1: 0.75 beta2: 0.9375 weight_decay: 0.25 } clip_norm: 0.5 "
                 "group { match: \"b\" lr_scale: 2 weight_decay: 0 } }");
    double p[COUNT], m[COUNT] = {0};
    double norm = sqrt(norm_squared()) * scale, clip = 0.5 / (norm + 1e-6);
    memcpy(p, start, sizeof p);
    cr_assert_gt(norm, 0.5);
    for (int s = 1; s <= 8; s++) {
        float factor = s < 3 ? 1 : -1;
        run_step(&y, s, lr, scale, factor);
        for (int i = 0; i < COUNT; i++) {
            double g = 2 * c[i] * factor * scale * clip, mean = 0.75 * m[i] + 0.25 * g;
            double group_lr = i >= 4 ? 2 * lr : lr, decay = i >= 4 ? 0 : 0.25;
            p[i] -= group_lr * (copysign(1, mean) + decay * p[i]);
            m[i] = 0.9375 * m[i] + 0.0625 * g;
        }
        check_params(&y, p, 1e-13);
        check_state(&y, "flat:exp_avg", m, 1e-7); /* the clip norm's share is */
    }
    close_toy(&y);
}

Test(optim_flat, a_gradient_below_the_clip_norm_is_left_alone)
{
    toy y;
    open_toy(&y, "optim { sgd { lr: 0.0625 } clip_norm: 100 }");
    double p[COUNT];
    run_step(&y, 1, lr, scale, 1);
    for (int i = 0; i < COUNT; i++) p[i] = start[i] - lr * 2 * c[i] * scale;
    check_params(&y, p, 1e-14);
    close_toy(&y);
}

Test(optim_flat, a_step_that_is_not_finite_changes_nothing)
{
    static const char *const optimizers[] = {"adamw { weight_decay: 0.5 }", "sgd { momentum: 0.5 weight_decay: 0.5 }",
                                             "lion { weight_decay: 0.5 }"};
    static const char *const states[3][2] = {
        {"flat:exp_avg", "flat:exp_avg_sq"}, {"flat:momentum", "flat:momentum"}, {"flat:exp_avg", "flat:exp_avg"}};
    const float bad[] = {INFINITY, NAN};
    for (int o = 0; o < 3; o++) {
        for (int k = 0; k < 2; k++) {
            toy y;
            char optim[128];
            double before[3][COUNT];
            snprintf(optim, sizeof optim, "optim { %s clip_norm: 1 }", optimizers[o]);
            open_toy(&y, optim);
            run_step(&y, 1, lr, scale, 1);
            const double *at[] = {dt_exec_data(y.exec, y.flat.params), dt_store_find(y.store, states[o][0])->data,
                                  dt_store_find(y.store, states[o][1])->data};
            for (int s = 0; s < 3; s++) memcpy(before[s], at[s], sizeof before[s]);
            cr_assert_neq(before[1][0], 0.0);
            run_step(&y, 2, lr, scale, bad[k]);
            cr_assert(!isfinite(*(double *)dt_exec_data(y.exec, y.normsq)));
            for (int s = 0; s < 3; s++) cr_assert_eq(memcmp(before[s], at[s], sizeof before[s]), 0);
            run_step(&y, 3, lr, scale, 1);
            cr_assert_neq(memcmp(before[0], at[0], sizeof before[0]), 0, "the next step goes on");
            close_toy(&y);
        }
    }
}
