/* The table for one rank: what a collective over a group of one comes to. */
#include "comm/tables.h" // dt_comm_none_ops

#include <string.h> // memmove

size_t dt_comm_type_size(dt_comm_type type)
{
    static const size_t size[] = {[DT_COMM_F32] = 4, [DT_COMM_F64] = 8,  [DT_COMM_I32] = 4,
                                  [DT_COMM_I64] = 8, [DT_COMM_BYTE] = 1, [DT_COMM_BF16] = 2};
    return size[type];
}

static dt_status none_all_reduce(dt_comm *comm, dt_axes axes, void *buf, int64_t count, dt_comm_type type,
                                 dt_comm_op op)
{
    return DT_OK;
}

static dt_status none_copy(dt_comm *comm, dt_axes axes, const void *send, void *recv, int64_t count, dt_comm_type type)
{
    if (count > 0) memmove(recv, send, (size_t)count * dt_comm_type_size(type));
    return DT_OK;
}

static dt_status none_broadcast(dt_comm *comm, dt_axes axes, void *buf, int64_t count, dt_comm_type type, int root)
{
    return DT_OK;
}

static void none_destroy(dt_comm *comm)
{
}

const dt_comm_ops dt_comm_none_ops = {
    .name = "none",
    .all_reduce = none_all_reduce,
    .all_gather = none_copy,
    .reduce_scatter = none_copy,
    .broadcast = none_broadcast,
    .destroy = none_destroy,
};
