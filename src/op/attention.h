/* Causal self-attention over packed rows, grouped-query. */
#ifndef DT_OP_ATTENTION_H
#define DT_OP_ATTENTION_H
#include "graph/graph.h"

/** The CPU kernels work on blocks of so many queries by so many keys: one block of scores stays in a core's cache. */
enum { DT_ATTENTION_QUERIES = 64, DT_ATTENTION_KEYS = 256 };

typedef struct dt_attention_attr {
    int64_t seq;             /* T: tokens of a sequence; N is a multiple */
    int64_t head_dim;        /* D */
    int64_t heads, kv_heads; /* global H and Hk */
    double scale;            /* of q k^T, usually 1/sqrt(D) */
    int64_t window;          /* tokens that one sees, itself included; 0: all of them */
} dt_attention_attr;
/** o[N, H*D] from q[N, H*D], k[N, Hk*D], v[N, Hk*D], pos[N] I32. Token t of a sequence sees tokens max(t - pos[t],
 * t - window + 1) .. t of the same sequence: rows packed into one sequence cannot see each other. Query head h reads kv
 * head h * Hk / H; with split heads the global head numbers follow from the tensors' off[1]. Second output: lse[N,H]
 * ACC, logarithm of the softmax denominators. Memory O(N): never a T x T matrix. Gradient op attention_grad(do, q, k,
 * v, o, lse, pos) -> (dq, dk, dv). Placement along an axis: tokens split only along DATA (pos split); along tensor axes
 * tokens are gathered. q split along heads: k and v split along heads too, or replicated (then dk and dv are partial);
 * everything replicated.
 */
dt_val dt_attention(dt_graph *g, dt_val q, dt_val k, dt_val v, dt_val pos, int64_t seq, int64_t head_dim, int64_t heads,
                    int64_t kv_heads, double scale, int64_t window);

/** Generation: one sequence, N new tokens at positions start[0] .. start[0]+N-1 (I32 input of one element), keys and
 * values kept in the STATEs kcache, vcache [S, Hk*D] (split along heads as k and v are), into which the new rows are
 * written first. Inputs: q, k, v, kcache, vcache, start. Outputs: o, and the caches in place (o is left out where
 * nobody reads it). Attr as above with seq = S. Not differentiable. */
dt_val dt_attention_cached(dt_graph *g, dt_val q, dt_val k, dt_val v, dt_val kcache, dt_val vcache, dt_val start,
                           int64_t head_dim, int64_t heads, int64_t kv_heads, double scale, int64_t window);
#endif
