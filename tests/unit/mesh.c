/* The mesh: places of ranks, groups, factored tensor axis. */
#include "comm/comm.h"
#include <criterion/criterion.h>
#include <string.h>

static dt_mesh make(int rank, int ranks, int tensor, int kv_heads)
{
    dt_mesh mesh;
    cr_assert_eq(dt_mesh_make(rank, ranks, tensor, kv_heads, &mesh), DT_OK, "%s", dt_error_text());
    return mesh;
}

Test(mesh, rank_is_its_coordinates_row_major)
{
    for (int tensor = 1; tensor <= 8; tensor++)
        for (int kv_heads = 1; kv_heads <= 8; kv_heads++)
            for (int rank = 0; rank < 3 * tensor; rank++) {
                dt_mesh m = make(rank, 3 * tensor, tensor, kv_heads);
                int major = m.size[DT_AXIS_TENSOR_MAJOR], minor = m.size[DT_AXIS_TENSOR_MINOR];
                cr_assert_eq((m.coord[0] * major + m.coord[1]) * minor + m.coord[2], rank);
                cr_assert_eq(m.size[0] * major * minor, 3 * tensor);
                for (int a = 0; a < DT_AXIS_COUNT; a++) cr_assert(m.coord[a] >= 0 && m.coord[a] < m.size[a]);
            }
}

Test(mesh, major_is_the_largest_that_divides_tensor_and_kv_heads)
{
    static const int expected[][3] = {{1, 1, 1}, {4, 1, 1}, {4, 2, 2}, {4, 4, 4}, {4, 8, 4},
                                      {8, 2, 2}, {6, 4, 2}, {6, 9, 3}, {3, 4, 1}, {2, 3, 1}}; // tensor, kv heads, major
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        dt_mesh m = make(0, expected[i][0], expected[i][0], expected[i][1]);
        cr_expect_eq(m.size[DT_AXIS_TENSOR_MAJOR], expected[i][2], "tensor %d, kv heads %d: %d", expected[i][0],
                     expected[i][1], m.size[DT_AXIS_TENSOR_MAJOR]);
        cr_expect_eq(m.size[DT_AXIS_TENSOR_MAJOR] * m.size[DT_AXIS_TENSOR_MINOR], expected[i][0]);
    }
}

Test(mesh, groups_partition_the_world)
{
    enum { RANKS = 24 }; // 3 x (2 x 4)
    for (dt_axes axes = 0; axes <= DT_AXES_ALL; axes++)
        for (int a = 0; a < RANKS; a++) {
            dt_mesh m = make(a, RANKS, 8, 2);
            int size = 0;
            for (int b = 0; b < RANKS; b++) {
                dt_mesh other = make(b, RANKS, 8, 2);
                int same = 1;
                for (int x = 0; x < DT_AXIS_COUNT; x++) same &= axes >> x & 1 || m.coord[x] == other.coord[x];
                if (!same) continue;
                cr_assert_eq(dt_mesh_group_rank(&other, axes), size); // in the order of world ranks
                size++;
            }
            cr_assert_eq(dt_mesh_group_size(&m, axes), size);
        }
}

Test(mesh, ranks_that_tensor_does_not_divide_are_refused_with_the_values)
{
    dt_mesh m;
    cr_assert_eq(dt_mesh_make(0, 6, 4, 4, &m), DT_ERR_CONFIG);
    cr_expect(strstr(dt_error_text(), "6 ranks") && strstr(dt_error_text(), "tensor: 4"), "%s", dt_error_text());
    cr_expect_eq(dt_mesh_make(0, 4, 0, 4, &m), DT_ERR_CONFIG);
    cr_expect_eq(dt_mesh_make(0, 4, 8, 4, &m), DT_ERR_CONFIG);
}
