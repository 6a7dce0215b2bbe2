/* The CUDA runtime of one emulated GPU. What is asked of a stream is done as late as it may be: when somebody waits. So
 * a host that reads before it has waited, or writes a pinned buffer that is still to be sent, gets wrong results. The
 * GPU's memory can be touched only while the GPU works, and every piece of it ends at pages that never can. While a
 * stream records, what would have to wait is refused, as on a GPU; what another stream has a part in is a branch of the
 * recording, which runs late as well: when it is waited for. */
#include <memory> // in front of what defines __noinline__

#include "cuda_runtime.h"
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <map>
#include <sys/mman.h>
#include <vector>

typedef std::function<void()> work;

/* Of a recording, what one stream was asked: work, or (leader not NULL) to wait until another has done so many. */
struct step {
    work what;
    emulate_stream *leader;
    size_t until;
};
typedef std::map<emulate_stream *, std::vector<step>> branches;

struct emulate_graph {
    emulate_stream *origin;
    std::shared_ptr<branches> recorded;
};

struct emulate_stream {
    std::deque<work> waiting;
    uint64_t asked, done;     // works so far
    emulate_graph *recording; // NULL: none
    bool spoilt;              // the recording
    cudaStreamCaptureMode mode;
};

struct emulate_event {
    emulate_stream *stream; // NULL: never recorded
    uint64_t after;         // so many works of the stream
    emulate_graph *recorded_in;
    timespec time;
};

static cudaError_t last_error;
static emulate_stream default_stream;
static std::vector<emulate_stream *> streams = {&default_stream};

static emulate_stream *of(cudaStream_t stream)
{
    return stream != nullptr ? stream : &default_stream;
}

/* ---- memory ---- */

static const size_t PAGE = 4096, GPU_BYTES = (size_t)16 << 30;

struct piece {
    char *pages; // the first, which cannot be touched
    size_t inner, bytes;
};
static std::map<char *, piece> pieces; // of the GPU, by where their data begin
static size_t taken;
static bool pinned_is_piece(const void *data);

/* Ends at a page that cannot be touched; starts at a multiple of 256. What lies between the end and the page is filled,
 * and looked at when the memory is freed. */
static const unsigned char FILL = 0xa5;
static const size_t POISONED = (size_t)1 << 20; // at the beginning: pages that nobody needs cost time

static char *map_piece(size_t bytes, piece *p)
{
    const size_t whole = (bytes + 255) / 256 * 256;
    p->bytes = bytes;
    p->inner = (whole + PAGE - 1) / PAGE * PAGE;
    p->pages =
        (char *)mmap(nullptr, p->inner + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->pages == MAP_FAILED || mprotect(p->pages + PAGE, p->inner, PROT_READ | PROT_WRITE) != 0) return nullptr;
    char *data = p->pages + PAGE + p->inner - whole;
    memset(p->pages + PAGE, FILL, p->inner - whole);
    memset(data + bytes, FILL, whole - bytes);
    memset(data, 0xff, bytes < POISONED ? bytes : POISONED); // NaN
    return data;
}

static void unmap_piece(char *data, const piece &p)
{
    char *const first = p.pages + PAGE, *const end = first + p.inner;
    for (char *c = first != data ? first : data + p.bytes; c < end; c = c + 1 != data ? c + 1 : data + p.bytes)
        if ((unsigned char)*c != FILL) emulate::die("memory of %zu bytes was written at byte %td", p.bytes, c - data);
    munmap(p.pages, p.inner + 2 * PAGE);
}

static void protect(int how)
{
    for (const auto &at : pieces) mprotect(at.second.pages + PAGE, at.second.inner, how);
}

/* The piece in which an address lies; NULL: not the GPU's. */
static const piece *find(const void *address, char **begin = nullptr)
{
    auto at = pieces.upper_bound((char *)address);
    if (at == pieces.begin()) return nullptr;
    --at;
    if ((char *)address >= at->first + (at->second.bytes + 255) / 256 * 256) return nullptr;
    if (begin != nullptr) *begin = at->first;
    return &at->second;
}

static bool holds(const void *address, size_t bytes)
{
    char *begin = nullptr;
    const piece *p = find(address, &begin);
    return p != nullptr && (char *)address + bytes <= begin + p->bytes;
}

/* ---- work ---- */

namespace emulate
{
bool is_gpu(const void *address)
{
    return find(address) != nullptr;
}

void fail(cudaError_t code)
{
    last_error = code;
}

void check_argument(const char *kernel, const void *pointer)
{
    if (pointer != nullptr && find(pointer) == nullptr && !pinned_is_piece(pointer))
        die("kernel %s is given %p, which is memory of the host", kernel, pointer);
}

void submit(cudaStream_t stream, std::function<void()> what)
{
    emulate_stream *s = of(stream);
    if (s->recording != nullptr) (*s->recording->recorded)[s].push_back({what, nullptr, 0});
    else s->waiting.push_back(what), s->asked++;
}
} // namespace emulate

/* Work that waits for an event of another stream gets there first, so this may call itself. */
static void run_until(emulate_stream *s, uint64_t count)
{
    static int depth;
    if (depth++ == 0) protect(PROT_READ | PROT_WRITE);
    while (s->done < count && !s->waiting.empty()) {
        work w = std::move(s->waiting.front());
        s->waiting.pop_front();
        w();
        s->done++;
    }
    if (--depth == 0) protect(PROT_NONE);
}

static void run_all(void)
{
    for (emulate_stream *s : streams) run_until(s, s->asked);
}

/* Is a recording in the way? A relaxed one minds only what waits. */
static bool any_records(bool waits = false)
{
    bool any = false;
    for (emulate_stream *s : streams)
        if (s->recording != nullptr && (waits || s->mode != cudaStreamCaptureModeRelaxed)) any = s->spoilt = true;
    return any;
}

static cudaError_t tell(cudaError_t code)
{
    if (code != cudaSuccess && code != cudaErrorNotReady) last_error = code;
    return code;
}

/* ---- errors, device ---- */

const char *cudaGetErrorName(cudaError_t code)
{
    switch (code) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureUnjoined: return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorCapturedEvent: return "cudaErrorCapturedEvent";
    default: return "an error of CUDA";
    }
}

const char *cudaGetErrorString(cudaError_t code)
{
    return cudaGetErrorName(code);
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t code = last_error;
    last_error = cudaSuccess;
    return code;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return tell(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

enum { PROCESSORS = 2, MAJOR = 9, MINOR = 0, SHARED = 227 << 10 };

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = PROCESSORS; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor: *value = MAJOR; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: *value = MINOR; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = SHARED; return cudaSuccess;
    }
    return tell(cudaErrorInvalidValue);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device)
{
    *out = {"emulated", GPU_BYTES, SHARED, PROCESSORS, MAJOR, MINOR};
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    if (any_records(true)) return tell(cudaErrorStreamCaptureUnsupported);
    run_all();
    return cudaSuccess;
}

/* ---- allocation ---- */

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    piece p;
    *out = nullptr;
    if (any_records()) return tell(cudaErrorStreamCaptureUnsupported);
    if (bytes == 0) return cudaSuccess;
    if (bytes > GPU_BYTES - taken) return tell(cudaErrorMemoryAllocation);
    char *data = map_piece(bytes, &p);
    if (data == nullptr) return tell(cudaErrorMemoryAllocation);
    mprotect(p.pages + PAGE, p.inner, PROT_NONE);
    pieces[data] = p;
    taken += bytes;
    *out = data;
    return cudaSuccess;
}

cudaError_t cudaFree(void *data)
{
    if (any_records()) return tell(cudaErrorStreamCaptureUnsupported);
    if (data == nullptr) return cudaSuccess;
    auto at = pieces.find((char *)data);
    if (at == pieces.end()) return tell(cudaErrorInvalidValue);
    run_all();
    mprotect(at->second.pages + PAGE, at->second.inner, PROT_READ);
    taken -= at->second.bytes;
    unmap_piece(at->first, at->second);
    pieces.erase(at);
    return cudaSuccess;
}

static std::map<char *, piece> pinned;

static bool pinned_is_piece(const void *data)
{
    auto at = pinned.upper_bound((char *)data);
    return at != pinned.begin() && (char *)data < (--at)->first + at->second.bytes;
}

cudaError_t cudaMallocHost(void **out, size_t bytes, unsigned flags)
{
    piece p;
    *out = nullptr;
    if (any_records()) return tell(cudaErrorStreamCaptureUnsupported);
    char *data = bytes > 0 ? map_piece(bytes, &p) : nullptr;
    if (data == nullptr) return tell(cudaErrorMemoryAllocation);
    pinned[data] = p;
    *out = data;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *data)
{
    if (any_records()) return tell(cudaErrorStreamCaptureUnsupported);
    if (data == nullptr) return cudaSuccess;
    auto at = pinned.find((char *)data);
    if (at == pinned.end()) return tell(cudaErrorInvalidValue);
    run_all();
    unmap_piece(at->first, at->second);
    pinned.erase(at);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *total)
{
    *left = GPU_BYTES - taken;
    *total = GPU_BYTES;
    return cudaSuccess;
}

/* ---- copies ---- */

/* Each end is where the kind says. */
static bool ends_fit(const void *dst, const void *src, size_t bytes, cudaMemcpyKind kind)
{
    const bool to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind == cudaMemcpyDefault) return true;
    return (to ? holds(dst, bytes) : find(dst) == nullptr) && (from ? holds(src, bytes) : find(src) == nullptr);
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    if (width == 0 || height == 0) return cudaSuccess;
    const size_t to = (height - 1) * dst_pitch + width, from = (height - 1) * src_pitch + width;
    const bool fits = width <= dst_pitch && width <= src_pitch && ends_fit(dst, src, 1, kind) &&
                      (find(dst) == nullptr || holds(dst, to)) && (find(src) == nullptr || holds(src, from));
    if (!fits) return tell(cudaErrorInvalidValue);
    const work copy = [=] {
        for (size_t i = 0; i < height; i++)
            memmove((char *)dst + i * dst_pitch, (const char *)src + i * src_pitch, width);
    };
    const bool pageable =
        (find(dst) == nullptr && !pinned_is_piece(dst)) || (find(src) == nullptr && !pinned_is_piece(src));
    if (pageable && any_records()) return tell(cudaErrorStreamCaptureUnsupported);
    emulate::submit(stream, copy);
    if (pageable) run_until(of(stream), of(stream)->asked); // such a copy is done when the call returns
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    return cudaMemcpy2DAsync(dst, bytes, src, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind)
{
    if (any_records()) return tell(cudaErrorStreamCaptureUnsupported);
    run_until(&default_stream, default_stream.asked);
    const cudaError_t code = cudaMemcpyAsync(dst, src, bytes, kind, nullptr);
    run_until(&default_stream, default_stream.asked);
    return code;
}

cudaError_t cudaMemsetAsync(void *data, int value, size_t bytes, cudaStream_t stream)
{
    if (bytes == 0) return cudaSuccess;
    if (!holds(data, bytes)) return tell(cudaErrorInvalidValue);
    emulate::submit(stream, [=] { memset(data, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaMemset(void *data, int value, size_t bytes)
{
    if (any_records()) return tell(cudaErrorStreamCaptureUnsupported);
    return cudaMemsetAsync(data, value, bytes, nullptr);
}

/* ---- streams, events ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    *out = new emulate_stream();
    streams.push_back(*out);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority)
{
    return cudaStreamCreateWithFlags(out, flags);
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    return cudaStreamCreateWithFlags(out, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    run_until(stream, stream->asked);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == stream) streams.erase(streams.begin() + (long)i);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (of(stream)->recording != nullptr) {
        of(stream)->spoilt = true;
        return tell(cudaErrorStreamCaptureUnsupported);
    }
    run_until(of(stream), of(stream)->asked);
    return cudaSuccess;
}

/* It would be done some time: on its second look. */
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    const bool done = of(stream)->waiting.empty();
    if (of(stream)->recording != nullptr) return tell(cudaErrorStreamCaptureUnsupported);
    run_until(of(stream), of(stream)->asked);
    return done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    *out = new emulate_event();
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    if (event->stream != nullptr && event->recorded_in == nullptr) run_until(event->stream, event->after);
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    emulate_stream *s = of(stream);
    event->stream = s;
    event->recorded_in = s->recording;
    if (s->recording != nullptr) {
        event->after = (*s->recording->recorded)[s].size();
        return cudaSuccess;
    }
    emulate::submit(stream, [=] { clock_gettime(CLOCK_MONOTONIC, &event->time); });
    event->after = s->asked;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (event->stream == nullptr) return cudaSuccess;
    if (event->recorded_in != nullptr) return tell(cudaErrorCapturedEvent);
    run_until(event->stream, event->after);
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (event->stream == nullptr) return cudaSuccess;
    if (event->recorded_in != nullptr) return tell(cudaErrorCapturedEvent);
    const bool done = event->stream->done >= event->after;
    run_until(event->stream, event->after);
    return done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    if (from->stream == nullptr || to->stream == nullptr) return tell(cudaErrorInvalidResourceHandle);
    if (from->stream->done < from->after || to->stream->done < to->after) return tell(cudaErrorNotReady);
    *milliseconds = (float)(1e3 * (double)(to->time.tv_sec - from->time.tv_sec) +
                            1e-6 * (double)(to->time.tv_nsec - from->time.tv_nsec));
    return cudaSuccess;
}

/* A stream that waits for an event of a recording is from then on a branch of it. */
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    emulate_stream *s = of(stream);
    if (event->recorded_in != nullptr) {
        s->recording = event->recorded_in;
        s->mode = event->stream->mode;
        if (s != event->stream) (*s->recording->recorded)[s].push_back({nullptr, event->stream, event->after});
        return cudaSuccess;
    }
    if (event->stream == nullptr || event->stream == s) return cudaSuccess;
    if (s->recording != nullptr) {
        s->spoilt = true;
        return tell(cudaErrorStreamCaptureUnsupported);
    }
    emulate_stream *other = event->stream;
    const uint64_t after = event->after;
    emulate::submit(stream, [=] { run_until(other, after); });
    return cudaSuccess;
}

/* ---- recording ---- */

/* Goes on with a stream's branch up to its step `until`, with the others where it waits for them. */
typedef std::map<emulate_stream *, size_t> progress;
static void run_branch(branches &all, progress &at, emulate_stream *s, size_t until, bool only_looks = false)
{
    while (at[s] < until) {
        const step &next = all[s][at[s]++];
        if (next.leader != nullptr) run_branch(all, at, next.leader, next.until, only_looks);
        else if (!only_looks) next.what();
    }
}

static bool all_is_joined(const emulate_graph *graph)
{
    branches &all = *graph->recorded;
    progress at;
    run_branch(all, at, graph->origin, all[graph->origin].size(), true);
    for (const auto &branch : all)
        for (size_t i = at[branch.first]; i < branch.second.size(); i++)
            if (branch.second[i].leader == nullptr) return false;
    return true;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    if (stream == nullptr || stream->recording != nullptr) return tell(cudaErrorStreamCaptureUnsupported);
    stream->recording = new emulate_graph{stream, std::make_shared<branches>()};
    stream->spoilt = false;
    stream->mode = mode;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    emulate_graph *graph = stream->recording;
    bool spoilt = false;
    *out = nullptr;
    if (graph == nullptr || graph->origin != stream) return tell(cudaErrorInvalidValue);
    const bool joined = all_is_joined(graph);
    for (emulate_stream *s : streams) {
        if (s->recording != graph) continue;
        spoilt |= s->spoilt;
        s->recording = nullptr;
        s->spoilt = false;
    }
    if (!spoilt && joined) *out = graph;
    else delete graph;
    return tell(spoilt ? cudaErrorStreamCaptureInvalidated : joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *out)
{
    *out = of(stream)->recording == nullptr ? cudaStreamCaptureStatusNone
           : of(stream)->spoilt             ? cudaStreamCaptureStatusInvalidated
                                            : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
    *out = graph != nullptr ? new emulate_graph(*graph) : nullptr;
    return tell(graph != nullptr ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t program, cudaStream_t stream)
{
    emulate_stream *origin = program->origin;
    std::shared_ptr<branches> all = program->recorded;
    emulate::submit(stream, [=] {
        progress at;
        run_branch(*all, at, origin, (*all)[origin].size());
    });
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t program)
{
    delete program;
    return cudaSuccess;
}
