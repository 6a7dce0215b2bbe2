/* Running a planned graph: storage for its values, and the walk over its calls. */
#ifndef DT_GRAPH_EXEC_H
#define DT_GRAPH_EXEC_H

#include "device/device.h" // dt_device
#include "graph/passes.h"  // dt_plan

/** Persistent storage by name, shared by every graph of a process that speaks of the same values (training, evaluation,
 *  generation): weights, parameters, moments. Owns what it allocated; views stay with who registered them. */
typedef struct dt_store dt_store;
typedef struct dt_stored {
    void *data;
    size_t bytes;
    bool owned;
} dt_stored;
dt_status dt_store_create(dt_device *device, dt_store **out) DT_WARN_UNUSED;
void dt_store_destroy(dt_store *store);
/** The entry of a name; NULL if there is none. */
dt_stored *dt_store_find(dt_store *store, const char *name);
/** Registers memory that somebody else owns. DT_ERR_INTERNAL if the name is there. */
dt_status dt_store_put(dt_store *store, const char *name, void *data, size_t bytes) DT_WARN_UNUSED;
/** Allocates zeroed device memory. */
dt_status dt_store_new(dt_store *store, const char *name, size_t bytes, void **data) DT_WARN_UNUSED;
/** Bytes that the store allocated. */
int64_t dt_store_owned_bytes(const dt_store *store);

typedef struct dt_exec dt_exec;

/** Plans `g` (sharded, fused) for the device and binds its values: inputs, constants and arena to memory of its own;
 * weights, parameters and states to the store's entries of the same name (weights, params: DT_ERR_INTERNAL if missing
 * or of another size; states are made, zeroed, where missing). `g`, `store`, `comm` must outlive it. Local. */
dt_status dt_exec_create(dt_graph *g, dt_device *device, dt_comm *comm, dt_store *store, dt_exec **out) DT_WARN_UNUSED;
void dt_exec_destroy(dt_exec *exec);
/** Runs one program. Collective if the graph has collectives: so that nobody waits for a rank that failed, a failure
 * ends the job (dt_world_abort) where there are several ranks. */
dt_status dt_exec_run(dt_exec *exec, dt_program program) DT_WARN_UNUSED;
/** Device address of a value's local slice. */
void *dt_exec_data(const dt_exec *exec, dt_val v);
/** Copies this rank's slice of an input from / of any value to the host. */
dt_status dt_exec_put_f32(dt_exec *exec, dt_val v, const float *src) DT_WARN_UNUSED;
dt_status dt_exec_put_i32(dt_exec *exec, dt_val v, const int32_t *src) DT_WARN_UNUSED;
dt_status dt_exec_get_f32(const dt_exec *exec, dt_val v, float *dst) DT_WARN_UNUSED;
/** The first element of an ACC value as it is behind all programs run so far, whatever runs next: asked for now, waited
 * for in the answer. `ticket`: below DT_TICKETS, and answered before it is asked for again. */
dt_status dt_exec_ask(dt_exec *exec, dt_val v, int ticket) DT_WARN_UNUSED;
dt_status dt_exec_answer(dt_exec *exec, int ticket, float *out) DT_WARN_UNUSED;
/** Does the device go on while the host waits for an answer? */
bool dt_exec_runs_ahead(const dt_exec *exec);
const dt_plan *dt_exec_plan(const dt_exec *exec);

/** What the calls of one op took since profiling began. */
typedef struct dt_op_time {
    const dt_op *op;
    int64_t calls;
    double seconds, flops, bytes;
} dt_op_time;
/** Times every call from now on. */
dt_status dt_exec_profile(dt_exec *exec) DT_WARN_UNUSED;
/** One entry an op that ran, most seconds first; *n of them, freed with free(). */
dt_status dt_exec_times(const dt_exec *exec, dt_op_time **out, int *n) DT_WARN_UNUSED;

#endif
