/* The mesh: which rank sits where, and who shares a group with it. */
#include "comm/comm.h"

static int greatest_common_divisor(int a, int b)
{
    while (b) {
        int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

dt_status dt_mesh_make(int rank, int ranks, int tensor, int kv_heads, dt_mesh *out)
{
    if (tensor < 1) return dt_fail(DT_ERR_CONFIG, "parallel.tensor: %d is not >= 1", tensor);
    if (kv_heads < 1) return dt_fail(DT_ERR_CONFIG, "key/value heads: %d is not >= 1", kv_heads);
    if (rank < 0 || rank >= ranks) return dt_fail(DT_ERR_INTERNAL, "rank %d of %d ranks", rank, ranks);
    if (ranks % tensor != 0)
        return dt_fail(DT_ERR_CONFIG, "parallel.tensor: %d ranks cannot be divided by tensor: %d", ranks, tensor);
    int major = greatest_common_divisor(tensor, kv_heads), minor = tensor / major;
    *out = (dt_mesh){
        .rank = rank,
        .ranks = ranks,
        .size = {[DT_AXIS_DATA] = ranks / tensor, [DT_AXIS_TENSOR_MAJOR] = major, [DT_AXIS_TENSOR_MINOR] = minor},
        .coord = {[DT_AXIS_DATA] = rank / tensor,
                  [DT_AXIS_TENSOR_MAJOR] = rank / minor % major,
                  [DT_AXIS_TENSOR_MINOR] = rank % minor},
    };
    return DT_OK;
}

int dt_mesh_group_size(const dt_mesh *mesh, dt_axes axes)
{
    int size = 1;
    for (int a = 0; a < DT_AXIS_COUNT; a++)
        if (axes >> a & 1) size *= mesh->size[a];
    return size;
}

int dt_mesh_group_rank(const dt_mesh *mesh, dt_axes axes)
{
    int rank = 0;
    for (int a = 0; a < DT_AXIS_COUNT; a++)
        if (axes >> a & 1) rank = rank * mesh->size[a] + mesh->coord[a];
    return rank;
}
