/* Low-rank addends on the CPU. */
#ifndef DT_OP_LOWRANK_CPU_H
#define DT_OP_LOWRANK_CPU_H
#include "op/cpu.h"
#include "op/lowrank.h"

/** Works on n elements that lie one behind the other in each operand and each output (NULL: absent); `add` is added to
 *  the operands (NULL: to none). */
typedef void (*dt_span)(int64_t n, const real *const *in, const real *const *add, real *const *out);

/** Calls `span` with all elements, piece by piece. An output may be the operand it is computed of. */
void DT_CPU_KERNEL(lowrank_map)(const dt_call *call, dt_span span);

#endif
