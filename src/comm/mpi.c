/* The table for host memory over MPI: a group for each set of axes that has more than one rank. */
#include "comm/group.h"  // dt_group
#include "comm/tables.h" // dt_comm_none_ops

#include "base/memory.h" // dt_alloc
#include <stdlib.h>      // free

typedef struct mpi_impl {
    dt_group groups[DT_AXES_ALL + 1];   /* only those whose axes all have more than one rank are open */
    dt_group *by_axes[DT_AXES_ALL + 1]; /* NULL: one rank */
} mpi_impl;

static dt_group *group_of(const dt_comm *comm, dt_axes axes)
{
    return ((mpi_impl *)comm->impl)->by_axes[axes & DT_AXES_ALL];
}

static void account(dt_comm *comm, dt_axes axes, int64_t count, dt_comm_type type)
{
    comm->bytes_sent[axes & DT_AXES_ALL] += count * (int64_t)dt_comm_type_size(type);
}

static dt_status mpi_all_reduce(dt_comm *comm, dt_axes axes, void *buf, int64_t count, dt_comm_type type, dt_comm_op op)
{
    dt_group *g = group_of(comm, axes);
    if (!g) return DT_OK;
    account(comm, axes, count, type);
    return dt_group_all_reduce(g, buf, count, type, op);
}

static dt_status mpi_all_gather(dt_comm *comm, dt_axes axes, const void *send, void *recv, int64_t count,
                                dt_comm_type type)
{
    dt_group *g = group_of(comm, axes);
    if (!g) return dt_comm_none_ops.all_gather(comm, axes, send, recv, count, type);
    account(comm, axes, count, type);
    return dt_group_all_gather(g, send, recv, count, type);
}

static dt_status mpi_reduce_scatter(dt_comm *comm, dt_axes axes, const void *send, void *recv, int64_t count,
                                    dt_comm_type type)
{
    dt_group *g = group_of(comm, axes);
    if (!g) return dt_comm_none_ops.reduce_scatter(comm, axes, send, recv, count, type);
    account(comm, axes, count * g->ranks, type);
    return dt_group_reduce_scatter(g, send, recv, count, type);
}

static dt_status mpi_broadcast(dt_comm *comm, dt_axes axes, void *buf, int64_t count, dt_comm_type type, int root)
{
    dt_group *g = group_of(comm, axes);
    if (!g) return DT_OK;
    if (g->rank == root) account(comm, axes, count, type);
    return dt_group_broadcast(g, buf, count, type, root);
}

static void mpi_destroy(dt_comm *comm)
{
    mpi_impl *impl = comm->impl;
    for (dt_axes axes = 0; axes <= DT_AXES_ALL; axes++) dt_group_close(&impl->groups[axes]);
    free(impl);
}

static const dt_comm_ops mpi_ops = {
    .name = "mpi",
    .all_reduce = mpi_all_reduce,
    .all_gather = mpi_all_gather,
    .reduce_scatter = mpi_reduce_scatter,
    .broadcast = mpi_broadcast,
    .destroy = mpi_destroy,
};

/* The first rank of this rank's group: a number that the group's ranks share and no other group has. */
static int color_of(const dt_mesh *mesh, dt_axes axes)
{
    dt_mesh first = *mesh;
    for (int a = 0; a < DT_AXIS_COUNT; a++)
        if (axes >> a & 1) first.coord[a] = 0;
    return dt_mesh_group_rank(&first, DT_AXES_ALL);
}

static dt_status open_groups(const dt_mesh *mesh, mpi_impl *impl)
{
    static const char *const names[DT_AXES_ALL + 1] = {
        "nothing", "data",     "kv groups", "data and kv groups", "kv replicas", "data and kv replicas",
        "tensor",  "all axes",
    };
    dt_group *world = dt_world_group();
    dt_axes live = 0;
    for (int a = 0; a < DT_AXIS_COUNT; a++)
        if (mesh->size[a] > 1) live |= 1u << a;

    dt_status st = DT_OK;
    for (dt_axes axes = 1; axes <= DT_AXES_ALL; axes++) {
        dt_axes used = axes & live; // <= axes, so its group is there already unless it is this one
        impl->by_axes[axes] = used ? &impl->groups[used] : NULL;
        if (used != axes) continue;
        MPI_Comm comm;
        int code = MPI_Comm_split(world->comm, color_of(mesh, axes), dt_mesh_group_rank(mesh, axes), &comm);
        DT_TRY(dt_group_check(code, "MPI_Comm_split"));
        dt_status opened = dt_group_open(comm, names[axes], &impl->groups[axes]);
        if (st == DT_OK) st = opened; // the other ranks count on this one in the splits to come
    }
    return st;
}

dt_status dt_comm_create_host(const dt_mesh *mesh, dt_comm *out)
{
    dt_comm comm = {.ops = &dt_comm_none_ops, .mesh = *mesh};
    if (mesh->ranks > 1) {
        if (!dt_world_group() || mesh->ranks != dt_world_size() || mesh->rank != dt_world_rank())
            return dt_fail(DT_ERR_INTERNAL, "a mesh of rank %d of %d on rank %d of %d", mesh->rank, mesh->ranks,
                           dt_world_rank(), dt_world_size());
        mpi_impl *impl = NULL;
        DT_TRY(dt_world_agree(dt_alloc(1, sizeof *impl, &impl)));
        comm.ops = &mpi_ops;
        comm.impl = impl;
        dt_status st = dt_world_agree(open_groups(mesh, impl));
        if (st != DT_OK) {
            mpi_destroy(&comm);
            return st;
        }
    }
    *out = comm;
    return DT_OK;
}

void dt_comm_destroy(dt_comm *comm)
{
    if (comm->ops) comm->ops->destroy(comm);
    *comm = (dt_comm){0};
}
