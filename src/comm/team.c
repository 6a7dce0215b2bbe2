/* Teams: the ranks of one node, or all, and what their first rank tells the others. */
#include "base/memory.h" // dt_alloc
#include "comm/group.h"  // dt_group
#include <stdlib.h>      // free

struct dt_team {
    dt_group group; /* zeroed where the team is one rank */
};

static dt_status open_group(bool of_node, dt_group *out)
{
    const dt_group *world = dt_world_group();
    MPI_Comm comm;
    if (world == NULL || world->ranks == 1) return DT_OK;
    int code = of_node ? MPI_Comm_split_type(world->comm, MPI_COMM_TYPE_SHARED, world->rank, MPI_INFO_NULL, &comm)
                       : MPI_Comm_dup(world->comm, &comm);
    DT_TRY(dt_group_check(code, "making a communicator"));
    return dt_group_open(comm, of_node ? "the ranks of a node" : "all ranks", out);
}

dt_status dt_team_open(bool of_node, dt_team **out)
{
    dt_team *t = NULL;
    DT_TRY(dt_alloc(1, sizeof *t, &t));
    dt_status st = open_group(of_node, &t->group);
    if (st == DT_OK) *out = t;
    else free(t);
    return st;
}

void dt_team_close(dt_team *t)
{
    if (t == NULL) return;
    dt_group_close(&t->group);
    free(t);
}

int dt_team_rank(const dt_team *t)
{
    return t->group.rank;
}

dt_status dt_team_broadcast(dt_team *t, void *buf, int64_t bytes)
{
    return t->group.ranks > 1 ? dt_group_broadcast(&t->group, buf, bytes, DT_COMM_BYTE, 0) : DT_OK;
}
