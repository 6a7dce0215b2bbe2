/* The CUDA device's module: libdtrain_cuda.so, which has its own copy of nothing; it is opened only when asked for, so
 * that a job on CPUs pays neither memory nor a driver for it. */
#ifndef DT_DEVICE_MODULE_H
#define DT_DEVICE_MODULE_H

#include "device/device.h" // dt_device

/** What the module offers. A module of another version is refused. */
enum { DT_CUDA_MODULE_VERSION = 3 };
/** What is computed in: fp32, to compare with the CPU; bf16; bf16, but products with frozen weights in 8 bits. */
typedef enum dt_cuda_precision { DT_CUDA_FP32, DT_CUDA_BF16, DT_CUDA_FP8 } dt_cuda_precision;
typedef struct dt_cuda_module {
    int version;
    /** GPUs that this process may use; DT_ERR_DEVICE if there is no driver, too old a one, or no GPU. */
    dt_status (*gpus)(int *count);
    /** Opens a GPU; number -1 stands for none, which can only plan. */
    dt_status (*open)(int gpu, dt_cuda_precision precision, dt_device *out);
} dt_cuda_module;

/** The GPU of the `node_rank`th of the ranks of this node. Opens the module, once a process: beside the program, in
 * ../lib or .. as seen from there, or where the dynamic loader looks. Local. DT_ERR_DEVICE: no module, no driver, no
 * GPU. */
dt_status dt_device_cuda(int node_rank, dt_cuda_precision precision, dt_device *out) DT_WARN_UNUSED;
/** GPUs of this machine that the module could compute on: 0 where the module, a driver or a GPU is missing, or too old.
 *  The module is opened only where there is a driver with a GPU. Local. */
int dt_device_cuda_gpus(void);
/** A device that knows what memory a GPU would need, and computes nothing: for planning where there is none. */
dt_status dt_device_cuda_plan(dt_cuda_precision precision, dt_device *out) DT_WARN_UNUSED;

/** A function of the open module; NULL if none is open or it has none of the name. */
void *dt_device_module_symbol(const char *name);

#endif
