/* Liveness and one arena with fixed offsets: nothing is allocated inside a step. */
#include "graph/passes.h"
#include <stdlib.h>
#include <string.h>

#define ALIGN 64

/* A temporary's storage: alive from the call that writes it to the last one that reads it, on the step's time line
 * (prologue, micro-batch, epilogue one behind the other; the last micro-batch is a micro-batch). */
typedef struct block {
    dt_val value;
    int32_t first, last;
    int64_t bytes, offset;
} block;

static dt_val root_of(const dt_graph *g, dt_val v)
{
    while (g->value[v].base != DT_NONE) v = g->value[v].base;
    return v;
}

static size_t element_size(dt_type type, size_t act_size, size_t acc_size)
{
    return type == DT_TYPE_I32 ? 4 : type == DT_TYPE_ACT ? act_size : acc_size;
}

/* A weight of which no in-place update writes entries. */
static bool is_frozen(const dt_graph *g, dt_val v)
{
    if (g->value[v].kind != DT_KIND_WEIGHT) return false;
    for (int64_t i = 0; i < g->updates; i++)
        if (g->update[i].w == v) return false;
    return true;
}

static dt_tensor tensor_of(const dt_graph *g, dt_val v)
{
    dt_tensor t = {.ndim = 0};
    if (v == DT_NONE) return t;
    const dt_value *val = &g->value[v];
    t.type = val->type;
    t.frozen = is_frozen(g, v);
    t.ndim = val->ndim;
    memcpy(t.dim, val->local, sizeof t.dim);
    memcpy(t.off, val->off, sizeof t.off);
    memcpy(t.full, val->dim, sizeof t.full);
    return t;
}

static int by_size(const void *a, const void *b)
{
    const block *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return (x->value > y->value) - (x->value < y->value);
}

static int by_offset(const void *a, const void *b)
{
    const block *x = *(const block *const *)a, *y = *(const block *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Greedy by size: each block goes to the lowest gap between those already placed that live at the same time. */
static dt_status place_blocks(block *b, int64_t n, int64_t *arena)
{
    const block **busy = NULL;
    DT_TRY(dt_alloc((size_t)n + 1, sizeof *busy, &busy));
    qsort(b, (size_t)n, sizeof *b, by_size);
    *arena = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t n_busy = 0, at = 0;
        for (int64_t j = 0; j < i; j++)
            if (b[j].first <= b[i].last && b[i].first <= b[j].last) busy[n_busy++] = &b[j];
        qsort(busy, (size_t)n_busy, sizeof *busy, by_offset);
        for (int64_t j = 0; j < n_busy && busy[j]->offset < at + b[i].bytes; j++)
            if (busy[j]->offset + busy[j]->bytes > at) at = busy[j]->offset + busy[j]->bytes;
        b[i].offset = at;
        if (at + b[i].bytes > *arena) *arena = at + b[i].bytes;
    }
    free(busy);
    return DT_OK;
}

static dt_status peak_of(const block *b, int64_t n, int64_t steps, int64_t *peak)
{
    int64_t *change = NULL, live = 0;
    DT_TRY(dt_alloc((size_t)steps + 2, sizeof *change, &change));
    for (int64_t i = 0; i < n; i++) {
        change[b[i].first] += b[i].bytes;
        change[b[i].last + 1] -= b[i].bytes;
    }
    *peak = 0;
    for (int64_t t = 0; t <= steps; t++) {
        live += change[t];
        if (live > *peak) *peak = live;
    }
    free(change);
    return DT_OK;
}

static size_t workspace_of(const dt_device *device, int kernel, const dt_call *call)
{
    if (device->ops->workspace != NULL) return device->ops->workspace(device, kernel, call);
    return call->op->workspace != NULL ? call->op->workspace(call, device->ops->act_size) : 0;
}

static bool any_of(const dt_graph *g, dt_program program)
{
    DT_FOR_NODES (g, i)
        if (g->node[i].program == program) return true;
    return false;
}

static bool is_persistent(const dt_graph *g, dt_val v)
{
    return v == DT_NONE || dt_kind_is_persistent(g->value[root_of(g, v)].kind);
}

/* Of the arena, which other calls' temporaries come to lie in, a node of the last micro-batch has no share; of the
 * workspace, which the calls use in turn, none that runs aside. */
static dt_status check_last(const dt_graph *g, const dt_node *n, size_t workspace)
{
    bool persistent = true;
    for (int k = 0; k < n->nin; k++) persistent &= is_persistent(g, n->in[k]);
    for (int k = 0; k < n->nout; k++) persistent &= is_persistent(g, n->out[k]);
    if (!persistent)
        return dt_fail(DT_ERR_INTERNAL, "op %s: of the last micro-batch alone, with a temporary", n->op->name);
    if (n->aside && workspace != 0)
        return dt_fail(DT_ERR_INTERNAL, "op %s: aside, with %zu bytes of workspace", n->op->name, workspace);
    return DT_OK;
}

/* The last micro-batch's program, where there is one, has the micro-batch's nodes too. */
static bool runs_in(const dt_node *n, int program, bool has_last)
{
    return n->program == (dt_program)program || (program == DT_LAST && has_last && n->program == DT_MICRO);
}

/* One call record a node, in order, program by program. */
static dt_status make_calls(const dt_graph *g, const dt_device *device, dt_plan *plan)
{
    const bool has_last = any_of(g, DT_LAST);
    for (int pr = 0; pr < DT_PROGRAM_COUNT; pr++) {
        int64_t n = 0;
        DT_FOR_NODES (g, i) n += runs_in(&g->node[i], pr, has_last);
        DT_TRY(dt_alloc((size_t)n + 1, sizeof(dt_call), &plan->call[pr]));
        DT_TRY(dt_alloc((size_t)n + 1, sizeof(int32_t), &plan->call_node[pr]));
        DT_TRY(dt_alloc((size_t)n + 1, sizeof(int), &plan->kernel[pr]));
        DT_FOR_NODES (g, i) {
            const dt_node *node = &g->node[i];
            if (!runs_in(node, pr, has_last)) continue;
            plan->call_node[pr][plan->calls[pr]] = i;
            plan->kernel[pr][plan->calls[pr]] = dt_op_index(node->op);
            dt_call *c = &plan->call[pr][plan->calls[pr]++];
            *c = (dt_call){
                .op = node->op, .attr = node->attr, .nin = node->nin, .nout = node->nout, .threads = device->threads};
            for (int k = 0; k < node->nin; k++) c->in[k] = tensor_of(g, node->in[k]);
            for (int k = 0; k < node->nout; k++) c->out[k] = tensor_of(g, node->out[k]);
            /* An absent operand has no data; one that is there gets its address in exec. Costs must tell them apart. */
            for (int k = 0; k < node->nin; k++) c->in[k].data = node->in[k] != DT_NONE ? c : NULL;
            for (int k = 0; k < node->nout; k++) c->out[k].data = node->out[k] != DT_NONE ? c : NULL;
            size_t need = workspace_of(device, plan->kernel[pr][plan->calls[pr] - 1], c);
            if ((int64_t)need > plan->workspace_bytes) plan->workspace_bytes = (int64_t)need;
            if (node->program == DT_LAST) DT_TRY(check_last(g, node, need));
        }
    }
    return DT_OK;
}

/* Calls of a program that have a place of their own on the time line. */
static int64_t calls_in_time(const dt_plan *plan, int program)
{
    return program == DT_LAST ? 0 : plan->calls[program];
}

/* A temporary with storage in the arena. */
static bool is_block(const dt_graph *g, const int32_t *first, dt_val v)
{
    return g->value[v].kind == DT_KIND_TEMP && g->value[v].base == DT_NONE && first[v] >= 0;
}

static int64_t value_bytes(const dt_graph *g, dt_val v, size_t act_size, size_t acc_size)
{
    return dt_value_local_count(g, v) * (int64_t)element_size(g->value[v].type, act_size, acc_size);
}

static int64_t block_bytes(const dt_graph *g, dt_val v, size_t act_size, size_t acc_size)
{
    return (value_bytes(g, v, act_size, acc_size) + ALIGN - 1) / ALIGN * ALIGN;
}

static dt_val home_of(const dt_val *home, dt_val v)
{
    while (home[v] != v) v = home[v];
    return v;
}

/* Outputs that take over the storage of an input which dies in the same call, where the op says that it does not mind:
 * one block less is alive, and the output is written where the input is still in the cache. */
static void reuse_storage(const dt_graph *g, const dt_plan *plan, size_t act_size, size_t acc_size,
                          const int32_t *first, int32_t *last, dt_val *home)
{
    int32_t time = 0;
    for (int pr = 0; pr < DT_PROGRAM_COUNT; pr++) {
        for (int64_t c = 0; c < calls_in_time(plan, pr); c++, time++) {
            const dt_node *n = &g->node[plan->call_node[pr][c]];
            for (int k = 0; k < n->nout; k++) {
                dt_val out = n->out[k], in = n->op->reuse[k] != 0 ? n->in[n->op->reuse[k] - 1] : DT_NONE;
                if (out == DT_NONE || in == DT_NONE || !is_block(g, first, out)) continue;
                dt_val r = home_of(home, root_of(g, in));
                if (!is_block(g, first, r) || last[r] != time || first[out] != time || home[out] != out) continue;
                if (value_bytes(g, r, act_size, acc_size) != value_bytes(g, out, act_size, acc_size)) continue;
                home[out] = r;
                if (last[out] > last[r]) last[r] = last[out];
            }
        }
    }
}

dt_status dt_pass_plan(const dt_graph *g, const dt_device *device, dt_plan *out)
{
    const size_t act_size = device->ops->act_size, acc_size = device->ops->acc_size;
    dt_plan plan = {0};
    dt_status st = DT_OK;
    int32_t *first = NULL, *last = NULL, time = 0;
    dt_val *home = NULL;
    block *blocks = NULL;
    int64_t n = 0;
    DT_GOTO(make_calls(g, device, &plan), failed);
    DT_GOTO(dt_alloc((size_t)g->values + 1, sizeof *first, &first), failed);
    DT_GOTO(dt_alloc((size_t)g->values + 1, sizeof *last, &last), failed);
    DT_GOTO(dt_alloc((size_t)g->values + 1, sizeof *home, &home), failed);
    DT_GOTO(dt_alloc((size_t)g->values + 1, sizeof *plan.offset, &plan.offset), failed);
    DT_GOTO(dt_alloc((size_t)g->values + 1, sizeof *blocks, &blocks), failed);
    for (int64_t v = 0; v < g->values; v++) {
        first[v] = last[v] = -1;
        home[v] = (dt_val)v;
        plan.offset[v] = -1;
    }
    int32_t end_of[DT_PROGRAM_COUNT], home_start = 0;
    for (int pr = 0; pr < DT_PROGRAM_COUNT; pr++) end_of[pr] = home_start += (int32_t)calls_in_time(&plan, pr);
    for (int pr = 0; pr < DT_PROGRAM_COUNT; pr++) {
        for (int64_t c = 0; c < calls_in_time(&plan, pr); c++, time++) {
            const dt_node *node = &g->node[plan.call_node[pr][c]];
            for (int k = 0; k < node->nout; k++) {
                dt_val r = node->out[k] == DT_NONE ? DT_NONE : root_of(g, node->out[k]);
                if (r == DT_NONE) continue;
                if (first[r] < 0) first[r] = time;
                if (time > last[r]) last[r] = time;
            }
            for (int k = 0; k < node->nin; k++) {
                dt_val r = node->in[k] == DT_NONE ? DT_NONE : root_of(g, node->in[k]);
                if (r == DT_NONE) continue;
                last[r] = time;
                /* The micro-batch program repeats: what it reads of the prologue's must outlive all of it. */
                if (pr == DT_MICRO && first[r] >= 0 && first[r] < end_of[DT_PROLOGUE]) last[r] = end_of[DT_MICRO];
            }
        }
    }
    for (int64_t i = 0; i < g->outputs; i++) last[root_of(g, g->output[i])] = time;
    reuse_storage(g, &plan, act_size, acc_size, first, last, home);
    for (int64_t v = 0; v < g->values; v++)
        if (is_block(g, first, (dt_val)v) && home[v] == (dt_val)v)
            blocks[n++] = (block){(dt_val)v, first[v], last[v], block_bytes(g, (dt_val)v, act_size, acc_size), 0};
    DT_GOTO(place_blocks(blocks, n, &plan.arena_bytes), failed);
    DT_GOTO(peak_of(blocks, n, time, &plan.peak_live_bytes), failed);
    for (int64_t i = 0; i < n; i++) plan.offset[blocks[i].value] = blocks[i].offset;
    for (int64_t v = 0; v < g->values; v++)
        if (is_block(g, first, (dt_val)v)) plan.offset[v] = plan.offset[home_of(home, (dt_val)v)];
    *out = plan;
    goto done;
failed:
    dt_plan_free(&plan);
done:
    free(first);
    free(last);
    free(home);
    free(blocks);
    return st;
}

void dt_plan_free(dt_plan *plan)
{
    for (int pr = 0; pr < DT_PROGRAM_COUNT; pr++) {
        free(plan->call[pr]);
        free(plan->call_node[pr]);
        free(plan->kernel[pr]);
    }
    free(plan->offset);
    *plan = (dt_plan){0};
}

static double tensor_bytes(const dt_tensor *t, size_t real_size)
{
    double n = t->type == DT_TYPE_I32 ? 4 : (double)real_size;
    for (int i = 0; i < t->ndim; i++) n *= (double)t->dim[i];
    return t->data != NULL ? n : 0;
}

dt_cost dt_call_cost(const dt_call *c, size_t real_size)
{
    dt_cost cost = {0};
    for (int k = 0; k < c->nin; k++) cost.bytes += tensor_bytes(&c->in[k], real_size);
    for (int k = 0; k < c->nout; k++) cost.bytes += tensor_bytes(&c->out[k], real_size);
    if (c->op->cost != NULL) c->op->cost(c, real_size, &cost);
    return cost;
}

dt_cost dt_plan_cost(const dt_plan *plan, dt_program program, size_t real_size, double *wire)
{
    dt_cost total = {0};
    for (int64_t i = 0; i < plan->calls[program]; i++) {
        const dt_call *c = &plan->call[program][i];
        dt_cost cost = dt_call_cost(c, real_size);
        total.flops += cost.flops;
        total.bytes += cost.bytes;
        total.wire += cost.wire;
        if (wire != NULL) wire[cost.wire_axes] += cost.wire;
    }
    return total;
}
