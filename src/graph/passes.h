/* The passes over a graph, in the order in which they run: (attach: delta/) merge, grad, shard, fuse, plan. Each is
 * local and deterministic: every rank runs it on the same graph and gets the same one but for local shapes. */
#ifndef DT_GRAPH_PASSES_H
#define DT_GRAPH_PASSES_H

#include "graph/graph.h"
#include "graph/op.h" // dt_call, dt_cost

/** What becomes of a parameter's gradient. */
typedef enum dt_grad_mode {
    DT_GRAD_SUM,    /* grad:<name> += gradient of each micro-batch */
    DT_GRAD_SQUARES /* grad:<name> += (gradient of each micro-batch)^2, elementwise: Fisher information of examples.
                       No prologue then. */
} dt_grad_mode;

/** Applies the ops' rewrite rules for a forward graph until none applies: between attach and grad, which then
 * differentiates what they made. */
dt_status dt_pass_merge(dt_graph *g) DT_WARN_UNUSED;

/** Reverse mode: emits, marked `backward`, the nodes that lead from d loss = 1 to every parameter that `loss` depends
 * on, and nothing else: no weight gradient of a frozen weight, nothing below the lowest trainable value. The gradient
 * of parameter p is accumulated into the STATE grad:<p> [shape of p, ACC]. Values that the prologue computes collect
 * their gradient over the micro-batches; the epilogue carries it on to the parameters. loss[1] must be a micro-batch
 * value. */
dt_status dt_pass_grad(dt_graph *g, dt_val loss, dt_grad_mode mode) DT_WARN_UNUSED;
/** The accumulator of a parameter, DT_NONE if the loss does not depend on it. */
dt_val dt_grad_of(const dt_graph *g, dt_val param);

/** Places every value on the mesh by the ops' rules and inserts the collectives; fills place, local and off. A value
 * that was reduced once is read reduced by everything behind; a gathered or sliced one is kept for later readers.
 * DT_ERR_CONFIG if a dimension that must be split does not divide. */
dt_status dt_pass_shard(dt_graph *g, const dt_mesh *mesh) DT_WARN_UNUSED;

/** Trades memory for compute, block by block (Chen et al. 2016): of a block's forward values the backward keeps only
 * what enters the block and what collectives brought; the others are computed again right before the block's first
 * backward node. Between shard and fuse. Losses and gradients keep their bits. */
dt_status dt_pass_recompute(dt_graph *g) DT_WARN_UNUSED;

/** Applies the ops' rewrite rules until none applies, then prunes. */
dt_status dt_pass_fuse(dt_graph *g) DT_WARN_UNUSED;

/** Where a graph's bytes live on this rank, before any of them exists. */
typedef struct dt_plan {
    int64_t arena_bytes;             /* all temporaries, at fixed offsets */
    int64_t workspace_bytes;         /* largest scratch of a call */
    int64_t *offset;                 /* of each value: in the arena; -1: not a temporary of its own */
    dt_call *call[DT_PROGRAM_COUNT]; /* one a node (of DT_MICRO: one more in DT_LAST), data pointers not yet set */
    int32_t *call_node[DT_PROGRAM_COUNT];
    int *kernel[DT_PROGRAM_COUNT]; /* number of each call's op */
    int64_t calls[DT_PROGRAM_COUNT];
    int64_t peak_live_bytes; /* most bytes of temporaries alive at once: the floor of arena_bytes */
} dt_plan;

/** Liveness, one arena with fixed offsets, one call record a node, the workspace that the device's kernels need.
 * DT_ERR_INTERNAL if a node of DT_LAST touches a temporary, or one that runs aside needs workspace. */
dt_status dt_pass_plan(const dt_graph *g, const dt_device *device, dt_plan *out) DT_WARN_UNUSED;
void dt_plan_free(dt_plan *plan);
/** What one call costs. */
dt_cost dt_call_cost(const dt_call *call, size_t real_size);
/** What one call of a plan costs this rank. real_size: bytes of an element on the device. */
dt_cost dt_call_cost(const dt_call *call, size_t real_size);
/** Sum of the calls' costs of one program; wire bytes are given by set of axes in wire[DT_AXES_ALL + 1] (may be NULL).
 */
dt_cost dt_plan_cost(const dt_plan *plan, dt_program program, size_t real_size, double *wire);

#endif
