/* The CPU device, in fp32 and, for references, in float64. */
#include "base/memory.h" // dt_alloc
#include "device/device.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h> // madvise

/* Kernel tables, by op number: src/op/cpu_table.c. */
extern const dt_kernel dt_cpu_kernels_f32[];
extern const dt_kernel dt_cpu_kernels_f64[];

/* Large blocks ask for large pages: fewer misses of the address cache where a head's rows are a row of all heads apart,
 * and fewer faults. */
static dt_status cpu_alloc(dt_device *device, size_t bytes, void **out)
{
    const size_t page = (size_t)2 << 20;
    if (bytes < 2 * page) return dt_alloc(bytes != 0 ? bytes : 1, 1, out);
    void *data = aligned_alloc(page, (bytes + page - 1) / page * page);
    if (data == NULL) return dt_fail(DT_ERR_MEMORY, "cannot allocate %zu bytes", bytes);
    if (madvise(data, bytes, MADV_HUGEPAGE) != 0) errno = 0; /* a wish */
    memset(data, 0, bytes);
    *out = data;
    return DT_OK;
}

static void cpu_free(dt_device *device, void *data)
{
    free(data);
}

static dt_status cpu_zero(dt_device *device, void *data, size_t bytes)
{
    memset(data, 0, bytes);
    return DT_OK;
}

static dt_status cpu_put(dt_device *device, void *dst, size_t size, const float *src, size_t count)
{
    if (size == sizeof(float)) memcpy(dst, src, count * size);
    else
        for (size_t i = 0; i < count; i++) ((double *)dst)[i] = (double)src[i];
    return DT_OK;
}

static dt_status cpu_get(dt_device *device, float *dst, const void *src, size_t size, size_t count)
{
    if (size == sizeof(float)) memcpy(dst, src, count * size);
    else
        for (size_t i = 0; i < count; i++) dst[i] = (float)((const double *)src)[i];
    return DT_OK;
}

static dt_status cpu_copy_bytes(dt_device *device, void *dst, const void *src, size_t bytes)
{
    memcpy(dst, src, bytes);
    return DT_OK;
}

#define CPU_OPS(kind, size)                                                                                            \
    {                                                                                                                  \
        .name = kind, .act_size = size, .acc_size = size, .host_memory = 1, .alloc = cpu_alloc, .free = cpu_free,      \
        .zero = cpu_zero, .put = cpu_put, .get = cpu_get, .put_bytes = cpu_copy_bytes, .get_bytes = cpu_copy_bytes     \
    }
static const dt_device_ops cpu_f32 = CPU_OPS("cpu", sizeof(float));
static const dt_device_ops cpu_f64 = CPU_OPS("cpu (float64)", sizeof(double));

dt_status dt_device_cpu(int threads, dt_device *out)
{
    *out = (dt_device){.ops = &cpu_f32, .kernels = dt_cpu_kernels_f32, .threads = threads};
    return DT_OK;
}

dt_status dt_device_cpu_f64(int threads, dt_device *out)
{
    *out = (dt_device){.ops = &cpu_f64, .kernels = dt_cpu_kernels_f64, .threads = threads};
    return DT_OK;
}

void dt_device_destroy(dt_device *device)
{
    if (device->ops != NULL && device->ops->destroy != NULL) device->ops->destroy(device);
    *device = (dt_device){0};
}
