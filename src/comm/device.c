/* The communicator of a device's memory. */
#include "comm/comm.h"
#include "device/module.h" // dt_device_module_symbol

dt_status dt_comm_create_device(dt_comm *host, dt_device *device, dt_comm *own, dt_comm **out)
{
    *out = host;
    if (device->ops->host_memory) return DT_OK;
    dt_status (*create)(dt_comm *, dt_device *, dt_comm *) = dt_device_module_symbol("dt_cuda_comm_create");
    if (create == NULL) return dt_fail(DT_ERR_DEVICE, "the CUDA module has no communicator");
    DT_TRY(create(host, device, own));
    *out = own;
    return DT_OK;
}
