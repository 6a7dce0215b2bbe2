/* The kernels of the CPU device, by op number. */
#include "op/op.h"

#define DT_OP(name)                                                                                                    \
    dt_status dt_cpu_f32_##name(const dt_call *call);                                                                  \
    dt_status dt_cpu_f64_##name(const dt_call *call);
#include "op/ops.def"
#undef DT_OP

const dt_kernel dt_cpu_kernels_f32[DT_OP_COUNT] = {
#define DT_OP(name) dt_cpu_f32_##name,
#include "op/ops.def"
#undef DT_OP
};

const dt_kernel dt_cpu_kernels_f64[DT_OP_COUNT] = {
#define DT_OP(name) dt_cpu_f64_##name,
#include "op/ops.def"
#undef DT_OP
};
