/* The CUDA device: memory, transfers through pinned pieces, recording of programs as CUDA graphs. */
#include <cublasLt.h> // C++ headers, which must not come first out of ours
#include <cuda_bf16.h>
#include <cuda_runtime.h>
extern "C" {
#include "base/memory.h" // dt_alloc
#include "device/fp8.h"
#include "device/gemm.h"
#include "device/module.h"
#include "device/timeline.h"
#include "device/ways.h"
}
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

dt_status dt_cuda_check(cudaError_t code, const char *what)
{
    if (code == cudaSuccess) return DT_OK;
    return dt_fail(code == cudaErrorMemoryAllocation ? DT_ERR_MEMORY : DT_ERR_DEVICE, "%s: %s (%s)", what,
                   cudaGetErrorString(code), cudaGetErrorName(code));
}

dt_status dt_cuda_check_blas(cublasStatus_t code, const char *what)
{
    if (code == CUBLAS_STATUS_SUCCESS) return DT_OK;
    return dt_fail(DT_ERR_DEVICE, "%s: %s (%s)", what, cublasLtGetStatusString(code), cublasLtGetStatusName(code));
}

static dt_status cuda_alloc(dt_device *device, size_t bytes, void **out)
{
    dt_cuda *cuda = dt_cuda_of(device);
    size_t all = bytes != 0 ? bytes : 1;
    if (cudaMalloc(out, all) != cudaSuccess) {
        size_t left = 0, total = 0;
        cudaGetLastError();
        DT_TRY(dt_cuda_check(cudaMemGetInfo(&left, &total), "cudaMemGetInfo"));
        return dt_fail(DT_ERR_MEMORY, "GPU %d: %.2f GB asked for, %.2f of %.2f GB are left", cuda->index,
                       (double)bytes / 1e9, (double)left / 1e9, (double)total / 1e9);
    }
    return dt_cuda_check(cudaMemsetAsync(*out, 0, all, cuda->stream), "cudaMemsetAsync");
}

static void cuda_free(dt_device *device, void *data)
{
    if (data == NULL) return;
    cudaStreamSynchronize(dt_cuda_of(device)->stream);
    dt_cuda_fp8_forget(dt_cuda_of(device), data);
    cudaFree(data);
}

static dt_status cuda_zero(dt_device *device, void *data, size_t bytes)
{
    return dt_cuda_check(cudaMemsetAsync(data, 0, bytes, dt_cuda_of(device)->stream), "cudaMemsetAsync");
}

/* ---- waiting ---- */

static dt_status wait_event(dt_cuda *cuda, cudaEvent_t event, const char *what)
{
    if (cuda->wait != NULL) return cuda->wait(cuda, event, what);
    return dt_cuda_check(event != NULL ? cudaEventSynchronize(event) : cudaStreamSynchronize(cuda->stream), what);
}

static dt_status wait_stream(dt_cuda *cuda, const char *what)
{
    return wait_event(cuda, NULL, what);
}

static dt_status cuda_wait(dt_device *device)
{
    return wait_stream(dt_cuda_of(device), "a kernel");
}

/* ---- transfers ---- */

/* The next piece, once nothing reads it any more. */
static dt_status take_piece(dt_cuda *cuda, int *piece)
{
    *piece = cuda->next_piece;
    cuda->next_piece = (cuda->next_piece + 1) % DT_CUDA_PIECES;
    return wait_event(cuda, cuda->piece[*piece].done, "a copy to the GPU");
}

static dt_status send_piece(dt_cuda *cuda, int piece, void *dst, size_t bytes)
{
    DT_TRY(dt_cuda_check(cudaMemcpyAsync(dst, cuda->piece[piece].data, bytes, cudaMemcpyHostToDevice, cuda->stream),
                         "a copy to the GPU"));
    return dt_cuda_check(cudaEventRecord(cuda->piece[piece].done, cuda->stream), "cudaEventRecord");
}

/* Fetches into a piece and waits for it. */
static dt_status fetch_piece(dt_cuda *cuda, int piece, const void *src, size_t bytes)
{
    DT_TRY(dt_cuda_check(cudaMemcpyAsync(cuda->piece[piece].data, src, bytes, cudaMemcpyDeviceToHost, cuda->stream),
                         "a copy from the GPU"));
    return wait_stream(cuda, "a copy from the GPU");
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static dt_status cuda_put_bytes(dt_device *device, void *dst, const void *src, size_t bytes)
{
    dt_cuda *cuda = dt_cuda_of(device);
    for (size_t done = 0, n; done < bytes; done += n) {
        int piece;
        n = smaller(bytes - done, DT_CUDA_PIECE_BYTES);
        DT_TRY(take_piece(cuda, &piece));
        memcpy(cuda->piece[piece].data, (const char *)src + done, n);
        DT_TRY(send_piece(cuda, piece, (char *)dst + done, n));
    }
    return DT_OK;
}

static dt_status cuda_get_bytes(dt_device *device, void *dst, const void *src, size_t bytes)
{
    dt_cuda *cuda = dt_cuda_of(device);
    for (size_t done = 0, n; done < bytes; done += n) {
        int piece;
        n = smaller(bytes - done, DT_CUDA_PIECE_BYTES);
        DT_TRY(take_piece(cuda, &piece));
        DT_TRY(fetch_piece(cuda, piece, (const char *)src + done, n));
        memcpy((char *)dst + done, cuda->piece[piece].data, n);
    }
    return DT_OK;
}

static dt_status cuda_put(dt_device *device, void *dst, size_t size, const float *src, size_t count)
{
    if (size == sizeof(float)) return cuda_put_bytes(device, dst, src, count * size);
    dt_cuda *cuda = dt_cuda_of(device);
    const size_t most = DT_CUDA_PIECE_BYTES / sizeof(__nv_bfloat16);
    for (size_t done = 0, n; done < count; done += n) {
        int piece;
        n = smaller(count - done, most);
        DT_TRY(take_piece(cuda, &piece));
        __nv_bfloat16 *to = (__nv_bfloat16 *)cuda->piece[piece].data;
        for (size_t i = 0; i < n; i++) to[i] = __float2bfloat16(src[done + i]);
        DT_TRY(send_piece(cuda, piece, (__nv_bfloat16 *)dst + done, n * sizeof *to));
    }
    return DT_OK;
}

static dt_status cuda_get(dt_device *device, float *dst, const void *src, size_t size, size_t count)
{
    if (size == sizeof(float)) return cuda_get_bytes(device, dst, src, count * size);
    dt_cuda *cuda = dt_cuda_of(device);
    const size_t most = DT_CUDA_PIECE_BYTES / sizeof(__nv_bfloat16);
    for (size_t done = 0, n; done < count; done += n) {
        int piece;
        n = smaller(count - done, most);
        DT_TRY(take_piece(cuda, &piece));
        const __nv_bfloat16 *from = (const __nv_bfloat16 *)cuda->piece[piece].data;
        DT_TRY(fetch_piece(cuda, piece, (const __nv_bfloat16 *)src + done, n * sizeof *from));
        for (size_t i = 0; i < n; i++) dst[done + i] = __bfloat162float(from[i]);
    }
    return DT_OK;
}

static dt_status cuda_ask(dt_device *device, int ticket, const void *src, size_t count)
{
    dt_cuda *cuda = dt_cuda_of(device);
    DT_TRY(dt_cuda_check(cudaMemcpyAsync(cuda->ticket + ticket * DT_TICKET_COUNT, src, count * sizeof(float),
                                         cudaMemcpyDeviceToHost, cuda->stream),
                         "a copy from the GPU"));
    return dt_cuda_check(cudaEventRecord(cuda->asked[ticket], cuda->stream), "cudaEventRecord");
}

static dt_status cuda_answer(dt_device *device, int ticket, float *dst, size_t count)
{
    dt_cuda *cuda = dt_cuda_of(device);
    DT_TRY(wait_event(cuda, cuda->asked[ticket], "a copy from the GPU"));
    memcpy(dst, cuda->ticket + ticket * DT_TICKET_COUNT, count * sizeof(float));
    return DT_OK;
}

/* ---- recording ---- */

static dt_status cuda_record_begin(dt_device *device)
{
    return dt_cuda_check(cudaStreamBeginCapture(dt_cuda_of(device)->stream, cudaStreamCaptureModeThreadLocal),
                         "cudaStreamBeginCapture");
}

static dt_status cuda_record_end(dt_device *device, void **recording)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t program = NULL;
    DT_TRY(dt_cuda_check(cudaStreamEndCapture(dt_cuda_of(device)->stream, &graph), "cudaStreamEndCapture"));
    dt_status st = dt_cuda_check(cudaGraphInstantiate(&program, graph, 0), "cudaGraphInstantiate");
    cudaGraphDestroy(graph);
    *recording = program;
    return st;
}

static dt_status cuda_replay(dt_device *device, void *recording)
{
    dt_cuda *cuda = dt_cuda_of(device);
    DT_TRY(dt_cuda_timeline_begin(cuda));
    DT_TRY(dt_cuda_check(cudaGraphLaunch((cudaGraphExec_t)recording, cuda->stream), "cudaGraphLaunch"));
    return dt_cuda_timeline_end(cuda);
}

static void cuda_recording_free(dt_device *device, void *recording)
{
    cudaStreamSynchronize(dt_cuda_of(device)->stream);
    if (recording != NULL) cudaGraphExecDestroy((cudaGraphExec_t)recording);
}

/* ---- aside ---- */

/* The other stream goes on only when this one has come here. */
static dt_status follow(dt_cuda *cuda, cudaStream_t follower, cudaStream_t leader)
{
    DT_TRY(dt_cuda_check(cudaEventRecord(cuda->between, leader), "cudaEventRecord"));
    return dt_cuda_check(cudaStreamWaitEvent(follower, cuda->between, 0), "cudaStreamWaitEvent");
}

static void swap_streams(dt_cuda *cuda)
{
    cudaStream_t stream = cuda->stream;
    cuda->stream = cuda->other;
    cuda->other = stream;
}

static dt_status cuda_aside_begin(dt_device *device)
{
    dt_cuda *cuda = dt_cuda_of(device);
    DT_TRY(follow(cuda, cuda->other, cuda->stream));
    swap_streams(cuda);
    return DT_OK;
}

static void cuda_aside_end(dt_device *device)
{
    swap_streams(dt_cuda_of(device));
}

static dt_status cuda_aside_join(dt_device *device)
{
    dt_cuda *cuda = dt_cuda_of(device);
    return follow(cuda, cuda->stream, cuda->other);
}

/* ---- opening ---- */

static void cuda_destroy(dt_device *device)
{
    dt_cuda *cuda = dt_cuda_of(device);
    device->impl = NULL;
    if (cuda == NULL) return;
    if (cuda->index < 0) { // only planned
        free(cuda);
        return;
    }
    if (cuda->stream != NULL) cudaStreamSynchronize(cuda->stream);
    dt_cuda_timeline_close(cuda);
    dt_cuda_gemm_free(cuda);
    dt_cuda_ways_free(cuda);
    dt_cuda_fp8_forget(cuda, NULL);
    if (cuda->attention_free != NULL) cuda->attention_free(cuda->attention);
    if (cuda->lt != NULL) cublasLtDestroy(cuda->lt);
    cudaFree(cuda->lt_workspace);
    for (int i = 0; i < DT_CUDA_PIECES; i++) {
        cudaFreeHost(cuda->piece[i].data);
        if (cuda->piece[i].done != NULL) cudaEventDestroy(cuda->piece[i].done);
    }
    for (int i = 0; i < DT_TICKETS; i++)
        if (cuda->asked[i] != NULL) cudaEventDestroy(cuda->asked[i]);
    cudaFreeHost(cuda->ticket);
    if (cuda->between != NULL) cudaEventDestroy(cuda->between);
    if (cuda->other != NULL) cudaStreamDestroy(cuda->other);
    if (cuda->stream != NULL) cudaStreamDestroy(cuda->stream);
    free(cuda);
}

static dt_status find_gpus(int *count)
{
    int driver = 0, runtime = 0;
    *count = 0;
    cudaError_t code = cudaGetDeviceCount(count);
    if (code == cudaErrorInsufficientDriver || code == cudaErrorNoDevice) {
        cudaGetLastError();
        cudaDriverGetVersion(&driver);
        cudaRuntimeGetVersion(&runtime);
        if (driver == 0) return dt_fail(DT_ERR_DEVICE, "no NVIDIA driver on this machine");
        if (code == cudaErrorInsufficientDriver)
            return dt_fail(DT_ERR_DEVICE, "the NVIDIA driver knows CUDA %d.%d at most; expected %d.%d or newer",
                           driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
        return dt_fail(DT_ERR_DEVICE, "no GPU that this process may use (CUDA_VISIBLE_DEVICES is \"%s\")",
                       getenv("CUDA_VISIBLE_DEVICES") != NULL ? getenv("CUDA_VISIBLE_DEVICES") : "");
    }
    return dt_cuda_check(code, "cudaGetDeviceCount");
}

static dt_status open_gpu(dt_cuda *cuda)
{
    struct cudaDeviceProp gpu;
    DT_TRY(dt_cuda_check(cudaSetDevice(cuda->index), "cudaSetDevice"));
    DT_TRY(dt_cuda_check(cudaGetDeviceProperties(&gpu, cuda->index), "cudaGetDeviceProperties"));
    if (gpu.major < 8)
        return dt_fail(DT_ERR_DEVICE, "GPU %d, %s, has compute capability %d.%d; expected 8.0 or newer", cuda->index,
                       gpu.name, gpu.major, gpu.minor);
    if (cuda->fp8 && 10 * gpu.major + gpu.minor < 90)
        return dt_fail(DT_ERR_DEVICE,
                       "GPU %d, %s, has compute capability %d.%d; backbone.precision FP8 needs 9.0 or newer",
                       cuda->index, gpu.name, gpu.major, gpu.minor);
    snprintf(cuda->name, sizeof cuda->name, "%s", gpu.name);
    cuda->processors = gpu.multiProcessorCount;
    cuda->capability = 10 * gpu.major + gpu.minor;
    DT_TRY(dt_cuda_check(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking), "cudaStreamCreate"));
    /* What runs aside is what other ranks wait for: it comes first where kernels fill the GPU. */
    DT_TRY(dt_cuda_check(cudaStreamCreateWithPriority(&cuda->other, cudaStreamNonBlocking, -1), "cudaStreamCreate"));
    DT_TRY(dt_cuda_check(cudaEventCreateWithFlags(&cuda->between, cudaEventDisableTiming), "cudaEventCreate"));
    for (int i = 0; i < DT_CUDA_PIECES; i++) {
        DT_TRY(dt_cuda_check(cudaMallocHost(&cuda->piece[i].data, DT_CUDA_PIECE_BYTES), "cudaMallocHost"));
        DT_TRY(
            dt_cuda_check(cudaEventCreateWithFlags(&cuda->piece[i].done, cudaEventDisableTiming), "cudaEventCreate"));
    }
    DT_TRY(dt_cuda_check(cudaMallocHost((void **)&cuda->ticket, DT_TICKETS * DT_TICKET_COUNT * sizeof(float)),
                         "cudaMallocHost"));
    for (int i = 0; i < DT_TICKETS; i++)
        DT_TRY(dt_cuda_check(cudaEventCreateWithFlags(&cuda->asked[i], cudaEventDisableTiming), "cudaEventCreate"));
    DT_TRY(dt_cuda_check_blas(cublasLtCreate(&cuda->lt), "cublasLtCreate"));
    DT_TRY(dt_cuda_check(cudaMalloc(&cuda->lt_workspace, DT_CUDA_LT_BYTES), "cudaMalloc"));
    return dt_cuda_gemm_recall(cuda);
}

/* Kernel tables, by op number, and what their kernels need: op/cuda_table.cu. */
extern "C" {
extern const dt_kernel dt_cuda_kernels_f32[], dt_cuda_kernels_bf16[];
size_t dt_cuda_workspace(const dt_device *device, int kernel, const struct dt_call *call);
int dt_cuda_has_choices(int kernel);
}

/* ---- choices ---- */

/* What a call's kernel asks of the device is written down in a recording that nobody runs; memory for what it will need
 * may be taken meanwhile, and kernels loaded. */
static dt_status cuda_consider(dt_device *device, int kernel, const struct dt_call *call)
{
    dt_cuda *cuda = dt_cuda_of(device);
    cudaGraph_t graph = NULL;
    if (!dt_cuda_has_choices(kernel)) return DT_OK;
    DT_TRY(dt_cuda_check(cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture"));
    cuda->considers = 1;
    dt_status st = device->kernels[kernel](call);
    cuda->considers = 0;
    dt_status ended = dt_cuda_check(cudaStreamEndCapture(cuda->stream, &graph), "cudaStreamEndCapture");
    if (graph != NULL) cudaGraphDestroy(graph);
    return st != DT_OK ? st : ended;
}

static dt_status cuda_choose(dt_device *device)
{
    bool any;
    DT_TRY(dt_cuda_gemm_choose(dt_cuda_of(device)));
    DT_TRY(dt_cuda_ways_choose(dt_cuda_of(device), &any)); // which may multiply
    return any ? dt_cuda_gemm_remember(dt_cuda_of(device)) : DT_OK;
}

static dt_status cuda_choices(const dt_device *device, char **text)
{
    return dt_cuda_gemm_choices(dt_cuda_of(device), text);
}

static dt_status cuda_adopt(dt_device *device, const char *text)
{
    return dt_cuda_gemm_adopt(dt_cuda_of(device), text);
}

static dt_device_ops ops_of(const char *name, size_t act_size)
{
    dt_device_ops ops = {};
    ops.name = name;
    ops.act_size = act_size;
    ops.acc_size = sizeof(float);
    ops.alloc = cuda_alloc;
    ops.free = cuda_free;
    ops.zero = cuda_zero;
    ops.put = cuda_put;
    ops.get = cuda_get;
    ops.ask = cuda_ask;
    ops.answer = cuda_answer;
    ops.put_bytes = cuda_put_bytes;
    ops.get_bytes = cuda_get_bytes;
    ops.wait = cuda_wait;
    ops.workspace = dt_cuda_workspace;
    ops.record_begin = cuda_record_begin;
    ops.record_end = cuda_record_end;
    ops.replay = cuda_replay;
    ops.recording_free = cuda_recording_free;
    ops.aside_begin = cuda_aside_begin;
    ops.aside_end = cuda_aside_end;
    ops.aside_join = cuda_aside_join;
    ops.consider = cuda_consider;
    ops.choose = cuda_choose;
    ops.choices = cuda_choices;
    ops.adopt = cuda_adopt;
    ops.destroy = cuda_destroy;
    return ops;
}

static dt_status module_gpus(int *count)
{
    return find_gpus(count);
}

static dt_status module_open(int gpu, dt_cuda_precision precision, dt_device *out)
{
    static const dt_device_ops ops_f32 = ops_of("cuda (fp32)", sizeof(float));
    static const dt_device_ops ops_bf16 = ops_of("cuda", sizeof(__nv_bfloat16));
    static const dt_device_ops ops_fp8 = ops_of("cuda (fp8)", sizeof(__nv_bfloat16));
    const bool f32 = precision == DT_CUDA_FP32;
    dt_cuda *cuda = NULL;
    DT_TRY(dt_alloc(1, sizeof *cuda, &cuda));
    cuda->index = gpu;
    cuda->fp8 = precision == DT_CUDA_FP8;
    dt_device device = {};
    device.ops = f32 ? &ops_f32 : cuda->fp8 ? &ops_fp8 : &ops_bf16;
    device.kernels = f32 ? dt_cuda_kernels_f32 : dt_cuda_kernels_bf16;
    device.threads = 1;
    device.impl = cuda;
    dt_status st = gpu >= 0 ? open_gpu(cuda) : DT_OK;
    if (st != DT_OK) cuda_destroy(&device);
    else *out = device;
    return st;
}

extern "C" __attribute__((visibility("default")))
const dt_cuda_module dt_cuda_module_v3 = {DT_CUDA_MODULE_VERSION, module_gpus, module_open};

/** Compute capability of the device's GPU, 90 for 9.0: for tests of kernels that not every GPU has. */
extern "C" __attribute__((visibility("default"))) int dt_cuda_capability(const dt_device *device)
{
    return dt_cuda_of(device)->capability;
}
