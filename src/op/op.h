/* The table of ops, and the kernels of the CPU device. */
#ifndef DT_OP_OP_H
#define DT_OP_OP_H

#include "graph/op.h" // dt_op, dt_call

/* The table of ops: dt_op_matmul, ..., in ops.def's order, and their numbers. */
#define DT_OP(name) extern const dt_op dt_op_##name;
#include "op/ops.def"
#undef DT_OP
enum {
#define DT_OP(name) DT_OP_INDEX_##name,
#include "op/ops.def"
#undef DT_OP
    DT_OP_COUNT
};
extern const dt_op *const dt_ops[DT_OP_COUNT];

/* Kernels of the CPU device, by op number. */
extern const dt_kernel dt_cpu_kernels_f32[DT_OP_COUNT];
extern const dt_kernel dt_cpu_kernels_f64[DT_OP_COUNT];

#endif
