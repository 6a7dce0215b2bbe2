/* Communicators for a GPU's memory: NCCL, one for each set of axes; or, where ranks share a GPU, copies to and from the
 * host around the host's own.
 *
 * Order. A kernel of NCCL holds its place on the GPU until its peers' have come. Two of different communicators on two
 * streams may begin in either order; where the GPU has no room for both, and one rank begins with the one, another with
 * the other, neither ends. So all ranks must begin them in one order. NCCL (2.28 as before) leaves that to who calls
 * it: by edges between the streams, which a recording keeps as edges of its graph. That is what `one_at_a_time` asks
 * for: a tensor collective comes behind the delta's reduction that was begun before it, and the other way round anyway
 * (aside_begin). From 2.26 on NCCL can keep the order of the calls itself, even within a recording, and yet let both
 * run; it then orders every launch of the process, at some microseconds each, which a delta that is small does not pay
 * back. So it is the user's choice: NCCL_LAUNCH_ORDER_IMPLICIT=1 in the environment. One communicator needs neither:
 * NCCL runs its collectives in the order of the calls, whatever their streams. */
#include <cublasLt.h> // C++ headers, which must not come first out of ours
#include <cuda_runtime.h>
#include <nccl.h>
extern "C" {
#include "base/log.h"    // dt_log
#include "base/memory.h" // dt_alloc
#include "comm/comm.h"
#include "device/cuda.h"
}
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef struct cuda_comm {
    dt_comm *host;
    dt_device *device;
    ncclComm_t nccl[DT_AXES_ALL + 1]; /* NULL: one rank, or not NCCL */
    float *staging[2];                /* on the host, of ranks that share a GPU */
    int64_t staged[2];                /* floats in each */
} cuda_comm;

static cuda_comm *impl_of(const dt_comm *comm)
{
    return (cuda_comm *)comm->impl;
}

static int group_size(const dt_comm *comm, dt_axes axes)
{
    return dt_mesh_group_size(&comm->mesh, axes);
}

/* Those of `axes` that have more than one rank. */
static dt_axes live_axes(const dt_comm *comm, dt_axes axes)
{
    for (int a = 0; a < DT_AXIS_COUNT; a++)
        if (comm->mesh.size[a] == 1) axes &= ~(1u << a);
    return axes;
}

static void account(dt_comm *comm, dt_axes axes, int64_t count, dt_comm_type type)
{
    comm->bytes_sent[axes & DT_AXES_ALL] += count * (int64_t)dt_comm_type_size(type);
}

/* Over a group of one. */
static dt_status copy_alone(dt_comm *comm, const void *send, void *recv, int64_t count, dt_comm_type type)
{
    if (send == recv || count == 0) return DT_OK;
    return dt_cuda_check(cudaMemcpyAsync(recv, send, (size_t)count * dt_comm_type_size(type), cudaMemcpyDeviceToDevice,
                                         dt_cuda_of(impl_of(comm)->device)->stream),
                         "a copy");
}

/* ---- NCCL ---- */

/* Its functions, out of a library that is opened when several GPUs first need it: one rank, and ranks that share a GPU,
 * do without. */
#define NCCL_FUNCTIONS(X)                                                                                              \
    X(GetErrorString)                                                                                                  \
    X(GetLastError)                                                                                                    \
    X(GetVersion)                                                                                                      \
    X(GetUniqueId)                                                                                                     \
    X(CommInitRankConfig)                                                                                              \
    X(CommGetAsyncError) X(CommDestroy) X(AllReduce) X(AllGather) X(ReduceScatter) X(Broadcast)
#define DECLARE(function) decltype(&nccl##function) function;
static struct {
    NCCL_FUNCTIONS(DECLARE)
} nccl;

static dt_status load_nccl(void)
{
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return dt_fail(DT_ERR_DEVICE, "several GPUs talk by NCCL, which cannot be opened: %s", dlerror());
#define LOAD(function)                                                                                                 \
    nccl.function = (decltype(nccl.function))dlsym(library, "nccl" #function);                                         \
    if (nccl.function == NULL) return dt_fail(DT_ERR_DEVICE, "libnccl.so.2 is too old: it has no nccl" #function);
    NCCL_FUNCTIONS(LOAD)
    return DT_OK;
}

static dt_status check_nccl(ncclResult_t code, const char *what)
{
    if (code == ncclSuccess || code == ncclInProgress) return DT_OK;
    return dt_fail(DT_ERR_COMM, "%s: %s (%s)", what, nccl.GetErrorString(code), nccl.GetLastError(NULL));
}

/* A communicator that does not block may still be at it when a call returns; only then is the work in the stream. */
static dt_status enqueued(ncclComm_t comm, ncclResult_t code, const char *what)
{
    while (code == ncclInProgress)
        if (nccl.CommGetAsyncError(comm, &code) != ncclSuccess) code = ncclSystemError;
    return check_nccl(code, what);
}

static ncclDataType_t nccl_type(dt_comm_type type)
{
    switch (type) {
    case DT_COMM_F32: return ncclFloat32;
    case DT_COMM_F64: return ncclFloat64;
    case DT_COMM_I32: return ncclInt32;
    case DT_COMM_I64: return ncclInt64;
    case DT_COMM_BF16: return ncclBfloat16;
    default: return ncclUint8;
    }
}

static ncclRedOp_t nccl_op(dt_comm_op op)
{
    return op == DT_COMM_SUM ? ncclSum : op == DT_COMM_MAX ? ncclMax : ncclMin;
}

static dt_status nccl_all_reduce(dt_comm *comm, dt_axes axes, void *buf, int64_t count, dt_comm_type type,
                                 dt_comm_op op)
{
    cuda_comm *c = impl_of(comm);
    if (group_size(comm, axes) == 1 || count == 0) return DT_OK;
    account(comm, axes, count, type);
    return enqueued(c->nccl[axes],
                    nccl.AllReduce(buf, buf, (size_t)count, nccl_type(type), nccl_op(op), c->nccl[axes],
                                   dt_cuda_of(c->device)->stream),
                    "ncclAllReduce");
}

static dt_status nccl_all_gather(dt_comm *comm, dt_axes axes, const void *send, void *recv, int64_t count,
                                 dt_comm_type type)
{
    cuda_comm *c = impl_of(comm);
    if (group_size(comm, axes) == 1) return copy_alone(comm, send, recv, count, type);
    account(comm, axes, count, type);
    return enqueued(
        c->nccl[axes],
        nccl.AllGather(send, recv, (size_t)count, nccl_type(type), c->nccl[axes], dt_cuda_of(c->device)->stream),
        "ncclAllGather");
}

static dt_status nccl_reduce_scatter(dt_comm *comm, dt_axes axes, const void *send, void *recv, int64_t count,
                                     dt_comm_type type)
{
    cuda_comm *c = impl_of(comm);
    if (group_size(comm, axes) == 1) return copy_alone(comm, send, recv, count, type);
    account(comm, axes, count * group_size(comm, axes), type);
    return enqueued(c->nccl[axes],
                    nccl.ReduceScatter(send, recv, (size_t)count, nccl_type(type), ncclSum, c->nccl[axes],
                                       dt_cuda_of(c->device)->stream),
                    "ncclReduceScatter");
}

static dt_status nccl_broadcast(dt_comm *comm, dt_axes axes, void *buf, int64_t count, dt_comm_type type, int root)
{
    cuda_comm *c = impl_of(comm);
    if (group_size(comm, axes) == 1) return DT_OK;
    if (dt_mesh_group_rank(&comm->mesh, axes) == root) account(comm, axes, count, type);
    return enqueued(
        c->nccl[axes],
        nccl.Broadcast(buf, buf, (size_t)count, nccl_type(type), root, c->nccl[axes], dt_cuda_of(c->device)->stream),
        "ncclBroadcast");
}

/* Nobody wakes the host if a rank that the GPU waits for is gone: it looks itself, under the watchdog. */
static dt_status wait_with_others(dt_cuda *cuda, cudaEvent_t event, const char *what)
{
    const dt_comm *comm = (const dt_comm *)cuda->waiter;
    cudaError_t code = cudaErrorNotReady;
    dt_status st = DT_OK;
    dt_watchdog_begin("the GPU's work and the ranks that take part in it");
    while (st == DT_OK && code == cudaErrorNotReady) {
        code = event != NULL ? cudaEventQuery(event) : cudaStreamQuery(cuda->stream);
        for (dt_axes a = 1; a <= DT_AXES_ALL && code == cudaErrorNotReady && st == DT_OK; a++) {
            ncclResult_t state = ncclSuccess;
            if (impl_of(comm)->nccl[a] == NULL) continue;
            if (nccl.CommGetAsyncError(impl_of(comm)->nccl[a], &state) != ncclSuccess) state = ncclSystemError;
            st = check_nccl(state, "a collective");
        }
    }
    dt_watchdog_end();
    return st != DT_OK ? st : dt_cuda_check(code, what);
}

/* Waits for what was begun without blocking, under the watchdog. */
static dt_status settle(ncclComm_t comm)
{
    ncclResult_t state = ncclInProgress;
    dt_watchdog_begin("ncclCommInitRank");
    while (state == ncclInProgress && nccl.CommGetAsyncError(comm, &state) == ncclSuccess) {}
    dt_watchdog_end();
    return check_nccl(state, "ncclCommInitRank");
}

/* Does NCCL itself begin collectives of all communicators in the order of the calls? */
static dt_status keeps_order(bool *keeps)
{
    const char *asked = getenv("NCCL_LAUNCH_ORDER_IMPLICIT");
    int version = 0;
    DT_TRY(check_nccl(nccl.GetVersion(&version), "ncclGetVersion"));
    *keeps = version >= NCCL_VERSION(2, 26, 0) && asked != NULL && atoi(asked) != 0;
    return DT_OK;
}

/* The groups' ranks in the same order everywhere; a barrier between the id's way and its use. */
static dt_status open_nccl(dt_comm *comm, cuda_comm *c)
{
    int communicators = 0;
    bool keeps = false;
    if (comm->mesh.ranks > 1) DT_TRY(dt_world_agree(load_nccl()));
    for (dt_axes axes = 1; axes <= DT_AXES_ALL; axes++) {
        int ranks = group_size(comm, axes), rank = dt_mesh_group_rank(&comm->mesh, axes);
        ncclUniqueId id;
        memset(&id, 0, sizeof id);
        if (ranks == 1) continue;
        if (live_axes(comm, axes) != axes) { // the same group as that of fewer axes
            c->nccl[axes] = c->nccl[live_axes(comm, axes)];
            continue;
        }
        dt_status st = rank == 0 ? check_nccl(nccl.GetUniqueId(&id), "ncclGetUniqueId") : DT_OK;
        DT_TRY(dt_world_agree(st));
        DT_TRY(c->host->ops->broadcast(c->host, axes, &id, (int64_t)sizeof id, DT_COMM_BYTE, 0));
        DT_TRY(dt_world_barrier());
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 0;
        st = check_nccl(nccl.CommInitRankConfig(&c->nccl[axes], ranks, id, rank, &config), "ncclCommInitRank");
        if (st == DT_OK) st = settle(c->nccl[axes]);
        DT_TRY(dt_world_agree(st));
        communicators++;
    }
    if (communicators > 1) DT_TRY(dt_world_agree(keeps_order(&keeps)));
    comm->one_at_a_time = communicators > 1 && !keeps;
    return DT_OK;
}

/* ---- by way of the host ---- */

static dt_status reserve(cuda_comm *c, int which, int64_t floats)
{
    if (c->staged[which] >= floats) return DT_OK;
    free(c->staging[which]);
    c->staging[which] = NULL;
    c->staged[which] = 0;
    DT_TRY(dt_alloc((size_t)floats, sizeof(float), &c->staging[which]));
    c->staged[which] = floats;
    return DT_OK;
}

/* What the host's table works in: BF16 travels as F32, so that it is summed in fp32. */
static dt_comm_type host_type(dt_comm_type type)
{
    return type == DT_COMM_BF16 ? DT_COMM_F32 : type;
}

static dt_status fetch(cuda_comm *c, int which, const void *from, int64_t count, dt_comm_type type)
{
    size_t size = dt_comm_type_size(type);
    DT_TRY(reserve(c, which, (int64_t)(((size_t)count * dt_comm_type_size(host_type(type)) + 3) / 4)));
    if (type == DT_COMM_BF16) return c->device->ops->get(c->device, c->staging[which], from, size, (size_t)count);
    return c->device->ops->get_bytes(c->device, c->staging[which], from, (size_t)count * size);
}

static dt_status send_back(cuda_comm *c, int which, void *to, int64_t count, dt_comm_type type)
{
    size_t size = dt_comm_type_size(type);
    if (type == DT_COMM_BF16) return c->device->ops->put(c->device, to, size, c->staging[which], (size_t)count);
    return c->device->ops->put_bytes(c->device, to, c->staging[which], (size_t)count * size);
}

static dt_status staged_all_reduce(dt_comm *comm, dt_axes axes, void *buf, int64_t count, dt_comm_type type,
                                   dt_comm_op op)
{
    cuda_comm *c = impl_of(comm);
    if (group_size(comm, axes) == 1) return DT_OK;
    account(comm, axes, count, type);
    DT_TRY(fetch(c, 0, buf, count, type));
    DT_TRY(c->host->ops->all_reduce(c->host, axes, c->staging[0], count, host_type(type), op));
    return send_back(c, 0, buf, count, type);
}

static dt_status staged_all_gather(dt_comm *comm, dt_axes axes, const void *send, void *recv, int64_t count,
                                   dt_comm_type type)
{
    cuda_comm *c = impl_of(comm);
    int ranks = group_size(comm, axes);
    if (ranks == 1) return copy_alone(comm, send, recv, count, type);
    account(comm, axes, count, type);
    DT_TRY(fetch(c, 0, send, count, type));
    DT_TRY(reserve(c, 1, count * ranks * 2));
    DT_TRY(c->host->ops->all_gather(c->host, axes, c->staging[0], c->staging[1], count, host_type(type)));
    return send_back(c, 1, recv, count * ranks, type);
}

static dt_status staged_reduce_scatter(dt_comm *comm, dt_axes axes, const void *send, void *recv, int64_t count,
                                       dt_comm_type type)
{
    cuda_comm *c = impl_of(comm);
    int ranks = group_size(comm, axes);
    if (ranks == 1) return copy_alone(comm, send, recv, count, type);
    account(comm, axes, count * ranks, type);
    DT_TRY(fetch(c, 0, send, count * ranks, type));
    DT_TRY(reserve(c, 1, count * 2));
    DT_TRY(c->host->ops->reduce_scatter(c->host, axes, c->staging[0], c->staging[1], count, host_type(type)));
    return send_back(c, 1, recv, count, type);
}

static dt_status staged_broadcast(dt_comm *comm, dt_axes axes, void *buf, int64_t count, dt_comm_type type, int root)
{
    cuda_comm *c = impl_of(comm);
    if (group_size(comm, axes) == 1) return DT_OK;
    if (dt_mesh_group_rank(&comm->mesh, axes) == root) account(comm, axes, count, type);
    DT_TRY(fetch(c, 0, buf, count, type));
    DT_TRY(c->host->ops->broadcast(c->host, axes, c->staging[0], count, host_type(type), root));
    return send_back(c, 0, buf, count, type);
}

/* ---- opening ---- */

static void cuda_comm_destroy(dt_comm *comm)
{
    cuda_comm *c = impl_of(comm);
    dt_cuda_of(c->device)->wait = NULL;
    for (dt_axes a = 0; a <= DT_AXES_ALL; a++)
        if (c->nccl[a] != NULL && live_axes(comm, a) == a) nccl.CommDestroy(c->nccl[a]);
    for (int i = 0; i < 2; i++) free(c->staging[i]);
    free(c);
}

static dt_comm_ops table(const char *name, int waits)
{
    dt_comm_ops ops = {};
    ops.name = name;
    ops.all_reduce = waits ? staged_all_reduce : nccl_all_reduce;
    ops.all_gather = waits ? staged_all_gather : nccl_all_gather;
    ops.reduce_scatter = waits ? staged_reduce_scatter : nccl_reduce_scatter;
    ops.broadcast = waits ? staged_broadcast : nccl_broadcast;
    ops.destroy = cuda_comm_destroy;
    ops.waits = waits;
    return ops;
}

/* Does any rank share its GPU with another? */
static dt_status gpus_are_shared(int *shared)
{
    int gpus = 0;
    DT_TRY(dt_cuda_check(cudaGetDeviceCount(&gpus), "cudaGetDeviceCount"));
    int32_t more = dt_world_node_size() > gpus;
    DT_TRY(dt_world_all_reduce(&more, 1, DT_COMM_I32, DT_COMM_MAX));
    *shared = more;
    return DT_OK;
}

extern "C" __attribute__((visibility("default"))) dt_status dt_cuda_comm_create(dt_comm *host, dt_device *device,
                                                                                dt_comm *out)
{
    static const dt_comm_ops direct = table("nccl", 0), staged = table("mpi through the host", 1);
    cuda_comm *c = NULL;
    int shared = 0;
    DT_TRY(dt_world_agree(gpus_are_shared(&shared)));
    DT_TRY(dt_world_agree(dt_alloc(1, sizeof *c, &c)));
    c->host = host;
    c->device = device;
    out->ops = shared && host->mesh.ranks > 1 ? &staged : &direct;
    out->mesh = host->mesh;
    memset(out->bytes_sent, 0, sizeof out->bytes_sent);
    out->one_at_a_time = false;
    out->impl = c;
    if (out->ops == &staged && dt_world_rank() == 0)
        dt_log(DT_LOG_INFO, "ranks share a GPU, which NCCL refuses: they talk through the host, for tests only");
    dt_status st = out->ops == &direct ? open_nccl(out, c) : DT_OK;
    if (st == DT_OK && out->ops == &direct && host->mesh.ranks > 1) {
        dt_cuda_of(device)->wait = wait_with_others;
        dt_cuda_of(device)->waiter = out;
    }
    if (st == DT_OK) return DT_OK;
    cuda_comm_destroy(out);
    out->ops = NULL;
    return st;
}
