/* The instructions of op/wgmma.cuh on the host: what PTX says of wgmma, mbarrier, bar, cp.async.bulk(.tensor) and their
 * fences. Everything asynchronous is as late as it may be: copies arrive when nobody can go on without them, products
 * read their operands when somebody waits for them, and what is not there yet is NaN. See hopper.cpp. */
#ifndef DT_EMULATE_HOPPER_H
#define DT_EMULATE_HOPPER_H

#include "cuda.h"
#include "cuda_language.h"
#include "ptx.h" // shared_at

namespace emulate
{
/** A product as one lane of a warp asks for it: c[n / 8][4], 64 x n of the warpgroup's. */
struct product {
    float *c;
    const uint32_t *a; // of a warp's 16 x 16 four registers; NULL: `a_descriptor`
    uint64_t a_descriptor, b_descriptor;
    int n, add, rows; // rows: those of b are summed over ("MN-major")
};
void ask_product(const product &p, int line);
void fence_products(int line);
void commit_products(int line);
void wait_products(int left, int line);

uint32_t descriptor_address(uintptr_t at);
void barrier_init(uintptr_t barrier, int count, int line);
void barrier_arrive(uintptr_t barrier, int bytes, int line);
void barrier_wait(uintptr_t barrier, int parity, int line);
void named_barrier(int barrier, int threads, bool waits, int line);
void fence_async(int line);
void fetch_box(uintptr_t to, const CUtensorMap *map, const int at[4], uintptr_t barrier, int line);
void fetch_piece(uintptr_t to, const void *from, int bytes, uintptr_t barrier, int line);
} // namespace emulate

static inline uint32_t descriptor_address(shared_at at)
{
    return emulate::descriptor_address(at);
}

template <bool ADD, int N>
static inline void wgmma(float (&c)[N][4], uint64_t a, uint64_t b, EMULATE_LINE)
{
    emulate::ask_product({&c[0][0], nullptr, a, b, 8 * N, ADD, false}, line);
}
template <bool ADD, int N>
static inline void wgmma(float (&c)[N][4], const uint32_t (&a)[4], uint64_t b, EMULATE_LINE)
{
    emulate::ask_product({&c[0][0], a, 0, b, 8 * N, ADD, false}, line);
}
template <int N>
static inline void wgmma_rows(float (&c)[N][4], const uint32_t (&a)[4], uint64_t b, EMULATE_LINE)
{
    emulate::ask_product({&c[0][0], a, 0, b, 8 * N, true, true}, line);
}
static inline void wgmma_fence(EMULATE_LINE)
{
    emulate::fence_products(line);
}
static inline void wgmma_commit(EMULATE_LINE)
{
    emulate::commit_products(line);
}
template <int LEFT>
static inline void wgmma_wait(EMULATE_LINE)
{
    emulate::wait_products(LEFT, line);
}
template <int N>
static inline void hold(float (&)[N][4])
{
}

static inline void barrier_init(shared_at barrier, int count, EMULATE_LINE)
{
    emulate::barrier_init(barrier, count, line);
}
static inline void barrier_init_done(EMULATE_LINE)
{
    emulate::fence_async(line);
}
static inline void barrier_arrive(shared_at barrier, EMULATE_LINE)
{
    emulate::barrier_arrive(barrier, 0, line);
}
static inline void barrier_expect(shared_at barrier, int bytes, EMULATE_LINE)
{
    emulate::barrier_arrive(barrier, bytes, line);
}
static inline void barrier_wait(shared_at barrier, int parity, EMULATE_LINE)
{
    emulate::barrier_wait(barrier, parity, line);
}
static inline void named_wait(int barrier, int threads, EMULATE_LINE)
{
    emulate::named_barrier(barrier, threads, true, line);
}
static inline void named_arrive(int barrier, int threads, EMULATE_LINE)
{
    emulate::named_barrier(barrier, threads, false, line);
}

static inline void map_prefetch(const CUtensorMap *)
{
}
static inline void fetch_box(shared_at to, const CUtensorMap *map, int feature, int head, int token, int sequence,
                             shared_at barrier, EMULATE_LINE)
{
    const int at[4] = {feature, head, token, sequence};
    emulate::fetch_box(to, map, at, barrier, line);
}
static inline void fetch_piece(shared_at to, const void *from, int bytes, shared_at barrier, EMULATE_LINE)
{
    emulate::fetch_piece(to, from, bytes, barrier, line);
}

template <int N>
static inline void registers_give(void)
{
    static_assert(N % 8 == 0 && N >= 24 && N <= 256, "a multiple of 8 from 24 to 256");
}
template <int N>
static inline void registers_take(void)
{
    static_assert(N % 8 == 0 && N >= 24 && N <= 256, "a multiple of 8 from 24 to 256");
}

#endif
