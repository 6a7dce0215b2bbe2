/* Attention on the CPU: blocks of scores with an online softmax (Milakov & Gimelshein 2018; Dao et al. 2022), products
 * by gemm straight from the rows of q, k and v. A block visits only keys that one of its queries sees. */
#include "op/attention.h"
#include "op/cpu.h"
#include <omp.h>
#include <string.h>

enum { QUERIES = DT_ATTENTION_QUERIES, KEYS = DT_ATTENTION_KEYS };

/* How this rank's heads lie in the tensors. */
typedef struct heads {
    int64_t width;        /* D */
    int64_t count, first; /* query heads here, global number of the first */
    int64_t kv_count, kv_first;
    int64_t group; /* query heads to a kv head */
    int64_t ldq, ldk;
} heads;

static dt_status read_heads(const dt_call *call, const dt_tensor *q, const dt_tensor *k, heads *h)
{
    const dt_attention_attr *a = DT_ATTR(dt_attention_attr, call);
    int64_t d = a->head_dim;
    *h = (heads){.width = d,
                 .count = q->dim[1] / d,
                 .first = q->off[1] / d,
                 .kv_count = k->dim[1] / d,
                 .kv_first = k->off[1] / d,
                 .group = a->heads / a->kv_heads,
                 .ldq = q->dim[1],
                 .ldk = k->dim[1]};
    bool whole = q->dim[1] % d == 0 && q->off[1] % d == 0 && k->dim[1] % d == 0 && k->off[1] % d == 0;
    int64_t lowest = h->first / h->group, highest = (h->first + h->count - 1) / h->group;
    if (!whole || lowest < h->kv_first || highest >= h->kv_first + h->kv_count)
        return dt_fail(DT_ERR_INTERNAL, "%s: query heads %lld..%lld do not find their kv heads in %lld..%lld",
                       call->op->name, (long long)h->first, (long long)(h->first + h->count - 1),
                       (long long)h->kv_first, (long long)(h->kv_first + h->kv_count - 1));
    return DT_OK;
}

/* The kv head, counted from the first one here, of query head `head`, counted likewise. */
static int64_t kv_of(const heads *h, int64_t head)
{
    return (h->first + head) / h->group - h->kv_first;
}

/* One head of up to QUERIES queries that follow each other. Query i is key number key0 + i and sees the keys
 * key0 + i - pos[i] .. key0 + i, of these the last `window` (0: all); without pos all keys up to its own. */
typedef struct queries {
    int64_t rows, key0, window;
    const int32_t *pos;
} queries;

static int64_t first_key(const queries *b, int64_t i)
{
    int64_t own = b->key0 + i, key = b->pos != NULL ? own - b->pos[i] : 0;
    if (b->window > 0 && own - b->window + 1 > key) key = own - b->window + 1;
    return key > 0 ? key : 0;
}

static int64_t lowest_key(const queries *b)
{
    int64_t low = b->key0;
    for (int64_t i = 0; i < b->rows; i++) low = first_key(b, i) < low ? first_key(b, i) : low;
    return low;
}

/* Of the n keys from `key` on, those that query i sees are [from, to). */
static void visible(const queries *b, int64_t i, int64_t key, int64_t n, int64_t *from, int64_t *to)
{
    int64_t low = first_key(b, i) - key, high = b->key0 + i + 1 - key;
    *to = high < 0 ? 0 : high > n ? n : high;
    *from = low < 0 ? 0 : low > *to ? *to : low;
}

/* One row of scores s[n] becomes e^(s - max) where visible, else 0. Updates the row's running maximum and sum; returns
 * what earlier sums are to be multiplied with. */
DT_VECTOR static real softmax_row(real *s, int64_t n, int64_t from, int64_t to, real *max, double *sum)
{
    real old = *max, m = old, total = 0;
    for (int64_t j = 0; j < from; j++) s[j] = -INFINITY;
    for (int64_t j = to; j < n; j++) s[j] = -INFINITY;
#pragma omp simd reduction(max : m)
    for (int64_t j = 0; j < n; j++) m = s[j] > m ? s[j] : m;
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < n; j++) {
        s[j] = dt_exp_weight(s[j] - m);
        total += s[j];
    }
    real correction = dt_exp_weight(old - m);
    *max = m;
    *sum = *sum * (double)correction + (double)total;
    return correction;
}

DT_VECTOR static void scale_row(real *x, int64_t n, real factor)
{
    for (int64_t j = 0; j < n; j++) x[j] *= factor;
}

/* o[rows, D] and lse[rows] (NULL: not wanted) of one block of queries; k and v start at key 0. */
static void attend(const heads *h, const queries *b, real scale, const real *q, const real *k, const real *v, real *o,
                   real *lse, real *s)
{
    real max[QUERIES];
    double sum[QUERIES];
    int64_t low = lowest_key(b), high = b->key0 + b->rows, d = h->width;
    for (int64_t i = 0; i < b->rows; i++) {
        max[i] = (real)-1e30; /* below any score, and finite: a block may hide all its keys from a row */
        sum[i] = 0;
    }
    for (int64_t key = low; key < high; key += KEYS) {
        int64_t n = high - key < KEYS ? high - key : KEYS;
        DT_CPU_KERNEL(gemm)(false, true, b->rows, n, d, scale, q, h->ldq, k + key * h->ldk, h->ldk, 0, s, KEYS, 1);
        for (int64_t i = 0; i < b->rows; i++) {
            int64_t from, to;
            visible(b, i, key, n, &from, &to);
            real correction = softmax_row(s + i * KEYS, n, from, to, &max[i], &sum[i]);
            if (key > low && correction != 1) scale_row(o + i * h->ldq, d, correction);
        }
        DT_CPU_KERNEL(gemm)(false, false, b->rows, d, n, 1, s, KEYS, v + key * h->ldk, h->ldk, key > low, o, h->ldq, 1);
    }
    for (int64_t i = 0; i < b->rows; i++) {
        scale_row(o + i * h->ldq, d, (real)(1 / sum[i]));
        if (lse != NULL) lse[i * h->count] = (real)((double)max[i] + log(sum[i]));
    }
}

static queries block_at(const dt_attention_attr *a, const int32_t *pos, int64_t seq, int64_t at)
{
    return (queries){seq - at < QUERIES ? seq - at : QUERIES, at, a->window, pos != NULL ? pos + at : NULL};
}

static real *scratch(const dt_call *call, int blocks)
{
    return (real *)call->workspace + (int64_t)omp_get_thread_num() * blocks * QUERIES * KEYS;
}

dt_status DT_CPU_KERNEL(attention)(const dt_call *call)
{
    const dt_attention_attr *a = DT_ATTR(dt_attention_attr, call);
    heads h;
    DT_TRY(read_heads(call, &call->in[0], &call->in[1], &h));
    const real *q = DT_IN(call, 0), *k = DT_IN(call, 1), *v = DT_IN(call, 2);
    const int32_t *pos = DT_IN_I32(call, 3);
    real *o = DT_OUT(call, 0), *lse = DT_OUT(call, 1);
    if (o == NULL) return dt_fail(DT_ERR_INTERNAL, "attention: its log-sum-exp alone");
    int64_t blocks = (a->seq + QUERIES - 1) / QUERIES, sequences = call->in[0].dim[0] / a->seq;
    /* One head's blocks follow each other, so that its keys and values stay in cache. Those that see most come first.
     */
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(dt_cpu_threads(call, sequences * a->seq, h.ldq))
    for (int64_t sequence = 0; sequence < sequences; sequence++)
        for (int64_t head = 0; head < h.count; head++)
            for (int64_t back = 0; back < blocks; back++) {
                int64_t token = sequence * a->seq, at = (blocks - 1 - back) * QUERIES;
                queries b = block_at(a, pos + token, a->seq, at);
                int64_t kv = token * h.ldk + kv_of(&h, head) * h.width, row = token + at;
                int64_t mine = row * h.ldq + head * h.width;
                attend(&h, &b, (real)a->scale, q + mine, k + kv, v + kv, o + mine,
                       lse != NULL ? lse + row * h.count + head : NULL, scratch(call, 1));
            }
    return DT_OK;
}

dt_status DT_CPU_KERNEL(attention_cached)(const dt_call *call)
{
    const dt_attention_attr *a = DT_ATTR(dt_attention_attr, call);
    heads h;
    DT_TRY(read_heads(call, &call->in[0], &call->in[1], &h));
    int64_t tokens = call->in[0].dim[0], start = DT_IN_I32(call, 5)[0];
    if (start < 0 || start + tokens > a->seq)
        return dt_fail(DT_ERR_INTERNAL, "attention_cached: tokens %lld..%lld do not fit a cache of %lld",
                       (long long)start, (long long)(start + tokens - 1), (long long)a->seq);
    const real *q = DT_IN(call, 0);
    real *kcache = call->in[3].data, *vcache = call->in[4].data, *o = DT_OUT(call, 0);
    memcpy(kcache + start * h.ldk, call->in[1].data, (size_t)(tokens * h.ldk) * sizeof(real));
    memcpy(vcache + start * h.ldk, call->in[2].data, (size_t)(tokens * h.ldk) * sizeof(real));
    int64_t blocks = o != NULL ? (tokens + QUERIES - 1) / QUERIES : 0;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(dt_cpu_threads(call, start + tokens, h.ldq))
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t head = 0; head < h.count; head++) {
            queries b = block_at(a, NULL, tokens, block * QUERIES);
            int64_t kv = kv_of(&h, head) * h.width, mine = b.key0 * h.ldq + head * h.width;
            b.key0 += start;
            attend(&h, &b, (real)a->scale, q + mine, kcache + kv, vcache + kv, o + mine, NULL, scratch(call, 1));
        }
    return DT_OK;
}

/* ---- gradient ---- */

DT_VECTOR static real dot_row(const real *a, const real *b, int64_t n)
{
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += a[j] * b[j];
    return sum;
}

/* One row: scores s become weights p = e^(s - lse), and dp (derivative by p) becomes that by q k^T: scale p (dp -
 * delta). */
DT_VECTOR static void backward_row(real *restrict s, real *restrict dp, int64_t n, int64_t from, int64_t to, real lse,
                                   real delta, real scale)
{
    for (int64_t j = 0; j < from; j++) s[j] = -INFINITY;
    for (int64_t j = to; j < n; j++) s[j] = -INFINITY;
    for (int64_t j = 0; j < n; j++) {
        real p = dt_exp_weight(s[j] - lse);
        s[j] = p;
        dp[j] = scale * p * (dp[j] - delta);
    }
}

/* The tensors of one head: q, o and their gradients at the first query of a block, k and v at key 0 of its sequence. */
typedef struct slices {
    const real *dout, *q, *k, *v, *o, *lse;
    real *dq, *dk, *dv;
} slices;

static void backward_block(const heads *h, const queries *b, real scale, const slices *t, real *s)
{
    real delta[QUERIES], *dp = s + QUERIES * KEYS;
    int64_t low = lowest_key(b), high = b->key0 + b->rows, d = h->width, rows = b->rows;
    for (int64_t i = 0; i < rows; i++) delta[i] = dot_row(t->dout + i * h->ldq, t->o + i * h->ldq, d);
    for (int64_t key = low; key < high; key += KEYS) {
        int64_t n = high - key < KEYS ? high - key : KEYS, at = key * h->ldk;
        DT_CPU_KERNEL(gemm)(false, true, rows, n, d, scale, t->q, h->ldq, t->k + at, h->ldk, 0, s, KEYS, 1);
        DT_CPU_KERNEL(gemm)(false, true, rows, n, d, 1, t->dout, h->ldq, t->v + at, h->ldk, 0, dp, KEYS, 1);
        for (int64_t i = 0; i < rows; i++) {
            int64_t from, to;
            visible(b, i, key, n, &from, &to);
            backward_row(s + i * KEYS, dp + i * KEYS, n, from, to, t->lse[i * h->count], delta[i], scale);
        }
        if (t->dv != NULL)
            DT_CPU_KERNEL(gemm)(true, false, n, d, rows, 1, s, KEYS, t->dout, h->ldq, 1, t->dv + at, h->ldk, 1);
        if (t->dk != NULL)
            DT_CPU_KERNEL(gemm)(true, false, n, d, rows, 1, dp, KEYS, t->q, h->ldq, 1, t->dk + at, h->ldk, 1);
        if (t->dq != NULL)
            DT_CPU_KERNEL(gemm)(false, false, rows, d, n, 1, dp, KEYS, t->k + at, h->ldk, key > low, t->dq, h->ldq, 1);
    }
}

static real *at_or_null(real *base, int64_t offset)
{
    return base != NULL ? base + offset : NULL;
}

/* All query heads of one kv head over one sequence: the sums of dk and dv have one owner and one order. */
static void backward_head(const dt_call *call, const heads *h, int64_t sequence, int64_t kv_head)
{
    const dt_attention_attr *a = DT_ATTR(dt_attention_attr, call);
    int64_t token = sequence * a->seq, kv = token * h->ldk + kv_head * h->width;
    real *dk = at_or_null(DT_OUT(call, 1), kv), *dv = at_or_null(DT_OUT(call, 2), kv);
    for (int64_t t = 0; t < a->seq; t++) {
        if (dk != NULL) memset(dk + t * h->ldk, 0, (size_t)h->width * sizeof(real));
        if (dv != NULL) memset(dv + t * h->ldk, 0, (size_t)h->width * sizeof(real));
    }
    for (int64_t head = 0; head < h->count; head++) {
        if (kv_of(h, head) != kv_head) continue;
        for (int64_t at = 0; at < a->seq; at += QUERIES) {
            queries b = block_at(a, DT_IN_I32(call, 6) + token, a->seq, at);
            int64_t mine = (token + at) * h->ldq + head * h->width;
            slices t = {.dout = DT_IN(call, 0) + mine,
                        .q = DT_IN(call, 1) + mine,
                        .k = DT_IN(call, 2) + kv,
                        .v = DT_IN(call, 3) + kv,
                        .o = DT_IN(call, 4) + mine,
                        .lse = DT_IN(call, 5) + (token + at) * h->count + head,
                        .dq = at_or_null(DT_OUT(call, 0), mine),
                        .dk = dk,
                        .dv = dv};
            backward_block(h, &b, (real)a->scale, &t, scratch(call, 2));
        }
    }
}

dt_status DT_CPU_KERNEL(attention_grad)(const dt_call *call)
{
    const dt_attention_attr *a = DT_ATTR(dt_attention_attr, call);
    heads h;
    DT_TRY(read_heads(call, &call->in[1], &call->in[2], &h));
    int64_t sequences = call->in[1].dim[0] / a->seq;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(dt_cpu_threads(call, sequences * a->seq, h.ldq))
    for (int64_t sequence = 0; sequence < sequences; sequence++)
        for (int64_t kv_head = 0; kv_head < h.kv_count; kv_head++) backward_head(call, &h, sequence, kv_head);
    return DT_OK;
}
