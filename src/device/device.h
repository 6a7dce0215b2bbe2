/* What computes: memory and kernels behind one table. `cpu` is the reference; `cuda` lives in a module of its own
 * (libdtrain_cuda.so), opened when a job asks for it. */
#ifndef DT_DEVICE_DEVICE_H
#define DT_DEVICE_DEVICE_H

#include "base/status.h" // dt_status
#include <stddef.h>      // size_t

struct dt_call; /* op/op.h: one call of a kernel */
typedef dt_status (*dt_kernel)(const struct dt_call *call);

typedef struct dt_device dt_device;

/** Reads that may be under way, and elements of each. */
enum { DT_TICKETS = 4, DT_TICKET_COUNT = 16 };

typedef struct dt_device_ops {
    const char *name;
    size_t act_size, acc_size;                                       /* bytes of an ACT and of an ACC element */
    int host_memory;                                                 /* pointers are the host's: views need no copies */
    dt_status (*alloc)(dt_device *device, size_t bytes, void **out); /* zeroed, aligned to 64 at least */
    void (*free)(dt_device *device, void *data);
    dt_status (*zero)(dt_device *device, void *data, size_t bytes);
    /** count elements, host fp32 <-> device elements of `size` bytes (act_size or acc_size); converts where they
     * differ. After `put` the host's memory may be written again; after `get` the values are there: it waits for all
     * work before it. */
    dt_status (*put)(dt_device *device, void *dst, size_t size, const float *src, size_t count);
    dt_status (*get)(dt_device *device, float *dst, const void *src, size_t size, size_t count);
    /** Reads a few ACC elements without waiting: `ask` queues the copy behind the work so far, `answer` waits for it
     * alone, not for work behind it. A ticket, below DT_TICKETS, is asked for again once it was answered. NULL, both:
     * nothing is ever pending. */
    dt_status (*ask)(dt_device *device, int ticket, const void *src, size_t count);
    dt_status (*answer)(dt_device *device, int ticket, float *dst, size_t count);
    /** Plain bytes (integers). */
    dt_status (*put_bytes)(dt_device *device, void *dst, const void *src, size_t bytes);
    dt_status (*get_bytes)(dt_device *device, void *dst, const void *src, size_t bytes);
    /** Waits until everything asked for is done, and tells what failed in it. NULL: nothing is ever pending. */
    dt_status (*wait)(dt_device *device);
    /** Scratch bytes that a kernel of the device needs for a call. NULL: what the op itself says. */
    size_t (*workspace)(const dt_device *device, int kernel, const struct dt_call *call);
    /** A sequence of kernel calls that runs many times the same: between begin and end calls are written down instead
     * of run, replay runs them. NULL: the device does not record. */
    dt_status (*record_begin)(dt_device *device);
    dt_status (*record_end)(dt_device *device, void **recording);
    dt_status (*replay)(dt_device *device, void *recording);
    void (*recording_free)(dt_device *device, void *recording);
    /** Work beside the main stream: calls between begin and end run beside what is asked for after them, behind all
     * that was asked for before and behind the last such calls; whoever reads what they wrote, or writes what they
     * read, joins first: from there on everything waits until they are done. Where they are recorded, join comes before
     * the recording ends. NULL, all three: there is one stream. */
    dt_status (*aside_begin)(dt_device *device);
    void (*aside_end)(dt_device *device);
    dt_status (*aside_join)(dt_device *device);
    /** Kernels that can do a call in several ways, which may round differently. consider: looks at a call that will be
     * made, its operands bound, and runs nothing; choose: measures the ways of what was considered since (or recalls
     * them); choices: all that was chosen, as text to be freed with free(); adopt: takes the choices of such a text
     * where they are of this kind of device, whatever was chosen before. NULL, all four: there is one way. */
    dt_status (*consider)(dt_device *device, int kernel, const struct dt_call *call);
    dt_status (*choose)(dt_device *device);
    dt_status (*choices)(const dt_device *device, char **text);
    dt_status (*adopt)(dt_device *device, const char *text);
    void (*destroy)(dt_device *device);
} dt_device_ops;

struct dt_device {
    const dt_device_ops *ops;
    const dt_kernel *kernels; /* by op number */
    int threads;              /* a kernel may use */
    void *impl;
};

/** The CPU in fp32, or (reference for tests) in float64. */
dt_status dt_device_cpu(int threads, dt_device *out) DT_WARN_UNUSED;
dt_status dt_device_cpu_f64(int threads, dt_device *out) DT_WARN_UNUSED;
void dt_device_destroy(dt_device *device);

#endif
