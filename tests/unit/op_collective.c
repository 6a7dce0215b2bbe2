/* The collectives' kernels, over a communicator that plays the other ranks. */
#include "kernel.h"
#include "op/collective.h"

/* Three ranks along the data axis; this one is rank 1. Each rank's operand is this rank's plus 100 x the difference of
 * their numbers, so that what the others would send follows from what this one sends. */
enum { RANKS = 3, ME = 1 };

static double element(const void *buf, int64_t i, dt_comm_type type)
{
    return type == DT_COMM_I32   ? ((const int32_t *)buf)[i]
           : type == DT_COMM_F64 ? ((const double *)buf)[i]
                                 : (double)((const float *)buf)[i];
}

static void set(void *buf, int64_t i, dt_comm_type type, double x)
{
    if (type == DT_COMM_I32) ((int32_t *)buf)[i] = (int32_t)x;
    else if (type == DT_COMM_F64) ((double *)buf)[i] = x;
    else ((float *)buf)[i] = (float)x;
}

static dt_status play_reduce(dt_comm *comm, dt_axes axes, void *buf, int64_t count, dt_comm_type type, dt_comm_op op)
{
    cr_assert_eq(axes, DT_AXES_DATA);
    for (int64_t i = 0; i < count; i++) {
        double x = element(buf, i, type);
        set(buf, i, type, op == DT_COMM_MAX ? x + 100 * (RANKS - 1 - ME) : RANKS * x);
    }
    return DT_OK;
}

static dt_status play_gather(dt_comm *comm, dt_axes axes, const void *send, void *recv, int64_t count,
                             dt_comm_type type)
{
    cr_assert_eq(axes, DT_AXES_DATA);
    for (int64_t r = 0; r < RANKS; r++)
        for (int64_t i = 0; i < count; i++)
            set(recv, r * count + i, type, element(send, i, type) + 100 * (double)(r - ME));
    return DT_OK;
}

static dt_status play_scatter(dt_comm *comm, dt_axes axes, const void *send, void *recv, int64_t count,
                              dt_comm_type type)
{
    cr_assert_eq(axes, DT_AXES_DATA);
    for (int64_t i = 0; i < count; i++) set(recv, i, type, RANKS * element(send, ME * count + i, type));
    return DT_OK;
}

static const dt_comm_ops play = {
    .name = "play", .all_reduce = play_reduce, .all_gather = play_gather, .reduce_scatter = play_scatter};

static dt_comm three_ranks(void)
{
    return (dt_comm){.ops = &play, .mesh = {ME, RANKS, {RANKS, 1, 1}, {ME, 0, 0}}};
}

static operand tensor(const int64_t *dim, double *data)
{
    operand o = {.ndim = 3, .real = data};
    memcpy(o.dim, dim, 3 * sizeof *dim);
    memcpy(o.full, dim, 3 * sizeof *dim);
    return o;
}

/* part[2,4,3] of whole, split along each dimension in turn. */
enum { PART = 2 * 4 * 3, WHOLE = PART * RANKS };
static const int64_t part_dim[] = {2, 4, 3};

static int64_t index_of(const int64_t *dim, const int64_t *at)
{
    return (at[0] * dim[1] + at[1]) * dim[2] + at[2];
}

#define FOR_EACH(at, dim)                                                                                              \
    for ((at)[0] = 0; (at)[0] < (dim)[0]; (at)[0]++)                                                                   \
        for ((at)[1] = 0; (at)[1] < (dim)[1]; (at)[1]++)                                                               \
            for ((at)[2] = 0; (at)[2] < (dim)[2]; (at)[2]++)

Test(collective, gather_scatter_and_slice_along_every_dimension)
{
    dt_comm comm = three_ranks();
    for (int d = 0; d < 3; d++) {
        double part[PART], gathered[WHOLE], whole[WHOLE], scattered[PART], sliced[PART];
        int64_t dim[3], at[3];
        memcpy(dim, part_dim, sizeof dim);
        dim[d] *= RANKS;
        for (int i = 0; i < PART; i++) part[i] = i;
        for (int i = 0; i < WHOLE; i++) whole[i] = i + 1;
        FOR_EACH(at, dim)
        {
            int64_t local[3] = {at[0], at[1], at[2]}, rank = at[d] / part_dim[d];
            local[d] %= part_dim[d];
            gathered[index_of(dim, at)] = part[index_of(part_dim, local)] + 100 * (double)(rank - ME);
            if (rank != ME) continue;
            sliced[index_of(part_dim, local)] = whole[index_of(dim, at)];
            scattered[index_of(part_dim, local)] = RANKS * whole[index_of(dim, at)];
        }
        dt_collective_attr attr = {DT_AXES_DATA, d, DT_COMM_SUM};
        operand p = tensor(part_dim, part), w = tensor(dim, whole);
        check_kernel(&(kernel_test){KERNEL(all_gather), ATTR_OF(attr), .nin = 1, .in = {p}, .nout = 1,
                                    .out = {tensor(dim, gathered)}, .comm = &comm});
        operand mine = tensor(part_dim, scattered);
        mine.off[d] = ME * part_dim[d];
        check_kernel(&(kernel_test){KERNEL(reduce_scatter), ATTR_OF(attr), .nin = 1, .in = {w}, .nout = 1,
                                    .out = {mine}, .comm = &comm});
        mine.real = sliced;
        check_kernel(&(kernel_test){KERNEL(slice), ATTR_OF(attr), .nin = 1, .in = {w}, .nout = 1, .out = {mine}});
    }
}

Test(collective, slice_of_a_slice_counts_from_where_its_operand_starts)
{
    double x[6] = {10, 11, 12, 13, 14, 15}, want[2] = {13, 14};
    operand in = VECTOR(6, x), out = VECTOR(2, want);
    in.off[0] = 6;
    out.off[0] = 9;
    dt_collective_attr attr = {DT_AXES_DATA, 0, DT_COMM_SUM};
    check_kernel(&(kernel_test){KERNEL(slice), ATTR_OF(attr), .nin = 1, .in = {in}, .nout = 1, .out = {out}});
}

Test(collective, all_reduce_sums_or_takes_the_maximum_beside_its_operand_or_over_it)
{
    dt_comm comm = three_ranks();
    double x[5] = {1, -2, 3, 0.5, 7}, sum[5], max[5];
    for (int i = 0; i < 5; i++) {
        sum[i] = RANKS * x[i];
        max[i] = x[i] + 100 * (RANKS - 1 - ME);
    }
    for (int op = 0; op < 2; op++) {
        dt_collective_attr attr = {DT_AXES_DATA, 0, op == 0 ? DT_COMM_SUM : DT_COMM_MAX};
        check_kernel(&(kernel_test){KERNEL(all_reduce), ATTR_OF(attr), .nin = 1, .in = {VECTOR(5, x)}, .nout = 1,
                                    .out = {VECTOR(5, op == 0 ? sum : max)}, .comm = &comm});
    }
    dt_collective_attr attr = {DT_AXES_DATA, 0, DT_COMM_SUM};
    dt_tensor t = {.data = x, .type = DT_TYPE_ACC, .ndim = 1, .dim = {5}};
    dt_call call = {.op = &dt_op_all_reduce, .nin = 1, .nout = 1, .in = {t}, .out = {t}, .comm = &comm, .threads = 1};
    memcpy(call.attr.byte, &attr, sizeof attr);
    cr_assert_eq(dt_cpu_f64_all_reduce(&call), DT_OK);
    for (int i = 0; i < 5; i++) cr_assert_eq(x[i], sum[i]);
}

Test(collective, integers_travel_as_integers)
{
    dt_comm comm = three_ranks();
    const int32_t x[] = {1, 2, 3, 4}, want[] = {-99, -98, 1, 2, 101, 102, -97, -96, 3, 4, 103, 104};
    operand in = {.ndim = 2, .dim = {2, 2}, .full = {2, 6}, .i32 = x};
    operand out = {.ndim = 2, .dim = {2, 6}, .full = {2, 6}, .i32 = want};
    dt_collective_attr attr = {DT_AXES_DATA, 1, DT_COMM_SUM};
    check_kernel(&(kernel_test){KERNEL(all_gather), ATTR_OF(attr), .nin = 1, .in = {in}, .nout = 1, .out = {out},
                                .comm = &comm});
}

Test(collective, parts_that_do_not_make_the_whole_are_an_error)
{
    dt_comm comm = three_ranks();
    float x[4], y[4];
    dt_collective_attr attr = {DT_AXES_DATA, 0, DT_COMM_SUM};
    dt_call call = {.op = &dt_op_all_gather, .nin = 1, .nout = 1, .comm = &comm, .threads = 1};
    call.in[0] = (dt_tensor){.data = x, .type = DT_TYPE_ACC, .ndim = 1, .dim = {2}};
    call.out[0] = (dt_tensor){.data = y, .type = DT_TYPE_ACC, .ndim = 1, .dim = {4}};
    memcpy(call.attr.byte, &attr, sizeof attr);
    cr_assert_eq(dt_cpu_f32_all_gather(&call), DT_ERR_INTERNAL);
}

Test(collective, the_logarithm_of_a_sum_of_exponentials_is_stable)
{
    double m[] = {1000, -INFINITY, 0}, x[] = {999, -INFINITY, -2}, e[] = {exp(-1), 0, exp(-2)};
    dt_collective_attr attr = {0, 0, DT_COMM_SUM};
    kernel_test t = {KERNEL(lse_finish), ATTR_OF(attr),        .nin = 2, .in = {VECTOR(3, m), VECTOR(3, x)},
                     .nout = 1,          .out = {VECTOR(3, e)}};
    check_kernel(&t);
    double s[] = {2, 0, 1.5}, lse[] = {1000 + log(2), -INFINITY, log(1.5)};
    attr.dim = 1;
    t.in[1] = VECTOR(3, s);
    t.out[0] = VECTOR(3, lse);
    check_kernel(&t);
}

Test(collective, costs_are_this_ranks_operand)
{
    dt_collective_attr attr = {DT_AXES_TENSOR, 0, DT_COMM_SUM};
    dt_call call = {.nin = 1, .nout = 1};
    call.in[0] = (dt_tensor){.type = DT_TYPE_ACC, .ndim = 2, .dim = {3, 5}};
    call.out[0] = (dt_tensor){.type = DT_TYPE_ACC, .ndim = 2, .dim = {6, 5}};
    memcpy(call.attr.byte, &attr, sizeof attr);
    dt_cost cost = {0};
    dt_op_all_gather.cost(&call, 4, &cost);
    cr_assert_eq(cost.wire, 3 * 5 * 4);
    cr_assert_eq(cost.wire_axes, DT_AXES_TENSOR);
}
