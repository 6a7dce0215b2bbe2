/* CUDA's C++ on the host: what kernels see. The threads of a block take turns; see threads.cpp. */
#ifndef DT_EMULATE_LANGUAGE_H
#define DT_EMULATE_LANGUAGE_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <math.h>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

/* ---- vectors ---- */

#define EMULATE_VECTORS(type, name, align)                                                                             \
    struct __align__(2 * (align)) name##2                                                                              \
    {                                                                                                                  \
        type x, y;                                                                                                     \
    };                                                                                                                 \
    struct __align__(4 * (align)) name##4                                                                              \
    {                                                                                                                  \
        type x, y, z, w;                                                                                               \
    };                                                                                                                 \
    static inline name##2 make_##name##2(type x, type y)                                                               \
    {                                                                                                                  \
        return {x, y};                                                                                                 \
    }                                                                                                                  \
    static inline name##4 make_##name##4(type x, type y, type z, type w)                                               \
    {                                                                                                                  \
        return {x, y, z, w};                                                                                           \
    }
EMULATE_VECTORS(float, float, 4)
EMULATE_VECTORS(int, int, 4)
EMULATE_VECTORS(unsigned, uint, 4)
EMULATE_VECTORS(short, short, 2)
EMULATE_VECTORS(unsigned short, ushort, 2)
EMULATE_VECTORS(unsigned char, uchar, 1)
struct __align__(16) double2
{
    double x, y;
};
struct __align__(16) longlong2
{
    long long x, y;
};
struct __align__(16) ulonglong2
{
    unsigned long long x, y;
};

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
static constexpr int warpSize = 32;

/* ---- launches ---- */

struct emulate_stream;
typedef struct emulate_stream *cudaStream_t;

namespace emulate
{
/** Runs a grid when its turn on the stream comes; `thread` is what one thread does. */
void start(const char *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, std::function<void()> thread);
/** Ends the program if a pointer that a kernel is given is the host's. */
void check_argument(const char *kernel, const void *pointer);
/** The program cannot go on: what, and which kernel's which thread. */
[[noreturn]] void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

template <typename T>
void check_argument(const char *kernel, const T &argument)
{
    if constexpr (std::is_pointer<T>::value) check_argument(kernel, (const void *)argument);
}

template <typename F>
struct launcher {
    const char *kernel;
    F call;
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;

    /* The arguments as they are now, as on a GPU: by value. */
    template <typename... A>
    void operator()(A... a) const
    {
        static_assert((sizeof(A) + ... + 0) <= 4096, "arguments of a kernel take 4096 bytes at most");
        (check_argument(kernel, a), ...);
        F f = call;
        start(kernel, grid, block, shared, stream, [=] { f(a...); });
    }
};

/** What kernel<<<grid, block, shared, stream>>> is rewritten to; it is then called with the arguments. */
template <typename F>
launcher<F> launch(const char *kernel, F call, dim3 grid, dim3 block, size_t shared = 0, cudaStream_t stream = nullptr)
{
    return {kernel, call, grid, block, shared, stream};
}

/* ---- shared memory ---- */

/** Of the running block. */
void *dynamic_shared(void);
extern uint64_t block_number; /* of the running block, counted through all launches */
/** Spoils a block's static array the first time that one of its threads comes by. */
static inline void enter_shared(uint64_t *of_block, void *data, size_t bytes)
{
    if (*of_block == block_number) return;
    *of_block = block_number;
    memset(data, 0xff, bytes); // NaN, and -1
}
} // namespace emulate
#define EMULATE_SHARED(name)                                                                                           \
    static uint64_t emulate_block_of_##name;                                                                           \
    emulate::enter_shared(&emulate_block_of_##name, (void *)&name, sizeof name)

/* ---- threads that wait for each other ---- */

namespace emulate
{
/** Waits until all lanes of the mask are here; the last one then calls finish with what each of them has brought. */
typedef void finisher(void *const lane[32], unsigned mask);
void meet(const char *what, int line, unsigned mask, void *mine, finisher *finish);
/** Waits for the whole block: of the values, how many are not 0. */
int meet_block(const char *what, int line, int value);
unsigned lane(void);

template <typename T>
struct exchange {
    T value, result;
    unsigned source;
};
template <typename T>
void finish_exchange(void *const lane[32], unsigned mask)
{
    for (unsigned i = 0; i < 32; i++) {
        if ((mask >> i & 1) == 0) continue;
        exchange<T> *to = (exchange<T> *)lane[i];
        if ((mask >> to->source & 1) != 0) to->result = ((exchange<T> *)lane[to->source])->value;
        else memset((void *)&to->result, 0xff, sizeof to->result); // not defined
    }
}
template <typename T>
T shuffle(const char *what, int line, unsigned mask, T value, unsigned source)
{
    exchange<T> mine = {value, value, source % 32};
    meet(what, line, mask, &mine, finish_exchange<T>);
    return mine.result;
}
struct vote {
    bool yes;
    unsigned ballot;
};
unsigned ballot(const char *what, int line, unsigned mask, bool yes);
} // namespace emulate

#define EMULATE_LINE int line = __builtin_LINE()

static inline void __syncthreads(EMULATE_LINE)
{
    emulate::meet_block("__syncthreads", line, 0);
}
static inline int __syncthreads_or(int x, EMULATE_LINE)
{
    return emulate::meet_block("__syncthreads_or", line, x) > 0;
}
static inline int __syncthreads_and(int x, EMULATE_LINE)
{
    return emulate::meet_block("__syncthreads_and", line, !x) == 0;
}
static inline int __syncthreads_count(int x, EMULATE_LINE)
{
    return emulate::meet_block("__syncthreads_count", line, x);
}

template <typename T>
T __shfl_sync(unsigned mask, T x, int from, int width = 32, EMULATE_LINE)
{
    const unsigned first = emulate::lane() & ~(unsigned)(width - 1);
    return emulate::shuffle("__shfl_sync", line, mask, x, first + ((unsigned)from & (unsigned)(width - 1)));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T x, int bits, int width = 32, EMULATE_LINE)
{
    const unsigned own = emulate::lane(), from = own ^ (unsigned)bits,
                   end = (own & ~(unsigned)(width - 1)) + (unsigned)width;
    return emulate::shuffle("__shfl_xor_sync", line, mask, x, from < end ? from : own);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T x, unsigned by, int width = 32, EMULATE_LINE)
{
    const unsigned own = emulate::lane(), first = own & ~(unsigned)(width - 1);
    return emulate::shuffle("__shfl_up_sync", line, mask, x, own >= first + by ? own - by : own);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T x, unsigned by, int width = 32, EMULATE_LINE)
{
    const unsigned own = emulate::lane(), end = (own & ~(unsigned)(width - 1)) + (unsigned)width;
    return emulate::shuffle("__shfl_down_sync", line, mask, x, own + by < end ? own + by : own);
}
static inline unsigned __ballot_sync(unsigned mask, int yes, EMULATE_LINE)
{
    return emulate::ballot("__ballot_sync", line, mask, yes != 0);
}
static inline int __any_sync(unsigned mask, int yes, EMULATE_LINE)
{
    return emulate::ballot("__any_sync", line, mask, yes != 0) != 0;
}
static inline int __all_sync(unsigned mask, int yes, EMULATE_LINE)
{
    return emulate::ballot("__all_sync", line, mask, yes == 0) == 0;
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATE_LINE)
{
    emulate::ballot("__syncwarp", line, mask, false);
}
static inline void __threadfence(void)
{
}
static inline void __threadfence_block(void)
{
}

/* ---- atomics: one thread runs at a time ---- */

template <typename T, typename U>
T atomicAdd(T *at, U x)
{
    T old = *at;
    *at = (T)(old + (T)x);
    return old;
}
template <typename T, typename U>
T atomicMax(T *at, U x)
{
    T old = *at;
    if ((T)x > old) *at = (T)x;
    return old;
}
template <typename T, typename U>
T atomicMin(T *at, U x)
{
    T old = *at;
    if ((T)x < old) *at = (T)x;
    return old;
}
template <typename T, typename U>
T atomicExch(T *at, U x)
{
    T old = *at;
    *at = (T)x;
    return old;
}
template <typename T, typename U, typename V>
T atomicCAS(T *at, U expected, V x)
{
    T old = *at;
    if (old == (T)expected) *at = (T)x;
    return old;
}
template <typename T, typename U>
T atomicOr(T *at, U x)
{
    T old = *at;
    *at |= (T)x;
    return old;
}

/* ---- arithmetic ---- */

template <typename T>
T __ldg(const T *p)
{
    return *p;
}
template <typename T>
T __ldcs(const T *p)
{
    return *p;
}
template <typename T>
void __stcs(T *p, T x)
{
    *p = x;
}
template <typename A, typename B>
static inline typename std::common_type<A, B>::type min(A a, B b)
{
    typedef typename std::common_type<A, B>::type T;
    return (T)b < (T)a ? (T)b : (T)a;
}
template <typename A, typename B>
static inline typename std::common_type<A, B>::type max(A a, B b)
{
    typedef typename std::common_type<A, B>::type T;
    return (T)a < (T)b ? (T)b : (T)a;
}
template <typename To, typename From>
To emulate_bits(From x)
{
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}
#define EMULATE_1(name, type, arg, expression)                                                                         \
    static inline type name(arg x)                                                                                     \
    {                                                                                                                  \
        return expression;                                                                                             \
    }
#define EMULATE_2(name, type, expression)                                                                              \
    static inline type name(type x, type y)                                                                            \
    {                                                                                                                  \
        return expression;                                                                                             \
    }
EMULATE_1(rsqrtf, float, float, 1.0f / sqrtf(x))
EMULATE_1(rsqrt, double, double, 1.0 / sqrt(x))
EMULATE_1(__frcp_rn, float, float, 1.0f / x)
EMULATE_1(__fsqrt_rn, float, float, sqrtf(x))
EMULATE_1(__frsqrt_rn, float, float, 1.0f / sqrtf(x))
EMULATE_1(__saturatef, float, float, x > 0 ? x < 1 ? x : 1.0f : 0.0f)
EMULATE_1(__float_as_int, int, float, emulate_bits<int>(x))
EMULATE_1(__float_as_uint, unsigned, float, emulate_bits<unsigned>(x))
EMULATE_1(__int_as_float, float, int, emulate_bits<float>(x))
EMULATE_1(__uint_as_float, float, unsigned, emulate_bits<float>(x))
EMULATE_1(__popc, int, unsigned, __builtin_popcount(x))
EMULATE_1(__ffs, int, int, __builtin_ffs(x))
EMULATE_1(__clz, int, int, x != 0 ? __builtin_clz((unsigned)x) : 32)
EMULATE_2(__fmul_rn, float, x *y)
EMULATE_2(__fadd_rn, float, x + y)
EMULATE_2(__fsub_rn, float, x - y)
EMULATE_2(__fdiv_rn, float, x / y)
EMULATE_2(__fdividef, float, x / y)
EMULATE_2(__dmul_rn, double, x *y)
EMULATE_2(__dadd_rn, double, x + y)
EMULATE_2(__umulhi, unsigned, (unsigned)((uint64_t)x *y >> 32))
EMULATE_2(__mulhi, int, (int)((int64_t)x *y >> 32))
/* The C library has functions of these names for itself. */
#define __expf(x) expf(x)
#define __exp10f(x) powf(10, x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __powf(x, y) powf(x, y)
static inline float __fmaf_rn(float x, float y, float z)
{
    return fmaf(x, y, z);
}

#endif
