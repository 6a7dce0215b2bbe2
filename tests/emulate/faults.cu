/* emulate_faults: what is wrong with these kernels and calls, the emulated GPU must find; and what is right, let be. */
#include "op/wgmma.cuh"
#include <cuda_runtime.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 256, DIED = 86 };

static __global__ void shift(const float *x, float *y, bool waits)
{
    __shared__ float all[N];
    all[threadIdx.x] = x[threadIdx.x];
    if (waits) __syncthreads();
    y[threadIdx.x] = all[(threadIdx.x + 1) % N];
}
static __global__ void halves(bool waits_alone)
{
    if (!waits_alone || threadIdx.x < N / 2) __syncthreads();
}
static __global__ void sum_with(float *x, int lanes)
{
    if ((int)threadIdx.x % 32 >= lanes) return;
    x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);
}
static __global__ void fill(float *x, int n)
{
    for (int i = threadIdx.x; i < n; i += N) x[i] = 1;
}
static __global__ void four(float *x, int from)
{
    *(float4 *)(x + from) = make_float4(1, 2, 3, 4);
}
static __global__ void fill_shared(int n)
{
    extern __shared__ float room[];
    for (int i = threadIdx.x; i < n; i += N) room[i] = 1;
}

enum fault {
    NONE,
    COPY_UNAWAITED,
    PRODUCT_UNAWAITED,
    REGISTERS_UNFENCED,
    STORES_UNFENCED,
    GIVEN_TOO_EARLY,
    ARRIVED_ALONE
};
enum { TILE = 64 * TILE_ROW };

/* A warpgroup multiplies a tile of 64 x 64 equal numbers with itself, 16 of its features; then, as the place is free, a
 * warp of another one fetches what else lies behind. */
static __global__ void square(const char *x, float *y, int fault)
{
    extern __shared__ uint4 room[];
    char *memory = (char *)room + (1024 - shared_address(room) % 1024) % 1024;
    const shared_at tile = shared_address(memory), full = tile + TILE, empty = full + 8;
    if (threadIdx.x == 0) {
        barrier_init(full, 1);
        barrier_init(empty, GROUP);
        barrier_init_done();
    }
    __syncthreads();
    if (threadIdx.x >= GROUP) {
        if (threadIdx.x > GROUP) return;
        barrier_expect(full, TILE);
        fetch_piece(tile, x, TILE, full);
        barrier_wait(empty, 0);
        barrier_expect(full, TILE);
        fetch_piece(tile, x + TILE, TILE, full);
        return;
    }
    if (fault != COPY_UNAWAITED) barrier_wait(full, 0);
    if (threadIdx.x == 0) {
        *(uint16_t *)memory = 0x3f3f + (fault == STORES_UNFENCED); // the same number, or another
        if (fault != STORES_UNFENCED) barrier_init_done();
    }
    named_wait(1, GROUP);
    if (fault == ARRIVED_ALONE) named_arrive(2, GROUP + 32);
    float c[8][4];
    if (fault != REGISTERS_UNFENCED) wgmma_fence();
    wgmma<false>(c, operand(tile, 0), operand(tile, 0));
    wgmma_commit();
    if (fault == PRODUCT_UNAWAITED) y[threadIdx.x] = c[7][3];
    if (fault == GIVEN_TOO_EARLY) barrier_arrive(empty);
    wgmma_wait<0>();
    if (fault != GIVEN_TOO_EARLY) barrier_arrive(empty);
    if (fault != PRODUCT_UNAWAITED) y[threadIdx.x] = c[7][3];
    barrier_wait(full, 1);
}

static float *gpu, *pinned;
static cudaStream_t stream;

/* Each: 0 if what was asked went well. `bad` asks for the fault. */
static int wait_for_block(int bad)
{
    float y[N];
    for (int i = 0; i < N; i++) pinned[i] = (float)i;
    cudaMemcpyAsync(gpu, pinned, sizeof y, cudaMemcpyHostToDevice, stream);
    shift<<<1, N, 0, stream>>>(gpu, gpu + N, !bad);
    cudaMemcpyAsync(y, gpu + N, sizeof y, cudaMemcpyDeviceToHost, stream);
    for (int i = 0; i < N; i++)
        if (!(y[i] == (float)((i + 1) % N))) return 1;
    return 0;
}
static int meet_in_one_place(int bad)
{
    halves<<<3, N, 0, stream>>>(bad != 0);
    return cudaStreamSynchronize(stream);
}
static int bring_all_lanes(int bad)
{
    sum_with<<<1, N, 0, stream>>>(gpu, bad ? 16 : 32);
    return cudaStreamSynchronize(stream);
}
static int stay_inside(int bad)
{
    fill<<<1, N, 0, stream>>>(gpu, 2 * N + bad);
    int code = cudaStreamSynchronize(stream);
    return code + cudaFree(gpu);
}
static int stay_inside_shared(int bad)
{
    fill_shared<<<1, N, 4 * N, stream>>>(N + bad);
    return cudaStreamSynchronize(stream);
}
static int align(int bad)
{
    four<<<1, 1, 0, stream>>>(gpu, 4 + bad);
    return cudaStreamSynchronize(stream);
}
static int leave_memory_to_the_gpu(int bad)
{
    cudaStreamSynchronize(stream);
    return bad ? gpu[0] < 0 : 0;
}
static int give_memory_of_the_gpu(int bad)
{
    float own[N];
    fill<<<1, N, 0, stream>>>(bad ? own : gpu, N);
    return cudaStreamSynchronize(stream);
}
static int take_threads_that_fit(int bad)
{
    fill<<<1, bad ? 1056 : 1024, 0, stream>>>(gpu, N);
    return cudaGetLastError();
}
static int keep_what_is_sent(int bad)
{
    float y;
    pinned[0] = 1;
    cudaMemcpyAsync(gpu, pinned, sizeof y, cudaMemcpyHostToDevice, stream);
    if (!bad) cudaStreamSynchronize(stream);
    pinned[0] = 2;
    cudaMemcpyAsync(&y, gpu, sizeof y, cudaMemcpyDeviceToHost, stream);
    return y != 1;
}
static int record_without_waiting(int bad)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t program = NULL;
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    four<<<1, 1, 0, stream>>>(gpu, 0);
    if (bad) cudaStreamSynchronize(stream);
    if (cudaStreamEndCapture(stream, &graph) != cudaSuccess) return 1;
    pinned[0] = 0;
    cudaMemcpyAsync(gpu, pinned, 4, cudaMemcpyHostToDevice, stream);
    cudaMemcpyAsync(pinned, gpu, 4, cudaMemcpyDeviceToHost, stream);
    cudaStreamSynchronize(stream);
    if (pinned[0] != 0 || cudaGraphInstantiate(&program, graph, 0) != cudaSuccess) return 2;
    cudaGraphLaunch(program, stream);
    cudaMemcpyAsync(pinned, gpu, 4, cudaMemcpyDeviceToHost, stream);
    cudaStreamSynchronize(stream);
    return pinned[0] != 1;
}

/* The other stream's part of what follows: behind what `stream` was asked, ones into the GPU's memory. */
static cudaStream_t other;
static cudaEvent_t event;
static void fork_and_fill(void)
{
    if (other == NULL) cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    if (event == NULL) cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    cudaMemsetAsync(gpu, 0, 8, stream);
    cudaEventRecord(event, stream);
    cudaStreamWaitEvent(other, event, 0);
    fill<<<1, N, 0, other>>>(gpu, 2);
}
static void join(void)
{
    cudaEventRecord(event, other);
    cudaStreamWaitEvent(stream, event, 0);
}
static int wait_for_the_other_stream(int bad)
{
    fork_and_fill();
    if (!bad) join();
    cudaMemcpyAsync(pinned, gpu, 4, cudaMemcpyDeviceToHost, stream);
    cudaStreamSynchronize(stream);
    return pinned[0] != 1;
}
static int join_what_is_recorded(int bad)
{
    cudaGraph_t graph = NULL;
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    fork_and_fill();
    if (!bad) join();
    return cudaStreamEndCapture(stream, &graph);
}
static int join_before_it_is_read(int bad)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t program = NULL;
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    fork_and_fill();
    if (!bad) join();
    cudaMemcpyAsync(pinned, gpu, 4, cudaMemcpyDeviceToHost, stream);
    if (bad) join();
    if (cudaStreamEndCapture(stream, &graph) != cudaSuccess) return 2;
    if (cudaGraphInstantiate(&program, graph, 0) != cudaSuccess) return 2;
    cudaGraphLaunch(program, stream);
    cudaStreamSynchronize(stream);
    return pinned[0] != 1;
}

/* Of 16 squares of the number of which all bytes are 0x3f. */
static int square_with(int fault)
{
    float y[GROUP];
    char *x = NULL;
    cudaMalloc(&x, 2 * TILE);
    cudaMemsetAsync(x, 0x3f, 2 * TILE, stream);
    square<<<1, GROUP + 32, 1024 + TILE + 16, stream>>>(x, gpu, fault);
    cudaMemcpyAsync(y, gpu, sizeof y, cudaMemcpyDeviceToHost, stream);
    for (int i = 0; i < GROUP; i++)
        if (!(y[i] == 16 * 0.74609375f * 0.74609375f)) return 1;
    return 0;
}
static int wait_for_copies(int bad)
{
    return square_with(bad ? COPY_UNAWAITED : NONE);
}
static int wait_for_products(int bad)
{
    return square_with(bad ? PRODUCT_UNAWAITED : NONE);
}
static int fence_registers(int bad)
{
    return square_with(bad ? REGISTERS_UNFENCED : NONE);
}
static int fence_stores(int bad)
{
    return square_with(bad ? STORES_UNFENCED : NONE);
}
static int keep_what_is_multiplied(int bad)
{
    return square_with(bad ? GIVEN_TOO_EARLY : NONE);
}
static int leave_no_barrier_open(int bad)
{
    return square_with(bad ? ARRIVED_ALONE : NONE);
}

static const struct {
    const char *name;
    int (*run)(int bad);
} cases[] = {
    {"wait_for_block", wait_for_block},
    {"meet_in_one_place", meet_in_one_place},
    {"bring_all_lanes", bring_all_lanes},
    {"stay_inside", stay_inside},
    {"stay_inside_shared", stay_inside_shared},
    {"align", align},
    {"leave_memory_to_the_gpu", leave_memory_to_the_gpu},
    {"give_memory_of_the_gpu", give_memory_of_the_gpu},
    {"take_threads_that_fit", take_threads_that_fit},
    {"keep_what_is_sent", keep_what_is_sent},
    {"record_without_waiting", record_without_waiting},
    {"wait_for_the_other_stream", wait_for_the_other_stream},
    {"join_what_is_recorded", join_what_is_recorded},
    {"join_before_it_is_read", join_before_it_is_read},
    {"wait_for_copies", wait_for_copies},
    {"wait_for_products", wait_for_products},
    {"fence_registers", fence_registers},
    {"fence_stores", fence_stores},
    {"keep_what_is_multiplied", keep_what_is_multiplied},
    {"leave_no_barrier_open", leave_no_barrier_open},
};

/* In a process of its own: 0, or not. */
static int outcome(int (*run)(int bad), int bad)
{
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
        cudaMalloc(&gpu, 2 * N * sizeof *gpu);
        cudaMallocHost(&pinned, N * sizeof *pinned);
        cudaMemsetAsync(gpu, 0, 2 * N * sizeof *gpu, stream);
        fill<<<1, N, 0, stream>>>(gpu, 1);
        cudaStreamSynchronize(stream);
        if (bad && freopen("/dev/null", "w", stderr) == NULL) _exit(0);
        _exit(run(bad) != 0);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(void)
{
    int failures = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int good = outcome(cases[i].run, 0), bad = outcome(cases[i].run, 1);
        if (good == 0 && (bad == 1 || bad == DIED)) continue;
        printf("FAIL  %s: %d where all is well, %d where not\n", cases[i].name, good, bad);
        failures++;
    }
    return failures > 0;
}
