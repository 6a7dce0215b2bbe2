/* Rotary position embedding (Su et al. 2021), in the half-split layout of Hugging Face's Llama. */
#ifndef DT_OP_ROPE_H
#define DT_OP_ROPE_H
#include "graph/graph.h"
/** table[N,D] ACC = cos(pos[n] f[j]) in columns j < D/2, sin in columns D/2 + j; f[D/2] is a constant ACC (the family's
 * inverse frequencies, scaling included). Computed in double. pos[N] I32. Split along N as pos is. */
dt_val dt_rope_table(dt_graph *g, dt_val pos, dt_val inverse_frequency);
typedef struct dt_rope_attr {
    int64_t head_dim;
    bool inverse; /* rotate by the negative angle: the gradient */
} dt_rope_attr;
/** x[N, H*D] -> y, each head rotated: (a, b) = (x[j], x[j+D/2]) -> (a cos - b sin, b cos + a sin). Linear in x;
 * gradient: rope with `inverse` flipped. Placement: x split along N: table split; along features (whole heads): table
 * replicated; partial stays partial; replicated. */
dt_val dt_rope(dt_graph *g, dt_val x, dt_val table, int64_t head_dim);
#endif
