/* Blocks of threads on one thread of the host. Each is a fiber with a stack of its own that runs until it has to wait
 * for others: for its block, or for lanes of its warp. Blocks, warps and lanes take their turns in an order that is
 * drawn anew from DT_EMULATE_SEED for each block, so that a kernel that forgets to wait gives another result with
 * another seed. What cannot go on (threads that wait for one that has ended, or in different places) ends the program,
 * telling where each thread is; so does an access outside of memory, or misaligned. */
#include "threads.h"
#include "cuda_runtime.h"
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulate
{
uint64_t block_number;

bool is_gpu(const void *address); // runtime.cpp
void fail(cudaError_t code);      // runtime.cpp: what cudaGetLastError tells

/* ---- fibers ---- */

enum { MOST_THREADS = 1024, STACK = 128 << 10, GUARD = 4096 };

#ifdef __x86_64__
typedef void *context;

/* Saves what a function must preserve on the stack, keeps the stack's place in *from, and goes on from `to`. */
extern "C" void emulate_switch(context *from, context to);
asm(R"(
.text
.hidden emulate_switch
.globl emulate_switch
.type emulate_switch, @function
emulate_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulate_switch, . - emulate_switch
)");

static void make_context(context *out, char *stack, void (*entry)(void))
{
    void **top = (void **)(stack + STACK);
    *--top = nullptr; // where entry, which never returns, would return to: 16 bytes aligned as at any call
    *--top = (void *)entry;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    *out = top;
}
static void switch_context(context *from, context *to)
{
    emulate_switch(from, *to);
}
#else
#include <ucontext.h>
typedef ucontext_t context;

static void make_context(context *out, char *stack, void (*entry)(void))
{
    getcontext(out);
    out->uc_stack.ss_sp = stack;
    out->uc_stack.ss_size = STACK;
    makecontext(out, entry, 0);
}
static void switch_context(context *from, context *to)
{
    swapcontext(from, to);
}
#endif

enum turn { FRESH, READY, AT_LANES, AT_BLOCK, PARKED, ENDED };

struct thread {
    turn state;
    uint3 index;
    int fiber;
    const char *what; // it waits in
    int line, value;
    unsigned mask;
    void *mine;
    finisher *finish;
};

static context scheduler, fiber[MOST_THREADS];
static std::vector<int> idle; // fibers without a thread
static thread all[MOST_THREADS];
static struct warp {
    unsigned here;     // lanes that wait for others of the warp
    unsigned runnable; // lanes that can go on, by their place in the order
} warps[MOST_THREADS / 32];
static uint8_t lane_at[32], place_of[32]; // in the order of the lanes of this block
static int threads, ended;
static thread *current;
static int block_result;
static char *shared_memory;
static size_t shared_bytes;
static const char *kernel_name;
static const std::function<void()> *thread_body;

/* The lane of the warp that goes on after place `after`; NULL: none can. */
static thread *take_next(int warp, int after)
{
    const unsigned runnable = warps[warp].runnable;
    if (runnable == 0) return nullptr;
    const int first = (after + 1) % 32,
              turned = __builtin_ctz(first != 0 ? runnable >> first | runnable << (32 - first) : runnable);
    const int place = (first + turned) % 32;
    warps[warp].runnable &= ~(1u << place);
    return &all[32 * warp + lane_at[place]];
}

static thread *take_next(const thread *after)
{
    const int n = (int)(after - all);
    return take_next(n / 32, place_of[n % 32]);
}

/* From here to there; NULL: the scheduler. */
static void go_on(context *from, thread *t)
{
    current = t;
    if (t == nullptr) {
        switch_context(from, &scheduler);
        return;
    }
    if (t->state == FRESH) {
        t->fiber = idle.back();
        idle.pop_back();
    }
    t->state = READY;
    threadIdx = t->index;
    switch_context(from, &fiber[t->fiber]);
}

static void run_fiber(void)
{
    for (;;) {
        (*thread_body)();
        const int own = current->fiber;
        thread *next = take_next(current);
        current->state = ENDED;
        ended++;
        if (next != nullptr && next->state == FRESH) { // right here
            next->fiber = own;
            next->state = READY;
            threadIdx = next->index;
            current = next;
        } else {
            idle.push_back(own);
            go_on(&fiber[own], next);
        }
    }
}

/* Whole pages that cannot be touched below each stack, and below and behind the shared memory. */
static char *guarded(size_t bytes)
{
    char *at = (char *)mmap(nullptr, bytes + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED || mprotect(at + GUARD, bytes, PROT_READ | PROT_WRITE) != 0) die("no memory for stacks");
    return at + GUARD;
}

static void on_fault(int number, siginfo_t *info, void *where)
{
    if (number == SIGILL) die("a misaligned access, or one outside of an array");
    if (number == SIGFPE) die("a division by zero");
    if (is_gpu(info->si_addr)) die("the host reaches for the GPU's memory at %p", info->si_addr);
    die("an access outside of memory at %p", info->si_addr);
}

static void open_fibers(void)
{
    static char stack[64 << 10];
    stack_t alternate = {};
    alternate.ss_sp = stack;
    alternate.ss_size = sizeof stack;
    sigaltstack(&alternate, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) sigaction(number, &action, nullptr);
    for (int i = 0; i < MOST_THREADS; i++) make_context(&fiber[i], guarded(STACK), run_fiber);
    for (int i = MOST_THREADS - 1; i >= 0; i--) idle.push_back(i);
    shared_memory = guarded((SHARED_MOST + GUARD - 1) / GUARD * GUARD) + (SHARED_MOST + GUARD - 1) / GUARD * GUARD;
}

/* ---- what went wrong ---- */

static void print_threads(void)
{
    for (int i = 0, shown = 0; i < threads && shown < 12; i++) {
        const thread *t = &all[i], *before = i > 0 ? &all[i - 1] : nullptr;
        if (before != nullptr && before->state == t->state && (t->state == ENDED || before->line == t->line)) continue;
        fprintf(stderr, "    from thread %d on: ", i);
        if (t->state == AT_LANES) fprintf(stderr, "wait in %s of line %d for lanes %08x\n", t->what, t->line, t->mask);
        else if (t->state == AT_BLOCK || t->state == PARKED)
            fprintf(stderr, "wait in %s of line %d\n", t->what, t->line);
        else fprintf(stderr, "%s\n", t->state == ENDED ? "have ended" : "can run");
        shown++;
    }
}

void die(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "emulated GPU: ");
    vfprintf(stderr, fmt, args);
    va_end(args);
    if (kernel_name != nullptr) {
        fprintf(stderr, "\n  in kernel %s, block (%u, %u, %u) of (%u, %u, %u)", kernel_name, blockIdx.x, blockIdx.y,
                blockIdx.z, gridDim.x, gridDim.y, gridDim.z);
        if (current != nullptr)
            fprintf(stderr, ", thread (%u, %u, %u) of (%u, %u, %u)", threadIdx.x, threadIdx.y, threadIdx.z, blockDim.x,
                    blockDim.y, blockDim.z);
    }
    fprintf(stderr, "\n");
    if (kernel_name != nullptr && current == nullptr) print_threads();
    fflush(stderr);
    _exit(86);
}

/* ---- waiting ---- */

static void leave(void)
{
    go_on(&fiber[current->fiber], take_next(current));
}

unsigned lane(void)
{
    return (unsigned)(current - all) % 32;
}

void meet(const char *what, int line, unsigned mask, void *mine, finisher *finish)
{
    thread *self = current, *first = all + (self - all) / 32 * 32;
    warp *w = &warps[(self - all) / 32];
    const int own = (int)(self - first);
    self->what = what, self->line = line, self->mask = mask, self->mine = mine, self->finish = finish;
    self->state = AT_LANES;
    w->here |= 1u << own;
    if ((mask >> own & 1) == 0) die("%s of line %d: the caller is not in its mask %08x", what, line, mask);
    if ((w->here & mask) != mask) {
        leave();
        return; // the last one of them has finished
    }
    void *brought[32];
    for (int i = 0; i < 32; i++) {
        if ((mask >> i & 1) == 0) continue;
        if (first[i].mask != mask || first[i].line != line || first[i].finish != finish)
            die("%s of line %d, lanes %08x, met lane %d in %s of line %d, lanes %08x", what, line, mask, i,
                first[i].what, first[i].line, first[i].mask);
        brought[i] = first[i].mine;
    }
    finish(brought, mask);
    for (int i = 0; i < 32; i++) {
        if ((mask >> i & 1) == 0) continue;
        first[i].state = READY;
        if (i != own) w->runnable |= 1u << place_of[i];
    }
    w->here &= ~mask;
}

static void finish_ballot(void *const lane[32], unsigned mask)
{
    unsigned yes = 0;
    for (int i = 0; i < 32; i++)
        if ((mask >> i & 1) != 0 && ((vote *)lane[i])->yes) yes |= 1u << i;
    for (int i = 0; i < 32; i++)
        if ((mask >> i & 1) != 0) ((vote *)lane[i])->ballot = yes;
}

unsigned ballot(const char *what, int line, unsigned mask, bool yes)
{
    vote mine = {yes, 0};
    meet(what, line, mask, &mine, finish_ballot);
    return mine.ballot;
}

int meet_block(const char *what, int line, int value)
{
    current->what = what, current->line = line, current->value = value != 0;
    current->state = AT_BLOCK;
    leave();
    return block_result;
}

void park(const char *what, int line)
{
    current->what = what, current->line = line;
    current->state = PARKED;
    leave();
}

static std::vector<int> aside;

void step_aside(const char *what, int line)
{
    aside.push_back((int)(current - all));
    park(what, line);
}

void release(int thread)
{
    all[thread].state = READY;
    warps[thread / 32].runnable |= 1u << place_of[thread % 32];
}

int self(void)
{
    return (int)(current - all);
}

size_t shared_size(void)
{
    return shared_bytes;
}

/* ---- turns ---- */

uint64_t draw(void)
{
    static uint64_t state = getenv("DT_EMULATE_SEED") != nullptr ? strtoull(getenv("DT_EMULATE_SEED"), nullptr, 10) : 1;
    state += 0x9e3779b97f4a7c15u; // splitmix64
    uint64_t z = (state ^ state >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* The numbers below n in an order of their own: i -> step i + first, step and n without a common divisor. */
struct order {
    uint64_t n, step = 1, at;
    explicit order(uint64_t count) : n(count), at(draw() % count)
    {
        for (uint64_t a = 0, b = 1; a != 1;) {
            step = (draw() % n) | 1;
            for (a = n, b = step % n; b != 0;) {
                const uint64_t rest = a % b;
                a = b, b = rest;
            }
        }
    }
    uint64_t next(void)
    {
        at = (at + step) % n;
        return at;
    }
};

/* Until none of the warp's lanes can go on. */
static bool run_warp(int warp)
{
    bool any = false;
    for (thread *t; (t = take_next(warp, 31)) != nullptr; any = true) go_on(&scheduler, t);
    return any;
}

static void make_all_runnable(void)
{
    for (int i = 0; i < threads; i++) warps[i / 32].runnable |= 1u << place_of[i % 32];
}

/* Nobody can go on: are all at one barrier? */
static bool at_barrier(void)
{
    for (int i = 0; i < threads; i++)
        if (all[i].state != AT_BLOCK || all[i].line != all[0].line) return false;
    return true;
}

static void open_barrier(void)
{
    block_result = 0;
    for (int i = 0; i < threads; i++) block_result += all[i].value;
    for (int i = 0; i < threads; i++) all[i].state = READY;
    make_all_runnable();
}

static void run_block(void)
{
    order turns((uint64_t)(threads + 31) / 32), lanes(32);
    ended = 0;
    block_number++;
    memset(shared_memory - shared_bytes, 0xff, shared_bytes);
    begin_asynchronous();
    for (int i = 0; i < threads; i++) all[i].state = FRESH;
    for (int i = 0; i < 32; i++) {
        lane_at[i] = (uint8_t)lanes.next();
        place_of[lane_at[i]] = (uint8_t)i;
    }
    make_all_runnable();
    for (;;) {
        bool any = false;
        for (uint64_t i = 0; i < turns.n; i++) any |= run_warp((int)turns.next());
        if (ended == threads) break;
        if (any) continue;
        if (!aside.empty()) {
            for (int t : aside) release(t);
            aside.clear();
        } else if (at_barrier()) open_barrier();
        else if (!deliver()) die("threads that wait for ever");
    }
    end_asynchronous();
}

static void run_grid(const char *kernel, dim3 grid, dim3 block, size_t shared, const std::function<void()> &body)
{
    if (shared_memory == nullptr) open_fibers();
    kernel_name = kernel;
    thread_body = &body;
    gridDim = grid, blockDim = block;
    threads = (int)(block.x * block.y * block.z);
    shared_bytes = (shared + 15) / 16 * 16;
    for (int i = 0; i < threads; i++) {
        const unsigned n = (unsigned)i;
        all[i].index = {n % block.x, n / block.x % block.y, n / block.x / block.y};
    }
    order blocks((uint64_t)grid.x * grid.y * grid.z);
    for (uint64_t i = 0; i < blocks.n; i++) {
        const uint64_t n = blocks.next();
        blockIdx = {(unsigned)(n % grid.x), (unsigned)(n / grid.x % grid.y), (unsigned)(n / grid.x / grid.y)};
        run_block();
    }
    kernel_name = nullptr;
}

void *dynamic_shared(void)
{
    return shared_memory - shared_bytes;
}

/* ---- launches ---- */

static size_t allowed_shared = 48 << 10; // without a word about more

void start(const char *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, std::function<void()> body)
{
    const uint64_t size = (uint64_t)block.x * block.y * block.z;
    const bool fits = grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffffu && grid.y <= 65535 &&
                      grid.z <= 65535 && size > 0 && size <= MOST_THREADS && block.z <= 64 && shared <= allowed_shared;
    if (!fits) {
        fail(cudaErrorInvalidConfiguration);
        return;
    }
    submit(stream, [=] { run_grid(kernel, grid, block, shared, body); });
}
} // namespace emulate

cudaError_t emulate_set_attribute(cudaFuncAttribute attribute, int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || value > emulate::SHARED_MOST) return cudaErrorInvalidValue;
    if ((size_t)value > emulate::allowed_shared) emulate::allowed_shared = (size_t)value;
    return cudaSuccess;
}
