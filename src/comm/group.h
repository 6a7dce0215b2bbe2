/* A group of ranks over one MPI communicator, and the collectives on it; internal to src/comm.
 *
 * Floating-point sums are made by dtrain, not by MPI_Allreduce, whose order of summation depends on the version, the
 * size and settings from outside. Here it depends on the number of ranks alone: write a rank as digits of a mixed
 * radix, lowest digit first; the ranks that differ only in that digit are summed in its order, then the next digit's.
 * Every element of every buffer follows this one tree and is summed by one rank (or by all with the same operands), so
 * all ranks hold the same bits, and neither the length of a buffer nor an element's place in it changes them. */
#ifndef DT_COMM_GROUP_H
#define DT_COMM_GROUP_H

#include "comm/comm.h" // dt_status, dt_comm_type
#include <mpi.h>       // MPI_Comm

enum {
    DT_GROUP_MAX_STAGES = 31,
    /* Messages between nodes stay below the 64 KiB up to which MPI libraries send at once over TCP. A longer one waits
     * for a request from its receiver, which, when both send, stands in line behind the other's data: then the two
     * directions take turns, at half the speed of the line. */
    DT_GROUP_SEGMENT_BYTES = 60 << 10
};

/** `count` elements somewhere. */
typedef struct dt_span {
    char *data;
    int64_t count;
} dt_span;

typedef enum dt_verb {
    DT_VERB_ALL_REDUCE,
    DT_VERB_ALL_GATHER,
    DT_VERB_REDUCE_SCATTER,
    DT_VERB_BROADCAST,
    DT_VERB_BARRIER,
    DT_VERB_COUNT
} dt_verb;

typedef struct dt_group {
    MPI_Comm comm; /* owned */
    int rank, ranks;
    int node_rank, node_ranks;              /* among the group's ranks on this node */
    char label[DT_VERB_COUNT][64];          /* "all_reduce over data": for messages */
    int stages, radix[DT_GROUP_MAX_STAGES]; /* the digits' sizes; their product is `ranks` */
    int64_t piece_bytes;                    /* longer buffers are handled in pieces of about this size */
    int64_t segment_bytes;                  /* of a message: DT_GROUP_SEGMENT_BYTES, or all within one node */
    dt_span *send, *recv;                   /* [ranks] each: what goes to and comes from whom */
    MPI_Request *requests;                  /* those of one exchange, */
    MPI_Status *statuses;                   /* and how they ended */
    char *scratch;                          /* what arrives to be reduced */
    int64_t scratch_bytes;
} dt_group;

/** Takes `comm` over, whatever is returned; its errors then come back as statuses. Collective over `comm`. Close with
 *  dt_group_close. */
dt_status dt_group_open(MPI_Comm comm, const char *name, dt_group *out) DT_WARN_UNUSED;
/** Collective over the group (MPI_Comm_free). Fine on a zeroed group. */
void dt_group_close(dt_group *g);

/* As in dt_comm_ops. Collective over the group; each is under the watchdog. */
dt_status dt_group_all_reduce(dt_group *g, void *buf, int64_t count, dt_comm_type type, dt_comm_op op) DT_WARN_UNUSED;
dt_status dt_group_all_gather(dt_group *g, const void *send, void *recv, int64_t count,
                              dt_comm_type type) DT_WARN_UNUSED;
/** Each element is summed in the order of the ranks. */
dt_status dt_group_reduce_scatter(dt_group *g, const void *send, void *recv, int64_t count,
                                  dt_comm_type type) DT_WARN_UNUSED;
dt_status dt_group_broadcast(dt_group *g, void *buf, int64_t count, dt_comm_type type, int root) DT_WARN_UNUSED;
dt_status dt_group_barrier(dt_group *g) DT_WARN_UNUSED;

/** MPI's return code as a status: DT_ERR_COMM with MPI's own words behind `what`. Local. */
dt_status dt_group_check(int code, const char *what) DT_WARN_UNUSED;

/** out[i] <- a[i] op b[i]; `out` may be `a` or `b`. A NaN in either makes a NaN. Local. */
void dt_reduce(void *out, const void *a, const void *b, int64_t count, dt_comm_type type, dt_comm_op op);

/** The group of all ranks; NULL before dt_world_init and after dt_world_finalize. */
dt_group *dt_world_group(void);

#endif
