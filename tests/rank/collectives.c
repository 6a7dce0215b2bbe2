/* rank_collectives TENSOR KV_HEADS: every collective of the host table on that mesh against a serial reference.
 * rank_collectives all_reduce BYTES TIMES: times one all-reduce of floats over all ranks.
 *
 * The value of rank r at i is a function of (r, i), so each rank computes what the others hold. What compares ranks
 * goes through MPI itself. */
#include "base/hash.h"
#include "comm/comm.h"
#include "comm/group.h"
#include <math.h>
#include <mpi.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64, MAX_RANKS = 64, LARGE = 1000003 };
static const unsigned char guard_byte = 0xa5;

static dt_mesh mesh;
static dt_comm comm;
static int failures;

static void fail(const char *fmt, ...)
{
    if (failures++ > 20) return;
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "rank %d: ", mesh.rank);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
}

/* A failed collective leaves the others waiting. */
static void must(dt_status status)
{
    if (status != DT_OK) dt_world_abort(status);
}

static void *buffer(size_t bytes)
{
    unsigned char *b = malloc(bytes + GUARD);
    if (!b) MPI_Abort(MPI_COMM_WORLD, 3);
    memset(b, 0, bytes);
    memset(b + bytes, guard_byte, GUARD);
    return b;
}

static void release(void *b, size_t bytes, const char *what)
{
    for (int i = 0; i < GUARD; i++)
        if (((unsigned char *)b)[bytes + (size_t)i] != guard_byte) {
            fail("%s wrote past its buffer of %zu bytes", what, bytes);
            break;
        }
    free(b);
}

/* The group of `axes`, from the definition of the mesh: ranks in order, `out` holds them. */
static int members(dt_axes axes, int *out)
{
    int n = 0, minor = mesh.size[DT_AXIS_TENSOR_MINOR], tensor = mesh.size[DT_AXIS_TENSOR_MAJOR] * minor;
    for (int r = 0; r < mesh.ranks; r++) {
        int same = (axes & 1 || r / tensor == mesh.rank / tensor) &&
                   (axes & 2 || r % tensor / minor == mesh.rank % tensor / minor) &&
                   (axes & 4 || r % minor == mesh.rank % minor);
        if (same) out[n++] = r;
    }
    return n;
}

/* 64 bits of (rank, i): the finaliser of splitmix64. */
static uint64_t bits_of(int rank, int64_t i)
{
    uint64_t x = ((uint64_t)rank << 40) + (uint64_t)i + 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Numbers of very different sizes: another order of summation is another result. */
static double real_of(int rank, int64_t i)
{
    static const double scale[] = {0x1p-37, 0x1p-35, 0x1p-33, 0x1p-31, 0x1p-29, 0x1p-27, 0x1p-26, 0x1p-25};
    uint64_t bits = bits_of(rank, i);
    return (double)(int32_t)bits * scale[bits >> 32 & 7];
}

static int64_t integer_of(int rank, int64_t i, dt_comm_type type)
{
    uint64_t bits = bits_of(rank, i);
    if (type == DT_COMM_BYTE) return bits % 4;
    return (type == DT_COMM_I32 ? (int64_t)(int32_t)bits : (int64_t)bits) / MAX_RANKS;
}

static int is_real(dt_comm_type type)
{
    return type == DT_COMM_F32 || type == DT_COMM_F64;
}

static void put(void *buf, int64_t at, int rank, int64_t i, dt_comm_type type)
{
    switch (type) {
    case DT_COMM_F32: ((float *)buf)[at] = (float)real_of(rank, i); break;
    case DT_COMM_F64: ((double *)buf)[at] = real_of(rank, i); break;
    case DT_COMM_I32: ((int32_t *)buf)[at] = (int32_t)integer_of(rank, i, type); break;
    case DT_COMM_I64: ((int64_t *)buf)[at] = integer_of(rank, i, type); break;
    case DT_COMM_BYTE: ((uint8_t *)buf)[at] = (uint8_t)integer_of(rank, i, type); break;
    case DT_COMM_BF16: break; /* of devices only */
    }
}

static void fill(void *buf, int64_t count, int rank, int64_t from, dt_comm_type type)
{
    for (int64_t i = 0; i < count; i++) put(buf, i, rank, from + i, type);
}

static double get_real(const void *buf, int64_t i, dt_comm_type type)
{
    return type == DT_COMM_F32 ? (double)((const float *)buf)[i] : ((const double *)buf)[i];
}

static int64_t get_integer(const void *buf, int64_t i, dt_comm_type type)
{
    if (type == DT_COMM_I32) return ((const int32_t *)buf)[i];
    if (type == DT_COMM_I64) return ((const int64_t *)buf)[i];
    return ((const uint8_t *)buf)[i];
}

/* buf[i] is the reduction over the group of the values at i. */
static void check_reduced(const char *what, const void *buf, int64_t count, const int *group, int n, dt_comm_type type,
                          dt_comm_op op)
{
    double epsilon = type == DT_COMM_F32 ? ldexp(1, -24) : ldexp(1, -53);
    for (int64_t i = 0; i < count && failures < 20; i++) {
        double real = 0, size = 0;
        int64_t integer = 0;
        for (int g = 0; g < n; g++) {
            double x = is_real(type) ? real_of(group[g], i) : 0;
            if (type == DT_COMM_F32) x = (float)x;
            int64_t k = is_real(type) ? 0 : integer_of(group[g], i, type);
            size += fabs(x);
            if (op == DT_COMM_SUM) real += x, integer += k;
            else if (op == DT_COMM_MAX) real = g && real > x ? real : x, integer = g && integer > k ? integer : k;
            else real = g && real < x ? real : x, integer = g && integer < k ? integer : k;
        }
        double slack = op == DT_COMM_SUM ? n * epsilon * size : 0;
        if (is_real(type) && !(fabs(get_real(buf, i, type) - real) <= slack))
            fail("%s type %d op %d count %lld: [%lld] is %.17g, not %.17g", what, type, op, (long long)count,
                 (long long)i, get_real(buf, i, type), real);
        if (!is_real(type) && get_integer(buf, i, type) != integer)
            fail("%s type %d op %d count %lld: [%lld] is %lld, not %lld", what, type, op, (long long)count,
                 (long long)i, (long long)get_integer(buf, i, type), (long long)integer);
    }
}

/* All ranks of the group hold the same bits. */
static void check_same_bits(const void *buf, size_t bytes, const int *group, int n)
{
    uint64_t own = dt_hash_bytes(buf, bytes, 0), all[MAX_RANKS];
    MPI_Allgather(&own, 1, MPI_UINT64_T, all, 1, MPI_UINT64_T, MPI_COMM_WORLD);
    for (int g = 0; g < n; g++)
        if (all[group[g]] != own) fail("all_reduce of %zu bytes: other bits than on rank %d", bytes, group[g]);
}

/* The communicator counted what this rank gave since `before`; nothing in a group of one. */
static void check_counted(const char *what, dt_axes axes, int n, int64_t before, size_t bytes)
{
    int64_t counted = comm.bytes_sent[axes] - before, expected = n > 1 ? (int64_t)bytes : 0;
    if (counted != expected) fail("%s counted %lld bytes, not %lld", what, (long long)counted, (long long)expected);
}

static void check_all_reduce(dt_axes axes, int64_t count, dt_comm_type type, dt_comm_op op)
{
    int group[MAX_RANKS], n = members(axes, group);
    size_t size = dt_comm_type_size(type), bytes = (size_t)count * size;
    void *once = buffer(bytes), *again = buffer(bytes);
    fill(once, count, mesh.rank, 0, type);
    memcpy(again, once, bytes);
    int64_t before = comm.bytes_sent[axes];
    must(comm.ops->all_reduce(&comm, axes, once, count, type, op));
    check_counted("all_reduce", axes, n, before, bytes);
    must(comm.ops->all_reduce(&comm, axes, again, count, type, op));
    if (memcmp(once, again, bytes) != 0) fail("all_reduce of %zu bytes: other bits when repeated", bytes);
    check_reduced("all_reduce", once, count, group, n, type, op);
    check_same_bits(once, bytes, group, n);

    /* The last elements alone, as a short buffer: the bits do not depend on length or place. */
    int64_t few = count < 5 ? count : 5;
    char *tail = buffer((size_t)few * size);
    fill(tail, few, mesh.rank, count - few, type);
    must(comm.ops->all_reduce(&comm, axes, tail, few, type, op));
    if (memcmp(tail, (char *)once + (size_t)(count - few) * size, (size_t)few * size) != 0)
        fail("all_reduce of %zu bytes: other bits in a short buffer", bytes);
    release(tail, (size_t)few * size, "all_reduce");
    release(once, bytes, "all_reduce");
    release(again, bytes, "all_reduce");
}

/* Rank g's share is [g * count, (g + 1) * count) of every rank's values, added in the order of the ranks. */
static void check_reduce_scatter(dt_axes axes, int64_t count, dt_comm_type type)
{
    int group[MAX_RANKS], n = members(axes, group), own = 0;
    while (group[own] != mesh.rank) own++;
    size_t size = dt_comm_type_size(type), bytes = (size_t)count * size;
    char *send = buffer((size_t)n * bytes);
    void *recv = buffer(bytes), *expected = buffer(bytes);
    fill(send, n * count, mesh.rank, 0, type);
    int64_t before = comm.bytes_sent[axes];
    must(comm.ops->reduce_scatter(&comm, axes, send, recv, count, type));
    check_counted("reduce_scatter", axes, n, before, (size_t)n * bytes);
    for (int64_t i = 0; i < count; i++) {
        put(expected, i, group[0], own * count + i, type);
        for (int g = 1; g < n; g++) {
            char term[8];
            put(term, 0, group[g], own * count + i, type);
            if (type == DT_COMM_F32) ((float *)expected)[i] += *(float *)term;
            else if (type == DT_COMM_F64) ((double *)expected)[i] += *(double *)term;
            else if (type == DT_COMM_I32) ((int32_t *)expected)[i] += *(int32_t *)term;
            else if (type == DT_COMM_I64) ((int64_t *)expected)[i] += *(int64_t *)term;
            else ((uint8_t *)expected)[i] += *(uint8_t *)term;
        }
    }
    if (memcmp(recv, expected, bytes) != 0)
        fail("reduce_scatter of %lld elements of type %d differs", (long long)count, type);
    must(comm.ops->reduce_scatter(&comm, axes, send, send + (size_t)own * bytes, count, type));
    if (memcmp(send + (size_t)own * bytes, expected, bytes) != 0)
        fail("reduce_scatter in place of %lld elements of type %d differs", (long long)count, type);
    release(send, (size_t)n * bytes, "reduce_scatter");
    release(recv, bytes, "reduce_scatter");
    free(expected);
}

static void check_all_gather(dt_axes axes, int64_t count, dt_comm_type type)
{
    int group[MAX_RANKS], n = members(axes, group), own = 0;
    while (group[own] != mesh.rank) own++;
    size_t bytes = (size_t)count * dt_comm_type_size(type);
    char *recv = buffer((size_t)n * bytes), *expected = buffer((size_t)n * bytes);
    void *send = buffer(bytes);
    fill(send, count, mesh.rank, 0, type);
    for (int g = 0; g < n; g++) fill(expected + (size_t)g * bytes, count, group[g], 0, type);
    int64_t before = comm.bytes_sent[axes];
    must(comm.ops->all_gather(&comm, axes, send, recv, count, type));
    check_counted("all_gather", axes, n, before, bytes);
    if (memcmp(recv, expected, (size_t)n * bytes) != 0)
        fail("all_gather of %lld elements of type %d differs", (long long)count, type);
    memset(recv, 0, (size_t)n * bytes);
    memcpy(recv + (size_t)own * bytes, send, bytes);
    must(comm.ops->all_gather(&comm, axes, recv + (size_t)own * bytes, recv, count, type));
    if (memcmp(recv, expected, (size_t)n * bytes) != 0)
        fail("all_gather in place of %lld elements of type %d differs", (long long)count, type);
    release(recv, (size_t)n * bytes, "all_gather");
    free(send);
    free(expected);
}

static void check_broadcast(dt_axes axes, int64_t count, dt_comm_type type, int root)
{
    int group[MAX_RANKS], n = members(axes, group);
    size_t bytes = (size_t)count * dt_comm_type_size(type);
    void *buf = buffer(bytes), *expected = buffer(bytes);
    fill(buf, count, mesh.rank, 0, type);
    fill(expected, count, group[root], 0, type);
    int64_t before = comm.bytes_sent[axes];
    must(comm.ops->broadcast(&comm, axes, buf, count, type, root));
    check_counted("broadcast", axes, n, before, group[root] == mesh.rank ? bytes : 0);
    if (memcmp(buf, expected, bytes) != 0) fail("broadcast of %lld elements from %d differs", (long long)count, root);
    release(buf, bytes, "broadcast");
    free(expected);
}

/* A number that one rank lost must be seen by all. */
static void check_nan(dt_axes axes)
{
    for (dt_comm_op op = DT_COMM_SUM; op <= DT_COMM_MIN; op++)
        for (int bad = 0; bad < mesh.ranks; bad++) {
            int group[MAX_RANKS], n = members(axes, group), concerned = 0;
            for (int g = 0; g < n; g++) concerned |= group[g] == bad;
            float x[3] = {1, mesh.rank == bad ? NAN : 2, 3};
            must(comm.ops->all_reduce(&comm, axes, x, 3, DT_COMM_F32, op));
            if (isnan(x[0]) || (isnan(x[1]) != 0) != concerned || isnan(x[2]))
                fail("a NaN on rank %d under op %d: %g %g %g", bad, op, (double)x[0], (double)x[1], (double)x[2]);
        }
}

static void check_axes(dt_axes axes)
{
    int group[MAX_RANKS], n = members(axes, group);
    if (dt_mesh_group_size(&mesh, axes) != n || group[dt_mesh_group_rank(&mesh, axes)] != mesh.rank)
        fail("group of axes %u: size %d, rank %d", axes, dt_mesh_group_size(&mesh, axes),
             dt_mesh_group_rank(&mesh, axes));
    static const int64_t counts[] = {0, 1, 7, 1000, 30011};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (dt_comm_type type = DT_COMM_F32; type <= DT_COMM_BYTE; type++) {
            for (dt_comm_op op = DT_COMM_SUM; op <= DT_COMM_MIN; op++) check_all_reduce(axes, counts[c], type, op);
            check_reduce_scatter(axes, counts[c], type);
            check_all_gather(axes, counts[c], type);
            check_broadcast(axes, counts[c], type, (int)c % n);
        }
    check_nan(axes);
}

/* Longer than what is handled in one piece. */
static void check_large(dt_axes axes)
{
    check_all_reduce(axes, LARGE, DT_COMM_F32, DT_COMM_SUM);
    check_all_reduce(axes, LARGE, DT_COMM_F64, DT_COMM_SUM);
    check_all_reduce(axes, LARGE, DT_COMM_I64, DT_COMM_SUM);
    check_reduce_scatter(axes, LARGE, DT_COMM_F64);
    check_all_gather(axes, LARGE, DT_COMM_F64);
    check_broadcast(axes, LARGE, DT_COMM_F64, 0);
}

/* Between nodes transfers are cut into messages; here they are made to be, on one. */
static void check_segments(void)
{
    dt_group *world = dt_world_group();
    size_t bytes = LARGE * sizeof(float);
    void *whole = buffer(bytes), *cut = buffer(bytes);
    fill(whole, LARGE, mesh.rank, 0, DT_COMM_F32);
    memcpy(cut, whole, bytes);
    must(dt_world_all_reduce(whole, LARGE, DT_COMM_F32, DT_COMM_SUM));
    int64_t before = world->segment_bytes;
    world->segment_bytes = DT_GROUP_SEGMENT_BYTES;
    must(dt_world_all_reduce(cut, LARGE, DT_COMM_F32, DT_COMM_SUM));
    world->segment_bytes = before;
    if (memcmp(whole, cut, bytes) != 0) fail("all_reduce differs when its messages are cut");
    release(whole, bytes, "all_reduce");
    release(cut, bytes, "all_reduce");
}

static int time_all_reduce(int64_t count, int times)
{
    dt_mesh flat;
    must(dt_mesh_make(dt_world_rank(), dt_world_size(), 1, 1, &flat));
    must(dt_comm_create_host(&flat, &comm));
    float *buf = buffer((size_t)count * sizeof *buf);
    must(dt_world_barrier());
    double start = MPI_Wtime();
    for (int i = 0; i < times; i++)
        must(comm.ops->all_reduce(&comm, DT_AXES_DATA, buf, count, DT_COMM_F32, DT_COMM_SUM));
    double own = MPI_Wtime() - start;
    start = MPI_Wtime();
    for (int i = 0; i < times; i++) MPI_Allreduce(MPI_IN_PLACE, buf, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    double library = MPI_Wtime() - start;
    if (dt_world_rank() == 0)
        printf("%d ranks, %lld bytes: %.1f us (MPI_Allreduce: %.1f us)\n", flat.ranks, (long long)count * 4,
               own / times * 1e6, library / times * 1e6);
    free(buf);
    dt_comm_destroy(&comm);
    return 0;
}

int main(int argc, char **argv)
{
    must(dt_world_init(&argc, &argv));
    if (argc == 4) {
        int status = time_all_reduce(atoll(argv[2]) / 4, atoi(argv[3]));
        dt_world_finalize();
        return status;
    }
    must(dt_mesh_make(dt_world_rank(), dt_world_size(), atoi(argv[1]), atoi(argv[2]), &mesh));
    must(dt_comm_create_host(&mesh, &comm));
    for (dt_axes axes = 0; axes <= DT_AXES_ALL; axes++) check_axes(axes);
    check_large(DT_AXES_DATA);
    check_large(DT_AXES_TENSOR);
    check_segments();
    dt_comm_destroy(&comm);
    int all = 0;
    MPI_Allreduce(&failures, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (mesh.rank == 0 && all == 0)
        printf("data %d x tensor (%d x %d): all agree\n", mesh.size[0], mesh.size[1], mesh.size[2]);
    dt_world_finalize();
    return all != 0;
}
