/* What an op is to the passes: a table of shape, gradient, placement, cost and rewrite rules. The ops themselves are in
 * src/op: X.c holds the table, X_cpu.c the kernel for the CPU device, one line of ops.def names it. */
#ifndef DT_GRAPH_OP_H
#define DT_GRAPH_OP_H

#include "comm/comm.h"   // dt_comm
#include "graph/graph.h" // dt_graph, dt_node, dt_value

/** A tensor as a kernel sees it: contiguous, row-major, this rank's slice. */
typedef struct dt_tensor {
    void *data; /* NULL: an optional input that is absent, or an output nobody needs */
    dt_type type;
    bool frozen; /* a weight that nothing writes */
    int ndim;
    int64_t dim[DT_DIMS];  /* of the slice */
    int64_t off[DT_DIMS];  /* where the slice starts in the global shape */
    int64_t full[DT_DIMS]; /* the global shape */
} dt_tensor;

/** One call of a kernel, made once when a graph is planned. */
typedef struct dt_call {
    const dt_op *op;
    dt_attr attr;
    int nin, nout;
    dt_tensor in[DT_MAX_IN], out[DT_MAX_OUT];
    void *workspace; /* of the size that the kernel asked for; shared by all calls */
    struct dt_device *device;
    dt_comm *comm; /* for collectives */
    int threads;   /* threads a kernel may use */
} dt_call;

/** Runs one call. Outputs are written whole, whatever was in them (unless they alias an input). */
typedef dt_status (*dt_kernel)(const dt_call *call);

/** What one call costs on this rank: floating-point operations, bytes read and written, payload bytes on the wire. */
typedef struct dt_cost {
    double flops, bytes, wire;
    dt_axes wire_axes;
} dt_cost;

/** The node's inputs and outputs along one axis. `in` are the present placements; the op sets what it needs of each
 * input in `want` (initialised to `in`) and what its outputs then are. It must not ask for DT_PARTIAL of what is not.
 */
typedef struct dt_placing {
    const dt_graph *g;
    const dt_node *node;
    dt_axis axis;
    const dt_place *in;
    dt_place *want;
    dt_place *out;
} dt_placing;

struct dt_op {
    const char *name;
    int nin_min, nin_max, nout;
    bool communicates;     /* moves data between ranks: recomputation keeps its outputs */
    bool optional_outputs; /* prune may clear outputs: the kernel leaves those with data NULL out */
    /** Output i uses input inplace[i] - 1 as its storage (0: storage of its own). The input's value is gone after. */
    int8_t inplace[DT_MAX_OUT];
    /** Output i may use input reuse[i] - 1's storage if that input has no later reader; the kernel must not mind. */
    int8_t reuse[DT_MAX_OUT];
    /** Input addend - 1, an optional one, is added to output 0 (0: there is no such). The fuse pass hands it what is
     * added behind; it may be what output 0 lies in. */
    int8_t addend;
    /** Creates node->out[] (dt_graph_temp) after checking the inputs; errors by dt_graph_fail. */
    void (*shape)(dt_graph *g, dt_node *node);
    /** Emits the gradient: given dout[nout] (DT_NONE: no gradient flows) sets din[i] for each i with want[i] (DT_NONE
     * if it is zero). NULL: the op is not differentiable (integers, updates). `node` is a copy; new nodes go in at the
     * cursor. */
    void (*grad)(dt_graph *g, const dt_node *node, const dt_val *dout, const bool *want, dt_val *din);
    /** Placement along one axis. NULL: elementwise and non-linear (see dt_place_elementwise). */
    void (*place)(const dt_placing *p);
    /** Scratch bytes a call needs; real_size is that of ACT/ACC on the device. NULL: none. */
    size_t (*workspace)(const dt_call *call, size_t real_size);
    /** NULL: bytes of all operands, no FLOPs. */
    void (*cost)(const dt_call *call, size_t real_size, dt_cost *cost);
    /** Rewrites around a node of this op (fuse pass); true if it changed the graph. NULL: none. */
    bool (*fuse)(dt_graph *g, int32_t node);
    /** The same on the forward graph before it is differentiated (merge pass). NULL: none. */
    bool (*merge)(dt_graph *g, int32_t node);
    /** Builds a small instance for the conformance test: sets inputs, variant counts from 0; false when there are no
     * more variants. Everything differentiable is made a parameter. The result is reduced to a scalar by the test. */
    bool (*example)(dt_graph *g, int variant, dt_val *result);
};

/** The op's number: its line in ops.def, and the index of its kernel in a device's table. */
int dt_op_index(const dt_op *op);

/* Helpers for op sources. */
/** Is the gradient of `v` collected over the micro-batches rather than passed on within one? That of a parameter, or of
 *  what the prologue computes, is. */
static inline bool dt_gradient_is_collected(const dt_graph *g, dt_val v)
{
    const dt_value *val = dt_value_of(g, v);
    return val->kind == DT_KIND_PARAM || (val->producer != DT_NONE && g->node[val->producer].program == DT_PROLOGUE);
}
/** What is collected is never less than fp32; other gradients have their value's type. */
static inline dt_type dt_gradient_type(const dt_graph *g, dt_val v)
{
    return dt_gradient_is_collected(g, v) ? DT_TYPE_ACC : dt_value_of(g, v)->type;
}
#define DT_ATTR(type, holder) ((const type *)(const void *)(holder)->attr.byte)
/** Same number of dimensions, same dimensions (global). */
bool dt_shape_equal(const dt_graph *g, dt_val a, dt_val b);
/** All inputs in one placement: split along tokens or features as the first split input is; partial sums resolved. */
void dt_place_elementwise(const dt_placing *p);
/** The same for ops that are linear in all their inputs: all partial stays partial. */
void dt_place_linear(const dt_placing *p);
/** Where a partial value goes when it must not stay partial: replicated, or split along the tokens under sequence
 *  parallelism (token-major values, tensor axes). */
dt_place dt_place_resolved(const dt_placing *p, int input);
static inline bool dt_place_equal(dt_place a, dt_place b)
{
    return a.kind == b.kind && ((a.kind != DT_SPLIT) || a.dim == b.dim);
}
static inline bool dt_place_is_partial(dt_place p)
{
    return p.kind == DT_PARTIAL || p.kind == DT_PARTIAL_LSE;
}
#define DT_PLACE_R ((dt_place){DT_REPLICATED, 0})
#define DT_PLACE_S(d) ((dt_place){DT_SPLIT, (int8_t)(d)})
#define DT_PLACE_P ((dt_place){DT_PARTIAL, 0})
#define DT_PLACE_LSE ((dt_place){DT_PARTIAL_LSE, 0})

#endif
