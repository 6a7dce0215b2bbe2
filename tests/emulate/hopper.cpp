/* What a Hopper does behind a program's back, on the host: products of warpgroups, copies of the copy engine, and the
 * barriers that tell of them; after the PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate", "mbarrier",
 * "Tensors", and "Proxies".
 *
 * As late as it may be: a thread that has arrived at a barrier goes on when no other can; a copy arrives when no thread
 * can go on, one after the other in a drawn order; a product reads its operands when its warp waits for it. As soon as
 * they are asked for, their results are NaN.
 *
 * Two views of shared memory: what threads store, tensor cores and the copy engine see only behind a fence. A product
 * that would read something else than threads do ends the program. */
#include "hopper.h"
#include "cuda_runtime.h"
#include "threads.h"
#include <cstdlib>
#include <deque>
#include <map>
#include <vector>

namespace emulate
{
/* ---- shared memory as the asynchronous proxy sees it ---- */

static char view[SHARED_MOST + 4096];

static char *seen(uintptr_t at)
{
    return view + (at - (uintptr_t)dynamic_shared());
}

static void must_be_shared(const char *what, uintptr_t at, size_t bytes, size_t align, int line)
{
    const uintptr_t begin = (uintptr_t)dynamic_shared();
    if (at < begin || at + bytes > begin + shared_size() || at % align != 0)
        die("line %d: %s at %p of %zu bytes is outside of the block's shared memory, or no multiple of %zu", line, what,
            (void *)at, bytes, align);
}

void fence_async(int line)
{
    memcpy(view, dynamic_shared(), shared_size());
}

/* Addresses in descriptors and for swizzling: counted from where 256 KiB end with the shared memory. */
static uintptr_t window(void)
{
    return (uintptr_t)dynamic_shared() + shared_size() - (256 << 10);
}

uint32_t descriptor_address(uintptr_t at)
{
    return (uint32_t)((at - window()) & 0x3ffff) >> 4;
}

static uintptr_t swizzle_128(uintptr_t at)
{
    return window() + ((at - window()) ^ ((at - window()) >> 7 & 7) << 4);
}

/* ---- products ---- */

struct asked {
    product lane[32];
    uint32_t a[32][4]; // the registers as they were
    int line;
};

struct result {
    float *c[32];
    int n;
    std::vector<float> value; // [32][n / 2]
    int pending;              // products that are still to add to it
};

static struct warp_products {
    std::vector<asked> open;
    std::deque<std::vector<asked>> groups; // committed, the oldest first
    std::map<float *, result> results;     // in flight, by lane 0's registers
    bool fenced;
    size_t count; // of the block's products so far
} warps[32];

/* What a warpgroup's warps ask for, which must be the same. */
struct request {
    uint64_t a, b;
    int n, add, rows, line;
};
static std::vector<request> log[8];

struct ask {
    product p;
    int line;
};

static void same_in_warpgroup(int warp, const asked &x)
{
    std::vector<request> &of_group = log[warp / 4];
    const product &p = x.lane[0];
    const request r = {p.a_descriptor, p.b_descriptor, p.n, p.add, p.rows, x.line};
    const size_t i = warps[warp].count++;
    if (i == of_group.size()) of_group.push_back(r);
    const request &first = of_group[i];
    if (first.a != r.a || first.b != r.b || first.n != r.n || first.add != r.add || first.rows != r.rows ||
        first.line != r.line)
        die("line %d: a warp's product number %zu is another than that of its warpgroup in line %d", r.line, i,
            first.line);
}

static void finish_ask(void *const lane[32], unsigned mask)
{
    const int warp = self() / 32;
    warp_products &w = warps[warp];
    asked x;
    x.line = ((ask *)lane[0])->line;
    if (mask != 0xffffffffu) die("line %d: wgmma without a whole warp", x.line);
    if (!w.fenced) die("line %d: wgmma without wgmma.fence since the last wait", x.line);
    for (int l = 0; l < 32; l++) {
        const product &p = x.lane[l] = ((ask *)lane[l])->p;
        if (p.a_descriptor != x.lane[0].a_descriptor || p.b_descriptor != x.lane[0].b_descriptor)
            die("line %d: lanes name other operands to wgmma", x.line);
        if (p.a != nullptr) memcpy(x.a[l], p.a, sizeof x.a[l]);
    }
    same_in_warpgroup(warp, x);
    result &r = w.results[x.lane[0].c];
    if (r.pending++ == 0) {
        r.n = x.lane[0].n;
        r.value.resize((size_t)(32 * r.n / 2));
        for (int l = 0; l < 32; l++) {
            r.c[l] = x.lane[l].c;
            memcpy(&r.value[(size_t)(l * r.n / 2)], r.c[l], (size_t)r.n / 2 * sizeof(float));
            memset(r.c[l], 0xff, (size_t)r.n / 2 * sizeof(float));
        }
    } else if (r.n != x.lane[0].n) {
        die("line %d: a product into a part of another's result", x.line);
    }
    w.open.push_back(x);
}

void ask_product(const product &p, int line)
{
    ask mine = {p, line};
    meet("wgmma.mma_async", line, 0xffffffffu, &mine, finish_ask);
}

/* A matrix that a descriptor names: `outer` rows or columns of it by 16 that are summed over. */
static void fetch_operand(uint64_t descriptor, int outer, bool rows, int first, float (*to)[16], int line)
{
    const uintptr_t start = window() + ((descriptor & 0x3fff) << 4);
    const uintptr_t leading = (descriptor >> 16 & 0x3fff) << 4, stride = (descriptor >> 32 & 0x3fff) << 4;
    if (descriptor >> 62 != 1) die("line %d: a swizzling that is not emulated: %d", line, (int)(descriptor >> 62));
    if ((descriptor >> 49 & 7) != 0) die("line %d: tiles that start at no multiple of 1024 bytes", line);
    if ((descriptor >> 14 & 3) != 0 || (descriptor >> 30 & 3) != 0 || (descriptor >> 46 & 7) != 0 ||
        (descriptor >> 52 & 0x3ff) != 0)
        die("line %d: descriptor %016llx has bits that must be 0", line, (unsigned long long)descriptor);
    for (int i = 0; i < outer; i++)
        for (int k = 0; k < 16; k++) {
            const int o = first + i;
            const uintptr_t plain =
                rows ? start + (uintptr_t)(o % 64 * 2) + (uintptr_t)(o / 64) * leading + (uintptr_t)(k % 8 * 128) +
                           (uintptr_t)(k / 8) * stride
                     : start + (uintptr_t)(o % 8 * 128) + (uintptr_t)(o / 8) * stride + (uintptr_t)(k * 2);
            const uintptr_t at = swizzle_128(plain);
            must_be_shared("an operand of wgmma", at, 2, 2, line);
            uint16_t bits, stored;
            memcpy(&bits, seen(at), 2);
            memcpy(&stored, (void *)at, 2);
            if (bits != stored) die("line %d: wgmma reads what was stored without fence.proxy.async", line);
            to[i][k] = emulate_half(bits, 0);
        }
}

static void run_product(int warp, const asked &x)
{
    static float a[16][16], b[256][16];
    const product &p = x.lane[0];
    result &r = warps[warp].results[p.c];
    if (p.a == nullptr) fetch_operand(p.a_descriptor, 16, false, warp % 4 * 16, a, x.line);
    else
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 2; j++)
                    a[l / 4 + 8 * (i % 2)][l % 4 * 2 + 8 * (i / 2) + j] = emulate_half(x.a[l][i], j);
    fetch_operand(p.b_descriptor, p.n, p.rows, 0, b, x.line);
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < p.n / 2; i++) {
            const float *row = a[l / 4 + 8 * (i % 4 / 2)], *column = b[i / 4 * 8 + l % 4 * 2 + i % 2];
            float sum = 0, *c = &r.value[(size_t)(l * p.n / 2 + i)];
            for (int k = 0; k < 16; k++) sum += row[k] * column[k];
            *c = p.add ? *c + sum : sum;
        }
    if (--r.pending > 0) return;
    for (int l = 0; l < 32; l++) memcpy(r.c[l], &r.value[(size_t)(l * r.n / 2)], (size_t)r.n / 2 * sizeof(float));
    warps[warp].results.erase(p.c);
}

static void finish_fence(void *const lane[32], unsigned mask)
{
    warps[self() / 32].fenced = true;
}

static void finish_commit(void *const lane[32], unsigned mask)
{
    warp_products &w = warps[self() / 32];
    w.groups.push_back(std::move(w.open));
    w.open.clear();
}

static void finish_wait(void *const lane[32], unsigned mask)
{
    const int warp = self() / 32;
    warp_products &w = warps[warp];
    for (; (int)w.groups.size() > *(int *)lane[0]; w.groups.pop_front())
        for (const asked &x : w.groups.front()) run_product(warp, x);
    w.fenced = false;
}

void fence_products(int line)
{
    meet("wgmma.fence", line, 0xffffffffu, nullptr, finish_fence);
}

void commit_products(int line)
{
    meet("wgmma.commit_group", line, 0xffffffffu, nullptr, finish_commit);
}

void wait_products(int left, int line)
{
    meet("wgmma.wait_group", line, 0xffffffffu, &left, finish_wait);
}

/* ---- barriers ---- */

struct waiter {
    int thread, parity;
};
struct barrier {
    int count, arrivals; // expected in each phase, still to come in this one
    long bytes;          // still to come in this phase
    int phase;
    std::vector<waiter> waiting;
};
static std::map<uintptr_t, barrier> barriers;

static barrier &barrier_at(uintptr_t at, int line)
{
    auto found = barriers.find(at);
    if (found == barriers.end()) die("line %d: no mbarrier at %p", line, (void *)at);
    return found->second;
}

/* Has the phase of this parity ended? */
static bool ended(const barrier &b, int parity)
{
    return b.phase % 2 != parity;
}

static void may_end(barrier &b, int line)
{
    if (b.arrivals < 0) die("line %d: more arrivals at an mbarrier than its phase has", line);
    if (b.arrivals > 0 || b.bytes != 0) return;
    b.phase++;
    b.arrivals = b.count;
    std::vector<waiter> still;
    for (const waiter &w : b.waiting)
        if (ended(b, w.parity)) release(w.thread);
        else still.push_back(w);
    b.waiting = still;
}

void barrier_init(uintptr_t at, int count, int line)
{
    must_be_shared("an mbarrier", at, 8, 8, line);
    barriers[at] = {count, count, 0, 0, {}};
}

void barrier_arrive(uintptr_t at, int bytes, int line)
{
    barrier &b = barrier_at(at, line);
    b.bytes += bytes;
    b.arrivals--;
    may_end(b, line);
    if (bytes == 0) step_aside("mbarrier.arrive", line); // what it gave away others may take at once
}

void barrier_wait(uintptr_t at, int parity, int line)
{
    barrier &b = barrier_at(at, line);
    if (ended(b, parity)) return;
    b.waiting.push_back({self(), parity});
    park("mbarrier.try_wait", line);
}

static struct named {
    int threads, here;
    std::vector<int> waiting;
} named[16];

void named_barrier(int id, int threads, bool waits, int line)
{
    if (id < 1 || id > 15 || threads % 32 != 0) die("line %d: barrier %d of %d threads", line, id, threads);
    struct named &n = named[id];
    if (n.here > 0 && n.threads != threads)
        die("line %d: barrier %d of %d threads, but of %d for others", line, id, threads, n.threads);
    n.threads = threads;
    if (++n.here < threads) {
        if (!waits) return;
        n.waiting.push_back(self());
        park("bar.sync", line);
        return;
    }
    for (int t : n.waiting) release(t);
    n = {};
}

/* ---- copies ---- */

struct copy {
    uintptr_t to, barrier;
    std::vector<char> bytes; // as they will lie from `to` on
    int line;
};
static std::vector<copy> copies; // under way

/* The map, as cuTensorMapEncodeTiled below writes it. */
struct map_fields {
    const char *data;
    uint64_t size[4], stride[3];
    uint32_t box[4];
};
static_assert(sizeof(map_fields) <= sizeof(CUtensorMap), "a map has 128 bytes");

static void send(copy &c)
{
    barrier_at(c.barrier, c.line);
    memset((void *)c.to, 0xff, c.bytes.size());
    memset(seen(c.to), 0xff, c.bytes.size());
    copies.push_back(std::move(c));
}

/* Global memory is read here, as nobody may write what a copy reads before it has arrived. */
void fetch_box(uintptr_t to, const CUtensorMap *map, const int at[4], uintptr_t barrier, int line)
{
    map_fields m;
    memcpy(&m, map, sizeof m);
    const size_t row = m.box[0] * 2, rows = (size_t)m.box[1] * m.box[2] * m.box[3];
    must_be_shared("a box", to, row * rows, 128, line);
    if (row != 128 || (to - window()) % 1024 != 0) die("line %d: a box that is not emulated", line);
    copy c = {to, barrier, std::vector<char>(row * rows, 0), line};
    for (size_t r = 0; r < rows; r++) {
        const uint64_t inner[3] = {r % m.box[1], r / m.box[1] % m.box[2], r / m.box[1] / m.box[2]};
        const char *from = m.data;
        bool exists = true;
        for (int i = 0; i < 3; i++) {
            const int64_t x = at[i + 1] + (int64_t)inner[i];
            exists &= x >= 0 && x < (int64_t)m.size[i + 1];
            from += x * (int64_t)m.stride[i];
        }
        for (int f = 0; f < (int)m.box[0] && exists; f++)
            if (at[0] + f >= 0 && at[0] + f < (int64_t)m.size[0])
                memcpy(&c.bytes[swizzle_128(to + r * row + (size_t)f * 2) - to], from + (at[0] + f) * 2, 2);
    }
    send(c);
}

void fetch_piece(uintptr_t to, const void *from, int bytes, uintptr_t barrier, int line)
{
    must_be_shared("a piece", to, (size_t)bytes, 16, line);
    if ((uintptr_t)from % 16 != 0 || bytes % 16 != 0)
        die("line %d: a copy of %d bytes from %p; expected multiples of 16", line, bytes, from);
    copy c = {to, barrier, std::vector<char>((const char *)from, (const char *)from + bytes), line};
    send(c);
}

bool deliver(void)
{
    if (copies.empty()) return false;
    const size_t i = draw() % copies.size();
    const copy c = std::move(copies[i]);
    copies.erase(copies.begin() + (long)i);
    memcpy((void *)c.to, c.bytes.data(), c.bytes.size());
    memcpy(seen(c.to), c.bytes.data(), c.bytes.size());
    barrier &b = barrier_at(c.barrier, c.line);
    b.bytes -= (long)c.bytes.size();
    may_end(b, c.line);
    return true;
}

/* ---- blocks ---- */

void begin_asynchronous(void)
{
    memset(view, 0xff, shared_size());
    barriers.clear();
    for (std::vector<request> &l : log) l.clear();
    for (warp_products &w : warps) w.count = 0, w.fenced = false;
}

void end_asynchronous(void)
{
    if (!copies.empty()) die("line %d: a copy that nobody has waited for", copies[0].line);
    for (int i = 0; i < 16; i++)
        if (named[i].here > 0) die("barrier %d: %d threads have arrived, and no more come", i, named[i].here);
    for (int i = 0; i < 32; i++) {
        if (!warps[i].open.empty() || !warps[i].groups.empty()) die("products that warp %d has not waited for", i);
        if (warps[i].count != log[i / 4].size()) die("warp %d has asked for less products than its warpgroup", i);
    }
}
} // namespace emulate

/* ---- maps ---- */

extern "C" CUresult emulate_encode_tiled(CUtensorMap *out, CUtensorMapDataType type, cuuint32_t rank, void *data,
                                         const cuuint64_t *size, const cuuint64_t *stride, const cuuint32_t *box,
                                         const cuuint32_t *step, CUtensorMapInterleave interleave,
                                         CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                         CUtensorMapFloatOOBfill fill)
{
    emulate::map_fields m = {};
    const bool fits = rank == 4 && type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 && (uintptr_t)data % 16 == 0 &&
                      (uintptr_t)out % 64 == 0 && swizzle == CU_TENSOR_MAP_SWIZZLE_128B && box[0] * 2 <= 128;
    if (!fits) return CUDA_ERROR_INVALID_VALUE;
    m.data = (const char *)data;
    for (int i = 0; i < 4; i++) {
        if (size[i] == 0 || size[i] > (cuuint64_t)1 << 32 || box[i] == 0 || box[i] > 256 || step[i] != 1)
            return CUDA_ERROR_INVALID_VALUE;
        m.size[i] = size[i], m.box[i] = box[i];
    }
    for (int i = 0; i < 3; i++) {
        if (stride[i] % 16 != 0 || stride[i] >> 40 != 0 || (i > 0 && stride[i] % stride[i - 1] != 0))
            return CUDA_ERROR_INVALID_VALUE;
        m.stride[i] = stride[i];
    }
    memcpy(out, &m, sizeof m);
    return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **entry, unsigned version, unsigned long long flags,
                                             cudaDriverEntryPointQueryResult *found)
{
    const bool known = strcmp(name, "cuTensorMapEncodeTiled") == 0 && version >= 12000;
    *entry = known ? (void *)emulate_encode_tiled : nullptr;
    *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}
