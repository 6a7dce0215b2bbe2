/* The graph of a training step: values, the nodes that compute them, and the sites where deltas attach.
 *
 * A family builds it as a single device would compute it; every pass (attach, grad, shard, fuse, plan) rewrites it. All
 * shapes here are global; the shard pass adds each rank's local shape. Nodes stand in one list in execution order; new
 * nodes go in at the cursor. Errors while building are sticky: a builder returns DT_NONE, builders given DT_NONE return
 * DT_NONE, and dt_graph_status tells what went wrong first. Everything here is local and owned by the graph.
 *
 * Shape letters: N tokens of a micro-batch over all data ranks (B sequences x T positions), C width, H heads, D head
 * width, F feed-forward width, V vocabulary, L layers, R rank of a delta, O and I a linear's output and input width. */
#ifndef DT_GRAPH_GRAPH_H
#define DT_GRAPH_GRAPH_H

#include "base/memory.h" // dt_region
#include "base/status.h" // dt_status
#include "comm/comm.h"   // dt_axes, dt_mesh
#include <stdbool.h>
#include <stdint.h>

#define DT_DIMS 4
#define DT_MAX_IN 9
#define DT_MAX_OUT 4
#define DT_NONE (-1)

typedef int32_t dt_val; /* index of a value */

/** Who provides a value and how long it lives. */
typedef enum dt_kind {
    DT_KIND_TEMP,   /* computed by a node; lives in the arena */
    DT_KIND_INPUT,  /* written by the host before a program runs */
    DT_KIND_CONST,  /* known when the graph is built; data in `host` */
    DT_KIND_WEIGHT, /* the frozen backbone's */
    DT_KIND_PARAM,  /* trainable; master copy fp32 */
    DT_KIND_STATE   /* kept from step to step: gradient accumulators, moments, caches */
} dt_kind;

/** ACT is what the device computes in (fp32 on cpu, bf16 on cuda); ACC is never less than fp32: statistics, losses,
 *  masters, gradients of parameters. (The float64 reference device takes both as double.) */
typedef enum dt_type { DT_TYPE_ACT, DT_TYPE_ACC, DT_TYPE_I32 } dt_type;

/** A step is three programs: prologue once, micro-batch repeated, epilogue once. The last micro-batch of a step may
 * have a program of its own: all nodes of the micro-batch's and those of DT_LAST, in the order of the list; the latter
 * touch persistent values only. Where there is no node of DT_LAST, that program is empty. Two more run between steps,
 * where data ranks train apart: sync brings their parameters together, save what else a checkpoint holds. */
typedef enum dt_program { DT_PROLOGUE, DT_MICRO, DT_LAST, DT_EPILOGUE, DT_SYNC, DT_SAVE, DT_PROGRAM_COUNT } dt_program;

/** Placement of a value along one axis of the mesh. */
typedef enum dt_place_kind {
    DT_PLACE_UNSET,
    DT_REPLICATED,
    DT_SPLIT,      /* along `dim` */
    DT_PARTIAL,    /* the value is the sum over the axis */
    DT_PARTIAL_LSE /* the value is the logarithm of the sum of exponentials over the axis */
} dt_place_kind;
typedef struct dt_place {
    int8_t kind; /* dt_place_kind */
    int8_t dim;
} dt_place;

/** How a persistent value wants to be split: along `dim` over `axes` (dim -1: not at all). A split that does not divide
 *  the dimension is left out, the value replicated. */
typedef struct dt_split {
    int dim;
    dt_axes axes;
} dt_split;
#define DT_NO_SPLIT ((dt_split){-1, 0})

/** A weight that is part of a stored tensor: [first, first + dim[d]) of its dimension d, which is `full` long there. */
typedef struct dt_part {
    const char *tensor; /* NULL: the weight is the whole tensor of its own name */
    int dim;
    int64_t first, full;
} dt_part;

/** Dimension i of a parameter is split as dimension `dim` of value `like` is (like DT_NONE: it is not). */
typedef struct dt_tie {
    dt_val like;
    int dim;
} dt_tie;

/** How a parameter starts. */
typedef enum dt_init_kind {
    DT_INIT_ZERO,
    DT_INIT_UNIFORM, /* U(-scale, scale) */
    DT_INIT_NORMAL,  /* N(0, scale^2) */
    DT_INIT_FILL,    /* scale everywhere */
    DT_INIT_BACKBONE /* the backbone's own values */
} dt_init_kind;
typedef struct dt_init {
    dt_init_kind kind;
    double scale;
} dt_init;

typedef struct dt_value {
    const char *name; /* unique for persistent values: the module path of Hugging Face, or the delta's */
    dt_kind kind;
    dt_type type;
    int ndim;
    int64_t dim[DT_DIMS]; /* global */
    dt_split split;       /* persistent values */
    dt_part part;         /* weights */
    dt_tie tie[DT_DIMS];  /* parameters */
    bool ragged;          /* dim[0] differs between ranks: local[0] is set by who made it */
    dt_init init;         /* parameters */
    dt_val index;         /* a ragged parameter: flat indices of its values in the local slice of tie[0].like */
    const void *host;     /* DT_KIND_CONST: fp32 or i32 data of the global shape */
    int32_t producer;     /* node, or DT_NONE */
    dt_val base;          /* storage is inside that of `base` (DT_NONE: its own) ... */
    int64_t base_offset;  /* ... from this element on */
    /* set by shard */
    dt_place place[DT_AXIS_COUNT];
    int64_t local[DT_DIMS]; /* this rank's shape */
    int64_t off[DT_DIMS];   /* where it starts in the global shape */
} dt_value;

/** An op's own attributes; each op casts it to its own struct. */
typedef struct dt_attr {
    unsigned char byte[64] __attribute__((aligned(8)));
} dt_attr;

typedef struct dt_op dt_op;

typedef struct dt_node {
    const dt_op *op;
    dt_attr attr;
    int nin, nout;
    dt_val in[DT_MAX_IN];   /* DT_NONE: an optional input that is absent */
    dt_val out[DT_MAX_OUT]; /* DT_NONE: an output nobody needs */
    dt_program program;
    int32_t block; /* of the backbone, counted through its stacks; DT_NONE: outside (embedding, head) */
    bool backward; /* emitted by grad */
    bool aside;    /* runs beside what follows it, which must not touch its values; its program ends when it is done */
    bool dead;
    int32_t prev, next;
} dt_node;

/** What a site is, hence what a delta may do there. */
typedef enum dt_site_kind { DT_SITE_LINEAR, DT_SITE_NORM, DT_SITE_EMBED, DT_SITE_HEAD } dt_site_kind;

/** A named point where deltas attach. For a LINEAR y[N,O] = x[N,I] W[O,I]^T + b[O], or (out_dim 1: the checkpoint's own
 * layout) x[N,I] W[I,O] + b[O]; a HEAD has no y (its logits are never in memory); an EMBED has no x. `y` is what
 * consumers read: it moves on as deltas attach. */
typedef struct dt_site {
    const char *path; /* model.layers.3.self_attn.q_proj */
    const char *role; /* block.3.attn.q */
    dt_site_kind kind;
    dt_val x, y, w, b;
    int out_dim; /* of a linear: the dimension of w that is O; the other one is I */
} dt_site;

/** A weight that is kept equal to its frozen self plus val at idx, in place: W_flat[idx] = W0[idx] + val. */
typedef struct dt_update {
    dt_val w, idx, val;
} dt_update;

typedef struct dt_graph {
    dt_region region;
    dt_value *value;
    int64_t values, value_cap;
    dt_node *node;
    int64_t nodes, node_cap;
    int32_t head, tail; /* first and last node of the list */
    int32_t cursor;     /* new nodes go in behind this one (DT_NONE: in front of all) */
    dt_program program; /* of new nodes */
    int32_t block;      /* of new nodes */
    bool backward;      /* mark of new nodes */
    dt_site *site;
    int64_t sites, site_cap;
    dt_val *output; /* temporaries that the host reads after a program */
    int64_t outputs, output_cap;
    dt_update *update; /* in-place updates that the fuse pass took out of the forward program */
    int64_t updates, update_cap;
    bool train;     /* dropout is on */
    bool sequence;  /* partial sums of token-major values resolve to split along the tokens */
    int64_t tokens; /* N */
    uint64_t seed;
    dt_mesh mesh;     /* set by shard */
    dt_status status; /* first error; its text is kept below */
    const char *error;
} dt_graph;

dt_status dt_graph_create(dt_graph **out) DT_WARN_UNUSED;
void dt_graph_destroy(dt_graph *g);
/** DT_OK, or the first error with its text set again. */
dt_status dt_graph_status(dt_graph *g) DT_WARN_UNUSED;
/** Records an error (first one wins) and returns DT_NONE. */
dt_val dt_graph_fail(dt_graph *g, dt_status status, const char *fmt, ...) DT_PRINTF(3, 4);

/* Values. Names are copied. */
dt_val dt_graph_temp(dt_graph *g, dt_type type, int ndim, const int64_t *dim);
dt_val dt_graph_input(dt_graph *g, const char *name, dt_type type, int ndim, const int64_t *dim, dt_split split);
dt_val dt_graph_const(dt_graph *g, const char *name, dt_type type, int ndim, const int64_t *dim, const void *host);
dt_val dt_graph_weight(dt_graph *g, const char *name, int ndim, const int64_t *dim, dt_split split);
/** A weight that the checkpoint stores as part of a tensor (whose name is copied). */
dt_val dt_graph_weight_part(dt_graph *g, const char *name, int ndim, const int64_t *dim, dt_split split, dt_part part);
/** A trainable parameter (ACC); ties[ndim] say how it follows other values' placement; NULL: replicated. */
dt_val dt_graph_param(dt_graph *g, const char *name, int ndim, const int64_t *dim, const dt_tie *ties);
dt_val dt_graph_state(dt_graph *g, const char *name, dt_type type, int ndim, const int64_t *dim, dt_split split);
/** Makes a weight trainable in place (method `full`, Fisher passes): kind WEIGHT -> PARAM. */
void dt_graph_make_trainable(dt_graph *g, dt_val v);
/** A persistent value by name; DT_NONE if there is none. */
dt_val dt_graph_find(const dt_graph *g, const char *name);
void dt_graph_mark_output(dt_graph *g, dt_val v);
static inline dt_value *dt_value_of(const dt_graph *g, dt_val v)
{
    return &g->value[v];
}
/** Elements of the global / local shape. */
int64_t dt_value_count(const dt_graph *g, dt_val v);
int64_t dt_value_local_count(const dt_graph *g, dt_val v);
static inline bool dt_kind_is_persistent(dt_kind kind)
{
    return kind != DT_KIND_TEMP;
}

/* Nodes. */
/** Adds a node behind the cursor and moves the cursor to it: checks inputs, asks the op for the outputs' shapes.
 * Returns the node, or DT_NONE (sticky error). attr may be NULL. */
int32_t dt_graph_node(dt_graph *g, const dt_op *op, const void *attr, size_t attr_bytes, int nin, const dt_val *in);
/** Output `i` of a node that dt_graph_node returned; DT_NONE for DT_NONE. */
dt_val dt_graph_out(const dt_graph *g, int32_t node, int i);
/** The cursor: behind `node`, at the end, or in front of everything (DT_NONE). */
void dt_graph_seek(dt_graph *g, int32_t node);
void dt_graph_seek_end(dt_graph *g);
void dt_graph_remove(dt_graph *g, int32_t node);
/** Every node behind `after` (DT_NONE: every node) that reads `from` reads `to` from now on. */
void dt_graph_replace_uses(dt_graph *g, dt_val from, dt_val to, int32_t after);
int dt_graph_use_count(const dt_graph *g, dt_val v);
/** Removes nodes whose outputs nobody reads and that write no persistent value; clears outputs nobody reads of the
 *  others whose op allows it. */
void dt_graph_prune(dt_graph *g);
#define DT_FOR_NODES(g, i) for (int32_t i = (g)->head; i != DT_NONE; i = (g)->node[i].next)

/** Records an in-place update (once; the same one again is ignored). */
void dt_graph_add_update(dt_graph *g, dt_val w, dt_val idx, dt_val val);

/* Sites. */
void dt_graph_add_site(dt_graph *g, dt_site site);
/** The graph as text: one line a persistent value, a site, a node, with names, types, global shapes and placements; a
 *  node in backward ends in an arrow, one of the last micro-batch alone, which stands among the micro-batch's, in
 *  `last`, one that makes a site's output in @ and its role. Freed with free(). */
dt_status dt_graph_dump(const dt_graph *g, char **text) DT_WARN_UNUSED;

#endif
