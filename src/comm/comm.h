/* Ranks: the mesh they form, the communicator tables that move tensors over it, and control over MPI.
 *
 * The mesh has three axes. A rank is ((data * major) + kv) * minor + rep: data-parallel replicas outermost, then the
 * tensor axis, factored into kv groups (TENSOR_MAJOR) and replicas of a group (TENSOR_MINOR) so that a model with fewer
 * kv heads than tensor ranks needs no special case. An axis of size 1 costs nothing. */
#ifndef DT_COMM_COMM_H
#define DT_COMM_COMM_H

#include "base/status.h"   // dt_status
#include "device/device.h" // dt_device
#include <stdbool.h>
#include <stddef.h> // size_t
#include <stdint.h> // int64_t

typedef enum dt_axis { DT_AXIS_DATA, DT_AXIS_TENSOR_MAJOR, DT_AXIS_TENSOR_MINOR, DT_AXIS_COUNT } dt_axis;

/** A set of axes, a bit each: the ranks that differ from this one only along these axes form one group. */
typedef unsigned dt_axes;
#define DT_AXES_DATA (1u << DT_AXIS_DATA)
#define DT_AXES_TENSOR ((1u << DT_AXIS_TENSOR_MAJOR) | (1u << DT_AXIS_TENSOR_MINOR))
#define DT_AXES_ALL (DT_AXES_DATA | DT_AXES_TENSOR)

typedef struct dt_mesh {
    int rank, ranks;          /* in the world */
    int size[DT_AXIS_COUNT];  /* ranks along each axis; their product is `ranks` */
    int coord[DT_AXIS_COUNT]; /* this rank's place along each */
} dt_mesh;

/** Lays `ranks` out as data x tensor, tensor factored so that `major` divides both `tensor` and `kv_heads` and is as
 *  large as can be. DT_ERR_CONFIG with the values if ranks % tensor != 0. Local. */
dt_status dt_mesh_make(int rank, int ranks, int tensor, int kv_heads, dt_mesh *out) DT_WARN_UNUSED;
/** Ranks in the group of `axes`, and this rank's index in it (row-major in the axes' order). */
int dt_mesh_group_size(const dt_mesh *mesh, dt_axes axes);
int dt_mesh_group_rank(const dt_mesh *mesh, dt_axes axes);

/** BF16 is moved by every table, but only a device's reduces it. */
typedef enum dt_comm_type {
    DT_COMM_F32,
    DT_COMM_F64,
    DT_COMM_I32,
    DT_COMM_I64,
    DT_COMM_BYTE,
    DT_COMM_BF16
} dt_comm_type;
typedef enum dt_comm_op { DT_COMM_SUM, DT_COMM_MAX, DT_COMM_MIN } dt_comm_op;
size_t dt_comm_type_size(dt_comm_type type);

typedef struct dt_comm dt_comm;

/** What moves tensors. Every function is collective over the group of `axes`, works on contiguous buffers of the memory
 *  that the table serves (mpi: host memory), and returns when the result is in place (nccl: when it is enqueued).
 *  A group of one rank returns at once (all_gather and reduce_scatter copy). Counts are elements. */
typedef struct dt_comm_ops {
    const char *name; /* "none", "mpi", "nccl" */
    /** buf[i] <- op over the group of buf[i], in place. The same bits on every rank of the group. */
    dt_status (*all_reduce)(dt_comm *comm, dt_axes axes, void *buf, int64_t count, dt_comm_type type, dt_comm_op op);
    /** recv[g * count + i] <- send[i] of the group's rank g. In place: send = recv + group_rank * count elements. */
    dt_status (*all_gather)(dt_comm *comm, dt_axes axes, const void *send, void *recv, int64_t count,
                            dt_comm_type type);
    /** recv[i] <- sum over the group of send[group_rank * count + i]. In place: recv = send + group_rank * count. */
    dt_status (*reduce_scatter)(dt_comm *comm, dt_axes axes, const void *send, void *recv, int64_t count,
                                dt_comm_type type);
    /** buf of the group's rank `root` to every rank of the group. */
    dt_status (*broadcast)(dt_comm *comm, dt_axes axes, void *buf, int64_t count, dt_comm_type type, int root);
    void (*destroy)(dt_comm *comm);
    int waits; /* for the device's work before it: such a collective cannot be part of a recording */
} dt_comm_ops;

/** A communicator is its table, its mesh and what the table keeps. */
struct dt_comm {
    const dt_comm_ops *ops;
    dt_mesh mesh;
    /* Payload that this rank gave to collectives so far, by axes; groups of one not counted: the buffer of an
     * all_reduce and of a broadcast's root, `send` of an all_gather and of a reduce_scatter. */
    int64_t bytes_sent[DT_AXES_ALL + 1];
    /* Collectives of two groups must not be under way at once, on two streams of a device: who runs them aside joins
     * before the next (comm/cuda.cu says why). Of one group they never are. */
    bool one_at_a_time;
    void *impl;
};

/** The table for host memory on `mesh`: "none" for one rank, otherwise "mpi" with one MPI communicator for each set of
 *  axes that has more than one rank. Collective over the world. Destroy with dt_comm_destroy (collective). */
dt_status dt_comm_create_host(const dt_mesh *mesh, dt_comm *out) DT_WARN_UNUSED;
void dt_comm_destroy(dt_comm *comm);
/** The table for the device's memory, over the same mesh: `host` itself where the device computes in host memory; NCCL
 *  where every rank of a node has a GPU of its own, else (it refuses two ranks on one GPU) copies to and from the host
 *  around `host`, which must live as long. Collective over the world. */
dt_status dt_comm_create_device(dt_comm *host, dt_device *device, dt_comm *own, dt_comm **out) DT_WARN_UNUSED;

/* ---- Control: always MPI_COMM_WORLD, whatever device computes. One thread at a time, as for a dt_comm. ---- */

/** MPI_Init_thread (multiple), log prefix, watchdog. Works without mpirun (one rank). Once per process. From here to
 *  dt_world_finalize signals are blocked in the calling thread and in those that it starts: handlers run in the
 *  watchdog's. */
dt_status dt_world_init(int *argc, char ***argv) DT_WARN_UNUSED;
/** Ends MPI. Collective. */
void dt_world_finalize(void);
int dt_world_rank(void);
int dt_world_size(void);
/** Ranks of the world on this node, and this rank's index among them: for threads and choice of device. */
int dt_world_node_size(void);
int dt_world_node_rank(void);

/** Ends a fallible phase: every rank gives its status and gets the worst one, that of the lowest failing rank, whose
 *  error text becomes the error text of every rank ("rank 3: ..." in front where ranks != 1 and not all failed).
 *  Collective over the world; every rank must reach it. */
dt_status dt_world_agree(dt_status local) DT_WARN_UNUSED;

/** Small collectives on host values over the world. */
dt_status dt_world_all_reduce(void *buf, int64_t count, dt_comm_type type, dt_comm_op op) DT_WARN_UNUSED;
dt_status dt_world_broadcast(void *buf, int64_t count, dt_comm_type type, int root) DT_WARN_UNUSED;
dt_status dt_world_barrier(void) DT_WARN_UNUSED;

/** A team: the ranks of this node, or all, in the order of their numbers in the world. Collective over the world; close
 *  likewise. */
typedef struct dt_team dt_team;
dt_status dt_team_open(bool of_node, dt_team **out) DT_WARN_UNUSED;
void dt_team_close(dt_team *team);
int dt_team_rank(const dt_team *team);
/** buf of the team's rank 0 to all of it. Collective over the team. */
dt_status dt_team_broadcast(dt_team *team, void *buf, int64_t bytes) DT_WARN_UNUSED;

/** The watchdog: a thread that ends the job (message, MPI_Abort) if the time between begin and end exceeds the limit.
 *  Every collective of this file brackets itself; `what` names it in the message. Default limit: 600 s, or the
 *  environment's DTRAIN_TIMEOUT in seconds. Nested begins count as one. */
void dt_watchdog_begin(const char *what);
void dt_watchdog_end(void);

/** Logs the present error text with this rank's number and ends every rank at once (MPI_Abort with the status's exit
 *  code). For failures inside a step. Does not return. */
void dt_world_abort(dt_status status) __attribute__((noreturn));

#endif
