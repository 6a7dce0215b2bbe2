/* Optimizers: the flat buffers that all trainable values live in, and the epilogue program that reduces, clips and
 * updates. */
#ifndef DT_OPTIM_OPTIM_H
#define DT_OPTIM_OPTIM_H

#include "config/config.h" // Dtrain__Optim
#include "graph/exec.h"    // dt_store
#include "graph/passes.h"  // dt_grad_of

/** One parameter's place in the flat buffers of this rank. */
typedef struct dt_flat_param {
    dt_val param, grad;
    int64_t offset, count; /* elements */
    dt_axes split;         /* tensor axes that it is split over */
    dt_axes partial;       /* tensor axes that its gradient is partial over */
    bool late;             /* its gradient is complete only in the epilogue, which adds to it */
    bool early;            /* its gradient is reduced before the epilogue */
    double lr_scale, weight_decay;
} dt_flat_param;

/** All trainable values of a rank, one behind the other: [split | replicated], fp32. Gradients, moments and the
 * snapshot of a checkpoint have the same layout, so one all-reduce moves every gradient. */
typedef struct dt_flat {
    dt_flat_param *param;
    int n;
    int64_t count;        /* elements on this rank */
    int64_t global_count; /* trainable values of the whole delta, split ones counted over all ranks */
    dt_val params, grads; /* STATEs "flat:param", "flat:grad" of `count` elements */
} dt_flat;

/** What an optimizer is: its state buffers (flat, named "flat:<name>") and its update nodes. */
typedef struct dt_optimizer {
    const char *name;
    /** Names of the state buffers, NULL-terminated: also the tensors of a checkpoint's optimizer part. */
    const char *const *(*states)(const Dtrain__Optim *config);
    /** Emits the update of elements [offset, offset + count): views of params, grads and of each state. */
    void (*emit)(dt_graph *g, const Dtrain__Optim *config, const dt_flat_param *group, dt_val param, dt_val grad,
                 const dt_val *state, dt_val hyper, dt_val normsq);
    double (*peak_lr)(const Dtrain__Optim *config);
    double (*weight_decay)(const Dtrain__Optim *config);
    /** Fills the hyper entries of its own that depend on the step (counted from 1); NULL: it has none. */
    void (*hyper)(const Dtrain__Optim *config, int64_t step, float *hyper);
} dt_optimizer;
const dt_optimizer *dt_optimizer_of(const Dtrain__Optim *config);

/** Lays out every PARAM of a sharded graph that has a gradient, and makes the parameters and their accumulators views
 * of the flat buffers. Parameter groups by the first matching pattern. Local. */
dt_status dt_flat_create(dt_graph *g, const Dtrain__Optim *config, dt_flat *out) DT_WARN_UNUSED;
void dt_flat_destroy(dt_flat *flat);

/** For a device whose ACT is narrower than ACC: products of the micro-batch read the trained values from the STATE
 *  "flat:act", into which the prologue rounds all of them. Between dt_flat_create and dt_optim_emit. */
dt_status dt_flat_round(dt_graph *g, const dt_flat *flat) DT_WARN_UNUSED;

/** Parameters [from, to) of the flat buffers, whose gradients are complete behind node `after` of the micro-batch. */
typedef struct dt_bucket {
    int from, to;
    int32_t after; /* DT_NONE: this rank holds nothing of them */
} dt_bucket;
/** Into how many buckets a delta is cut, at most so many and one more for each of its sections. What the last of them
 * takes cannot be hidden: the more, the less. But each costs the latency of a collective, some 30 us, in which a link
 * of 50 GB/s moves 1.5 MB: below a few MB more of them hide less. */
enum { DT_BUCKETS = 8, DT_BUCKET_BYTES = 4 << 20 };
/** The stretches of the flat gradient that are complete before the epilogue: each of at least `least` elements and of
 * one part in DT_BUCKETS, but for the first of a section (parameters of one split, whose gradients are partial over the
 * same axes); from the end of a section on, since backward comes to the last layers first. A gradient that a node
 * outside of the micro-batch touches is in none. Found by where values lie: after dt_flat_create. On ranks that reduce
 * a bucket together it is the same one. *n of them, the last stretch first, freed with free(). Local. */
dt_status dt_flat_buckets(const dt_graph *g, const dt_flat *flat, int64_t least, dt_bucket **out,
                          int *n) DT_WARN_UNUSED;

/** When gradients are summed over the data ranks: never (they train apart); once, in the epilogue; or in buckets beside
 * the backward of the last micro-batch (a device that runs calls aside), what is in none in the epilogue. */
typedef enum dt_reduction { DT_REDUCE_NEVER, DT_REDUCE_ONCE, DT_REDUCE_ASIDE } dt_reduction;

/** Emits the epilogue: tensor all-reduces of partial gradients, the all-reduce over the data ranks, the global norm,
 * the updates; and DT_LAST where the gradients are reduced there. Sets *hyper (input, DT_HYPER_COUNT) and *normsq
 * (output [1]). */
dt_status dt_optim_emit(dt_graph *g, dt_flat *flat, const Dtrain__Optim *config, dt_reduction reduction, dt_val *hyper,
                        dt_val *normsq) DT_WARN_UNUSED;

/** Where data ranks train apart (DT_REDUCE_NEVER): program DT_SYNC adds the differences that all of
 * them made since the last sync to what they had then, the STATE "sync:base", and makes that everybody's parameters;
 * program DT_SAVE replaces each state of the optimizer by its mean over the data ranks. Sets *base. */
dt_status dt_optim_emit_sync(dt_graph *g, dt_flat *flat, const Dtrain__Optim *config, dt_val *base) DT_WARN_UNUSED;

/** Learning rate of a step (1 .. steps) as a multiple of the peak. */
double dt_schedule(const Dtrain__Optim *config, int64_t steps, int64_t step);

#endif
