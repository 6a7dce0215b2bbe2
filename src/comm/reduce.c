/* Elementwise reductions of two buffers: one loop for each type and operation. */
#include "comm/group.h" // dt_reduce

#define SUM(a, b) ((a) + (b))
/* Where the first is a NaN it wins, where the second is, no comparison holds and it wins: a NaN is never lost. */
#define MAX(a, b) ((a) > (b) || (a) != (a) ? (a) : (b))
#define MIN(a, b) ((a) < (b) || (a) != (a) ? (a) : (b))

#define LOOP(name, type, OP)                                                                                           \
    static void name(void *out, const void *a, const void *b, int64_t count)                                           \
    {                                                                                                                  \
        type *o = out;                                                                                                 \
        const type *x = a, *y = b;                                                                                     \
        _Pragma("omp simd") for (int64_t i = 0; i < count; i++) o[i] = (type)OP(x[i], y[i]);                           \
    }

/* Integers are summed unsigned, where overflow wraps. */
LOOP(sum_f32, float, SUM)
LOOP(sum_f64, double, SUM)
LOOP(sum_i32, uint32_t, SUM)
LOOP(sum_i64, uint64_t, SUM)
LOOP(sum_byte, uint8_t, SUM)
LOOP(max_f32, float, MAX)
LOOP(max_f64, double, MAX)
LOOP(max_i32, int32_t, MAX)
LOOP(max_i64, int64_t, MAX)
LOOP(max_byte, uint8_t, MAX)
LOOP(min_f32, float, MIN)
LOOP(min_f64, double, MIN)
LOOP(min_i32, int32_t, MIN)
LOOP(min_i64, int64_t, MIN)
LOOP(min_byte, uint8_t, MIN)

typedef void reduce_loop(void *out, const void *a, const void *b, int64_t count);

void dt_reduce(void *out, const void *a, const void *b, int64_t count, dt_comm_type type, dt_comm_op op)
{
    static reduce_loop *const loops[][5] = {
        [DT_COMM_SUM] = {[DT_COMM_F32] = sum_f32,
                         [DT_COMM_F64] = sum_f64,
                         [DT_COMM_I32] = sum_i32,
                         [DT_COMM_I64] = sum_i64,
                         [DT_COMM_BYTE] = sum_byte},
        [DT_COMM_MAX] = {[DT_COMM_F32] = max_f32,
                         [DT_COMM_F64] = max_f64,
                         [DT_COMM_I32] = max_i32,
                         [DT_COMM_I64] = max_i64,
                         [DT_COMM_BYTE] = max_byte},
        [DT_COMM_MIN] = {[DT_COMM_F32] = min_f32,
                         [DT_COMM_F64] = min_f64,
                         [DT_COMM_I32] = min_i32,
                         [DT_COMM_I64] = min_i64,
                         [DT_COMM_BYTE] = min_byte},
    };
    loops[op][type](out, a, b, count);
}
