/* A copy in another type on the CPU, where there is but one. */
#include "op/cast.h"
#include "op/cpu.h"
#include <string.h>

dt_status DT_CPU_KERNEL(cast)(const dt_call *call)
{
    if (DT_OUT(call, 0) != DT_IN(call, 0))
        memcpy(DT_OUT(call, 0), DT_IN(call, 0), (size_t)dt_tensor_count(&call->out[0]) * sizeof(real));
    return DT_OK;
}
