/* Delta methods: what is trained beside the frozen backbone. A method is one file with a table, its options message in
 * dtrain.proto, and one line in methods.def. */
#ifndef DT_DELTA_DELTA_H
#define DT_DELTA_DELTA_H

#include "config/config.h" // Dtrain__Delta
#include "graph/exec.h"    // dt_store
#include "graph/graph.h"   // dt_graph, dt_site

typedef struct dt_delta dt_delta;

/** What a selection pass hands to a method: for each value that it had scored, this rank's slice of the scores. */
typedef struct dt_score {
    const char *name;   /* of the weight */
    const float *value; /* local slice, row-major; the same bits on every rank that holds it. NULL: not known */
    int ndim;
    int64_t dim[DT_DIMS], local[DT_DIMS], off[DT_DIMS];
    bool counts;   /* this rank stands for the slice: of several ranks with the same slice exactly one counts */
    dt_axes split; /* the axes that it is split over */
} dt_score;

/** How a selection pass scores. */
typedef struct dt_scoring {
    int64_t samples; /* rows to sum over */
    bool expected;   /* labels drawn from the model's prediction */
    bool native;     /* computed as training computes, where that is less exact than fp32 */
} dt_scoring;

typedef struct dt_delta_method {
    const char *name;           /* the field of the options in message Delta */
    const char *const *targets; /* default patterns, NULL-terminated */
    unsigned sites;             /* kinds that it can act on: bit 1 << dt_site_kind */
    /** Adds the delta's nodes at one selected site: reads site->x, w; moves site->y on. Errors are the graph's. */
    void (*attach)(dt_delta *d, dt_graph *g, dt_site *site);

    /* For methods that choose something from data before training; all NULL for the others. */
    dt_scoring (*scoring)(const dt_delta *d);
    /** Chooses from the Fisher information of all selected sites' weights. Collective over the tensor axes. Where
     * values are NULL, to plan before there is data: an even share, how many and not which. Local then, `comm` is NULL.
     */
    dt_status (*choose)(dt_delta *d, const dt_score *score, int n, dt_comm *comm);
    /** Takes back what a checkpoint recorded of one weight: all flat global indices, ascending. Keeps this rank's
     * slice. */
    dt_status (*restore)(dt_delta *d, const dt_score *slice, const int64_t *index, int64_t count);
    /** Is everything chosen? */
    bool (*chosen)(const dt_delta *d);
    /** Puts per-rank constants of the attached graph (indices, frozen values at them) into the store. */
    dt_status (*provide)(dt_delta *d, const dt_graph *g, dt_device *device, dt_store *store);
    void (*destroy)(dt_delta *d);
    /** Steps that data ranks train apart before they sum their differences; NULL or 1: they reduce gradients every
     * step. */
    int64_t (*local_steps)(const dt_delta *d);
} dt_delta_method;

/** One delta of the configuration. */
struct dt_delta {
    const dt_delta_method *method;
    const Dtrain__Delta *config;
    const char *name;
    uint64_t seed;
    void *own;        /* of the method */
    dt_val key, step; /* while attaching: inputs of dropout, DT_NONE in evaluation */
};

typedef struct dt_deltas {
    dt_delta *delta;
    int n;
} dt_deltas;

/** The deltas of a configuration, which must outlive them. DT_ERR_CONFIG: no method, unknown method. Local. */
dt_status dt_deltas_create(const Dtrain__Config *config, dt_deltas *out) DT_WARN_UNUSED;
void dt_deltas_destroy(dt_deltas *deltas);

/** Steps that the data ranks train apart: one number for all deltas, since there is one flat buffer. DT_ERR_CONFIG if
 * they disagree. Local. */
dt_status dt_deltas_local_steps(const dt_deltas *deltas, int64_t *out) DT_WARN_UNUSED;

/** Attaches every delta in order. key[N], step[1]: inputs that dropout is keyed by (DT_NONE: evaluation). DT_ERR_CONFIG
 * if a pattern selects nothing (with the nearest names) or a site that the method cannot act on. */
dt_status dt_deltas_attach(dt_deltas *deltas, dt_graph *g, dt_val key, dt_val step) DT_WARN_UNUSED;
/** The sites that one delta selects: selected[i] for each of g's sites. Errors as above. */
dt_status dt_delta_select_sites(const dt_delta *d, const dt_graph *g, bool *selected) DT_WARN_UNUSED;

/** For methods: a parameter "<delta>.<name>", with ties (NULL: replicated) and initial values. */
dt_val dt_delta_param(const dt_delta *d, dt_graph *g, const char *name, int ndim, const int64_t *dim,
                      const dt_tie *ties, dt_init init);

/** Initial values of this rank's slice of a parameter (not DT_INIT_BACKBONE): a function of (seed, name, element). */
void dt_param_init(const dt_graph *g, dt_val v, uint64_t seed, float *dst);

/** Emits, into the graph's present program at the cursor, the in-place updates that the fuse pass recorded. Frozen
 * values at the selected entries are the STATEs w0:<parameter>. */
void dt_deltas_emit_updates(dt_graph *g);

#endif
