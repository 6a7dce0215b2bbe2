/* Gradients that are reduced beside the last micro-batch's backward: the buckets, and what is emitted of them. */
#include "graph/emit.h"
#include "op/collective.h"
#include "op/update.h"
#include "train/trainer.h"
#include "unit/sizes.h"
#include "unit/tiny.h"
#include <stdlib.h>

static tiny t;
static dt_trainer step;
static dt_flat own; /* of a graph that the optimizer has added nothing to */

static dt_status begin_aside(dt_device *device)
{
    return DT_OK;
}
static const dt_device_ops two_streams = {.act_size = 4, .acc_size = 4, .aside_begin = begin_aside};

static const char *const layouts[] = {
    "delta { lora { rank: 2 } target: \"" ALL_LINEARS "\" } parallel { tensor: 4 }",
    "delta { full {} } parallel { tensor: 4 sequence: true }",
    "delta { fish { keep: 0.02 } } parallel { tensor: 4 }",
    "delta { lora { rank: 2 } target: \"" ALL_LINEARS "\" }",
    "delta { lora { rank: 2 } target: \"o_proj\" target: \"down_proj\" }", /* nothing of it is merged */
};
enum { LAYOUTS = sizeof layouts / sizeof *layouts, RANKS = 8 };

static void open_step(const dt_device_ops *device, const char *config, int rank, int ranks)
{
    tiny_open(&t, (tiny_model){.kv_heads = 2, .layers = 6}, config);
    t.job.device.ops = device;
    tiny_place(&t, rank, ranks);
    OK(dt_job_assume_selection(&t.job, &t.job.mesh));
    OK(dt_trainer_build(&t.job, &t.job.mesh, &step));
}

/* As far as the optimizer's part: nothing is reduced yet. */
static void open_flat(const char *config, int rank, int ranks)
{
    tiny_open(&t, (tiny_model){.kv_heads = 2, .layers = 6}, config);
    tiny_place(&t, rank, ranks);
    tiny_build(&t, DT_FOR_TRAINING);
    OK(dt_pass_fuse(t.g));
    OK(dt_flat_create(t.g, t.config->optim, &own));
}

static void close_flat(void)
{
    dt_flat_destroy(&own);
    tiny_close(&t);
}

static void close_step(void)
{
    dt_trainer_destroy(&step);
    tiny_close(&t);
}

/* Does a node touch elements [from, end) of the flat gradient? */
static bool touches(const dt_graph *g, const dt_flat *flat, const dt_node *n, int64_t from, int64_t end)
{
    for (int k = 0; k < DT_MAX_IN + DT_MAX_OUT; k++) {
        dt_val v = k < DT_MAX_IN ? n->in[k] : n->out[k - DT_MAX_IN];
        if (v == DT_NONE) continue;
        int64_t at = 0, count = dt_value_local_count(g, v);
        for (; v != flat->grads && v != DT_NONE; v = g->value[v].base) at += g->value[v].base_offset;
        if (v == flat->grads && at < end && from < at + count) return true;
    }
    return false;
}

static int64_t share_of(const dt_graph *g, const dt_flat_param *p)
{
    return dt_value_count(g, p->param) / dt_mesh_group_size(&g->mesh, p->split);
}

/* ---- the buckets ---- */

static void check_bucket(const dt_graph *g, const dt_flat *flat, const dt_bucket *b)
{
    const dt_flat_param *first = &flat->param[b->from], *last = &flat->param[b->to - 1];
    const int64_t from = first->offset, end = last->offset + last->count;
    for (int i = b->from; i < b->to; i++)
        cr_assert(flat->param[i].split == first->split && flat->param[i].partial == first->partial);
    if (b->after == DT_NONE) {
        cr_assert_eq(from, end);
        return;
    }
    cr_assert_eq(g->node[b->after].program, DT_MICRO);
    cr_assert(touches(g, flat, &g->node[b->after], from, end), "it is behind one that writes into it");
    for (int32_t i = g->node[b->after].next; i != DT_NONE; i = g->node[i].next)
        cr_assert(g->node[i].program != DT_MICRO || !touches(g, flat, &g->node[i], from, end),
                  "%s touches it later: it is behind the last", g->node[i].op->name);
}

Test(optim_bucket, buckets_cut_the_gradient_from_the_end_of_each_section)
{
    const int64_t floors[] = {1, 300, 1 << 30};
    for (size_t l = 0; l < LAYOUTS; l++) {
        for (int rank = 0; rank < RANKS; rank++) {
            dt_bucket *b = NULL;
            int n = 0;
            open_flat(layouts[l], rank, RANKS);
            int64_t total = 0;
            for (int i = 0; i < own.n; i++) total += share_of(t.g, &own.param[i]);
            for (int f = 0; f < 3; f++) {
                OK(dt_flat_buckets(t.g, &own, floors[f], &b, &n));
                int to = own.n, sections = 0;
                for (int k = 0; k < n; k++) {
                    while (to > 0 && own.param[to - 1].late) to--;
                    cr_assert_eq(b[k].to, to, "all of it once, but for what is complete later");
                    to = b[k].from;
                    check_bucket(t.g, &own, &b[k]);
                    int64_t held = 0;
                    for (int i = b[k].from; i < b[k].to; i++) held += share_of(t.g, &own.param[i]);
                    const dt_flat_param *before = to > 0 ? &own.param[to - 1] : NULL, *p = &own.param[to];
                    bool begins = before == NULL || before->split != p->split || before->partial != p->partial;
                    sections += begins;
                    cr_assert(begins || held >= total / DT_BUCKETS);
                    cr_assert(begins || held >= floors[f]);
                }
                while (to > 0 && own.param[to - 1].late) to--;
                cr_assert_eq(to, 0);
                cr_assert_leq(n, DT_BUCKETS + sections);
                if (f == 0) cr_assert_gt(n, sections, "layout %zu: %d buckets of %d sections", l, n, sections);
                if (f == 2) cr_assert_eq(n, sections);
                free(b);
            }
            close_flat();
        }
    }
}

/* Ranks that share a bucket's reduction make it of the same parameters. */
Test(optim_bucket, ranks_make_the_same_buckets)
{
    for (size_t l = 0; l < LAYOUTS; l++) {
        dt_bucket *first = NULL, *b = NULL;
        int n_first = 0, n = 0;
        for (int rank = 0; rank < RANKS; rank++) {
            open_flat(layouts[l], rank, RANKS);
            OK(dt_flat_buckets(t.g, &own, 1, rank == 0 ? &first : &b, rank == 0 ? &n_first : &n));
            for (int k = 0; rank > 0 && k < n; k++)
                cr_assert(n == n_first && b[k].from == first[k].from && b[k].to == first[k].to);
            if (rank > 0) free(b);
            close_flat();
        }
        free(first);
    }
}

/* ---- what is emitted ---- */

/* How often each element is summed over the data ranks; tensor axes only before that. */
static void check_sums(const dt_graph *g, const dt_flat *flat, bool *any_last)
{
    int *times = calloc((size_t)flat->count + 1, sizeof *times);
    dt_axes *axes = calloc((size_t)flat->count + 1, sizeof *axes);
    bool measured = false;
    DT_FOR_NODES (g, i) {
        const dt_node *n = &g->node[i];
        measured |= n->op == &dt_op_grad_norm;
        if (n->op != &dt_op_all_reduce || (n->in[0] != flat->grads && g->value[n->in[0]].base != flat->grads)) continue;
        if (n->program == DT_MICRO) continue;
        const dt_axes over = DT_ATTR(dt_collective_attr, n)->axes;
        const int64_t from = n->in[0] == flat->grads ? 0 : g->value[n->in[0]].base_offset;
        const int64_t end = from + dt_value_local_count(g, n->in[0]);
        cr_assert(!measured, "the norm is of sums");
        cr_assert_eq(n->aside, n->program == DT_LAST);
        cr_assert(n->program == DT_LAST || n->program == DT_EPILOGUE);
        *any_last |= n->program == DT_LAST;
        for (int64_t e = from; e < end; e++) {
            cr_assert_eq(axes[e] & over, 0, "summed twice");
            if (over & DT_AXES_TENSOR) cr_assert_eq(times[e], 0, "over the tensor ranks first");
            axes[e] |= over;
            times[e] += over == DT_AXES_DATA;
        }
        for (int32_t k = n->next; k != DT_NONE; k = g->node[k].next)
            cr_assert(g->node[k].program != DT_MICRO || !touches(g, flat, &g->node[k], from, end));
    }
    for (int i = 0; i < flat->n; i++)
        for (int64_t e = flat->param[i].offset; e < flat->param[i].offset + flat->param[i].count; e++)
            cr_assert(times[e] == 1 && (axes[e] & DT_AXES_TENSOR) == flat->param[i].partial);
    free(times);
    free(axes);
}

Test(optim_bucket, every_gradient_is_summed_once)
{
    for (size_t l = 0; l < LAYOUTS; l++) {
        for (int rank = 0; rank < RANKS; rank++) {
            bool any_last = false;
            open_step(&two_streams, layouts[l], rank, RANKS);
            check_sums(step.g, &step.flat, &any_last);
            cr_assert(any_last || step.flat.count == 0);
            for (int i = 0; i < step.flat.n; i++)
                cr_assert(step.flat.param[i].early || step.flat.param[i].late, "left to the epilogue without need");
            close_step();
        }
    }
}

static int nodes_of(dt_program program)
{
    int n = 0;
    DT_FOR_NODES (step.g, i) n += step.g->node[i].program == program;
    return n;
}

/* One data rank, data ranks that train apart, one stream. */
Test(optim_bucket, where_there_is_nothing_to_hide_nothing_changes)
{
    const char *apart = "delta { fish { keep: 0.02 local_steps: 2 } } train { steps: 4 } checkpoint { every: 2 }";
    open_step(&two_streams, layouts[0], 3, 4);
    cr_assert_eq(nodes_of(DT_LAST), 0);
    close_step();
    open_step(&two_streams, apart, 1, 2);
    cr_assert_eq(nodes_of(DT_LAST), 0);
    close_step();
    open_step(&ops_fp32, layouts[0], 5, 8);
    cr_assert_eq(nodes_of(DT_LAST), 0);
    close_step();
}

/* A gradient to which the epilogue adds, as the prologue's backward does, is summed there, and alone. */
Test(optim_bucket, what_the_epilogue_adds_to_is_left_to_it)
{
    dt_val hyper, normsq;
    bool any_last = false;
    open_flat(layouts[4], 1, 2);
    const int late = own.n / 2;
    dt_graph_seek_end(t.g);
    t.g->program = DT_EPILOGUE;
    dt_accumulate(t.g, own.param[late].grad, own.param[late].param);
    OK(dt_optim_emit(t.g, &own, t.config->optim, DT_REDUCE_ASIDE, &hyper, &normsq));
    check_sums(t.g, &own, &any_last);
    cr_assert(any_last);
    int left = 0;
    DT_FOR_NODES (t.g, i) {
        const dt_node *n = &t.g->node[i];
        if (n->op != &dt_op_all_reduce || n->program != DT_EPILOGUE) continue;
        cr_assert_eq(t.g->value[n->in[0]].base_offset, own.param[late].offset);
        cr_assert_eq(dt_value_local_count(t.g, n->in[0]), own.param[late].count);
        left++;
    }
    cr_assert_eq(left, 1);
    for (int i = 0; i < own.n; i++) cr_assert_eq(own.param[i].early, i != late);
    close_flat();
}
