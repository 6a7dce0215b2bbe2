/* The collectives of a group: stages of direct exchange between ranks that differ in one digit (see group.h).
 *
 * All-reduce of n ranks, n = f0 * f1 * ...: at stage s each rank sends f_s - 1 of f_s parts of what it still holds to
 * the peers that keep them, and sums what it gets for its own part. After the last stage each rank holds 1/n of the
 * result, and the same stages run backwards hand it round. A rank sends 2 (n - 1)/n of the buffer, the least possible,
 * in 2 * stages rounds (Rabenseifner 2004, for any radix). The nearest ranks come first, so that most of it
 * stays inside a host. A short buffer is not cut: each stage swaps all of it, which halves the rounds. */
#include "comm/group.h"

#include "base/memory.h" // dt_alloc
#include <stdio.h>       // snprintf
#include <stdlib.h>      // free
#include <string.h>      // memmove

enum {
    TAG = 1,
    PIECE_BYTES = 2 << 20,           // bounds the scratch memory and stays in the cache between stages
    PIECE_BYTES_PER_RANK = 64 << 10, // ... yet no message of a large group becomes so short that its start dominates
    BROADCAST_BYTES = 1 << 30,       // MPI counts are int
    SHORT_EXTRA_BYTES = 2 << 10      // what a rank may send beyond the least to save half the rounds
};

static const char *const verbs[DT_VERB_COUNT] = {
    [DT_VERB_ALL_REDUCE] = "all_reduce",
    [DT_VERB_ALL_GATHER] = "all_gather",
    [DT_VERB_REDUCE_SCATTER] = "reduce_scatter",
    [DT_VERB_BROADCAST] = "broadcast",
    [DT_VERB_BARRIER] = "barrier",
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

dt_status dt_group_check(int code, const char *what)
{
    if (code == MPI_SUCCESS) return DT_OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    return dt_fail(DT_ERR_COMM, "%s: %.*s", what, length, text);
}

/* ranks = radix[0] * radix[1] * ...: prime factors make the fewest and longest messages. */
static void factor(dt_group *g)
{
    for (int rest = g->ranks; rest > 1; rest /= g->radix[g->stages++]) {
        int f = 2;
        while (rest % f != 0) f++;
        g->radix[g->stages] = f;
    }
}

static dt_status find_node(dt_group *g)
{
    MPI_Comm node;
    int code = MPI_Comm_split_type(g->comm, MPI_COMM_TYPE_SHARED, g->rank, MPI_INFO_NULL, &node);
    DT_TRY(dt_group_check(code, "MPI_Comm_split_type"));
    MPI_Comm_rank(node, &g->node_rank);
    MPI_Comm_size(node, &g->node_ranks);
    MPI_Comm_free(&node);
    return DT_OK;
}

static void choose_sizes(dt_group *g)
{
    g->piece_bytes = PIECE_BYTES;
    if (g->piece_bytes < (int64_t)g->ranks * PIECE_BYTES_PER_RANK)
        g->piece_bytes = min64((int64_t)g->ranks * PIECE_BYTES_PER_RANK, BROADCAST_BYTES);
    g->segment_bytes = g->node_ranks == g->ranks ? g->piece_bytes : DT_GROUP_SEGMENT_BYTES;
}

dt_status dt_group_open(MPI_Comm comm, const char *name, dt_group *out)
{
    dt_status st;
    dt_group g = {.comm = comm};
    for (int v = 0; v < DT_VERB_COUNT; v++) snprintf(g.label[v], sizeof g.label[v], "%s over %s", verbs[v], name);
    DT_GOTO(dt_group_check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler"), fail);
    DT_GOTO(dt_group_check(MPI_Comm_rank(comm, &g.rank), "MPI_Comm_rank"), fail);
    DT_GOTO(dt_group_check(MPI_Comm_size(comm, &g.ranks), "MPI_Comm_size"), fail);
    DT_GOTO(find_node(&g), fail);
    factor(&g);
    choose_sizes(&g);
    size_t n = (size_t)g.ranks, messages = 2 * (n + (size_t)(g.piece_bytes / DT_GROUP_SEGMENT_BYTES));
    DT_GOTO(dt_alloc(n, sizeof *g.send, &g.send), fail);
    DT_GOTO(dt_alloc(n, sizeof *g.recv, &g.recv), fail);
    DT_GOTO(dt_alloc(messages, sizeof *g.requests, &g.requests), fail);
    DT_GOTO(dt_alloc(messages, sizeof *g.statuses, &g.statuses), fail);
    *out = g;
    return DT_OK;
fail:
    dt_group_close(&g);
    return st;
}

void dt_group_close(dt_group *g)
{
    if (g->ranks > 0) MPI_Comm_free(&g->comm);
    free(g->send);
    free(g->recv);
    free(g->requests);
    free(g->statuses);
    free(g->scratch);
    *g = (dt_group){0};
}

static dt_status reserve(dt_group *g, int64_t bytes)
{
    if (bytes <= g->scratch_bytes) return DT_OK;
    free(g->scratch);
    g->scratch = NULL;
    g->scratch_bytes = 0;
    DT_TRY(dt_alloc((size_t)bytes, 1, &g->scratch));
    g->scratch_bytes = bytes;
    return DT_OK;
}

/* The ranks first, first + stride, ... (radix of them), of which this rank is number `digit`. */
typedef struct peers {
    int first, stride, radix, digit;
} peers;

static peers everyone(const dt_group *g)
{
    return (peers){.first = 0, .stride = 1, .radix = g->ranks, .digit = g->rank};
}

static peers peers_of_stage(const dt_group *g, int stage)
{
    int stride = 1;
    for (int s = 0; s < stage; s++) stride *= g->radix[s];
    int digit = g->rank / stride % g->radix[stage];
    return (peers){.first = g->rank - digit * stride, .stride = stride, .radix = g->radix[stage], .digit = digit};
}

/* Starts the messages of one transfer: both ends cut it alike. */
static dt_status start_receive(dt_group *g, dt_span what, size_t size, int from, dt_verb verb, int *n)
{
    int64_t bytes = what.count * (int64_t)size, step = g->segment_bytes;
    for (int64_t at = 0; at < bytes; at += step) {
        int code =
            MPI_Irecv(what.data + at, (int)min64(step, bytes - at), MPI_BYTE, from, TAG, g->comm, &g->requests[(*n)++]);
        DT_TRY(dt_group_check(code, g->label[verb]));
    }
    return DT_OK;
}

static dt_status start_send(dt_group *g, dt_span what, size_t size, int to, dt_verb verb, int *n)
{
    int64_t bytes = what.count * (int64_t)size, step = g->segment_bytes;
    for (int64_t at = 0; at < bytes; at += step) {
        int code =
            MPI_Isend(what.data + at, (int)min64(step, bytes - at), MPI_BYTE, to, TAG, g->comm, &g->requests[(*n)++]);
        DT_TRY(dt_group_check(code, g->label[verb]));
    }
    return DT_OK;
}

/* send[p] goes to peer p while recv[p] comes from it, all at once. */
static dt_status exchange(dt_group *g, peers with, size_t size, dt_verb verb)
{
    int n = 0;
    for (int step = 1; step < with.radix; step++) { // not all to the same peer first
        int p = (with.digit + with.radix - step) % with.radix;
        DT_TRY(start_receive(g, g->recv[p], size, with.first + p * with.stride, verb, &n));
    }
    for (int step = 1; step < with.radix; step++) {
        int p = (with.digit + step) % with.radix;
        DT_TRY(start_send(g, g->send[p], size, with.first + p * with.stride, verb, &n));
    }
    int code = MPI_Waitall(n, g->requests, g->statuses);
    for (int i = 0; code == MPI_ERR_IN_STATUS && i < n; i++)
        if (g->statuses[i].MPI_ERROR != MPI_SUCCESS && g->statuses[i].MPI_ERROR != MPI_ERR_PENDING)
            code = g->statuses[i].MPI_ERROR;
    return dt_group_check(code, g->label[verb]);
}

/* Exchanges send[p], and leaves in `mine` the reduction, in the peers' order, of what it held and what came. */
static dt_status exchange_and_reduce(dt_group *g, peers with, dt_span mine, dt_comm_type type, dt_comm_op op,
                                     dt_verb verb)
{
    size_t size = dt_comm_type_size(type);
    int64_t bytes = mine.count * (int64_t)size;
    DT_TRY(reserve(g, bytes * with.radix));
    for (int p = 0; p < with.radix; p++) g->recv[p] = (dt_span){g->scratch + p * bytes, mine.count};
    DT_TRY(exchange(g, with, size, verb));
    char *below = g->recv[0].data;
    for (int p = 1; p < with.digit; p++) dt_reduce(below, below, g->recv[p].data, mine.count, type, op);
    if (with.digit > 0) dt_reduce(mine.data, below, mine.data, mine.count, type, op);
    for (int p = with.digit + 1; p < with.radix; p++)
        dt_reduce(mine.data, mine.data, g->recv[p].data, mine.count, type, op);
    return DT_OK;
}

static dt_status all_reduce_short(dt_group *g, dt_span whole, dt_comm_type type, dt_comm_op op)
{
    for (int s = 0; s < g->stages; s++) {
        peers with = peers_of_stage(g, s);
        for (int p = 0; p < with.radix; p++) g->send[p] = whole;
        DT_TRY(exchange_and_reduce(g, with, whole, type, op, DT_VERB_ALL_REDUCE));
    }
    return DT_OK;
}

/* Part p of the blocks low .. low + blocks - 1, where the buffer is cut into one block a rank. */
static dt_span part_of(const dt_group *g, dt_span whole, size_t size, int low, int blocks, int p, int radix)
{
    int64_t first = low + blocks / radix * p, end = first + blocks / radix;
    int64_t from = whole.count * first / g->ranks, to = whole.count * end / g->ranks;
    return (dt_span){whole.data + from * (int64_t)size, to - from};
}

static dt_status all_reduce_long(dt_group *g, dt_span whole, dt_comm_type type, dt_comm_op op)
{
    size_t size = dt_comm_type_size(type);
    int low[DT_GROUP_MAX_STAGES + 1] = {0}; // the blocks that this rank still holds before each stage
    int blocks = g->ranks;
    for (int s = 0; s < g->stages; s++) {
        peers with = peers_of_stage(g, s);
        for (int p = 0; p < with.radix; p++) g->send[p] = part_of(g, whole, size, low[s], blocks, p, with.radix);
        DT_TRY(exchange_and_reduce(g, with, g->send[with.digit], type, op, DT_VERB_ALL_REDUCE));
        blocks /= with.radix;
        low[s + 1] = low[s] + blocks * with.digit;
    }
    for (int s = g->stages - 1; s >= 0; s--) {
        peers with = peers_of_stage(g, s);
        blocks *= with.radix;
        for (int p = 0; p < with.radix; p++) {
            g->recv[p] = part_of(g, whole, size, low[s], blocks, p, with.radix);
            g->send[p] = part_of(g, whole, size, low[s], blocks, with.digit, with.radix);
        }
        DT_TRY(exchange(g, with, size, DT_VERB_ALL_REDUCE));
    }
    return DT_OK;
}

static int is_short(const dt_group *g, int64_t bytes)
{
    int64_t copies = 0;
    for (int s = 0; s < g->stages; s++) copies += g->radix[s] - 1;
    return bytes * copies <= SHORT_EXTRA_BYTES;
}

static dt_status all_reduce(dt_group *g, char *buf, int64_t count, dt_comm_type type, dt_comm_op op)
{
    int64_t size = (int64_t)dt_comm_type_size(type), piece = g->piece_bytes / size;
    for (int64_t done = 0; done < count; done += piece) {
        dt_span whole = {buf + done * size, min64(piece, count - done)};
        DT_TRY(is_short(g, whole.count * size) ? all_reduce_short(g, whole, type, op)
                                               : all_reduce_long(g, whole, type, op));
    }
    return DT_OK;
}

/* Elements of each rank's share that one round of a collective between all ranks takes. */
static int64_t share(const dt_group *g, int64_t size)
{
    int64_t piece = g->piece_bytes / g->ranks / size;
    return piece > 0 ? piece : 1;
}

static dt_status all_gather(dt_group *g, const char *send, char *recv, int64_t count, dt_comm_type type)
{
    int64_t size = (int64_t)dt_comm_type_size(type), piece = share(g, size);
    for (int64_t done = 0; done < count; done += piece) {
        int64_t n = min64(piece, count - done);
        for (int p = 0; p < g->ranks; p++) {
            g->send[p] = (dt_span){(char *)send + done * size, n};
            g->recv[p] = (dt_span){recv + (p * count + done) * size, n};
        }
        memmove(g->recv[g->rank].data, send + done * size, (size_t)(n * size));
        DT_TRY(exchange(g, everyone(g), (size_t)size, DT_VERB_ALL_GATHER));
    }
    return DT_OK;
}

static dt_status reduce_scatter(dt_group *g, const char *send, char *recv, int64_t count, dt_comm_type type)
{
    int64_t size = (int64_t)dt_comm_type_size(type), piece = share(g, size);
    for (int64_t done = 0; done < count; done += piece) {
        dt_span mine = {recv + done * size, min64(piece, count - done)};
        for (int p = 0; p < g->ranks; p++) g->send[p] = (dt_span){(char *)send + (p * count + done) * size, mine.count};
        memmove(mine.data, g->send[g->rank].data, (size_t)(mine.count * size));
        DT_TRY(exchange_and_reduce(g, everyone(g), mine, type, DT_COMM_SUM, DT_VERB_REDUCE_SCATTER));
    }
    return DT_OK;
}

static dt_status broadcast(dt_group *g, char *buf, int64_t bytes, int root)
{
    for (int64_t done = 0; done < bytes; done += BROADCAST_BYTES) {
        int n = (int)min64(BROADCAST_BYTES, bytes - done);
        DT_TRY(dt_group_check(MPI_Bcast(buf + done, n, MPI_BYTE, root, g->comm), g->label[DT_VERB_BROADCAST]));
    }
    return DT_OK;
}

/* Runs `call` under the watchdog and returns its status from the calling function. */
#define WATCHED(g, verb, call)                                                                                         \
    do {                                                                                                               \
        dt_watchdog_begin((g)->label[verb]);                                                                           \
        dt_status watched_status_ = (call);                                                                            \
        dt_watchdog_end();                                                                                             \
        return watched_status_;                                                                                        \
    } while (0)

dt_status dt_group_all_reduce(dt_group *g, void *buf, int64_t count, dt_comm_type type, dt_comm_op op)
{
    WATCHED(g, DT_VERB_ALL_REDUCE, all_reduce(g, buf, count, type, op));
}

dt_status dt_group_all_gather(dt_group *g, const void *send, void *recv, int64_t count, dt_comm_type type)
{
    WATCHED(g, DT_VERB_ALL_GATHER, all_gather(g, send, recv, count, type));
}

dt_status dt_group_reduce_scatter(dt_group *g, const void *send, void *recv, int64_t count, dt_comm_type type)
{
    WATCHED(g, DT_VERB_REDUCE_SCATTER, reduce_scatter(g, send, recv, count, type));
}

dt_status dt_group_broadcast(dt_group *g, void *buf, int64_t count, dt_comm_type type, int root)
{
    WATCHED(g, DT_VERB_BROADCAST, broadcast(g, buf, count * (int64_t)dt_comm_type_size(type), root));
}

dt_status dt_group_barrier(dt_group *g)
{
    WATCHED(g, DT_VERB_BARRIER, dt_group_check(MPI_Barrier(g->comm), g->label[DT_VERB_BARRIER]));
}
