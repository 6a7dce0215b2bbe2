/* What attention's backward passes on tensor cores know of the queries before they begin: delta, lse in base 2 and the
 * first visible key of each, laid out head by head. */
#ifndef DT_OP_ATTENTION_FACTS_CUH
#define DT_OP_ATTENTION_FACTS_CUH

#include "op/attention.cuh"

enum { SPAN_QUERIES = 64, PADDED_QUERIES = 128 };

/* Rows are padded to whole blocks; those behind the end see nothing. */
struct facts {
    float *lse, *delta; /* [sequences, heads, padded]; lse in base 2 */
    int *low;           /* [sequences, padded] */
    int2 *span;         /* [sequences, padded / SPAN_QUERIES]: lowest and highest of so many queries' `low` */
    int padded;
};

static inline size_t facts_words(int64_t sequences, int64_t heads, int64_t seq, int64_t *padded)
{
    *padded = (seq + PADDED_QUERIES - 1) / PADDED_QUERIES * PADDED_QUERIES;
    return (size_t)(sequences * *padded * (2 * heads + 1) + sequences * *padded / SPAN_QUERIES * 2);
}

static inline facts facts_at(void *workspace, int64_t sequences, const shape *s)
{
    int64_t padded = 0;
    facts_words(sequences, s->count, s->seq, &padded);
    facts f;
    f.lse = (float *)workspace;
    f.delta = f.lse + sequences * s->count * padded;
    f.low = (int *)(f.delta + sequences * s->count * padded);
    f.span = (int2 *)(f.low + sequences * padded);
    f.padded = (int)padded;
    return f;
}

/* 16 lanes to each row of dout and o, 8 features a lane. */
static __global__ void query_facts(shape s, int64_t rows, const __nv_bfloat16 *dout, const __nv_bfloat16 *o,
                                   const float *lse, facts f)
{
    const int64_t row = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) / 16; // [sequence, token, head]
    const int64_t head = row % s.count, t = row / s.count % f.padded, sequence = row / s.count / f.padded;
    const int lane = threadIdx.x % 16;
    const bool exists = row < rows && t < s.seq;
    const int64_t from = (sequence * s.seq + t) * s.count + head;
    float sum = 0;
    if (exists && 8 * lane < s.width) {
        float a[8], b[8];
        floats{(void *)dout, true, true}.load8(from * s.width + 8 * lane, a);
        floats{(void *)o, true, true}.load8(from * s.width + 8 * lane, b);
#pragma unroll
        for (int i = 0; i < 8; i++) sum += a[i] * b[i];
    }
#pragma unroll
    for (int d = 8; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
    if (row >= rows || lane != 0) return;
    const int64_t to = (sequence * s.count + head) * f.padded + t;
    f.lse[to] = exists ? lse[from] * LOG2_E : 0;
    f.delta[to] = sum;
}

/* A warp to each tile of queries. */
static __global__ void query_spans(shape s, int64_t tiles, const int32_t *pos, facts f)
{
    const int64_t tile = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) / 32;
    const int64_t each = f.padded / SPAN_QUERIES, sequence = tile / each, first = tile % each * SPAN_QUERIES;
    if (tile >= tiles) return;
    int lowest = INT32_MAX, highest = 0;
    for (int64_t t = first + threadIdx.x % 32; t < first + SPAN_QUERIES; t += 32) {
        const int low = t < s.seq ? (int)first_key(s, pos + sequence * s.seq, t) : INT32_MAX;
        f.low[sequence * f.padded + t] = low;
        lowest = min(lowest, low);
        highest = max(highest, low);
    }
#pragma unroll
    for (int d = 16; d > 0; d /= 2) {
        lowest = min(lowest, __shfl_xor_sync(0xffffffffu, lowest, d));
        highest = max(highest, __shfl_xor_sync(0xffffffffu, highest, d));
    }
    if (threadIdx.x % 32 == 0) f.span[tile] = make_int2(lowest, highest);
}

/** Bytes of workspace for a call of attention_grad. */
static inline size_t facts_bytes(const dt_call *call)
{
    const dt_attention_attr *a = DT_ATTR(dt_attention_attr, call);
    int64_t padded = 0;
    return 4 * facts_words(call->in[1].dim[0] / a->seq, call->in[5].dim[1], a->seq, &padded);
}

/** Finds them, in the call's workspace: of do, q, k, v, o, lse, pos. */
static inline dt_status find_facts(const dt_call *call, const shape *s, facts *out)
{
    const int64_t sequences = call->in[1].dim[0] / s->seq;
    const facts f = facts_at(call->workspace, sequences, s);
    const int64_t rows = sequences * f.padded * s->count, tiles = sequences * f.padded / SPAN_QUERIES;
    query_facts<<<(unsigned)((rows + 15) / 16), 256, 0, stream_of(call)>>>(
        *s, rows, (const __nv_bfloat16 *)call->in[0].data, (const __nv_bfloat16 *)call->in[4].data,
        (const float *)call->in[5].data, f);
    query_spans<<<(unsigned)((tiles + 7) / 8), 256, 0, stream_of(call)>>>(*s, tiles, DT_IN_I32(call, 6), f);
    *out = f;
    return launched();
}

#endif
