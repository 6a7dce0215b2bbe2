/* Narrow products of one x become one in the forward graph; gradients and losses stay what they are. */
#include "graph/exec.h"
#include "op/add.h" // dt_add
#include "op/gelu.h"
#include "op/matmul.h"
#include "op/xent.h" // dt_sum
#include "unit/tiny.h"
#include <math.h>

static tiny t;

static void check_merged(const char *config, int groups, int alone_forward, dt_purpose purpose)
{
    tiny_open(&t, (tiny_model){0}, config);
    tiny_place(&t, 0, t.config->parallel->tensor);
    tiny_build(&t, purpose);
    cr_assert_eq(count_nodes(t.g, &dt_op_parts, false), groups, "%s", config);
    cr_assert_eq(count_nodes(t.g, &dt_op_concat, false), groups, "%s", config);
    int forward = 0;
    DT_FOR_NODES (t.g, i) {
        const dt_node *n = &t.g->node[i];
        if (n->op == &dt_op_concat) cr_assert_eq(n->program, n->backward ? DT_MICRO : DT_PROLOGUE);
        if (n->op != &dt_op_matmul || n->backward) continue;
        const dt_value *a = &t.g->value[n->in[1]];
        forward += a->kind == DT_KIND_PARAM && strstr(a->name, "lora_A") != NULL;
    }
    cr_assert_eq(forward, alone_forward, "%s", config);
    tiny_close(&t);
}

#define EVERY "delta { lora { rank: 2 } target: \"" ALL_LINEARS "\" }"

Test(graph_merge, products_of_one_input_are_one)
{
    for (int purpose = DT_FOR_TRAINING; purpose <= DT_FOR_EVAL; purpose++) {
        check_merged(EVERY, 2 * 2, 2 * 2, (dt_purpose)purpose);
        check_merged(EVERY " parallel { tensor: 4 sequence: true }", 2 * 2, 2 * 2, (dt_purpose)purpose);
        check_merged("delta { lora { rank: 2 } }", 2, 0, (dt_purpose)purpose); /* q and v */
        check_merged("delta { lora { rank: 2 } target: \"attn.q\" target: \"attn.o\" }", 0, 4, (dt_purpose)purpose);
        check_merged("delta { full {} }", 0, 0, (dt_purpose)purpose);
    }
    check_merged("delta { lora { rank: 2 dropout: 0.5 } }", 0, 4, DT_FOR_TRAINING); /* each its own input */
    /* two deltas of different ranks on q, k and v: six products, four and two */
    check_merged("delta { name: \"a\" lora { rank: 2 } target: \"re:.*(q|k|v)_proj\" } "
                 "delta { name: \"b\" lora { rank: 3 } target: \"re:.*(q|k|v)_proj\" }",
                 2 * 2, 0, DT_FOR_TRAINING);
}

Test(graph_merge, a_group_has_one_product_each_way)
{
    tiny_open(&t, (tiny_model){0}, EVERY);
    tiny_build(&t, DT_FOR_TRAINING);
    OK(dt_pass_fuse(t.g));
    int collected = 0;
    DT_FOR_NODES (t.g, i) {
        const dt_node *n = &t.g->node[i];
        if (n->op != &dt_op_concat || n->program != DT_PROLOGUE) continue;
        const dt_val p = n->out[0], acc = dt_grad_of(t.g, p);
        int forward = 0, to_x = 0, to_p = 0;
        DT_FOR_NODES (t.g, k) {
            const dt_node *m = &t.g->node[k];
            if (m->op != &dt_op_matmul) continue;
            forward += m->in[1] == p && !m->backward;
            to_x += m->in[1] == p && m->backward;
            to_p += m->in[2] == acc;
        }
        cr_assert_eq(forward, 1);
        cr_assert_eq(to_p, 1, "the gradient of the parameters");
        cr_assert_leq(to_x, 1, "of what they read, but where that leads to nothing trainable");
        cr_assert_eq(t.g->value[acc].type, DT_TYPE_ACC);
        cr_assert_eq(t.g->value[p].type, DT_TYPE_ACT);
        collected++;
    }
    cr_assert_eq(collected, 2 * 2);
    tiny_close(&t);
}

/* ---- A toy: three products of x, of which the last leads nowhere (`dead`), run in float64 ---- */

enum { PARAMS = 4 };
static const char *const param_name[PARAMS] = {"below", "a.0", "a.1", "a.2"};
static const int64_t param_dim[PARAMS][2] = {{5, 4}, {2, 5}, {3, 5}, {1, 5}};

typedef struct outcome {
    double loss, grad[PARAMS][20]; /* of two micro-batches */
} outcome;

static outcome run_toy(bool merge, bool dead)
{
    static const dt_mesh alone = {0, 1, {1, 1, 1}, {0, 0, 0}};
    outcome r = {0};
    float host[24];
    dt_graph *g = NULL;
    dt_device device;
    dt_comm comm;
    dt_store *store = NULL;
    dt_exec *exec = NULL;
    dt_val param[PARAMS], loss = DT_NONE;
    OK(dt_graph_create(&g));
    for (int i = 0; i < 24; i++) host[i] = (float)(i * 7 % 11 - 5) / 4;
    for (int i = 0; i < PARAMS; i++) param[i] = dt_graph_param(g, param_name[i], 2, param_dim[i], NULL);
    dt_val h = dt_graph_const(g, "h", DT_TYPE_ACC, 2, (int64_t[]){6, 4}, host);
    dt_val x = dt_matmul(g, h, param[0], false, true, 1, DT_TYPE_ACT);
    for (int i = 1; i < PARAMS; i++) {
        dt_val u = dt_matmul(g, x, param[i], false, true, 0.5, DT_TYPE_ACT);
        if (dead && i == PARAMS - 1) break;
        dt_val term = dt_sum(g, dt_gelu(g, u));
        loss = loss == DT_NONE ? term : dt_add(g, loss, term);
    }
    dt_graph_mark_output(g, loss);
    if (merge) OK(dt_pass_merge(g));
    OK(dt_pass_grad(g, loss, DT_GRAD_SUM));
    OK(dt_pass_shard(g, &alone));
    OK(dt_pass_fuse(g));
    cr_assert_eq(count_nodes(g, &dt_op_concat, false), merge);
    OK(dt_device_cpu_f64(1, &device));
    OK(dt_comm_create_host(&alone, &comm));
    OK(dt_store_create(&device, &store));
    for (int i = 0; i < PARAMS; i++) {
        void *data = NULL;
        const int64_t count = dt_value_count(g, param[i]);
        OK(dt_store_new(store, param_name[i], (size_t)count * sizeof(double), &data));
        for (int k = 0; k < count; k++) ((double *)data)[k] = (double)(k * 5 % 7 - 3 + i) / 8;
    }
    OK(dt_exec_create(g, &device, &comm, store, &exec));
    OK(dt_exec_run(exec, DT_PROLOGUE));
    for (int i = 0; i < 2; i++) OK(dt_exec_run(exec, DT_MICRO));
    OK(dt_exec_run(exec, DT_EPILOGUE));
    r.loss = *(const double *)dt_exec_data(exec, g->output[0]);
    for (int i = 0; i < PARAMS; i++) {
        dt_val acc = dt_grad_of(g, param[i]);
        if (acc != DT_NONE) memcpy(r.grad[i], dt_exec_data(exec, acc), (size_t)dt_value_count(g, acc) * sizeof(double));
    }
    dt_exec_destroy(exec);
    dt_store_destroy(store);
    dt_comm_destroy(&comm);
    dt_device_destroy(&device);
    dt_graph_destroy(g);
    return r;
}

Test(graph_merge, losses_and_gradients_are_the_same)
{
    for (int dead = 0; dead < 2; dead++) {
        outcome apart = run_toy(false, dead), merged = run_toy(true, dead);
        cr_assert_float_eq(apart.loss, merged.loss, 1e-13);
        for (int i = 0; i < PARAMS; i++) {
            double norm = 0;
            for (int k = 0; k < 20; k++) {
                cr_assert_float_eq(apart.grad[i][k], merged.grad[i][k], 1e-13, "%s[%d]", param_name[i], k);
                norm += fabs(apart.grad[i][k]);
            }
            cr_assert((norm > 0) == (i < PARAMS - 1 || !dead), "%s", param_name[i]);
        }
    }
}

/* What may not become one product: of another factor, of a transposed or a larger right side, or of one that ranks
 * split otherwise. */
Test(graph_merge, products_that_differ_stay_apart)
{
    const int64_t ten = 10;
    for (int reason = 0; reason < 5; reason++) {
        dt_graph *g = NULL;
        OK(dt_graph_create(&g));
        dt_val x = dt_graph_weight(g, "x", 2, (int64_t[]){6, ten}, DT_NO_SPLIT);
        dt_val w = dt_graph_weight(g, "w", 2, (int64_t[]){4, ten}, (dt_split){1, DT_AXES_TENSOR});
        dt_tie rows[2] = {{w, 0}, {DT_NONE, 0}}, columns[2] = {{DT_NONE, 0}, {w, 1}};
        dt_val a = dt_graph_param(g, "a", 2, (int64_t[]){ten, ten}, NULL);
        dt_val b = dt_graph_param(g, "b", 2, (int64_t[]){reason == 2 ? 300 : ten, ten},
                                  reason == 3   ? columns
                                  : reason == 4 ? rows
                                                : NULL);
        dt_val u = dt_matmul(g, x, a, false, true, 1, DT_TYPE_ACT);
        dt_val v = dt_matmul(g, x, b, false, reason != 1, reason == 0 ? 2 : 1, DT_TYPE_ACT);
        dt_graph_mark_output(g, u);
        dt_graph_mark_output(g, v);
        OK(dt_pass_merge(g));
        cr_assert_eq(count_nodes(g, &dt_op_concat, false), 0, "reason %d", reason);
        dt_graph_destroy(g);
    }
}
