/* Every op with its operands in every placement gives what one rank gives, on each shape of mesh. */
#include "launch/spawn.h"
#include <criterion/criterion.h>
#include <string.h>

#define PLACEMENTS DT_SPAWN_RANK("placements")

static void check(int ranks, const char *tensor_and_kv_heads)
{
    dt_spawn p = dt_spawn_run(120, "%s -np %d %s %s", DT_SPAWN_MPIRUN, ranks, PLACEMENTS, tensor_and_kv_heads);
    cr_expect_eq(p.exit_code, 0, "%s:\n%s", tensor_and_kv_heads, p.output);
    cr_expect(strstr(p.output, "comparisons, 0 differ"), "%s:\n%s", tensor_and_kv_heads, p.output);
    dt_spawn_free(&p);
}

Test(placements, agree_over_data_and_tensor)
{
    check(4, "1 1");
    check(4, "2 2");
    check(4, "2 2 sequence");
}

Test(placements, agree_over_kv_groups_and_their_replicas)
{
    check(4, "4 4");
    check(4, "4 2");
    check(4, "4 1 sequence");
    check(8, "4 2 sequence");
}
